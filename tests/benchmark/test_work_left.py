"""Estimates that count work: what is left is said of what the steps cost, not of how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from samples import photo_folder

from dynaseg_cli.benchmark import work_left
from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.benchmark.work_left import Kind, WorkLeft, expected_cost

SLOW: Kind = ("run", "reference")
FAST: Kind = ("run", "kmeans")
STREAM: Kind = ("stream", "scf")
CURVE: Kind = ("curve", "scf")
SCF: Kind = ("run", "scf")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass; otherwise it stands still."""
    now = [100.0]
    monkeypatch.setattr(work_left.time, "perf_counter", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_nothing_is_said_before_something_was_measured() -> None:
    left = WorkLeft({FAST: 3}, {FAST: 1.0})
    assert left.seconds is None
    left.done(FAST, failed=True)
    assert left.seconds is None


def test_each_method_counts_with_what_its_steps_take(passes: Callable[[float], None]) -> None:
    left = WorkLeft({SLOW: 2, FAST: 10}, {SLOW: 1.0, FAST: 1.0})
    for kind, seconds in ((SLOW, 60.0), (FAST, 0.5)):
        passes(seconds)
        left.done(kind)
    assert left.seconds == pytest.approx(60 + 9 * 0.5)  # by items it would be 10 x 30 s
    passes(60)
    left.done(SLOW)
    assert left.seconds == pytest.approx(9 * 0.5)


def test_method_that_was_not_measured_has_its_expected_cost_at_the_speed_of_the_others(
    passes: Callable[[float], None],
) -> None:
    left = WorkLeft({FAST: 1, SLOW: 3}, {FAST: 0.5, SLOW: 100.0})
    passes(2)
    left.done(FAST)
    assert left.seconds == pytest.approx(3 * 100 * 4)


def test_first_step_counts_only_as_long_as_there_is_no_other(passes: Callable[[float], None]) -> None:
    left = WorkLeft({FAST: 12}, {FAST: 1.0})
    passes(30)
    left.done(FAST)
    assert left.seconds == pytest.approx(11 * 30)
    passes(2)
    left.done(FAST)
    assert left.seconds == pytest.approx(10 * 2)


def test_stream_whose_process_starts_is_expected_to_go_on_as_the_runs_did(passes: Callable[[float], None]) -> None:
    left = WorkLeft({SCF: 2, STREAM: 9, CURVE: 2}, {SCF: 1.0, STREAM: 1.0, CURVE: 0.5})
    for _ in range(2):
        passes(2)
        left.done(SCF)
    assert left.seconds == pytest.approx(9 * 2 + 2 * 1)
    left.begin()
    passes(7)
    left.done(STREAM)
    assert left.seconds == pytest.approx(8 * 2 + 2 * 2.25)  # the curve: 9 s for a cost of 2
    left.ended(STREAM)
    assert left.seconds == pytest.approx(2 * 2.25)
    left.ended(("stream", "another"))


def test_batch_is_as_many_steps_as_it_has_images(passes: Callable[[float], None]) -> None:
    left = WorkLeft({FAST: 24}, {FAST: 1.0})
    passes(16)
    left.done(FAST, count=8)
    assert left.seconds == pytest.approx(16 * 2)
    passes(4)
    left.done(FAST, count=8)
    assert left.seconds == pytest.approx(8 * 0.5)  # as in the second batch


def test_time_before_a_step_begins_is_not_counted(passes: Callable[[float], None]) -> None:
    left = WorkLeft({FAST: 2}, {FAST: 1.0})
    passes(1000)
    left.begin()
    passes(3)
    left.done(FAST)
    assert left.seconds == pytest.approx(3)


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Benchmark]:
    monkeypatch.chdir(tmp_path)
    photos = photo_folder(tmp_path / "photos", "a.png", "b.png")
    methods = "felzenszwalb,kmeans:clusters=3:window=3,scf:iterations=1:max_size=16"
    yield Benchmark([photos], parse_variants(methods), tmp_path / "out", repeats=2, device="cpu")


def test_benchmark_expects_the_steps_that_it_has(benchmark: Benchmark) -> None:
    assert benchmark.expect(stream=False, curves=True) == benchmark.steps == 2 * 2 * 3
    assert benchmark.expect(stream=True, curves=False) == benchmark.steps + benchmark.stream_steps
    assert benchmark.seconds_left is None


def test_seconds_left_of_a_benchmark_end_at_none(benchmark: Benchmark) -> None:
    benchmark.expect(stream=False, curves=False)
    left = [benchmark.seconds_left for _ in benchmark.run()]
    assert len(left) == benchmark.steps
    assert all(seconds is not None for seconds in left)
    assert left[0]
    assert left[-1] == 0


def test_literal_loop_is_expected_to_cost_by_its_iterations() -> None:
    costs = {
        variant.name: expected_cost("run", variant)
        for variant in parse_variants("reference,reference:iterations=7,scf,kmeans,felzenszwalb,iic")
    }
    assert costs["reference"] == 1000
    assert costs["reference:iterations=7"] == 7
    assert costs["felzenszwalb"] < costs["kmeans"] < costs["scf"] < costs["iic"]


def test_network_of_a_folder_is_expected_to_cost_more_to_train_than_to_apply() -> None:
    scf, kmeans, picie = parse_variants("scf,kmeans-features,picie", "folder")
    assert expected_cost("run", scf) == expected_cost("run", picie) < expected_cost("fit", scf)
    assert expected_cost("fit", kmeans) == expected_cost("fit", scf) < expected_cost("fit", picie)

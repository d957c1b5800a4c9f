"""Runs with nothing to do start no worker; everything else is left to the workers."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import photo_folder, save_photo

from dynaseg_cli import run as module
from dynaseg_cli.batch import completed
from dynaseg_cli.batch.completed import completed_at_the_start
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.config import BatchConfig, CutConfig, SegmentConfig, WorkersConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.run import Event, RunFinished, run

QUICK = SegmentConfig(iterations=1, max_size=16, min_labels=3, features=8, clusters=8, precision="float32")
HERE = WorkersConfig(workers=0, device="cpu")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos that are complete in ``out``."""
    monkeypatch.chdir(tmp_path)
    photo_folder(tmp_path / "photos", "a.png", "b.png", "c.png")
    list(run(plan_of()[0], HERE))
    return tmp_path / "photos"


def plan_of(batch: BatchConfig | None = None) -> tuple[Plan, list[str]]:
    """The plan, and the names of the images that are complete at its start."""
    plan = plan_batch([Path("photos")], Path("out"), QUICK, batch)
    return plan, [job.name for job in completed_at_the_start(plan)]


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a pool of workers")

    monkeypatch.setattr(module, "new_pool", refuse)


def outcomes(events: Iterator[Event]) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Path and status of each image, and the document of the run."""
    seen = list(events)
    finished = seen[-1]
    assert isinstance(finished, RunFinished)
    return [(one.path, one.status) for one in seen if isinstance(one, Outcome)], finished.document


@pytest.mark.usefixtures("photos", "no_workers")
def test_run_with_nothing_to_do_starts_no_worker_and_is_recorded() -> None:
    found, document = outcomes(run(plan_of()[0], HERE))
    assert found == [(f"photos/{name}.png", "skipped") for name in "abc"]
    assert (document["skipped"], document["done"], document["device"]) == (3, 0, "none: no image was started")
    assert json.loads(Path("out/run.json").read_text()) == document


@pytest.mark.usefixtures("photos")
def test_run_with_nothing_to_do_loads_neither_torch_nor_scipy() -> None:
    code = (
        "import sys; from dynaseg_cli.cli import main\n"
        "sys.argv = ['dynaseg', 'segment', 'photos', '-o', 'out', *sys.argv[1:]]\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))\n"
    )
    options = ("--iterations", "1", "--max-size", "16", "--min-labels", "3", "--features", "8", "--clusters", "8")
    command = [sys.executable, "-c", code, *options, "--precision", "float32", "--device", "cpu"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "3 complete already" in process.stderr
    assert (process.returncode, process.stdout) == (0, "[]\n")


def test_new_image_and_those_after_it_are_left_to_the_workers(photos: Path) -> None:
    save_photo(photos / "b.png", 7)
    plan, found = plan_of()
    assert found == ["a"]
    assert outcomes(run(plan, HERE))[0] == [
        ("photos/a.png", "skipped"),
        ("photos/b.png", "done"),
        ("photos/c.png", "skipped"),
    ]


def test_image_that_fails_is_named_by_a_worker(photos: Path) -> None:
    (photos / "a.png").write_bytes(b"")
    plan, found = plan_of()
    assert found == []
    assert outcomes(run(plan, HERE))[0][0] == ("photos/a.png", "failed")


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "batch",
    [BatchConfig(overwrite=True), BatchConfig(cut=CutConfig(granularity=0.3)), BatchConfig(save=("labels", "raw"))],
    ids=["overwrite", "another cut", "more to save"],
)
def test_nothing_is_complete_if_there_is_something_to_make(batch: BatchConfig) -> None:
    assert plan_of(batch)[1] == []


@pytest.mark.usefixtures("photos")
def test_file_that_is_gone_is_made_again() -> None:
    Path("out/color/b.png").unlink()
    assert plan_of()[1] == ["a"]


def test_images_made_otherwise_are_left_to_the_workers(photos: Path) -> None:
    plan = plan_batch([photos], Path("out"), QUICK)
    other = dataclasses.replace(plan, segment=dataclasses.replace(QUICK, seed=5))
    assert list(completed_at_the_start(other)) == []


@pytest.mark.usefixtures("photos")
def test_file_that_hangs_ends_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    complete = completed._stats_if_complete
    monkeypatch.setattr(completed, "LOOK_S", 0.5)
    monkeypatch.setattr(
        completed, "_stats_if_complete", lambda plan, job: hang.wait() if job.name == "b" else complete(plan, job)
    )
    try:
        assert plan_of()[1] in (["a"], [])  # none, if this machine was busy for half a second
    finally:
        hang.set()


@pytest.mark.usefixtures("photos", "no_workers")
def test_look_ends_with_the_run_that_is_stopped() -> None:
    stop = threading.Event()
    stop.set()
    plan, _ = plan_of()
    assert list(completed_at_the_start(plan, stop)) == []


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("device", ["cuda:99", "nothing"])
def test_device_that_is_not_there_is_refused_though_there_is_nothing_to_do(device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        outcomes(run(plan_of()[0], dataclasses.replace(HERE, device=device)))

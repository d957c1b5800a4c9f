"""A stream with several engines, as a worker on a GPU has them; here they are on the CPU."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import TINY, PhotosInMemory, files_below, noise, photo_folder, pictures_of

from dynaseg_cli import BatchConfig, Engine
from dynaseg_cli.batch import stages
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.stages import run_stream, window, writers
from dynaseg_cli.errors import DeviceMemoryError
from dynaseg_cli.workers.messages import Began, Iterated

WAIT_S = 120
"""Longest wait for another thread; a test that passes never waits so long."""
NAMES = [f"{index:02}" for index in range(9)]


class Engines:
    """Engines that note who uses them."""

    def __init__(self, count: int, patch: pytest.MonkeyPatch) -> None:
        self.all = [Engine(TINY, "cpu") for _ in range(count)]
        self.used = [0] * count
        self.most = 0
        """Images that were segmented at the same time."""
        self.before: Callable[[int], object] = lambda number: None
        """Called with the number of the image."""
        self._numbers = {noise(seed).tobytes(): seed for seed in range(40)}
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        for index, engine in enumerate(self.all):
            patch.setattr(engine, "segment", self._noting(index, engine.segment))

    def _noting(self, index: int, segment: Any) -> Any:
        def note(image: Any, *arguments: Any) -> Any:
            with self._lock:
                assert index not in self._busy, "two threads use one engine"
                self._busy.add(index)
                self.used[index] += 1
                self.most = max(self.most, len(self._busy))
            try:
                self.before(self._numbers[image.tobytes()])
                return segment(image, *arguments)
            finally:
                with self._lock:
                    self._busy.discard(index)

        return note


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    return Engines(3, monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", *(f"{name}.bmp" for name in NAMES))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def two_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "writers", lambda engine: 2)


def outcomes_of(
    engines: list[Engine], photos: Path, out: Path, stop: threading.Event | None = None
) -> Iterator[Outcome]:
    plan = plan_batch([photos], out, TINY, BatchConfig())
    plan.folder.mark()
    for _, outcome in run_stream(plan.jobs, plan.folder, plan.batch, engines, stop=stop):
        assert outcome is not None
        yield outcome


def names(outcomes: list[Outcome]) -> list[str]:
    return [Path(outcome.path).stem for outcome in outcomes]


def written(out: Path) -> dict[str, Any]:
    """All files but the log, and statistics without what tells the time."""
    found: dict[str, Any] = files_below(out)
    found.pop("outcomes.jsonl")
    for name in [name for name in found if name.endswith(".json")]:
        found[name] = json.loads(found[name])
        del found[name]["fit"]["seconds"]
    return found


@pytest.mark.parametrize("writing", [1, 2])
def test_results_are_those_of_one_engine_and_outcomes_come_in_order(
    engines: Engines, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writing: int
) -> None:
    together = threading.Barrier(3, timeout=WAIT_S)
    engines.before = lambda number: together.wait() if number < 3 else None
    monkeypatch.setattr(stages, "writers", lambda engine: writing)
    outcomes = list(outcomes_of(engines.all, photos, tmp_path / "three"))
    assert names(outcomes) == NAMES
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert engines.most == 3
    assert min(engines.used) >= 1
    assert sum(engines.used) == len(NAMES)
    list(outcomes_of([Engine(TINY, "cpu")], photos, tmp_path / "one"))
    assert written(tmp_path / "three") == written(tmp_path / "one")


def test_engine_that_waits_for_nothing_does_all_images_that_come_one_by_one(
    engines: Engines, photos: Path, out: Path
) -> None:
    """The others then need no graphs."""
    plan = plan_batch([photos], out, TINY, BatchConfig())
    plan.folder.mark()
    turn = threading.Semaphore(1)

    def one_by_one() -> Iterator[Any]:
        for job in plan.jobs:
            assert turn.acquire(timeout=WAIT_S)
            yield job

    for _ in run_stream(one_by_one(), plan.folder, plan.batch, engines.all):
        turn.release()
    assert sorted(engines.used) == [0, 0, len(NAMES)]


@pytest.mark.usefixtures("two_writers")
def test_image_that_takes_long_to_write_does_not_hold_up_the_next_one(
    engines: Engines, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, second = stages._write_files, threading.Event()

    def first_after_second(job: Any, *arguments: Any) -> Outcome:
        if job.name == NAMES[0]:
            assert second.wait(WAIT_S)
        outcome = write(job, *arguments)
        if job.name == NAMES[1]:
            second.set()
        return outcome

    monkeypatch.setattr(stages, "_write_files", first_after_second)
    assert names(list(outcomes_of(engines.all, photos, out))) == NAMES


@pytest.mark.usefixtures("two_writers")
def test_engine_without_memory_fails_its_image_alone(engines: Engines, photos: Path, out: Path) -> None:
    def fail_once(number: int) -> None:
        if number == 4:
            raise DeviceMemoryError("cpu is out of memory even at 32 pixels")

    engines.before = fail_once
    outcomes = list(outcomes_of(engines.all, photos, out))
    assert names(outcomes) == NAMES
    reasons = {Path(outcome.path).stem: outcome.reason for outcome in outcomes if outcome.status == "failed"}
    assert reasons == {"04": "cpu is out of memory even at 32 pixels"}
    assert {path.stem for path in (out / "stats").iterdir()} == {*NAMES} - {"04"}


@pytest.mark.usefixtures("two_writers")
def test_programming_error_in_one_engine_surfaces(engines: Engines, photos: Path, out: Path) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise TypeError("a mistake of ours")

    engines.before = fail
    with pytest.raises(TypeError, match="a mistake of ours"):
        list(outcomes_of(engines.all, photos, out))


@pytest.mark.usefixtures("two_writers")
@pytest.mark.parametrize("how", ["stop", "close"])
def test_stopping_drops_the_images_of_all_engines_and_finishes_those_being_written(
    engines: Engines, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write, being_written, go_on = stages._write_files, threading.Event(), threading.Event()
    at_hand, stop = threading.Barrier(4, timeout=WAIT_S), threading.Event()

    def hold_second(job: Any, *arguments: Any) -> Outcome:
        if job.name == NAMES[1]:
            being_written.set()
            assert go_on.wait(WAIT_S)
        return write(job, *arguments)

    def wait_until_stopped(number: int) -> None:
        if number > 1:
            at_hand.wait()
            assert stop.wait(WAIT_S)

    monkeypatch.setattr(stages, "_write_files", hold_second)
    engines.before = wait_until_stopped
    outcomes = outcomes_of(engines.all, photos, out, stop)
    assert names([next(outcomes)]) == NAMES[:1]
    at_hand.wait()
    assert being_written.wait(WAIT_S)
    later = threading.Timer(0.1, go_on.set)
    later.start()
    if how == "stop":
        stop.set()
        assert names(list(outcomes)) == NAMES[1:2]
    else:
        outcomes.close()  # type: ignore[attr-defined]
    later.join()
    assert sum(engines.used) == 5
    assert set(written(out)) == {*pictures_of(*NAMES[:2]), *(f"stats/{name}.json" for name in NAMES[:2])}


@pytest.mark.usefixtures("two_writers")
def test_images_in_flight_grow_with_the_engines_and_no_further(
    engines: Engines, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = photo_folder(tmp_path / "many", *(f"{index:02}.bmp" for index in range(40)))
    in_memory = PhotosInMemory(monkeypatch)
    assert len(list(outcomes_of(engines.all, photos, out))) == 40
    # One more waits between segmenting and writing, and one is with the caller.
    assert 3 < in_memory.most <= window(engines.all) + 2


class Steps:
    """The step that each image is in, as the pool sees it."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self._changed = threading.Condition()

    def observe(self, message: Began | Iterated) -> None:
        if isinstance(message, Began):
            with self._changed:
                self.now[message.name] = message.step
                self._changed.notify_all()

    def wait_for(self, **steps: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: steps.items() <= self.now.items(), WAIT_S), self.now


def test_image_that_waits_for_the_outcome_of_another_does_not_look_as_if_it_hung(
    engines: Engines, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is complete, one that cannot be read, and one that was written first would be given up otherwise."""
    photos = photo_folder(tmp_path / "four", *(f"{name}.bmp" for name in "abcd"))
    (photos / "c.bmp").write_bytes(b"")
    steps, go_on, write = Steps(), threading.Event(), stages._write_files
    monkeypatch.setattr(stages, "writers", lambda engine: 4)
    monkeypatch.setattr(stages, "readers", lambda engine: 4)
    plan = plan_batch([photos], out, TINY, BatchConfig())
    plan.folder.mark()
    list(run_stream(plan.jobs[1:2], plan.folder, plan.batch, engines.all))

    def first_waits(job: Any, *arguments: Any) -> Outcome:
        assert job.name != "a" or go_on.wait(WAIT_S)
        return write(job, *arguments)

    def go_on_once_all_wait() -> None:
        steps.wait_for(a="written", b="decoded", c="decoded", d="finished")
        go_on.set()

    monkeypatch.setattr(stages, "_write_files", first_waits)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(go_on_once_all_wait)
        found = list(run_stream(plan.jobs, plan.folder, plan.batch, engines.all, steps.observe))
        waiting.result()
    assert [outcome and outcome.status for _, outcome in found] == ["done", "skipped", "failed", "done"]


def test_images_of_a_sequence_have_one_engine(engines: Engines, photos: Path, out: Path) -> None:
    sequence = [Engine(replace(TINY, sequence=True), "cpu") for _ in range(2)]
    plan = plan_batch([photos], out, sequence[0].config, BatchConfig())
    with pytest.raises(ValueError, match="too many values"):
        list(run_stream(plan.jobs, plan.folder, plan.batch, sequence, sequences=plan.sequences))


def test_a_gpu_has_more_threads_around_it() -> None:
    class Pretended:
        def __init__(self, kind: str, *, sequence: bool = False) -> None:
            self.device = type("Device", (), {"type": kind})
            self.config = replace(TINY, sequence=sequence)

    engine: Any = Pretended("cuda")
    assert writers(engine) == 2
    assert 2 <= stages.readers(engine) <= 8
    assert window([engine, engine]) == stages.readers(engine) + 5
    ordered: Any = Pretended("cuda", sequence=True)
    assert writers(ordered) == 1
    for kind in ("cpu", "mps"):
        slower: Any = Pretended(kind)
        assert writers(slower) == 1

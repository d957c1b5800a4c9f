"""A folder fit from outside: by workers that send what a test tells them, and by real processes."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest
from samples import photo_folder
from scenes import TINY_FOLDER_FIT, tiny_scenes

from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.config import WeightsFile, WorkersConfig
from dynaseg_cli.errors import InterruptedWorkError, UsageError, WorkerError
from dynaseg_cli.files.output_folder import CHECKPOINT_NAME, MODEL_NAME
from dynaseg_cli.folder import supervisor as module
from dynaseg_cli.folder.supervisor import MOST_DEATHS, fit_folder
from dynaseg_cli.workers.messages import Assignment, Began, Broken, Ended, FitProgress, Fitted, Message, Refused, Warned

MODEL = WeightsFile("out/model.safetensors", "ab" * 32)


class Script:
    """A launcher of workers that send, one after another, the messages of a life; None is a while of silence."""

    def __init__(self, *lives: list[Message | None]) -> None:
        self.assignments: list[Assignment] = []
        self.killed = 0
        self.closed: list[bool] = []
        self.sent: list[object] = []
        self._lives = iter(lives)
        self._messages: Iterator[Message | None] = iter(())

    def __call__(self, workers: WorkersConfig) -> Script:
        return self

    def start(self, assignment: Assignment) -> Script:
        self.assignments.append(assignment)
        self._messages = iter(next(self._lives))
        return self

    def send(self, message: object) -> None:
        self.sent.append(message)
        self._messages = iter([Ended("stopped")])

    def receive(self, seconds: float) -> list[tuple[Script, Message]]:
        message = next(self._messages)
        return [] if message is None else [(self, message)]

    def kill(self, worker: Script) -> None:
        self.killed += 1

    def close(self, *, at_once: bool) -> None:
        self.closed.append(at_once)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_batch([photo_folder(tmp_path / "photos", "a.png", "b.png", "c.png")], tmp_path / "out", TINY_FOLDER_FIT)


def complete(
    events: Generator[FitProgress, None, WeightsFile], on_progress: Callable[[FitProgress], object] | None = None
) -> WeightsFile:
    """The result of a fit, whose progress is passed on."""
    while True:
        try:
            progress = next(events)
        except StopIteration as end:
            model: WeightsFile = end.value
            return model
        if on_progress is not None:
            on_progress(progress)


def fit(
    plan: Plan,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    on_progress: Callable[[FitProgress], object] | None = None,
    stop: threading.Event | None = None,
    timeout: float = 120.0,
) -> WeightsFile:
    monkeypatch.setattr(module, "local_launcher", script)
    workers = WorkersConfig(device="cpu", timeout=timeout)
    return complete(fit_folder(plan, workers, stop or threading.Event()), on_progress)


def test_progress_is_yielded_and_the_model_returned(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = FitProgress("epoch 1 of 3", 3, 0, 7)
    script = Script([Began("a", "read"), Began("a", "decoded"), progress, Fitted(MODEL)])
    told: list[FitProgress] = []
    assert fit(plan, script, monkeypatch, told.append) == MODEL
    assert told == [progress]
    assert [job.name for job in script.assignments[0].fit] == ["a", "b", "c"]
    assert script.closed == [False]


def test_images_of_all_shards_are_visited(plan: Plan) -> None:
    assert dataclasses.replace(plan, jobs=[]).fit_visits == 3 * (3 + 2)


def test_image_that_was_read_when_the_process_died_is_left_out_the_second_time(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dying: list[Message | None] = [
        Began("a", "read"),
        Began("a", "decoded"),
        Began("b", "read"),
        Ended("was ended by SIGSEGV"),
    ]
    other: list[Message | None] = [Began("c", "read"), Ended("was ended by SIGKILL")]
    script = Script(dying, other, dying, [Fitted(MODEL)])
    assert fit(plan, script, monkeypatch) == MODEL
    assert [assignment.skip for assignment in script.assignments] == [frozenset()] * 3 + [{"b"}]
    assert "b.png is left out of the fit: the process that read it was ended by SIGSEGV, like one before" in caplog.text
    assert caplog.text.count("left out") == 1


def test_file_that_hangs_is_left_out(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script([Began("a", "read"), Began("c", "read"), Began("c", "decoded"), *[None] * 99], [Fitted(MODEL)])
    clock = iter(range(10_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock) / 2)  # never a pause that looks like a suspension
    assert fit(plan, script, monkeypatch, timeout=20.0) == MODEL
    assert script.assignments[1].skip == {"a"}
    assert script.killed == 1
    assert "a.png is left out of the fit: not read within 20 seconds (`timeout`)" in caplog.text


def test_time_in_which_the_command_was_suspended_does_not_count(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([Began("a", "read"), None, None, Began("a", "decoded"), Fitted(MODEL)])
    times = iter([0.0, 0.0, 0.1, 0.2, *[500.0 + 0.1 * step for step in range(99)]])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    assert fit(plan, script, monkeypatch, timeout=20.0) == MODEL
    assert len(script.assignments) == 1


def test_process_that_dies_of_nothing_it_read_is_replaced_a_few_times(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(*[[Ended("was ended by SIGKILL")]] * (MOST_DEATHS + 1))
    with pytest.raises(WorkerError, match="die one after another; the last one was ended by SIGKILL"):
        fit(plan, script, monkeypatch)
    assert len(script.assignments) == MOST_DEATHS + 1
    assert script.closed == [True]
    assert caplog.text.count("another one continues after the last whole epoch") == MOST_DEATHS


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (Refused("there is no such device here"), UsageError, "no such device"),
        (Broken("the loss became nan", ""), WorkerError, "became nan"),
    ],
)
def test_what_a_process_cannot_do_is_raised(
    message: Message, error: type[Exception], text: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([message])
    with pytest.raises(error, match=text):
        fit(plan, script, monkeypatch)
    assert script.closed == [True]


def test_warnings_are_passed_on(plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fit(plan, Script([Warned("only 2 of 8 labels are left"), Fitted(MODEL)]), monkeypatch)
    assert "only 2 of 8 labels are left" in caplog.text


def test_process_is_told_to_stop_and_waited_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    script = Script([FitProgress("epoch 1 of 3", 3, 0, 7), *[None] * 9])
    with pytest.raises(InterruptedWorkError):
        fit(plan, script, monkeypatch, lambda progress: stop.set(), stop)
    assert script.sent == [None]
    assert script.closed == [False]


def test_stopping_as_the_model_is_written_stops_all_the_same(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    script = Script([FitProgress("areas", 15, 0, None), Fitted(MODEL)])
    monkeypatch.setattr(script, "send", script.sent.append)
    with pytest.raises(InterruptedWorkError):
        fit(plan, script, monkeypatch, lambda progress: stop.set(), stop)
    assert script.sent == [None]
    assert script.closed == [False]


def test_closing_lets_the_process_stop_by_itself(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([FitProgress("epoch 1 of 3", 3, 0, 7)])
    monkeypatch.setattr(module, "local_launcher", script)
    events = fit_folder(plan, WorkersConfig(device="cpu"), threading.Event())
    next(events)
    events.close()
    assert script.closed == [False]


# Real processes


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return tiny_scenes(tmp_path / "scenes")


@pytest.mark.slow
def test_fit_whose_process_is_killed_ends_with_the_same_model(
    scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = dataclasses.replace(TINY_FOLDER_FIT, epochs=12)
    workers = WorkersConfig(device="cpu", threads=1)
    killed: list[int] = []

    def kill(progress: FitProgress) -> None:
        if progress.step == "epoch 5 of 12" and not killed:
            (child,) = psutil.Process().children()
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    with caplog.at_level(logging.WARNING):
        complete(fit_folder(plan_batch([scenes], tmp_path / "out", config), workers, threading.Event()), kill)
    assert killed
    assert "was ended by SIGKILL" in caplog.text
    here = WorkersConfig(device="cpu", workers=0)
    complete(fit_folder(plan_batch([scenes], tmp_path / "whole", config), here, threading.Event()))
    assert (tmp_path / "out" / MODEL_NAME).read_bytes() == (tmp_path / "whole" / MODEL_NAME).read_bytes()
    assert not (tmp_path / "out" / CHECKPOINT_NAME).exists()


@pytest.mark.slow
def test_process_is_told_to_stop_and_leaves_its_checkpoint(scenes: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_FOLDER_FIT, epochs=2000)
    stop = threading.Event()

    def watch(progress: FitProgress) -> None:
        if progress.step == "epoch 3 of 2000":
            stop.set()

    plan, workers = plan_batch([scenes], tmp_path / "out", config), WorkersConfig(device="cpu", threads=1)
    with pytest.raises(InterruptedWorkError):
        complete(fit_folder(plan, workers, stop), watch)
    assert (tmp_path / "out" / CHECKPOINT_NAME).is_file()
    assert psutil.Process().children() == []


def test_device_that_is_not_there_is_refused(scenes: Path, tmp_path: Path) -> None:
    plan, workers = plan_batch([scenes], tmp_path / "out", TINY_FOLDER_FIT), WorkersConfig("cuda:99", workers=0)
    with pytest.raises(UsageError, match="there is no such device here"):
        complete(fit_folder(plan, workers, threading.Event()))

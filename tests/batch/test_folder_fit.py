"""A folder fit from outside: by workers that say what a test tells them, and by real processes."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from samples import photo_folder
from scenes import TINY_FOLDER_FIT, tiny_scenes

from dynaseg_cli.batch import folder_fit as module
from dynaseg_cli.batch.folder_fit import FRUITLESS, fit_folder, visits
from dynaseg_cli.batch.messages import (
    Assignment,
    Began,
    Broken,
    Ended,
    FitProgress,
    Fitted,
    Message,
    Refused,
    Warned,
)
from dynaseg_cli.batch.output_folder import CHECKPOINT_NAME, MODEL_NAME
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.config import WeightsFile, WorkersConfig
from dynaseg_cli.errors import InterruptedWorkError, UsageError, WorkerError

MODEL = WeightsFile("out/model.safetensors", "ab" * 32)


class Script:
    """A crew whose workers say, one after another, what they are told to; None is a while of silence."""

    def __init__(self, *lives: list[Message | None]) -> None:
        self.assignments: list[Assignment] = []
        self.dismissed = 0
        self.closed: list[bool] = []
        self.given: list[object] = []
        self._lives = iter(lives)
        self._says: Iterator[Message | None] = iter(())

    def __call__(self, workers: WorkersConfig) -> Script:
        return self

    def hire(self, assignment: Assignment) -> Script:
        self.assignments.append(assignment)
        self._says = iter(next(self._lives))
        return self

    def give(self, message: object) -> None:
        self.given.append(message)
        self._says = iter([Ended("stopped")])

    def hear(self, seconds: float) -> list[tuple[Script, Message]]:
        message = next(self._says)
        return [] if message is None else [(self, message)]

    def dismiss(self, worker: Script) -> None:
        self.dismissed += 1

    def close(self, *, at_once: bool) -> None:
        self.closed.append(at_once)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_batch([photo_folder(tmp_path / "photos", "a.png", "b.png", "c.png")], tmp_path / "out", TINY_FOLDER_FIT)


def fit(plan: Plan, script: Script, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Plan:
    monkeypatch.setattr(module, "local_crew", script)
    return fit_folder(plan, WorkersConfig(device="cpu", timeout=options.pop("timeout", 120.0)), **options)


def test_plan_gets_the_model_and_progress_is_passed_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = FitProgress("epoch 1 of 3", 3, 0, 7)
    script = Script([Began("a", "read"), Began("a", "decoded"), progress, Fitted(MODEL)])
    told: list[FitProgress] = []
    result = fit(plan, script, monkeypatch, on_progress=told.append)
    assert result == dataclasses.replace(plan, segment=dataclasses.replace(TINY_FOLDER_FIT, model=MODEL))
    assert told == [progress]
    assert [job.name for job in script.assignments[0].fit] == ["a", "b", "c"]
    assert script.closed == [False]


def test_images_that_go_by_are_those_of_all_shards(plan: Plan) -> None:
    assert visits(plan) == 3 * (3 + 2)


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
    assert fit(plan, script, monkeypatch).segment.model == MODEL
    assert [assignment.skip for assignment in script.assignments] == [frozenset()] * 3 + [{"b"}]
    assert "b.png is left out of the fit: the process that read it was ended by SIGSEGV, like one before" in caplog.text
    assert caplog.text.count("left out") == 1


def test_file_that_hangs_is_left_out(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script([Began("a", "read"), Began("c", "read"), Began("c", "decoded"), *[None] * 99], [Fitted(MODEL)])
    clock = iter(range(10_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock) / 2)  # never longer asleep than it may be
    assert fit(plan, script, monkeypatch, timeout=20.0).segment.model == MODEL
    assert script.assignments[1].skip == {"a"}
    assert script.dismissed == 1
    assert "a.png is left out of the fit: not read within 20 seconds (--timeout)" in caplog.text


def test_time_that_the_command_was_stopped_is_not_held_against_a_file(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([Began("a", "read"), None, None, Began("a", "decoded"), Fitted(MODEL)])
    times = iter([0.0, 0.0, 0.1, 0.2, *[500.0 + 0.1 * step for step in range(99)]])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    assert fit(plan, script, monkeypatch, timeout=20.0).segment.model == MODEL
    assert len(script.assignments) == 1


def test_process_that_dies_of_nothing_it_read_is_replaced_a_few_times(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(*[[Ended("was ended by SIGKILL")]] * (FRUITLESS + 1))
    with pytest.raises(WorkerError, match="die one after another; the last one was ended by SIGKILL"):
        fit(plan, script, monkeypatch)
    assert len(script.assignments) == FRUITLESS + 1
    assert script.closed == [True]
    assert caplog.text.count("another one goes on after the last whole epoch") == FRUITLESS


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


def test_stopping_is_told_to_the_process_and_waited_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    script = Script([FitProgress("epoch 1 of 3", 3, 0, 7), *[None] * 9])
    with pytest.raises(InterruptedWorkError):
        fit(plan, script, monkeypatch, on_progress=lambda progress: stop.set(), stop=stop)
    assert script.given == [None]
    assert script.closed == [False]


def test_stopping_as_the_model_is_written_stops_all_the_same(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    script = Script([FitProgress("areas", 15, 0, None), Fitted(MODEL)])
    monkeypatch.setattr(script, "give", script.given.append)
    with pytest.raises(InterruptedWorkError):
        fit(plan, script, monkeypatch, on_progress=lambda progress: stop.set(), stop=stop)
    assert script.given == [None]
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
        fit_folder(plan_batch([scenes], tmp_path / "out", config), workers, kill)
    assert killed
    assert "was ended by SIGKILL" in caplog.text
    fit_folder(plan_batch([scenes], tmp_path / "whole", config), WorkersConfig(device="cpu", workers=0))
    assert (tmp_path / "out" / MODEL_NAME).read_bytes() == (tmp_path / "whole" / MODEL_NAME).read_bytes()
    assert not (tmp_path / "out" / CHECKPOINT_NAME).exists()


@pytest.mark.slow
def test_process_is_told_to_stop_and_leaves_its_checkpoint(scenes: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_FOLDER_FIT, epochs=2000)
    stop = threading.Event()

    def watch(progress: FitProgress) -> None:
        if progress.step == "epoch 3 of 2000":
            stop.set()

    with pytest.raises(InterruptedWorkError):
        fit_folder(plan_batch([scenes], tmp_path / "out", config), WorkersConfig(device="cpu", threads=1), watch, stop)
    assert (tmp_path / "out" / CHECKPOINT_NAME).is_file()
    assert psutil.Process().children() == []


def test_device_that_is_not_there_is_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such device here"):
        fit_folder(plan_batch([scenes], tmp_path / "out", TINY_FOLDER_FIT), WorkersConfig(device="cuda:99", workers=0))

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import TINY, save_photo, stand_in_for_python

from dynaseg_cli import BatchConfig
from dynaseg_cli.errors import memory_limit, reason
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.workers import local, worker
from dynaseg_cli.workers.local import LocalLauncher, ProcessWorker, ThreadWorker, why_ended
from dynaseg_cli.workers.messages import Assignment, Broken, Ended, Finished, Message, Ready, Refused

DEADLINE_S = 600


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    return Assignment(TINY, BatchConfig(), str(tmp_path / "out"), str(tmp_path), "cpu", 0, 1, 1)


@pytest.fixture(params=[ProcessWorker, ThreadWorker], ids=["process", "thread"])
def launcher(request: pytest.FixtureRequest) -> Iterator[LocalLauncher]:
    launcher = LocalLauncher(request.param)
    yield launcher
    launcher.close(at_once=False)


@pytest.fixture
def processes() -> Iterator[LocalLauncher]:
    launcher = LocalLauncher()
    yield launcher
    launcher.close(at_once=True)


def receive_until(launcher: LocalLauncher, kind: type[Message]) -> list[Message]:
    """A worker's messages up to one of some kind."""
    received: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    while not any(isinstance(message, kind) for message in received):
        assert time.monotonic() < deadline, received
        received += [message for _, message in launcher.receive(0.1)]
    return received


def test_worker_does_a_job_and_ends_when_told(launcher: LocalLauncher, assignment: Assignment, tmp_path: Path) -> None:
    worker = launcher.start(assignment)
    (ready,) = receive_until(launcher, Ready)
    assert isinstance(ready, Ready)
    assert (ready.workers, ready.window) == (1, 4)
    worker.send(Job(str(save_photo(tmp_path / "a.png")), "a"))
    finished = receive_until(launcher, Finished)[-1]
    assert isinstance(finished, Finished)
    assert finished.name == "a"
    assert finished.outcome is not None
    assert finished.outcome.status == "done"
    assert (tmp_path / "out/stats/a.json").exists()
    worker.send(None)
    receive_until(launcher, Ended)
    assert launcher.receive(0) == []


def test_worker_refuses_what_it_cannot_do(launcher: LocalLauncher, assignment: Assignment, tmp_path: Path) -> None:
    launcher.start(dataclasses.replace(assignment, device="cuda:77"))
    refused = receive_until(launcher, Refused)[-1]
    assert isinstance(refused, Refused)
    assert "cuda:77" in refused.reason
    assert not (tmp_path / "out").exists()


def test_worker_says_where_a_mistake_in_the_program_is(launcher: LocalLauncher, assignment: Assignment) -> None:
    launcher.start(dataclasses.replace(assignment, threads="many"))  # type: ignore[arg-type]
    broken = receive_until(launcher, Broken)[-1]
    assert isinstance(broken, Broken)
    assert "unexpected" in broken.error
    assert "Traceback" in broken.traceback


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ImportError("libtorch.so: failed to map segment", name="torch"),
            "torch cannot be loaded (libtorch.so: failed",
        ),
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device", "/tmp/x"), "/tmp/x: No space left on device"),
    ],
    ids=repr,
)
def test_worker_that_lacks_what_the_system_should_give_says_so_plainly(
    assignment: Assignment, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "_serve", fail)
    launcher = LocalLauncher(ThreadWorker)
    launcher.start(assignment)
    broken = receive_until(launcher, Broken)[-1]
    launcher.close(at_once=False)
    assert isinstance(broken, Broken)
    assert broken.error.startswith(f"a worker cannot go on: {reason}")


def test_limit_of_memory_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason(MemoryError()) in {"out of memory", f"out of memory{memory_limit()}"}
    monkeypatch.setattr("resource.getrlimit", lambda _: (1200 << 20, 1200 << 20))
    assert reason(MemoryError()) == (
        "out of memory; processes are limited to 1200 MB here: raise the limit (ulimit -v unlimited)"
    )


def test_worker_that_was_killed_says_how_it_ended(processes: LocalLauncher, assignment: Assignment) -> None:
    worker = processes.start(assignment)
    receive_until(processes, Ready)
    worker.kill()
    assert receive_until(processes, Ended)[-1] == Ended("was ended by SIGKILL; was there memory enough?")


def test_process_that_is_no_worker_says_how_it_ended(
    processes: LocalLauncher, assignment: Assignment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in_for_python(monkeypatch, tmp_path, "echo 'no module of that name' >&2; exit 3")
    processes.start(assignment)
    assert receive_until(processes, Ended)[-1] == Ended("ended early, exit code 3: no module of that name")


def test_worker_that_has_closed_its_connection_is_killed(
    processes: LocalLauncher, assignment: Assignment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "ENDING_S", 0.2)
    deaf = "import os, time; os.closerange(3, 100); time.sleep(60)"
    stand_in_for_python(monkeypatch, tmp_path, f"exec {sys.executable} -c '{deaf}'")
    processes.start(assignment)
    assert receive_until(processes, Ended)[-1] == Ended("closed its connection")


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (-11, "", "was ended by SIGSEGV"),
        (-9, "", "was ended by SIGKILL; was there memory enough?"),
        (-300, "", "was ended by signal 300"),
        (1, "", "ended early, exit code 1"),
        (1, "first\n\n last \n\n", "ended early, exit code 1: last"),
    ],
)
def test_end_of_a_process_in_words(code: int, stderr: str, reason: str) -> None:
    assert why_ended(code, stderr) == reason

"""The rules of the pool, with workers that do what a test says and need no process."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import TINY

from dynaseg_cli import BatchConfig, __version__
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan
from dynaseg_cli.errors import UsageError, WorkerError
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.workers import pool as module
from dynaseg_cli.workers.messages import (
    Assignment,
    Began,
    Broken,
    Ended,
    Finished,
    Iterated,
    Message,
    Ready,
    Refused,
    Warned,
)
from dynaseg_cli.workers.pool import ImageProgress, Pool


class Puppet:
    """A worker that answers each job by `act`, a message a time."""

    def __init__(self, assignment: Assignment, act: Act, hello: Message) -> None:
        self.assignment = assignment
        self.received: list[str] = []
        self.told_to_stop = False
        self._act = act
        self._messages: deque[Iterator[Message]] = deque([iter([hello])])

    def send(self, job: Job | None) -> None:
        if job is None:
            self.told_to_stop = True
            self._messages.append(iter([Ended("stopped")]))
        else:
            self.received.append(job.name)
            self._messages.append(iter(self._act(self, job)))

    def next_message(self) -> Message | None:
        while self._messages:
            message = next(self._messages[0], None)
            if message is not None:
                return message
            self._messages.popleft()
        return None


Act = Callable[[Puppet, Job], Iterator[Message]]


class Puppets:
    """A launcher of them."""

    limits_start = True

    def __init__(self, act: Act, hello: Message | None = None) -> None:
        self.started: list[Puppet] = []
        self.working: list[Puppet] = []
        self.killed: list[Puppet] = []
        self.closed: list[bool] = []
        self._act = act
        self._hello = hello or Ready("cpu (puppet)", 1, 3, __version__)

    def start(self, assignment: Assignment) -> Puppet:
        worker = Puppet(assignment, self._act, self._hello)
        self.started.append(worker)
        self.working.append(worker)
        return worker

    def receive(self, seconds: float) -> list[tuple[Puppet, Message]]:
        messages = [(worker, worker.next_message()) for worker in list(self.working)]
        received = [(worker, message) for worker, message in messages if message is not None]
        for worker, message in received:
            if isinstance(message, Ended):
                self.working.remove(worker)
        return received

    def kill(self, worker: Puppet) -> None:
        self.killed.append(worker)
        self.working.remove(worker)

    def close(self, *, at_once: bool) -> None:
        self.closed.append(at_once)


def done(job: Job) -> Finished:
    return Finished(job.name, Outcome(job.path, "done", num_labels=3))


def obey(worker: Puppet, job: Job) -> Iterator[Message]:
    yield Began(job.name, "read")
    yield Began(job.name, "segmented")
    yield done(job)


def plan_of(out: Path, images: int, **batch: Any) -> Plan:
    jobs = [Job(f"photos/{index}.jpg", str(index)) for index in range(images)]
    return Plan(jobs, jobs, OutputFolder(out), TINY, BatchConfig(**batch), unlistable=[])


def new_pool(
    plan: Plan,
    launcher: Puppets,
    workers: int | None = 1,
    timeout: float = 60,
    stop: threading.Event | None = None,
) -> Pool:
    assignment = Assignment(plan.segment, plan.batch, str(plan.folder), ".", "cpu", 0, workers, None)
    return Pool(plan, launcher, assignment, workers, timeout, stop)


def outcomes_of(pool: Pool) -> Iterator[Outcome]:
    return (event for event in pool.run() if isinstance(event, Outcome))


def run(plan: Plan, launcher: Puppets, workers: int | None = 1, timeout: float = 60) -> dict[str, Outcome]:
    """Outcomes by the stem of the image; each image must have one."""
    outcomes = list(outcomes_of(new_pool(plan, launcher, workers, timeout)))
    by_stem = {Path(outcome.path).stem: outcome for outcome in outcomes}
    assert len(by_stem) == len(outcomes) == len(plan.jobs)
    return by_stem


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("images", [0, 1, 4, 30])
def test_every_image_is_handed_out_once(out: Path, workers: int, images: int) -> None:
    launcher = Puppets(obey)
    run(plan_of(out, images), launcher, workers)
    received = [name for worker in launcher.started for name in worker.received]
    assert sorted(received, key=int) == [str(index) for index in range(images)]
    assert len(launcher.started) == min(workers, images)
    assert [worker.assignment.number for worker in launcher.started] == list(range(len(launcher.started)))
    assert launcher.closed[0] is False


def test_first_worker_decides_how_many_there_are(out: Path) -> None:
    launcher = Puppets(obey, Ready("cuda:0 (puppet)", 3, 3, __version__))
    pool = new_pool(plan_of(out, 30), launcher, workers=None)
    assert len(list(pool.run())) == 30
    assert [worker.assignment.number for worker in launcher.started] == [0, 1, 2]
    assert pool.device == "cuda:0 (puppet)"


def test_faster_worker_gets_more_images(out: Path) -> None:
    def slow_first(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        for iteration in range(10 if worker.assignment.number == 0 else 0):
            yield Iterated(job.name, iteration, 3)
        yield done(job)

    launcher = Puppets(slow_first)
    run(plan_of(out, 60), launcher, workers=2)
    slow, fast = (len(worker.received) for worker in launcher.started)
    assert fast > 3 * slow


def test_few_images_are_left_for_the_workers_that_are_not_ready(out: Path) -> None:
    def slow(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        for iteration in range(10):
            yield Iterated(job.name, iteration, 3)
        yield done(job)

    launcher = Puppets(slow, Ready("cpu", 2, 4, __version__))
    assert len(list(outcomes_of(new_pool(plan_of(out, 4), launcher, workers=None)))) == 4
    assert [len(worker.received) for worker in launcher.started] == [2, 2]


def test_worker_never_has_more_images_than_its_window(out: Path) -> None:
    having: set[str] = set()
    most = 0

    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        nonlocal most
        having.add(job.name)
        most = max(most, len(having))
        yield Began(job.name, "read")
        having.discard(job.name)
        yield done(job)

    run(plan_of(out, 20), Puppets(act, Ready("cpu", 1, 4, __version__)))
    assert most <= 4


def test_iterations_are_passed_on(out: Path) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        yield Iterated(job.name, 7, 40)
        yield done(job)

    plan = plan_of(out, 1)
    first, second = new_pool(plan, Puppets(act)).run()
    assert first == ImageProgress(plan.jobs[0], 7, 40)
    assert isinstance(second, Outcome)


# Workers that die


def test_death_of_a_worker_costs_no_image(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    deaths = 0

    def die_once(worker: Puppet, job: Job) -> Iterator[Message]:
        nonlocal deaths
        yield Began(job.name, "read")
        if job.name == "4" and not deaths:
            deaths += 1
            yield Ended("was ended by SIGSEGV")
        yield done(job)

    launcher = Puppets(die_once)
    outcomes = run(plan_of(out, 10), launcher)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert len(launcher.started) == 2
    assert "a worker was ended by SIGSEGV; another one takes its place" in caplog.text


def test_image_that_kills_its_worker_twice_is_given_up_and_named(out: Path) -> None:
    def die_of_four(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        yield Began(job.name, "segmented")
        if job.name == "4":
            yield Ended("was ended by SIGSEGV")
        yield done(job)

    launcher = Puppets(die_of_four)
    outcomes = run(plan_of(out, 10), launcher)
    failed = {stem: outcome.reason for stem, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed == {"4": "its worker was ended by SIGSEGV, like the one before, when it was segmented"}
    assert sum(worker.received.count("4") for worker in launcher.started) == 2
    assert [entry["path"] for entry in logged(out) if entry["status"] == "failed"] == ["photos/4.jpg"]


def test_images_that_a_dead_worker_had_begun_are_done_again_alone(out: Path) -> None:
    """Otherwise an image that kills would take innocent ones with it."""

    def begin_three_then_die(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if worker is launcher.started[0]:
            if len(worker.received) == 3 and job.name == "2":
                yield Ended("was ended by SIGKILL")
            return
        if set(worker.received) <= {"0", "1", "2"}:
            alone.append(sum(1 for _ in worker.received) - finished)
        yield done(job)

    alone: list[int] = []
    finished = 0

    def count(outcomes: Iterator[Outcome]) -> None:
        nonlocal finished
        for _ in outcomes:
            finished += 1

    launcher = Puppets(begin_three_then_die)
    count(outcomes_of(new_pool(plan_of(out, 8), launcher)))
    assert launcher.started[1].received[:3] == ["0", "1", "2"]
    assert alone == [1, 1, 1]
    assert finished == 8


def test_worker_that_dies_before_it_begins_an_image_does_not_blame_it(out: Path) -> None:
    """Not even if an earlier worker died during that image."""

    def die_of_one_then_of_nothing(worker: Puppet, job: Job) -> Iterator[Message]:
        if worker is launcher.started[0]:
            yield Began(job.name, "read")
        if worker in launcher.started[:2]:
            yield Ended("was ended by SIGKILL")
        yield done(job)

    launcher = Puppets(die_of_one_then_of_nothing)
    assert {outcome.status for outcome in run(plan_of(out, 1), launcher).values()} == {"done"}
    assert len(launcher.started) == 3


def test_several_killers_are_each_given_up(out: Path) -> None:
    def die_of_even(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if int(job.name) % 2 == 0:
            yield Ended("was ended by SIGABRT")
        yield done(job)

    outcomes = run(plan_of(out, 9), Puppets(die_of_even), workers=2)
    assert {stem for stem, outcome in outcomes.items() if outcome.status == "failed"} == {"0", "2", "4", "6", "8"}


def test_workers_that_cannot_even_start_end_the_run(out: Path) -> None:
    launcher = Puppets(obey, Ended("ended early, exit code 1: No module named torch"))
    with pytest.raises(WorkerError, match="No module named torch"):
        run(plan_of(out, 3), launcher, workers=2)
    assert len(launcher.started) < 10
    assert launcher.closed == [True]


def test_workers_that_die_before_they_begin_end_the_run(out: Path) -> None:
    def die(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Ended("was ended by SIGBUS")

    with pytest.raises(WorkerError, match="die one after another; the last one was ended by SIGBUS"):
        run(plan_of(out, 3), Puppets(die))


# Files that hang, images that others have


def test_image_that_hangs_is_given_up_with_its_worker_and_no_other(out: Path) -> None:
    def hang_at_two(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if job.name == "2":
            while worker in launcher.working:
                yield Warned("still here")
        yield done(job)

    launcher = Puppets(hang_at_two)
    outcomes = run(plan_of(out, 6), launcher, timeout=0.05)
    failed = {stem: outcome.reason for stem, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed == {"2": "it was not read within 0.05 seconds (`timeout`)"}
    assert len(launcher.killed) == 1
    assert len(launcher.started) == 2


def stop_later() -> threading.Event:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    return stop


def test_worker_that_does_not_start_is_replaced(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Puppets(obey, Warned("still loading"))
    assert list(new_pool(plan_of(out, 2), launcher, timeout=0.01, stop=stop_later()).run()) == []
    assert len(launcher.started) == 1, "a short limit for files is none for starting"
    monkeypatch.setattr(module, "START_S", 0.01)
    launcher = Puppets(obey, Warned("still loading"))
    with pytest.raises(WorkerError, match=r"did not start within 0\.01 seconds"):
        run(plan_of(out, 2), launcher, timeout=0.01)
    assert len(launcher.killed) > 1
    launcher = Puppets(obey, Warned("waiting for a place"))
    launcher.limits_start = False
    assert list(new_pool(plan_of(out, 2), launcher, timeout=0.01, stop=stop_later()).run()) == []
    assert len(launcher.started) == 1


def test_long_fit_is_no_hang(out: Path) -> None:
    def long(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        threading.Event().wait(0.05)
        yield Warned("and on")
        yield done(job)

    launcher = Puppets(long)
    assert run(plan_of(out, 2), launcher, timeout=0.01)["1"].status == "done"
    assert launcher.killed == []


def test_time_in_which_nobody_listens_is_no_hang(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may take its time with an outcome, and Ctrl-Z stops the pool and its workers for any time."""
    monkeypatch.setattr(module, "SUSPENDED_S", 0.1)

    def read_two_at_a_time(worker: Puppet, job: Job) -> Iterator[Message]:
        if job.name == "0":
            yield Began("0", "read")
            yield Began("1", "read")
            yield done(job)
            yield Warned("nothing new of the other one")
        else:
            yield done(job)

    launcher = Puppets(read_two_at_a_time)
    outcomes = []
    for outcome in outcomes_of(new_pool(plan_of(out, 2), launcher, timeout=0.2)):
        outcomes.append(outcome.status)
        threading.Event().wait(0.5)
    assert outcomes == ["done", "done"]
    assert launcher.killed == []


def test_image_that_another_process_has_is_asked_for_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIMED_RETRY_S", 0.0)
    asked: list[str] = []

    def taken_at_first(worker: Puppet, job: Job) -> Iterator[Message]:
        asked.append(job.name)
        yield Began(job.name, "read")
        if job.name == "0" and asked.count("0") < 3:
            yield Finished(job.name, None)
        else:
            yield Finished(job.name, Outcome(job.path, "skipped" if job.name == "0" else "done", num_labels=2))

    outcomes = run(plan_of(out, 4), Puppets(taken_at_first))
    assert {stem: outcome.status for stem, outcome in outcomes.items()} == {
        "0": "skipped",
        "1": "done",
        "2": "done",
        "3": "done",
    }
    assert asked[:4] == ["0", "1", "2", "3"], "first what nobody else works on"


# Stopping


def test_stop_counts_what_was_finished_and_hands_out_no_more(out: Path) -> None:
    stop = threading.Event()

    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        yield done(job)
        if job.name == "3":
            stop.set()

    launcher = Puppets(act)
    outcomes = list(new_pool(plan_of(out, 100), launcher, stop=stop).run())
    assert 4 <= len(outcomes) <= 8
    assert len(logged(out)) == len(outcomes)
    assert launcher.started[0].told_to_stop


def test_worker_that_does_not_stop_is_not_waited_for(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.05)
    stop = threading.Event()

    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        stop.set()
        while True:
            yield Warned("going on")

    launcher = Puppets(act)
    assert list(new_pool(plan_of(out, 3), launcher, stop=stop).run()) == []
    assert launcher.closed == [False]


def test_closing_lets_the_workers_stop_by_themselves(out: Path) -> None:
    launcher = Puppets(obey)
    outcomes = new_pool(plan_of(out, 5), launcher).run()
    next(outcomes)
    outcomes.close()
    assert launcher.closed == [False]


def test_first_failure_ends_a_run_that_is_to_fail_fast(out: Path) -> None:
    def fail_two(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        status = "failed" if job.name == "2" else "done"
        yield Finished(job.name, Outcome(job.path, status, "a reason", num_labels=3))

    outcomes = list(outcomes_of(new_pool(plan_of(out, 50, fail_fast=True), Puppets(fail_two))))
    assert [outcome.status for outcome in outcomes] == ["done", "done", "failed"]


# What workers report


def test_wrong_usage_is_passed_on_and_nothing_written(out: Path) -> None:
    launcher = Puppets(obey, Refused("`device=cuda:9`: there is no such device here"))
    plan = plan_of(out, 3)
    plan.unlistable.append(Outcome("folder", "failed", "cannot be listed"))
    with pytest.raises(UsageError, match="cuda:9"):
        list(outcomes_of(new_pool(plan, launcher)))
    assert not out.exists()


def test_worker_of_another_version_is_refused(out: Path) -> None:
    with pytest.raises(UsageError, match=r"dynaseg 9\.9\.9"):
        run(plan_of(out, 1), Puppets(obey, Ready("cpu", 1, 3, "9.9.9")))


def test_mistake_in_the_program_ends_the_run_with_its_traceback(out: Path) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Broken("unexpected ValueError: ours", "Traceback: line 3")

    with pytest.raises(WorkerError, match="unexpected ValueError: ours") as caught:
        run(plan_of(out, 2), Puppets(act))
    assert caught.value.traceback == "Traceback: line 3"


def test_warnings_are_passed_on(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Warned("kernels do not work here")
        yield done(job)

    run(plan_of(out, 1), Puppets(act))
    assert caplog.messages == ["kernels do not work here"]


def test_warning_that_every_worker_gives_is_passed_on_once(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Warned("weights are random")
        yield Warned(f"of image {job.name}")
        yield done(job)

    run(plan_of(out, 2), Puppets(act))
    assert sorted(caplog.messages) == ["of image 0", "of image 1", "weights are random"]


# The log


def test_outcomes_are_logged_as_they_come_and_skipped_ones_are_not(out: Path) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        status = {"0": "done", "1": "skipped", "2": "failed"}[job.name]
        yield Finished(job.name, Outcome(job.path, status, num_labels=1))  # type: ignore[arg-type]

    run(plan_of(out, 3), Puppets(act))
    assert [(entry["path"], entry["status"]) for entry in logged(out)] == [
        ("photos/0.jpg", "done"),
        ("photos/2.jpg", "failed"),
    ]


def test_outcome_that_cannot_be_logged_costs_its_line_alone(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    (out / "outcomes.jsonl").mkdir(parents=True)
    assert len(run(plan_of(out, 3), Puppets(obey))) == 3
    assert len(caplog.records) == 3
    assert "outcomes.jsonl" in caplog.text


@pytest.mark.parametrize("images", [0, 2])
def test_folder_that_cannot_be_listed_is_a_failure(out: Path, images: int) -> None:
    plan = plan_of(out, images)
    plan.unlistable.append(Outcome("sub", "failed", "cannot be listed"))
    outcomes = list(outcomes_of(new_pool(plan, Puppets(obey))))
    assert [outcome.path for outcome in outcomes] == ["sub", *(f"photos/{index}.jpg" for index in range(images))]
    assert len(logged(out)) == images + 1

"""The dispatcher's rules, with workers that do as a test says and need no process."""

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
from dynaseg_cli.batch import dispatcher as module
from dynaseg_cli.batch.dispatcher import Dispatcher
from dynaseg_cli.batch.job import Job
from dynaseg_cli.batch.messages import (
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
from dynaseg_cli.batch.outcome import Outcome
from dynaseg_cli.batch.planning import Plan
from dynaseg_cli.errors import UsageError, WorkerError


class Puppet:
    """A worker that answers each job by `act`, a message a time."""

    def __init__(self, assignment: Assignment, act: Act, hello: Message) -> None:
        self.assignment = assignment
        self.given: list[str] = []
        self.told_to_stop = False
        self._act = act
        self._says: deque[Iterator[Message]] = deque([iter([hello])])

    def give(self, job: Job | None) -> None:
        if job is None:
            self.told_to_stop = True
            self._says.append(iter([Ended("stopped")]))
        else:
            self.given.append(job.name)
            self._says.append(iter(self._act(self, job)))

    def say(self) -> Message | None:
        while self._says:
            message = next(self._says[0], None)
            if message is not None:
                return message
            self._says.popleft()
        return None


Act = Callable[[Puppet, Job], Iterator[Message]]


class Puppets:
    """A crew of them."""

    impatient = True

    def __init__(self, act: Act, hello: Message | None = None) -> None:
        self.hired: list[Puppet] = []
        self.working: list[Puppet] = []
        self.dismissed: list[Puppet] = []
        self.closed: list[bool] = []
        self._act = act
        self._hello = hello or Ready("cpu (puppet)", 1, 3, __version__)

    def hire(self, assignment: Assignment) -> Puppet:
        worker = Puppet(assignment, self._act, self._hello)
        self.hired.append(worker)
        self.working.append(worker)
        return worker

    def hear(self, seconds: float) -> list[tuple[Puppet, Message]]:
        said = [(worker, worker.say()) for worker in list(self.working)]
        heard = [(worker, message) for worker, message in said if message is not None]
        for worker, message in heard:
            if isinstance(message, Ended):
                self.working.remove(worker)
        return heard

    def dismiss(self, worker: Puppet) -> None:
        self.dismissed.append(worker)
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
    return Plan(jobs, jobs, out, TINY, BatchConfig(**batch), unlistable=[])


def dispatcher(plan: Plan, crew: Puppets, workers: int | None = 1, timeout: float = 60, **more: Any) -> Dispatcher:
    assignment = Assignment(plan.segment, plan.batch, str(plan.output), ".", "cpu", 0, workers, None)
    return Dispatcher(plan, crew, assignment, workers, timeout, **more)


def run(plan: Plan, crew: Puppets, workers: int | None = 1, timeout: float = 60) -> dict[str, Outcome]:
    """Outcomes by the stem of the image; each image must have one."""
    outcomes = list(dispatcher(plan, crew, workers, timeout).run())
    by_stem = {Path(outcome.path).stem: outcome for outcome in outcomes}
    assert len(by_stem) == len(outcomes) == len(plan.jobs)
    return by_stem


def noted(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_text().splitlines()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("images", [0, 1, 4, 30])
def test_every_image_is_given_once(out: Path, workers: int, images: int) -> None:
    crew = Puppets(obey)
    run(plan_of(out, images), crew, workers)
    given = [name for worker in crew.hired for name in worker.given]
    assert sorted(given, key=int) == [str(index) for index in range(images)]
    assert len(crew.hired) == min(workers, images)
    assert [worker.assignment.number for worker in crew.hired] == list(range(len(crew.hired)))
    assert crew.closed[0] is False


def test_device_tells_how_many_workers_there_are_to_be(out: Path) -> None:
    crew = Puppets(obey, Ready("cuda:0 (puppet)", 3, 3, __version__))
    made = dispatcher(plan_of(out, 30), crew, workers=None)
    assert len(list(made.run())) == 30
    assert [worker.assignment.number for worker in crew.hired] == [0, 1, 2]
    assert made.device == "cuda:0 (puppet)"


def test_faster_worker_gets_more_images(out: Path) -> None:
    def slow_first(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        for iteration in range(10 if worker.assignment.number == 0 else 0):
            yield Iterated(job.name, iteration, 3)
        yield done(job)

    crew = Puppets(slow_first)
    run(plan_of(out, 60), crew, workers=2)
    slow, fast = (len(worker.given) for worker in crew.hired)
    assert fast > 3 * slow


def test_few_images_are_left_for_the_workers_that_are_not_ready(out: Path) -> None:
    def slow(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        for iteration in range(10):
            yield Iterated(job.name, iteration, 3)
        yield done(job)

    crew = Puppets(slow, Ready("cpu", 2, 4, __version__))
    assert len(list(dispatcher(plan_of(out, 4), crew, workers=None).run())) == 4
    assert [len(worker.given) for worker in crew.hired] == [2, 2]


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
    seen: list[tuple[str, int, int]] = []

    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        yield Iterated(job.name, 7, 40)
        yield done(job)

    made = dispatcher(plan_of(out, 1), Puppets(act), on_iteration=lambda job, *values: seen.append((job.path, *values)))
    list(made.run())
    assert seen == [("photos/0.jpg", 7, 40)]


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

    crew = Puppets(die_once)
    outcomes = run(plan_of(out, 10), crew)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert len(crew.hired) == 2
    assert "a worker was ended by SIGSEGV; another one takes its place" in caplog.text


def test_image_that_kills_its_worker_twice_is_given_up_and_named(out: Path) -> None:
    def die_of_four(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        yield Began(job.name, "segmented")
        if job.name == "4":
            yield Ended("was ended by SIGSEGV")
        yield done(job)

    crew = Puppets(die_of_four)
    outcomes = run(plan_of(out, 10), crew)
    failed = {stem: outcome.reason for stem, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed == {"4": "its worker was ended by SIGSEGV, like the one before, when it was segmented"}
    assert sum(worker.given.count("4") for worker in crew.hired) == 2
    assert [entry["path"] for entry in noted(out) if entry["status"] == "failed"] == ["photos/4.jpg"]


def test_images_that_a_dead_worker_had_begun_are_done_again_alone(out: Path) -> None:
    """Otherwise an image that kills would take innocent ones with it."""

    def begin_three_then_die(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if worker is crew.hired[0]:
            if len(worker.given) == 3 and job.name == "2":
                yield Ended("was ended by SIGKILL")
            return
        if set(worker.given) <= {"0", "1", "2"}:
            alone.append(sum(1 for _ in worker.given) - finished)
        yield done(job)

    alone: list[int] = []
    finished = 0

    def count(outcomes: Iterator[Outcome]) -> None:
        nonlocal finished
        for _ in outcomes:
            finished += 1

    crew = Puppets(begin_three_then_die)
    count(dispatcher(plan_of(out, 8), crew).run())
    assert crew.hired[1].given[:3] == ["0", "1", "2"]
    assert alone == [1, 1, 1]
    assert finished == 8


def test_worker_that_dies_before_it_begins_with_an_image_says_nothing_of_it(out: Path) -> None:
    """Not even where the image is one that a worker died of."""

    def die_of_one_then_of_nothing(worker: Puppet, job: Job) -> Iterator[Message]:
        if worker is crew.hired[0]:
            yield Began(job.name, "read")
        if worker in crew.hired[:2]:
            yield Ended("was ended by SIGKILL")
        yield done(job)

    crew = Puppets(die_of_one_then_of_nothing)
    assert {outcome.status for outcome in run(plan_of(out, 1), crew).values()} == {"done"}
    assert len(crew.hired) == 3


def test_several_killers_are_each_given_up(out: Path) -> None:
    def die_of_even(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if int(job.name) % 2 == 0:
            yield Ended("was ended by SIGABRT")
        yield done(job)

    outcomes = run(plan_of(out, 9), Puppets(die_of_even), workers=2)
    assert {stem for stem, outcome in outcomes.items() if outcome.status == "failed"} == {"0", "2", "4", "6", "8"}


def test_workers_that_cannot_even_start_end_the_run(out: Path) -> None:
    crew = Puppets(obey, Ended("ended early, exit code 1: No module named torch"))
    with pytest.raises(WorkerError, match="No module named torch"):
        run(plan_of(out, 3), crew, workers=2)
    assert len(crew.hired) < 10
    assert crew.closed == [True]


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
            while worker in crew.working:
                yield Warned("still here")
        yield done(job)

    crew = Puppets(hang_at_two)
    outcomes = run(plan_of(out, 6), crew, timeout=0.05)
    failed = {stem: outcome.reason for stem, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed == {"2": "it was not read within 0.05 seconds (--timeout)"}
    assert len(crew.dismissed) == 1
    assert len(crew.hired) == 2


def test_worker_that_does_not_start_is_replaced(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Puppets(obey, Warned("still loading"))
    made = dispatcher(plan_of(out, 2), crew, timeout=0.01)
    threading.Timer(0.3, made.stop).start()
    assert list(made.run()) == []
    assert len(crew.hired) == 1, "a short limit for files is none for starting"
    monkeypatch.setattr(module, "START_S", 0.01)
    crew = Puppets(obey, Warned("still loading"))
    with pytest.raises(WorkerError, match=r"did not start within 0\.01 seconds"):
        run(plan_of(out, 2), crew, timeout=0.01)
    assert len(crew.dismissed) > 1
    crew = Puppets(obey, Warned("waiting for a place"))
    crew.impatient = False
    made = dispatcher(plan_of(out, 2), crew, timeout=0.01)
    threading.Timer(0.3, made.stop).start()
    assert list(made.run()) == []
    assert len(crew.hired) == 1


def test_long_fit_is_no_hang(out: Path) -> None:
    def long(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        threading.Event().wait(0.05)
        yield Warned("and on")
        yield done(job)

    crew = Puppets(long)
    assert run(plan_of(out, 2), crew, timeout=0.01)["1"].status == "done"
    assert crew.dismissed == []


def test_time_in_which_nobody_listens_is_no_hang(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may take its time with an outcome, and Ctrl-Z stops the dispatcher and its workers for any time."""
    monkeypatch.setattr(module, "ASLEEP_S", 0.1)

    def read_two_at_a_time(worker: Puppet, job: Job) -> Iterator[Message]:
        if job.name == "0":
            yield Began("0", "read")
            yield Began("1", "read")
            yield done(job)
            yield Warned("nothing new of the other one")
        else:
            yield done(job)

    crew = Puppets(read_two_at_a_time)
    outcomes = []
    for outcome in dispatcher(plan_of(out, 2), crew, timeout=0.2).run():
        outcomes.append(outcome.status)
        threading.Event().wait(0.5)
    assert outcomes == ["done", "done"]
    assert crew.dismissed == []


def test_image_that_another_process_has_is_asked_for_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKEN_AGAIN_S", 0.0)
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


def test_stop_counts_what_was_finished_and_gives_no_more(out: Path) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        yield done(job)
        if job.name == "3":
            made.stop()

    crew = Puppets(act)
    made = dispatcher(plan_of(out, 100), crew)
    outcomes = list(made.run())
    assert 4 <= len(outcomes) <= 8
    assert len(noted(out)) == len(outcomes)
    assert crew.hired[0].told_to_stop


def test_worker_that_does_not_stop_is_not_waited_for(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.05)

    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        made.stop()
        while True:
            yield Warned("going on")

    crew = Puppets(act)
    made = dispatcher(plan_of(out, 3), crew)
    assert list(made.run()) == []
    assert crew.closed == [False]


def test_closing_lets_the_workers_stop_by_themselves(out: Path) -> None:
    crew = Puppets(obey)
    outcomes = dispatcher(plan_of(out, 5), crew).run()
    next(outcomes)
    outcomes.close()
    assert crew.closed == [False]


def test_first_failure_ends_a_run_that_is_to_fail_fast(out: Path) -> None:
    def fail_two(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        status = "failed" if job.name == "2" else "done"
        yield Finished(job.name, Outcome(job.path, status, "a reason", num_labels=3))

    outcomes = list(dispatcher(plan_of(out, 50, fail_fast=True), Puppets(fail_two)).run())
    assert [outcome.status for outcome in outcomes] == ["done", "done", "failed"]


# What workers say of themselves


def test_wrong_usage_is_passed_on_and_nothing_written(out: Path) -> None:
    crew = Puppets(obey, Refused("--device cuda:9: there is no such device here"))
    plan = plan_of(out, 3)
    plan.unlistable.append(Outcome("folder", "failed", "cannot be listed"))
    with pytest.raises(UsageError, match="cuda:9"):
        list(dispatcher(plan, crew).run())
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


# What is noted


def test_outcomes_are_noted_as_they_come_and_skipped_ones_are_not(out: Path) -> None:
    def act(worker: Puppet, job: Job) -> Iterator[Message]:
        status = {"0": "done", "1": "skipped", "2": "failed"}[job.name]
        yield Finished(job.name, Outcome(job.path, status, num_labels=1))  # type: ignore[arg-type]

    run(plan_of(out, 3), Puppets(act))
    assert [(entry["path"], entry["status"]) for entry in noted(out)] == [
        ("photos/0.jpg", "done"),
        ("photos/2.jpg", "failed"),
    ]


def test_outcome_that_cannot_be_noted_costs_its_line_alone(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    (out / "outcomes.jsonl").mkdir(parents=True)
    assert len(run(plan_of(out, 3), Puppets(obey))) == 3
    assert len(caplog.records) == 3
    assert "outcomes.jsonl" in caplog.text


@pytest.mark.parametrize("images", [0, 2])
def test_folder_that_cannot_be_listed_is_a_failure(out: Path, images: int) -> None:
    plan = plan_of(out, images)
    plan.unlistable.append(Outcome("sub", "failed", "cannot be listed"))
    outcomes = list(dispatcher(plan, Puppets(obey)).run())
    assert [outcome.path for outcome in outcomes] == ["sub", *(f"photos/{index}.jpg" for index in range(images))]
    assert len(noted(out)) == images + 1

"""The pool with sequences: one worker has all of one, in order, whatever becomes of workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import TINY
from test_pool import Puppet, Puppets, done, new_pool, obey, outcomes_of

from dynaseg_cli import BatchConfig
from dynaseg_cli.batch.planning import Plan
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.workers import pool as module
from dynaseg_cli.workers.messages import Began, Ended, Finished, Message, Warned

LENGTHS = {"a": 6, "b": 4, "c": 1}
CONFIG = dataclasses.replace(TINY, sequence=True)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    jobs = [Job(f"in/{folder}/{index}.jpg", f"{folder}/{index}") for folder, n in LENGTHS.items() for index in range(n)]
    return Plan(jobs, jobs, OutputFolder(tmp_path), CONFIG, BatchConfig(), unlistable=[])


def names(folder: str, start: int = 0) -> list[str]:
    return [f"{folder}/{index}" for index in range(start, LENGTHS[folder])]


def test_each_sequence_goes_to_one_worker_in_order(plan: Plan) -> None:
    launcher = Puppets(obey)
    assert len(list(outcomes_of(new_pool(plan, launcher, 2)))) == 11
    received = [worker.received for worker in launcher.started]
    assert len(received) == 2
    for folder in LENGTHS:
        assert [[name for name in one if name.startswith(folder)] for one in received if f"{folder}/0" in one] == [
            names(folder)
        ]


def test_no_more_workers_start_than_there_are_sequences(plan: Plan) -> None:
    launcher = Puppets(obey)
    list(outcomes_of(new_pool(plan, launcher, 8)))
    assert len(launcher.started) == 3


def test_sequence_goes_on_after_a_crash_with_the_suspects_alone(plan: Plan) -> None:
    crashed: list[str] = []

    def crash_once(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if job.name == "a/3" and not crashed:
            crashed.append(job.name)
            yield Ended("was ended by SIGSEGV")
        else:
            yield done(job)

    launcher = Puppets(crash_once)
    outcomes = [outcome.path for outcome in outcomes_of(new_pool(plan, launcher))]
    assert outcomes == [job.path for job in plan.jobs], "in order, each once"
    assert launcher.started[1].received[0] == "a/3"


def test_image_that_crashes_twice_fails_and_the_rest_goes_on(plan: Plan) -> None:
    def crash(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "segmented")
        yield Ended("was ended by SIGSEGV") if job.name == "a/3" else done(job)

    outcomes = {outcome.path: outcome.status for outcome in outcomes_of(new_pool(plan, Puppets(crash)))}
    assert [path for path, status in outcomes.items() if status == "failed"] == ["in/a/3.jpg"]
    assert len(outcomes) == 11


def test_image_that_hangs_fails_and_the_rest_goes_on(plan: Plan) -> None:
    def hang(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        if job.name == "a/1":
            while worker in launcher.working:
                yield Warned("still here")
        yield done(job)

    launcher = Puppets(hang)
    outcomes = [(outcome.path, outcome.status) for outcome in outcomes_of(new_pool(plan, launcher, timeout=0.05))]
    assert ("in/a/1.jpg", "failed") in outcomes
    assert [path for path, status in outcomes if status == "done"] == [
        job.path for job in plan.jobs if job.name != "a/1"
    ]
    assert launcher.started[1].received == [*names("a", 2), *names("b"), *names("c")]


def test_sequence_of_another_process_is_put_off_as_a_whole(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIMED_RETRY_S", 0.0)
    asked: list[str] = []

    def wait(worker: Puppet, job: Job) -> Iterator[Message]:
        yield Began(job.name, "read")
        asked.append(job.name)
        yield Finished(job.name, None) if asked.count("a/0") < 3 and job.name == "a/0" else done(job)

    outcomes = [outcome.path for outcome in outcomes_of(new_pool(plan, Puppets(wait)))]
    assert asked == ["a/0", *names("b"), *names("c"), "a/0", "a/0", *names("a", 1)]
    assert len(outcomes) == 11


def test_only_the_first_image_is_sent_before_the_sequence_is_claimed(plan: Plan) -> None:
    in_hand: list[tuple[str, int]] = []

    def count(worker: Puppet, job: Job) -> Iterator[Message]:
        in_hand.append((job.name, len(worker.received)))
        yield done(job)

    list(outcomes_of(new_pool(plan, Puppets(count))))
    assert in_hand[0] == ("a/0", 1)
    assert in_hand[1] == ("a/1", 4), "then as many as keep the worker busy"

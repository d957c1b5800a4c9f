"""The dispatcher: it hands jobs to workers and loses none when a worker dies or hangs. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .. import __version__
from ..errors import UsageError, WorkerError
from .job import Job
from .messages import (
    FILE_STEPS,
    Assignment,
    Began,
    Broken,
    Ended,
    Finished,
    Iterated,
    Message,
    Ready,
    Refused,
    Step,
    Warned,
)
from .outcome import Outcome, OutcomeLog
from .planning import Plan
from .worker import GRACE_S

OnIteration = Callable[[Job, int, int], None]
"""Called with the job, the iteration and q'."""

NO_DEVICE = "none: no image was started"
"""In the place of what computes."""
TICK_S = 0.2
"""Longest wait for a message: hanging files and requests to stop are looked at so often."""
ASLEEP_S = 1.0
"""A dispatcher that has not looked for longer was itself stopped (Ctrl-Z), or its caller took its time."""
START_S = 120.0
"""Time a worker has to start, even if the limit for files is shorter: a busy machine loads torch slowly."""
TAKEN_AGAIN_S = 1.0
"""An image that another process works on is asked for again so much later."""
FRUITLESS = 3
"""Workers, beyond one a post, that may die in a row without an image being done; then something else is wrong."""

_log = logging.getLogger(__name__)


class Crew(Protocol):
    """Whoever hires workers, wherever they run."""

    impatient: bool
    """Whether a worker that does not start is at fault, and not the want of a place for it."""

    def hire(self, assignment: Assignment) -> Any: ...

    def hear(self, seconds: float) -> list[tuple[Any, Message]]: ...

    def dismiss(self, worker: Any) -> None: ...

    def close(self, *, at_once: bool) -> None: ...


@dataclass
class _InHand:
    """An image that a worker has."""

    job: Job
    step: Step | None = None
    """None until the worker has begun with it."""
    since: float = 0.0


@dataclass
class _Hired:
    """A worker, and what it has in hand."""

    number: int
    since: float = field(default_factory=time.monotonic)
    window: int = 0
    """How many images it may have; none before it is ready."""
    alone: bool = False
    """It has one image, during which a worker has died: should it die, too, that image is why."""
    jobs: dict[str, _InHand] = field(default_factory=dict)


class Dispatcher:
    """One run of a plan's jobs by the workers of a crew.

    Parameters
    ----------
    plan : what to do.
    crew : who hires workers.
    assignment : what they are told; each gets a number of its own.
    workers : how many; None is as many as the first worker says.
    timeout : seconds after which an image that is being read or written is given up.
    on_iteration : called as images come along.
    """

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        assignment: Assignment,
        workers: int | None,
        timeout: float,
        on_iteration: OnIteration | None = None,
    ) -> None:
        self.device = NO_DEVICE
        """What computes, as the workers say."""
        self._plan = plan
        self._crew = crew
        self._assignment = assignment
        self._posts = workers
        self._timeout = timeout
        self._on_iteration = on_iteration
        self._fresh: Iterator[Job] = iter(plan.jobs)
        self._open = len(plan.jobs)
        """Jobs without an outcome."""
        self._returned: deque[Job] = deque()
        """Jobs whose worker died before it began with them, or of another image."""
        self._suspects: deque[Job] = deque()
        """Jobs during which a worker died; they are done again, each alone in its worker."""
        self._taken: deque[tuple[float, Job]] = deque()
        """Jobs that another process works on, and when to ask again."""
        self._hired: dict[Any, _Hired] = {}
        self._told_of_taken = False
        self._warned: set[str] = set()
        """Warnings of workers that were passed on: what all of them say is said once."""
        self._fruitless = 0
        self._looked = time.monotonic()
        """When hanging files were last looked for."""
        self._stop_by: float | None = None
        self._devices: list[str] = []

    def stop(self) -> None:
        """Let the images at hand be dropped and `run` come to its end; may be called in a signal handler."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + GRACE_S

    def run(self) -> Generator[Outcome, None, None]:
        """Each outcome as it comes, noted in ``outcomes.jsonl``.

        Closing the iterator drops the images at hand; whatever was written is complete.

        Raises
        ------
        UsageError
            If no worker can do this: the device does not exist.
        WorkerError
            If workers cannot be started, or one met a mistake in the program.
        """
        with OutcomeLog(self._plan.output) as log:
            at_once = True
            try:
                for outcome in self._outcomes():
                    if outcome.status != "skipped":  # those have their line
                        log.add(outcome)
                    yield outcome
                    if outcome.status == "failed" and self._plan.batch.fail_fast:
                        break
                at_once = False
            except GeneratorExit:
                at_once = False
                raise
            finally:
                self._crew.close(at_once=at_once)

    def _outcomes(self) -> Iterator[Outcome]:
        told = reported = False
        while self._open or not reported:
            if not reported and (self._devices or not self._open):
                # Not before it is known that the run can be done at all.
                reported = True
                yield from self._plan.unlistable
                continue
            if self._stop_by is None:
                self._hire()
                self._hand_out()
            elif not told:
                told = True
                for worker in self._hired:
                    worker.give(None)
            elif not self._hired or time.monotonic() > self._stop_by:
                return
            for worker, message in self._crew.hear(TICK_S):
                yield from self._heed(worker, message)
            yield from self._give_up_hanging()

    def _hire(self) -> None:
        """Fill the posts, as far as there are jobs for them. The first worker may say how many there are."""
        wanted = min(self._posts or 1, self._open)
        numbers = {hired.number for hired in self._hired.values()}
        for number in (number for number in range(wanted) if number not in numbers):
            worker = self._crew.hire(dataclasses.replace(self._assignment, number=number))
            self._hired[worker] = _Hired(number)

    def _hand_out(self) -> None:
        # The last images are for all workers, also those that are not ready yet.
        share = -(-self._open // (self._posts or 1))
        for worker, hired in self._hired.items():
            if not hired.window:
                continue
            if not hired.jobs:
                hired.alone = bool(self._suspects)
            while len(hired.jobs) < (1 if hired.alone else min(hired.window, share)):
                job = self._suspects.popleft() if hired.alone else self._next()
                if job is None:
                    break
                hired.jobs[job.name] = _InHand(job)
                worker.give(job)

    def _next(self) -> Job | None:
        if self._returned:
            return self._returned.popleft()
        job = next(self._fresh, None)
        if job is None and self._taken:
            if not self._told_of_taken:
                self._told_of_taken = True
                _log.warning("another dynaseg works on %d images of this folder: waiting for it", len(self._taken))
            if time.monotonic() >= self._taken[0][0]:
                return self._taken.popleft()[1]
        return job

    def _heed(self, worker: Any, message: Message) -> Iterator[Outcome]:
        hired = self._hired[worker]
        if isinstance(message, Ended):
            del self._hired[worker]
            if self._stop_by is None:
                yield from self._bury(hired, message.reason)
        elif isinstance(message, Ready):
            self._welcome(hired, message)
        elif isinstance(message, Finished):
            job = hired.jobs.pop(message.name).job
            self._fruitless = 0
            if message.outcome is None:
                self._taken.append((time.monotonic() + TAKEN_AGAIN_S, job))
            else:
                self._open -= 1
                yield message.outcome
        elif isinstance(message, (Began, Iterated)):
            in_hand = hired.jobs[message.name]
            in_hand.since = time.monotonic()
            if isinstance(message, Began):
                in_hand.step = message.step
            elif self._on_iteration is not None:
                self._on_iteration(in_hand.job, message.iteration, message.labels)
        elif isinstance(message, Refused):
            raise UsageError(message.reason)
        elif isinstance(message, Broken):
            raise WorkerError(message.error, message.traceback)
        elif isinstance(message, Warned) and message.text not in self._warned:
            self._warned.add(message.text)
            _log.warning("%s", message.text)

    def _welcome(self, hired: _Hired, message: Ready) -> None:
        if message.version != __version__:
            raise UsageError(f"a worker has dynaseg {message.version}, not {__version__} as here: install one version")
        hired.window = message.window
        self._posts = self._posts or message.workers
        if message.device not in self._devices:
            self._devices.append(message.device)
            self.device = ", ".join(self._devices)

    def _bury(self, hired: _Hired, reason: str) -> Iterator[Outcome]:
        """A worker has died: do its images again, but give up one that was alone with it."""
        self._fruitless += 1
        begun = [in_hand for in_hand in hired.jobs.values() if in_hand.step is not None]
        if hired.alone and begun:
            for in_hand in begun:
                yield self._failed(in_hand, f"its worker {reason}, like the one before, when it was {in_hand.step}")
            return
        if self._fruitless > FRUITLESS + (self._posts or 1):
            raise WorkerError(f"workers die one after another; the last one {reason}")
        _log.warning("a worker %s; another one takes its place", reason)
        self._suspects.extend(in_hand.job for in_hand in begun)
        others = self._suspects if hired.alone else self._returned
        others.extend(in_hand.job for in_hand in hired.jobs.values() if in_hand.step is None)

    def _give_up_hanging(self) -> Iterator[Outcome]:
        """Give up images that wait for a file, and the workers that have them; their other images are done again.

        Time in which nobody listened is not held against them: they may long have told of their next step.
        """
        now = time.monotonic()
        asleep = now - self._looked if now - self._looked > ASLEEP_S else 0.0
        self._looked = now
        for hired in self._hired.values():
            hired.since += asleep
            for in_hand in hired.jobs.values():
                in_hand.since += asleep
        late, patience = now - self._timeout, max(self._timeout, START_S)
        for worker, hired in list(self._hired.items()):
            if not hired.window and hired.since < now - patience and self._crew.impatient:
                self._crew.dismiss(worker)
                del self._hired[worker]
                yield from self._bury(hired, f"did not start within {patience:g} seconds")
                continue
            hanging = [
                in_hand for in_hand in hired.jobs.values() if in_hand.step in FILE_STEPS and in_hand.since < late
            ]
            if not hanging:
                continue
            self._crew.dismiss(worker)
            del self._hired[worker]
            for in_hand in hanging:
                del hired.jobs[in_hand.job.name]
                yield self._failed(in_hand, f"it was not {in_hand.step} within {self._timeout:g} seconds (--timeout)")
            self._returned.extend(in_hand.job for in_hand in hired.jobs.values())

    def _failed(self, in_hand: _InHand, reason: str) -> Outcome:
        self._open -= 1
        self._fruitless = 0
        return Outcome(in_hand.job.path, "failed", reason)

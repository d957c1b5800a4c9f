"""The pool: hands out jobs to workers, and loses none when a worker dies or hangs. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from .. import __version__
from ..batch.outcomes import Outcome, OutcomeLog
from ..batch.planning import Plan
from ..batch.summary import NO_DEVICE
from ..config import WorkersConfig
from ..errors import UsageError, WorkerError
from ..files.output_folder import Job
from .local import local_launcher
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
from .worker import GRACE_S

TICK_S = 0.2
"""Longest wait for a message; hanging files and requests to stop are checked as often."""
SUSPENDED_S = 1.0
"""A longer pause between two checks means that this process was suspended (Ctrl-Z), or that the caller was busy."""
START_S = 120.0
"""Time that a worker has to start, even if the time limit for files is shorter: a busy machine loads torch slowly."""
CLAIMED_RETRY_S = 1.0
"""Delay before a job that another process has is tried again."""
MOST_DEATHS = 3
"""Workers, beyond the size of the pool, that may die in a row with no image done; then the fault lies elsewhere."""

_log = logging.getLogger(__name__)


class Launcher(Protocol):
    """Starts workers and exchanges messages with them, wherever they run."""

    limits_start: bool
    """Whether a worker that does not start in time is given up. On a cluster it may be waiting for room."""

    def start(self, assignment: Assignment) -> Any: ...

    def receive(self, seconds: float) -> list[tuple[Any, Message]]: ...

    def kill(self, worker: Any) -> None: ...

    def close(self, *, at_once: bool) -> None: ...


@dataclass(frozen=True)
class ImageProgress:
    """An image is at an iteration, with q' labels."""

    job: Job
    iteration: int
    labels: int


@dataclass
class _Running:
    """A job that a worker has."""

    job: Job
    step: Step | None = None
    """None until the worker has begun."""
    since: float = 0.0


@dataclass
class _Worker:
    """The pool's record of a worker."""

    number: int
    since: float = field(default_factory=time.monotonic)
    window: int = 0
    """Jobs it may have at a time; none until it is ready."""
    alone: bool = False
    """It has a single job, during which an earlier worker died. If it dies as well, that job fails."""
    jobs: dict[str, _Running] = field(default_factory=dict)


class Pool:
    """Workers that do the jobs of one plan.

    Parameters
    ----------
    launcher : starts the workers.
    assignment : what they are told; each gets its own number.
    size : number of workers; None lets the first worker decide.
    timeout : seconds after which an image that is being read or written is given up.
    stop : once set, running jobs are dropped and `run` ends.
    """

    def __init__(
        self,
        plan: Plan,
        launcher: Launcher,
        assignment: Assignment,
        size: int | None,
        timeout: float,
        stop: threading.Event | None = None,
    ) -> None:
        self.device = NO_DEVICE
        """The devices that the workers report."""
        self._plan = plan
        self._launcher = launcher
        self._assignment = assignment
        self._size = size
        self._timeout = timeout
        self._stop = stop or threading.Event()
        self._new: Iterator[Job] = iter(plan.jobs)
        self._open = len(plan.jobs)
        """Number of jobs without an outcome."""
        self._returned: deque[Job] = deque()
        """Jobs whose worker died before it began them, or because of another job."""
        self._suspects: deque[Job] = deque()
        """Jobs during which a worker died; each is done again alone in a worker."""
        self._claimed: deque[tuple[float, Job]] = deque()
        """Jobs that another process has, and when to try them again."""
        self._workers: dict[Any, _Worker] = {}
        self._told_of_claimed = False
        self._warned: set[str] = set()
        """Warnings passed on so far: all workers may give the same one."""
        self._deaths = 0
        """Workers that died since an image was last done."""
        self._checked = time.monotonic()
        """Time of the last check for hanging files."""
        self._devices: list[str] = []

    def run(self) -> Generator[Outcome | ImageProgress, None, None]:
        """Yield progress, and each outcome as it comes; outcomes are logged in ``outcomes.jsonl``.

        Closing the iterator drops running jobs; all files that were written are complete.

        Raises
        ------
        UsageError
            If no worker can do its assignment, for example because the device does not exist.
        WorkerError
            If workers cannot be started, or one ended with a programming error.
        """
        with OutcomeLog(self._plan.folder) as log:
            at_once = True
            try:
                for event in self._events():
                    if isinstance(event, Outcome) and event.status != "skipped":  # skipped ones were logged before
                        log.add(event)
                    yield event
                    if isinstance(event, Outcome) and event.status == "failed" and self._plan.batch.fail_fast:
                        break
                at_once = False
            except GeneratorExit:
                at_once = False
                raise
            finally:
                self._launcher.close(at_once=at_once)

    def _events(self) -> Iterator[Outcome | ImageProgress]:
        stop_by: float | None = None
        reported = False
        while self._open or not reported:
            if not reported and (self._devices or not self._open):
                # Not before it is known that the run is possible at all.
                reported = True
                yield from self._plan.unlistable
                continue
            if not self._stop.is_set():
                self._start_workers()
                self._hand_out()
            elif stop_by is None:
                stop_by = time.monotonic() + GRACE_S
                for worker in self._workers:
                    worker.send(None)
            elif not self._workers or time.monotonic() > stop_by:
                return
            for worker, message in self._launcher.receive(TICK_S):
                yield from self._handle(worker, message)
            yield from self._give_up_hanging()

    def _start_workers(self) -> None:
        """Start workers up to the size of the pool, as far as there are jobs for them."""
        wanted = min(self._size or 1, self._open)
        numbers = {worker.number for worker in self._workers.values()}
        for number in (number for number in range(wanted) if number not in numbers):
            started = self._launcher.start(dataclasses.replace(self._assignment, number=number))
            self._workers[started] = _Worker(number)

    def _hand_out(self) -> None:
        # The last jobs are shared with workers that are not ready yet.
        share = -(-self._open // (self._size or 1))
        for handle, worker in self._workers.items():
            if not worker.window:
                continue
            if not worker.jobs:
                worker.alone = bool(self._suspects)
            while len(worker.jobs) < (1 if worker.alone else min(worker.window, share)):
                job = self._suspects.popleft() if worker.alone else self._next()
                if job is None:
                    break
                worker.jobs[job.name] = _Running(job)
                handle.send(job)

    def _next(self) -> Job | None:
        if self._returned:
            return self._returned.popleft()
        job = next(self._new, None)
        if job is None and self._claimed:
            if not self._told_of_claimed:
                self._told_of_claimed = True
                _log.warning("another dynaseg works on %d images of this folder: waiting for it", len(self._claimed))
            if time.monotonic() >= self._claimed[0][0]:
                return self._claimed.popleft()[1]
        return job

    def _handle(self, handle: Any, message: Message) -> Iterator[Outcome | ImageProgress]:
        worker = self._workers[handle]
        if isinstance(message, Ended):
            del self._workers[handle]
            if not self._stop.is_set():
                yield from self._on_death(worker, message.reason)
        elif isinstance(message, Ready):
            self._on_ready(worker, message)
        elif isinstance(message, Finished):
            job = worker.jobs.pop(message.name).job
            self._deaths = 0
            if message.outcome is None:
                self._claimed.append((time.monotonic() + CLAIMED_RETRY_S, job))
            else:
                self._open -= 1
                yield message.outcome
        elif isinstance(message, (Began, Iterated)):
            running = worker.jobs[message.name]
            running.since = time.monotonic()
            if isinstance(message, Began):
                running.step = message.step
            else:
                yield ImageProgress(running.job, message.iteration, message.labels)
        elif isinstance(message, Refused):
            raise UsageError(message.reason)
        elif isinstance(message, Broken):
            raise WorkerError(message.error, message.traceback)
        elif isinstance(message, Warned) and message.text not in self._warned:
            self._warned.add(message.text)
            _log.warning("%s", message.text)

    def _on_ready(self, worker: _Worker, message: Ready) -> None:
        if message.version != __version__:
            raise UsageError(f"a worker has dynaseg {message.version}, not {__version__} as here: install one version")
        worker.window = message.window
        self._size = self._size or message.workers
        if message.device not in self._devices:
            self._devices.append(message.device)
            self.device = ", ".join(self._devices)

    def _on_death(self, worker: _Worker, reason: str) -> Iterator[Outcome]:
        """Queue the jobs of a dead worker again, but give up a job that it was doing alone."""
        self._deaths += 1
        begun = [running for running in worker.jobs.values() if running.step is not None]
        if worker.alone and begun:
            for running in begun:
                yield self._failed(running, f"its worker {reason}, like the one before, when it was {running.step}")
            return
        if self._deaths > MOST_DEATHS + (self._size or 1):
            raise WorkerError(f"workers die one after another; the last one {reason}")
        _log.warning("a worker %s; another one takes its place", reason)
        self._suspects.extend(running.job for running in begun)
        others = self._suspects if worker.alone else self._returned
        others.extend(running.job for running in worker.jobs.values() if running.step is None)

    def _give_up_hanging(self) -> Iterator[Outcome]:
        """Give up images that hang on a file, with their workers; the other jobs of these workers are done again.

        Time in which this process was suspended does not count: workers may have reported progress meanwhile.
        """
        now = time.monotonic()
        suspended = now - self._checked if now - self._checked > SUSPENDED_S else 0.0
        self._checked = now
        for worker in self._workers.values():
            worker.since += suspended
            for running in worker.jobs.values():
                running.since += suspended
        late, start_limit = now - self._timeout, max(self._timeout, START_S)
        for handle, worker in list(self._workers.items()):
            if not worker.window and worker.since < now - start_limit and self._launcher.limits_start:
                self._launcher.kill(handle)
                del self._workers[handle]
                yield from self._on_death(worker, f"did not start within {start_limit:g} seconds")
                continue
            hanging = [
                running for running in worker.jobs.values() if running.step in FILE_STEPS and running.since < late
            ]
            if not hanging:
                continue
            self._launcher.kill(handle)
            del self._workers[handle]
            for running in hanging:
                del worker.jobs[running.job.name]
                yield self._failed(running, f"it was not {running.step} within {self._timeout:g} seconds (`timeout`)")
            self._returned.extend(running.job for running in worker.jobs.values())

    def _failed(self, running: _Running, reason: str) -> Outcome:
        self._open -= 1
        self._deaths = 0
        return Outcome(running.job.path, "failed", reason, page=running.job.page)


def check_executor(workers: WorkersConfig) -> None:
    """Raise UsageError if Ray is requested but not installed."""
    if workers.executor == "ray":
        _ray()


def new_pool(plan: Plan, workers: WorkersConfig, stop: threading.Event | None = None) -> Pool:
    """The pool for a plan. Workers start when its `run` is iterated over; a Ray cluster is joined or started here.

    Raises
    ------
    UsageError
        If Ray is not installed, or the cluster does not exist.
    """
    assignment = Assignment.of(plan, workers)
    if workers.executor == "local":
        return Pool(plan, local_launcher(workers), assignment, workers.workers or None, workers.timeout, stop)
    launcher = _ray().RayLauncher(plan.segment, workers)
    return Pool(plan, launcher, assignment, launcher.size, workers.timeout, stop)


def _ray() -> ModuleType:
    try:
        return importlib.import_module(".ray", __package__)
    except ImportError as error:
        raise UsageError(f"`executor=ray` needs Ray ({error}): pip install 'dynaseg[ray]'") from None

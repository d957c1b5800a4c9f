"""A folder fit from outside: a process of its own does it, and what it hangs or dies of is left out. No torch here."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable

from ..config import WeightsFile, WorkersConfig
from ..errors import InterruptedWorkError, UsageError, WorkerError
from .dispatcher import ASLEEP_S, TICK_S
from .job import Job
from .local_crew import LocalWorker, local_crew
from .messages import Assignment, Began, Broken, Ended, FitProgress, Fitted, Message, Refused, Warned
from .planning import Plan

FRUITLESS = 3
"""Times in a row that the process may die of nothing that can be left out; then something else is wrong."""

OnProgress = Callable[[FitProgress], None]

_log = logging.getLogger(__name__)


def visits(plan: Plan) -> int:
    """Images that go by in a fit: all of them in each epoch, and twice after the last."""
    return len(plan.found) * ((plan.segment.epochs or 0) + 2)


def fit_folder(
    plan: Plan,
    workers: WorkersConfig | None = None,
    on_progress: OnProgress | None = None,
    stop: threading.Event | None = None,
) -> Plan:
    """The plan with its model: a network fitted to the images of all shards, on this machine, on the first device.

    The model is written to the output folder. A fit that was interrupted, or whose process died, goes on after its last
    whole epoch. Where another process fits a network to the same output folder, its model is waited for.

    Raises
    ------
    UsageError
        If the device does not exist, or no image can be read.
    InterruptedWorkError
        Once `stop` is set.
    WorkerError
        If the loss is no longer a finite number, the model cannot be written, or the process dies again and again.
    """
    fit = _Fit(plan, workers or WorkersConfig(), on_progress or (lambda progress: None), stop or threading.Event())
    return dataclasses.replace(plan, segment=dataclasses.replace(plan.segment, model=fit.run()))


class _Fit:
    """What is known of a fit that another process does."""

    def __init__(self, plan: Plan, workers: WorkersConfig, on_progress: OnProgress, stop: threading.Event) -> None:
        self._assignment = dataclasses.replace(Assignment.of(plan, workers), fit=tuple(plan.found))
        self._crew = local_crew(workers)
        self._timeout = workers.timeout
        self._on_progress = on_progress
        self._stop = stop
        self._jobs = {job.name: job for job in plan.found}
        self._skip: frozenset[str] = frozenset()
        """Names of images that a process died of twice, or hung of."""
        self._suspects: set[str] = set()
        """Names of images that were being read when a process died, whatever of."""
        self._reading: dict[str, float] = {}
        """Images that are being read, and since when."""
        self._looked = time.monotonic()
        self._fruitless = 0

    def run(self) -> WeightsFile:
        at_once = True
        try:
            model = None
            while model is None:
                self._reading.clear()
                assignment = dataclasses.replace(self._assignment, skip=self._skip)
                model = self._attend(self._crew.hire(assignment))
            at_once = False
            # A request that came as the model was written is one to stop all the same.
            if self._stop.is_set():
                raise InterruptedWorkError
        except InterruptedWorkError:
            at_once = False
            raise
        finally:
            self._crew.close(at_once=at_once)
        return model

    def _attend(self, worker: LocalWorker) -> WeightsFile | None:
        """Hear a worker until it has the model; None if it had to be given up, and another one may do better."""
        told = False
        while True:
            if self._stop.is_set() and not told:
                told = True
                worker.give(None)
            for _, message in self._crew.hear(TICK_S):
                if isinstance(message, Fitted):
                    return message.model
                if isinstance(message, Ended):
                    self._bury(message.reason)
                    return None
                self._heed(message)
            hanging = self._hanging()
            if hanging:
                self._crew.dismiss(worker)
                self._leave_out(hanging, f"not read within {self._timeout:g} seconds (--timeout)")
                return None

    def _hanging(self) -> list[str]:
        now = time.monotonic()
        # Time in which this process was itself stopped, by Ctrl-Z, is not held against a file.
        if now - self._looked > ASLEEP_S:
            self._reading = {name: since + now - self._looked for name, since in self._reading.items()}
        self._looked = now
        return [name for name, since in self._reading.items() if since < now - self._timeout]

    def _heed(self, message: Message) -> None:
        if isinstance(message, FitProgress):
            self._on_progress(message)
        elif isinstance(message, Began):
            if message.step == "read":
                self._reading[message.name] = time.monotonic()
            else:
                self._reading.pop(message.name, None)
        elif isinstance(message, Warned):
            _log.warning("%s", message.text)
        elif isinstance(message, Refused):
            raise UsageError(message.reason)
        elif isinstance(message, Broken):
            raise WorkerError(message.error, message.traceback)

    def _bury(self, reason: str) -> None:
        if self._stop.is_set():
            raise InterruptedWorkError
        again = sorted(self._suspects & self._reading.keys())
        self._suspects |= self._reading.keys()
        if again:
            self._fruitless = 0
            self._leave_out(again, f"the process that read it {reason}, like one before")
            return
        self._fruitless += 1
        if self._fruitless > FRUITLESS:
            raise WorkerError(f"processes that fit a network die one after another; the last one {reason}")
        _log.warning("the process that fits the network %s; another one goes on after the last whole epoch", reason)

    def _leave_out(self, names: list[str], why: str) -> None:
        for name in names:
            job: Job = self._jobs[name]
            _log.warning("%s is left out of the fit: %s", job.path, why)
        self._skip |= frozenset(names)

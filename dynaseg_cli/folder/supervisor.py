"""Runs a folder fit in a process of its own, and leaves out images that kill or hang it. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Generator

from ..batch.planning import Plan
from ..config import WeightsFile, WorkersConfig
from ..errors import InterruptedWorkError, UsageError, WorkerError
from ..workers.local import LocalWorker, local_launcher
from ..workers.messages import Assignment, Began, Broken, Ended, FitProgress, Fitted, Message, Refused, Warned
from ..workers.pool import SUSPENDED_S, TICK_S

MOST_DEATHS = 3
"""Times in a row that the process may die without an image to blame; then the fault lies elsewhere."""

_log = logging.getLogger(__name__)


def fit_folder(plan: Plan, workers: WorkersConfig, stop: threading.Event) -> Generator[FitProgress, None, WeightsFile]:
    """Fit a network to the images of all shards, on the first device of this machine; return its file.

    A fit that was interrupted, or whose process died, continues after its last whole epoch. If another process is
    fitting a network to the same output folder, its model is waited for.

    Raises
    ------
    UsageError
        If the device does not exist, or no image can be read.
    InterruptedWorkError
        Once `stop` is set.
    WorkerError
        If the loss is no longer a finite number, the model cannot be written, or the process dies again and again.
    """
    fit = _SupervisedFit(plan, workers, stop)
    at_once = True
    try:
        model = None
        while model is None:
            model = yield from fit.attempt()
        at_once = False
        if stop.is_set():  # set while the model was written
            raise InterruptedWorkError
    except (GeneratorExit, InterruptedWorkError):
        at_once = False
        raise
    finally:
        fit.launcher.close(at_once=at_once)
    return model


class _SupervisedFit:
    def __init__(self, plan: Plan, workers: WorkersConfig, stop: threading.Event) -> None:
        self.launcher = local_launcher(workers)
        self._assignment = dataclasses.replace(Assignment.of(plan, workers), fit=tuple(plan.found))
        self._timeout = workers.timeout
        self._stop = stop
        self._paths = {job.name: job.shown for job in plan.found}
        self._skip: frozenset[str] = frozenset()
        """Names of images that killed the process twice, or hung."""
        self._suspects: set[str] = set()
        """Names of images that were being read when a process died."""
        self._reading: dict[str, float] = {}
        """Names of images that are being read, and since when."""
        self._checked = time.monotonic()
        self._deaths = 0

    def attempt(self) -> Generator[FitProgress, None, WeightsFile | None]:
        """Run one process; return its model, or None if it died and another one may succeed."""
        self._reading.clear()
        worker: LocalWorker = self.launcher.start(dataclasses.replace(self._assignment, skip=self._skip))
        told = False
        while True:
            if self._stop.is_set() and not told:
                told = True
                worker.send(None)
            for _, message in self.launcher.receive(TICK_S):
                if isinstance(message, FitProgress):
                    yield message
                elif isinstance(message, Fitted):
                    return message.model
                elif isinstance(message, Ended):
                    self._on_death(message.reason)
                    return None
                else:
                    self._handle(message)
            hanging = self._hanging()
            if hanging:
                self.launcher.kill(worker)
                self._leave_out(hanging, f"not read within {self._timeout:g} seconds (`timeout`)")
                return None

    def _handle(self, message: Message) -> None:
        if isinstance(message, Began):
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

    def _hanging(self) -> list[str]:
        now = time.monotonic()
        # Time in which this process was suspended (Ctrl-Z) does not count.
        if now - self._checked > SUSPENDED_S:
            self._reading = {name: since + now - self._checked for name, since in self._reading.items()}
        self._checked = now
        return [name for name, since in self._reading.items() if since < now - self._timeout]

    def _on_death(self, reason: str) -> None:
        if self._stop.is_set():
            raise InterruptedWorkError
        again = sorted(self._suspects & self._reading.keys())
        self._suspects |= self._reading.keys()
        if again:
            self._deaths = 0
            self._leave_out(again, f"the process that read it {reason}, like one before")
            return
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise WorkerError(f"processes that fit a network die one after another; the last one {reason}")
        _log.warning("the process that fits the network %s; another one continues after the last whole epoch", reason)

    def _leave_out(self, names: list[str], why: str) -> None:
        for name in names:
            _log.warning("%s is left out of the fit: %s", self._paths[name], why)
        self._skip |= frozenset(names)

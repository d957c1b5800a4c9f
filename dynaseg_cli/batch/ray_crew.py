"""Workers on a Ray cluster: an actor each. Paths and outcomes travel, pixels do not: the nodes share the folders."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from ..config import SegmentConfig, WorkersConfig
from ..errors import UsageError
from .capacity import threads_of_worker
from .job import Job
from .messages import Assignment, Ended, Message, Refused
from .worker import GRACE_S, work

OBJECT_STORE = 128 * 2**20
"""Bytes of a cluster that is started here: nothing of size goes through it."""
HEARD_EVERY_S = 1.0
"""An actor that has nothing to say says so after so many seconds."""
ANSWERED_S = 5.0
"""Seconds within which a cluster that is there answers."""
WAITING_S = 30.0
"""After so many seconds without room for an actor a person is told."""

_log = logging.getLogger(__name__)


class _Queues:
    """The worker's end of the line, within its actor."""

    def __init__(self) -> None:
        self.given: queue.SimpleQueue[Assignment | Job | None] = queue.SimpleQueue()
        self.said: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def recv(self) -> Assignment | Job | None:
        return self.given.get()

    def send(self, message: Message) -> None:
        self.said.put(message)


class _Actor:
    """A worker on some node: what it is given and what it says are calls. It dies with the dispatcher's process."""

    def __init__(self, assignment: Assignment) -> None:
        self._line = _Queues()
        self._line.given.put(assignment)
        threading.Thread(target=self._work, args=(assignment,), daemon=True).start()

    def _work(self, assignment: Assignment) -> None:
        try:
            os.chdir(assignment.folder)
        except OSError as error:
            if not Path(assignment.output).is_absolute():
                reason = f"{assignment.folder}, the current folder, is not on every node: {error.strerror}"
                self._line.send(Refused(f"{reason}; name INPUT and OUT by absolute paths that all nodes share"))
                return
        work(self._line, own_process=False)
        self._line.send(Ended("has come to its end"))

    def give(self, message: Job | None) -> None:
        self._line.given.put(message)

    def hear(self) -> list[Message]:
        """What there is to say, after waiting for it for `HEARD_EVERY_S`."""
        said: list[Message] = []
        with contextlib.suppress(queue.Empty):
            said.append(self._line.said.get(timeout=HEARD_EVERY_S))
            while True:
                said.append(self._line.said.get_nowait())
        return said


class RayWorker:
    """An actor, seen from here."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.hearing = actor.hear.remote()
        self.hired = time.monotonic()
        self.heard = False

    def give(self, message: Job | None) -> None:
        self.actor.give.remote(message)


class RayCrew:
    """Hires actors on a cluster that runs already, or on one of this machine's own, which ends with the run.

    One actor a GPU, or, where the device is a CPU, one for as many CPUs as it has threads: as many as in a local run.

    Raises
    ------
    UsageError
        If there is no such cluster, or it has not what is asked for.
    """

    impatient = False

    def __init__(self, segment: SegmentConfig, config: WorkersConfig) -> None:
        with ExitStack() as leaving:
            # Ray prints what befalls its nodes, from a thread, where data alone is to go.
            leaving.enter_context(contextlib.redirect_stdout(sys.stderr))
            leaving.callback(ray.shutdown)
            _connect(config.ray_address)
            self._workers: list[RayWorker] = []
            cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            gpus = int(ray.cluster_resources().get("GPU", 0))
            self._device = _kind_of_device(config.device, gpus)
            if self._device == "cuda":
                self._threads = config.threads
                self.posts = config.workers or gpus
                self._share: dict[str, float] = {"num_gpus": 1, "num_cpus": config.threads or 1}
            else:
                self._threads = config.threads or _threads(segment, cpus, config.workers)
                self.posts = config.workers or sum(count // self._threads for count in cpus)
                self._share = {"num_cpus": self._threads}
            if not self.posts or (self._threads or 0) > max(cpus, default=0):
                raise UsageError(f"no node of the Ray cluster has what a worker needs: {_words(self._share)}")
            self._leaving = leaving.pop_all()

    def hire(self, assignment: Assignment) -> RayWorker:
        mine = Assignment(
            segment=assignment.segment,
            batch=assignment.batch,
            output=assignment.output,
            folder=assignment.folder,
            device=self._device,
            number=0,
            workers=1,
            threads=self._threads,
        )
        # Two calls at a time: one may wait for something to hear.
        actor = ray.remote(_Actor).options(max_concurrency=2, max_restarts=0, **self._share).remote(mine)
        worker = RayWorker(actor)
        self._workers.append(worker)
        return worker

    def hear(self, seconds: float) -> list[tuple[RayWorker, Message]]:
        """What actors say, waiting for the first for so long. `Ended` is a worker's last."""
        by_call = {worker.hearing: worker for worker in self._workers}
        answered = ray.wait(list(by_call), num_returns=1, timeout=seconds)[0] if by_call else []
        if not by_call:
            time.sleep(seconds)
        heard: list[tuple[RayWorker, Message]] = []
        for worker in (by_call[call] for call in answered):
            try:
                messages: Iterable[Message] = ray.get(worker.hearing)
                worker.hearing = worker.actor.hear.remote()
                worker.heard = True
            except RayError as error:
                messages = [Ended(_why_ended(error))]
            heard += ((worker, message) for message in messages)
        for worker, message in heard:
            if isinstance(message, Ended):
                self._workers.remove(worker)
        self._tell_of_waiting()
        return heard

    def dismiss(self, worker: RayWorker) -> None:
        """End a worker at once; it is not heard any more."""
        ray.kill(worker.actor)
        self._workers.remove(worker)

    def close(self, *, at_once: bool) -> None:
        """End all workers, and the cluster if it was started here."""
        for worker in self._workers:
            worker.give(None)
        deadline = time.monotonic() + GRACE_S
        while not at_once and any(worker.heard for worker in self._workers) and time.monotonic() < deadline:
            self.hear(HEARD_EVERY_S)
        for worker in list(self._workers):
            self.dismiss(worker)
        self._leaving.close()

    def _tell_of_waiting(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if not worker.heard and now - worker.hired > WAITING_S:
                worker.hired = now
                _log.warning("a worker waits for room in the Ray cluster: %s", _words(self._share))


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    # Its notice of a change to come; nothing here depends on it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        try:
            _refuse_silent(address)
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(f"--ray-address {address}: no Ray cluster there ({error})") from None
        return
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        object_store_memory=OBJECT_STORE,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def _refuse_silent(address: str) -> None:
    """Raise OSError where nobody listens: Ray would try for two minutes, and then end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWERED_S).close()


def _kind_of_device(device: str, gpus: int) -> str:
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: with --executor ray it is auto, cpu or cuda; Ray chooses which")
    if device == "cuda" and not gpus:
        raise UsageError("--device cuda: the Ray cluster has no GPU")
    return device


def _threads(segment: SegmentConfig, cpus: list[int], workers: int | None) -> int:
    """Of a worker; those that share a node share its CPUs, of which the smallest node has `smallest`."""
    smallest = min((count for count in cpus if count), default=1)
    return max(1, min(smallest, sum(cpus) // workers)) if workers else threads_of_worker(segment, smallest)


def _words(share: dict[str, float]) -> str:
    return ", ".join(f"{number:g} {resource.removeprefix('num_').upper()[:-1]}" for resource, number in share.items())


def _why_ended(error: RayError) -> str:
    """The first line of Ray's own account, which goes on for many."""
    text = str(error).strip() if isinstance(error, ActorDiedError) else f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"was lost ({' '.join(lines[:2])})" if lines else "was lost"

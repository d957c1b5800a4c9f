"""Workers on a Ray cluster, one actor each. Only paths and outcomes are sent: the nodes share the folders."""

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
from ..files.output_folder import Job
from .messages import Assignment, Ended, Message, Refused
from .worker import GRACE_S, threads_of_worker, work

OBJECT_STORE = 128 * 2**20
"""Bytes of the object store of a cluster that is started here; nothing large goes through it."""
POLL_S = 1.0
"""Longest wait of an actor for a message before it answers without one."""
CONNECT_S = 5.0
"""Longest wait for a cluster to accept a connection."""
WAITING_S = 30.0
"""Seconds without room for an actor before the user is told."""

_log = logging.getLogger(__name__)


class _Queues:
    """The worker's end of the connection, within its actor."""

    def __init__(self) -> None:
        self.incoming: queue.SimpleQueue[Assignment | Job | None] = queue.SimpleQueue()
        self.outgoing: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def recv(self) -> Assignment | Job | None:
        return self.incoming.get()

    def send(self, message: Message) -> None:
        self.outgoing.put(message)


class _Actor:
    """A worker on some node. Messages both ways are calls of its methods. It ends with the pool's process."""

    def __init__(self, assignment: Assignment) -> None:
        self._queues = _Queues()
        self._queues.incoming.put(assignment)
        threading.Thread(target=self._work, args=(assignment,), daemon=True).start()

    def _work(self, assignment: Assignment) -> None:
        try:
            os.chdir(assignment.folder)
        except OSError as error:
            if not Path(assignment.output).is_absolute():
                reason = f"{assignment.folder}, the current folder, is not on every node: {error.strerror}"
                self._queues.send(Refused(f"{reason}; name INPUT and OUT by absolute paths that all nodes share"))
                return
        work(self._queues, own_process=False)
        self._queues.send(Ended("has ended"))

    def send(self, message: Job | None) -> None:
        self._queues.incoming.put(message)

    def receive(self) -> list[Message]:
        """The worker's messages, after waiting `POLL_S` for the first."""
        said: list[Message] = []
        with contextlib.suppress(queue.Empty):
            said.append(self._queues.outgoing.get(timeout=POLL_S))
            while True:
                said.append(self._queues.outgoing.get_nowait())
        return said


class RayWorker:
    """The pool's handle of an actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.receiving = actor.receive.remote()
        self.started = time.monotonic()
        self.has_answered = False

    def send(self, message: Job | None) -> None:
        self.actor.send.remote(message)


class RayLauncher:
    """Starts actors on a running cluster, or on one on this machine, which ends with the run.

    There is one actor per GPU, or on CPUs one per worker's number of threads, as in a local run.

    Raises
    ------
    UsageError
        If there is no such cluster, or it lacks the requested resources.
    """

    limits_start = False

    def __init__(self, segment: SegmentConfig, config: WorkersConfig) -> None:
        with ExitStack() as leaving:
            # Ray prints messages about its nodes from a thread; stdout is for data only.
            leaving.enter_context(contextlib.redirect_stdout(sys.stderr))
            leaving.callback(ray.shutdown)
            _connect(config.ray_address)
            self._workers: list[RayWorker] = []
            cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            gpus = int(ray.cluster_resources().get("GPU", 0))
            self._device = _kind_of_device(config.device, gpus)
            if self._device == "cuda":
                self._threads = config.threads
                self.size = config.workers or gpus
                self._share: dict[str, float] = {"num_gpus": 1, "num_cpus": config.threads or 1}
            else:
                self._threads = config.threads or _threads(segment, cpus, config.workers)
                self.size = config.workers or sum(count // self._threads for count in cpus)
                self._share = {"num_cpus": self._threads}
            if not self.size or (self._threads or 0) > max(cpus, default=0):
                raise UsageError(f"no node of the Ray cluster has what a worker needs: {_words(self._share)}")
            self._leaving = leaving.pop_all()

    def start(self, assignment: Assignment) -> RayWorker:
        mine = Assignment(
            segment=assignment.segment,
            batch=assignment.batch,
            output=assignment.output,
            folder=assignment.folder,
            device=self._device,
            number=0,
            workers=1,
            threads=self._threads,
            sequences=assignment.sequences,
        )
        # Two calls at a time, since `receive` waits.
        actor = ray.remote(_Actor).options(max_concurrency=2, max_restarts=0, **self._share).remote(mine)
        worker = RayWorker(actor)
        self._workers.append(worker)
        return worker

    def receive(self, seconds: float) -> list[tuple[RayWorker, Message]]:
        """The actors' messages, after waiting `seconds` for the first. `Ended` is a worker's last."""
        by_call = {worker.receiving: worker for worker in self._workers}
        answered = ray.wait(list(by_call), num_returns=1, timeout=seconds)[0] if by_call else []
        if not by_call:
            time.sleep(seconds)
        received: list[tuple[RayWorker, Message]] = []
        for worker in (by_call[call] for call in answered):
            try:
                messages: Iterable[Message] = ray.get(worker.receiving)
                worker.receiving = worker.actor.receive.remote()
                worker.has_answered = True
            except RayError as error:
                messages = [Ended(_why_ended(error))]
            received += ((worker, message) for message in messages)
        for worker, message in received:
            if isinstance(message, Ended):
                self._workers.remove(worker)
        self._tell_of_waiting()
        return received

    def kill(self, worker: RayWorker) -> None:
        """Kill a worker; it sends no more messages."""
        ray.kill(worker.actor)
        self._workers.remove(worker)

    def close(self, *, at_once: bool) -> None:
        """End all workers, and the cluster if it was started here."""
        for worker in self._workers:
            worker.send(None)
        deadline = time.monotonic() + GRACE_S
        while not at_once and any(worker.has_answered for worker in self._workers) and time.monotonic() < deadline:
            self.receive(POLL_S)
        for worker in list(self._workers):
            self.kill(worker)
        self._leaving.close()

    def _tell_of_waiting(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if not worker.has_answered and now - worker.started > WAITING_S:
                worker.started = now
                _log.warning("a worker waits for room in the Ray cluster: %s", _words(self._share))


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    # Silences a deprecation notice; nothing here depends on that behaviour.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        try:
            _refuse_silent(address)
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(f"`ray_address={address}`: no Ray cluster there ({error})") from None
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
    """Raise OSError if nothing listens there: Ray would try for two minutes and then end the process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _kind_of_device(device: str, gpus: int) -> str:
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"`device={device}`: with `executor=ray` it must be auto, cpu or cuda; Ray chooses which")
    if device == "cuda" and not gpus:
        raise UsageError("`device=cuda`: the Ray cluster has no GPU")
    return device


def _threads(segment: SegmentConfig, cpus: list[int], workers: int | None) -> int:
    """Threads of a worker, so that the workers fit on the nodes' CPUs."""
    smallest = min((count for count in cpus if count), default=1)
    return max(1, min(smallest, sum(cpus) // workers)) if workers else threads_of_worker(segment, smallest)


def _words(share: dict[str, float]) -> str:
    return ", ".join(f"{number:g} {resource.removeprefix('num_').upper()[:-1]}" for resource, number in share.items())


def _why_ended(error: RayError) -> str:
    """The first lines of Ray's message, which is long."""
    text = str(error).strip() if isinstance(error, ActorDiedError) else f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"was lost ({' '.join(lines[:2])})" if lines else "was lost"

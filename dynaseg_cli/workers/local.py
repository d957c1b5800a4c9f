"""Workers on this machine: processes, or a thread of this one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection, Pipe, wait
from tempfile import TemporaryFile

from ..config import WorkersConfig
from ..errors import WorkerError, memory_limit, reason
from ..files.output_folder import Job
from .messages import Assignment, Ended, Message
from .worker import GRACE_S, work

ENDING_S = 5.0
"""Longest wait for a process to end after its connection broke."""
KILLED_S = 1.0
"""Longest wait for a killed process: one that hangs in the file system cannot end."""
MOST_STDERR = 1_000_000
"""Limit on the bytes that are kept of a worker's output."""


class ProcessWorker:
    """A worker in its own process, so that a crash or a lack of memory ends that process alone."""

    def __init__(self, assignment: Assignment) -> None:
        self.connection, far = Pipe()
        self._stderr = TemporaryFile("w+b")  # noqa: SIM115  # closed by close()
        # Appending, so that the file can be truncated while the process writes to it.
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, fcntl.fcntl(self._stderr, fcntl.F_GETFL) | os.O_APPEND)
        # The worker imports the same code as this process.
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__package__}.worker import main; main()"
        with far:
            # Not one of the three standard descriptors, which may be free in this process, but not in the other.
            descriptor = fcntl.fcntl(far.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(descriptor)],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
            )
        except BaseException:
            self.close()
            raise
        finally:
            os.close(descriptor)
        self.send(assignment)

    def send(self, message: Assignment | Job | None) -> None:
        with contextlib.suppress(OSError):  # it has ended; `receive` says so
            self.connection.send(message)

    def receive(self) -> Message:
        """The next message; `Ended`, with the reason, once the process has ended."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return Ended(self._why_ended())
        if os.fstat(self._stderr.fileno()).st_size > MOST_STDERR:
            self._stderr.truncate(0)
        return message

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        self.connection.close()
        self._stderr.close()

    def ended(self, seconds: float) -> bool:
        """Wait for the process for at most `seconds`; whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def _why_ended(self) -> str:
        if not self.ended(ENDING_S):
            self.kill()
            return "stopped answering" if not self.ended(ENDING_S) else "closed its connection"
        self._stderr.seek(0)
        return why_ended(self._process.returncode, self._stderr.read().decode(errors="replace"))


class ThreadWorker:
    """A worker in a thread of this process, which a crash of the worker ends as well."""

    def __init__(self, assignment: Assignment) -> None:
        self.connection, far = Pipe()
        self._thread = threading.Thread(target=self._work, args=(far,), daemon=True)
        self._thread.start()
        self.send(assignment)

    def _work(self, connection: Connection) -> None:
        with connection:
            work(connection, own_process=False, own_log=False)

    def send(self, message: Assignment | Job | None) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def receive(self) -> Message:
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return Ended("has ended")
        return message

    def kill(self) -> None:
        raise WorkerError("with `workers=0` an image that hangs cannot be given up; leave the option out")

    def close(self) -> None:
        self.connection.close()

    def ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


LocalWorker = ProcessWorker | ThreadWorker


def local_launcher(workers: WorkersConfig) -> LocalLauncher:
    """The launcher of a run on this machine: of a thread for `workers` 0, otherwise of processes."""
    return LocalLauncher(ThreadWorker if workers.workers == 0 else ProcessWorker)


class LocalLauncher:
    """Starts workers on this machine."""

    limits_start = True

    def __init__(self, kind: type[ProcessWorker] | type[ThreadWorker] = ProcessWorker) -> None:
        self._kind = kind
        self._workers: list[LocalWorker] = []

    def start(self, assignment: Assignment) -> LocalWorker:
        try:
            worker = self._kind(assignment)
        except (OSError, RuntimeError) as error:  # the system is out of processes, threads, descriptors or memory
            why = reason(error) if isinstance(error, OSError) else error
            raise WorkerError(f"a worker cannot be started: {why}{memory_limit()}") from error
        self._workers.append(worker)
        return worker

    def receive(self, seconds: float) -> list[tuple[LocalWorker, Message]]:
        """At most one message of each worker, after waiting `seconds` for the first. `Ended` is a worker's last."""
        workers = {worker.connection: worker for worker in self._workers}
        received = [
            (workers[ready], workers[ready].receive())
            for ready in wait(workers, seconds)
            if isinstance(ready, Connection)
        ]
        for worker, message in received:
            if isinstance(message, Ended):
                self._forget(worker)
        return received

    def kill(self, worker: LocalWorker) -> None:
        """Kill a worker; it sends no more messages."""
        worker.kill()
        worker.ended(KILLED_S)
        self._forget(worker)

    def close(self, *, at_once: bool) -> None:
        """End all workers: at their next iteration, unless `at_once`."""
        for worker in self._workers:
            worker.send(None)
        deadline = time.monotonic() + (0 if at_once else GRACE_S)
        for worker in self._workers:
            if not worker.ended(max(0.0, deadline - time.monotonic())):
                with contextlib.suppress(WorkerError):
                    worker.kill()
        for worker in list(self._workers):
            worker.ended(KILLED_S)
            self._forget(worker)

    def _forget(self, worker: LocalWorker) -> None:
        self._workers.remove(worker)
        worker.close()


def why_ended(code: int, stderr: str) -> str:
    """Why a process ended, from its exit code and the last line it printed."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was ended by {name}" + ("; was there memory enough?" if name == "SIGKILL" else memory_limit())
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"ended early, exit code {code}" + (f": {lines[-1]}" if lines else "") + memory_limit()

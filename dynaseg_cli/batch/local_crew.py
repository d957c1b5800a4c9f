"""Workers on this machine: processes of their own, or a thread of this one."""

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
from ..errors import WorkerError, memory_limit, system_reason
from .job import Job
from .messages import Assignment, Ended, Message
from .worker import GRACE_S, work

ENDING_S = 5.0
"""Longest wait for a process whose line has gone dead to end."""
KILLED_S = 1.0
"""Longest wait for a process that was killed: one that hangs in the file system cannot die."""
MOST_STDERR = 1_000_000
"""Bytes of what libraries print that are kept of a worker."""


class ProcessWorker:
    """A worker in a process of its own, which a segmentation fault or the want of memory ends alone."""

    def __init__(self, assignment: Assignment) -> None:
        self.line, far = Pipe()
        self._stderr = TemporaryFile("w+b")  # noqa: SIM115  # closed by close()
        # Appending, so that what was written can be thrown away.
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, fcntl.fcntl(self._stderr, fcntl.F_GETFL) | os.O_APPEND)
        # The same code as here, wherever it was imported from.
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__package__}.worker import main; main()"
        with far:
            # Above the three that the process gets anew: they are free for other uses where the caller has closed them.
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
        self.give(assignment)

    def give(self, message: Assignment | Job | None) -> None:
        with contextlib.suppress(OSError):  # it is dead: its end of the line says so in its turn
            self.line.send(message)

    def take(self) -> Message:
        """The next message; `Ended`, with the reason, once the process is no more."""
        try:
            message: Message = self.line.recv()
        except (EOFError, OSError):
            return Ended(self._why_ended())
        if os.fstat(self._stderr.fileno()).st_size > MOST_STDERR:
            self._stderr.truncate(0)
        return message

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        self.line.close()
        self._stderr.close()

    def ended(self, seconds: float) -> bool:
        """Whether the process has ended, waiting for at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def _why_ended(self) -> str:
        if not self.ended(ENDING_S):
            self.kill()
            return "stopped answering" if not self.ended(ENDING_S) else "closed its line"
        self._stderr.seek(0)
        return why_ended(self._process.returncode, self._stderr.read().decode(errors="replace"))


class ThreadWorker:
    """A worker in a thread of this process: nothing is started, and nothing protects the run from it."""

    def __init__(self, assignment: Assignment) -> None:
        self.line, far = Pipe()
        self._thread = threading.Thread(target=self._work, args=(far,), daemon=True)
        self._thread.start()
        self.give(assignment)

    def _work(self, line: Connection) -> None:
        with line:
            work(line, own_process=False, own_log=False)

    def give(self, message: Assignment | Job | None) -> None:
        with contextlib.suppress(OSError):
            self.line.send(message)

    def take(self) -> Message:
        try:
            message: Message = self.line.recv()
        except (EOFError, OSError):
            return Ended("has come to its end")
        return message

    def kill(self) -> None:
        raise WorkerError("with --workers 0 an image that hangs cannot be given up; leave the option out")

    def close(self) -> None:
        self.line.close()

    def ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


LocalWorker = ProcessWorker | ThreadWorker


def local_crew(workers: WorkersConfig) -> LocalCrew:
    """Who hires the workers of a run on this machine: processes, or where none are wanted a thread."""
    return LocalCrew(ThreadWorker if workers.workers == 0 else ProcessWorker)


class LocalCrew:
    """Hires workers on this machine, and hears them.

    Parameters
    ----------
    kind : in what a worker runs.
    """

    impatient = True

    def __init__(self, kind: type[ProcessWorker] | type[ThreadWorker] = ProcessWorker) -> None:
        self._kind = kind
        self._workers: list[LocalWorker] = []

    def hire(self, assignment: Assignment) -> LocalWorker:
        try:
            worker = self._kind(assignment)
        except (OSError, RuntimeError) as error:  # the system is out of processes, threads, descriptors or memory
            reason = system_reason(error) if isinstance(error, OSError) else error
            raise WorkerError(f"a worker cannot be started: {reason}{memory_limit()}") from error
        self._workers.append(worker)
        return worker

    def hear(self, seconds: float) -> list[tuple[LocalWorker, Message]]:
        """At most one message of each worker, waiting for the first for so long. `Ended` is a worker's last."""
        by_line = {worker.line: worker for worker in self._workers}
        heard = [
            (by_line[line], by_line[line].take()) for line in wait(by_line, seconds) if isinstance(line, Connection)
        ]
        for worker, message in heard:
            if isinstance(message, Ended):
                self._forget(worker)
        return heard

    def dismiss(self, worker: LocalWorker) -> None:
        """End a worker at once; it is not heard any more."""
        worker.kill()
        worker.ended(KILLED_S)
        self._forget(worker)

    def close(self, *, at_once: bool) -> None:
        """End all workers: they stop by themselves at their next iteration, unless it has to be at once."""
        for worker in self._workers:
            worker.give(None)
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
    """What became of a process, from its exit code and the last line that it printed."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was ended by {name}" + ("; was there memory enough?" if name == "SIGKILL" else memory_limit())
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"ended early, exit code {code}" + (f": {lines[-1]}" if lines else "") + memory_limit()

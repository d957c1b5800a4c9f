"""A worker: given jobs over a line, it segments them on one device and says what becomes of them."""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from ..errors import ImageError, InterruptedWorkError, UsageError, system_reason
from .capacity import threads_of_worker, workers_with_room
from .job import Job
from .messages import (
    Assignment,
    Began,
    Broken,
    Finished,
    FitProgress,
    Fitted,
    Iterated,
    Message,
    Ready,
    Refused,
    Warned,
)
from .output_folder import mark_output

GRACE_S = 10.0
"""A worker that is to stop drops its image at the next iteration; one that has not by then is ended where it is."""
ITERATED_EVERY_S = 0.1
"""Least seconds between two reports of iterations."""
CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Where torch's convolutions on a CPU keep what they have prepared for each size they meet: 1024 of them, unless told
otherwise, some 100 MB in a folder of images of all sizes."""
CACHED = 256
"""Many times what one image needs at a time."""
LOOK_EVERY_S = 0.1
"""Seconds after which a worker that waits for a job looks whether it is to stop."""


class Line(Protocol):
    """The worker's end of what joins it with its dispatcher: a pipe, or a pair of queues."""

    def recv(self) -> Assignment | Job | None: ...  # EOFError once the dispatcher is gone

    def send(self, message: Message) -> None: ...


class _Desk:
    """The line as the stream sees it: jobs as an iterator, messages from any thread, and whether to stop."""

    def __init__(self, line: Line) -> None:
        self.stop = threading.Event()
        self.begun = False
        """Whether there may be something to lose."""
        self._line = line
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._last_iterated = 0.0

    def listen(self) -> None:
        """Take jobs from the line until the end, or until the dispatcher is gone."""
        try:
            while (job := self._line.recv()) is not None:
                assert isinstance(job, Job)
                self._jobs.put(job)
        except (EOFError, OSError):
            pass
        self.stop.set()

    def jobs(self) -> Iterator[Job]:
        while not self.stop.is_set():
            try:
                yield self._jobs.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue

    def send(self, message: Message) -> None:
        with self._sending:
            try:
                self._line.send(message)
            except OSError:  # the dispatcher is gone
                self.stop.set()

    def observe(self, message: Began | Iterated | FitProgress) -> None:
        if isinstance(message, Iterated):
            now = time.monotonic()
            if now - self._last_iterated < ITERATED_EVERY_S:
                return
            self._last_iterated = now
        self.send(message)


def work(line: Line, *, own_process: bool, own_log: bool = True) -> None:
    """Serve a dispatcher until it says so or is gone.

    With `own_process` the process is the worker's: it ends with the work, in `GRACE_S` at most. With `own_log`,
    warnings go over the line; where the dispatcher shares the log it would pass them on to itself without end.
    """
    desk = _Desk(line)
    try:
        assignment = line.recv()
    except (EOFError, OSError):
        return
    assert isinstance(assignment, Assignment)
    listener = threading.Thread(target=_listen, args=(desk, own_process), daemon=True)
    listener.start()
    try:
        with _warnings_to(desk) if own_log else nullcontext():
            _serve(desk, assignment)
    except UsageError as error:
        desk.send(Refused(str(error)))
    except (ImportError, MemoryError, OSError) as error:
        desk.send(Broken(f"a worker cannot go on: {system_reason(error)}", traceback.format_exc()))
    except Exception as error:
        desk.send(Broken(f"unexpected {type(error).__name__}: {error}", traceback.format_exc()))
    if not own_process:
        listener.join()


def _listen(desk: _Desk, own_process: bool) -> None:
    desk.listen()
    if own_process:
        if desk.begun:
            time.sleep(GRACE_S)
        os._exit(1)


def _serve(desk: _Desk, assignment: Assignment) -> None:
    import torch

    from .. import __version__
    from ..engine.device import describe_device, resolve_devices
    from ..engine.engine import Engine
    from .stages import readers, run_stream

    devices = resolve_devices(assignment.device)
    if assignment.fit:
        _fit(desk, assignment, devices[0])
        return
    cores = torch.get_num_threads()
    threads, posts = assignment.threads, assignment.workers
    if posts is None and devices == ["cpu"]:
        threads = threads or threads_of_worker(assignment.segment, cores)
        posts = workers_with_room(cores, threads)
    posts = len(devices) if posts is None else posts
    if threads or posts > 1:
        torch.set_num_threads(threads or max(1, cores // posts))
    engine = Engine(assignment.segment, devices[assignment.number % len(devices)])
    output = _created(assignment.output)
    desk.begun = True
    desk.send(Ready(describe_device(engine.device), posts, readers(engine) + 3, __version__))
    for job, outcome in run_stream(desk.jobs(), output, assignment.batch, engine, desk.observe, desk.stop):
        desk.send(Finished(job.name, outcome))


def _fit(desk: _Desk, assignment: Assignment, device: str) -> None:
    """Fit a network to all images of a folder, with all cores unless told otherwise."""
    import torch

    from .fit_stream import fit_network

    if assignment.threads:
        torch.set_num_threads(assignment.threads)
    output = _created(assignment.output)
    desk.begun = True
    segment, batch, jobs = assignment.segment, assignment.batch, assignment.fit
    try:
        model = fit_network(jobs, output, segment, batch, device, desk.observe, desk.stop, assignment.skip)
    except InterruptedWorkError:
        return
    except ImageError as error:  # it diverged, or a mosaic does not fit the memory
        desk.send(Broken(str(error), ""))
    except OSError as error:
        desk.send(Broken(f"the network of the folder cannot be kept: {error.strerror}: {error.filename}", ""))
    else:
        desk.send(Fitted(model))


def _created(folder: str) -> Path:
    output = Path(folder)
    try:
        mark_output(output)
    except OSError as error:
        raise UsageError(f"{output} cannot be created: {error.strerror}; name another folder with -o") from error
    return output


@contextmanager
def _warnings_to(desk: _Desk) -> Iterator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            desk.send(Warned(record.getMessage()))

    package, handler = logging.getLogger(__package__.partition(".")[0]), Handler(logging.WARNING)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def main() -> None:
    """The process that `LocalCrew` starts: its argument is the descriptor of the line."""
    # They are sent to every process of a terminal or a job; the dispatcher decides, and says so over the line.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    for cache in CACHES:
        os.environ.setdefault(cache, str(CACHED))
    work(Connection(int(sys.argv[1])), own_process=True)
    # Nothing is left to be written, and torch takes its time to go.
    os._exit(0)

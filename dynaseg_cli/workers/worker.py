"""A worker: receives jobs over a connection, segments them on one device, and reports their outcomes."""

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..config import SegmentConfig
from ..errors import ImageError, InterruptedWorkError, UsageError, reason
from ..files.output_folder import Job, OutputFolder
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

if TYPE_CHECKING:
    from ..engine.engine import Engine

SMALL = 512
"""Longest side of a working size up to which a worker needs at most `WORKER_BYTES`, or on a GPU `CARD_WORKER_BYTES`. A
second thread hardly helps then, and no image keeps a GPU busy by itself."""
WORKER_BYTES = 1_500_000_000
ENGINES = 2
"""Engines of a worker on a GPU: while the host reads the state of one, and launches its next steps, the other one keeps
the GPU busy. More would mostly wait for each other, as their host code holds Python's lock."""
CARD_WORKERS = 8
"""Most workers of a GPU by default: more have not been tried. Their contexts take turns on it."""
CARD_WORKER_CORES = 2
"""CPU cores that a worker on a GPU keeps busy: by merging regions, which holds Python's lock, and by what goes on
beside that, decoding, encoding and launching."""
CARD_WORKER_BYTES = 3_000_000_000
"""Memory for a worker on a GPU, of the GPU and of the machine alike."""


def is_small(config: SegmentConfig) -> bool:
    """Whether fits are so small that several at a time are faster."""
    return 0 < config.max_size <= SMALL and not config.literal


def threads_of_worker(config: SegmentConfig, cores: int) -> int:
    """Threads of a worker: one for a small working size, where several workers are faster, all for a large one.

    It depends on neither the images nor the memory, since the number of threads changes how results round.
    """
    return 1 if is_small(config) else cores


def workers_with_room(cores: int, threads: int) -> int:
    """Workers that cores and memory suffice for, with so many threads each."""
    return max(1, min(cores // threads, available_memory() // WORKER_BYTES))


def workers_of_card(config: SegmentConfig, cores: int) -> int:
    """Workers of one GPU that a number of CPU cores suffices for: several for a small working size, otherwise one."""
    return max(1, min(CARD_WORKERS, cores // CARD_WORKER_CORES)) if is_small(config) else 1


def card_workers_with_room(workers: int, free: int, available: int) -> int:
    """How many of these workers of one GPU have room, in its free memory and in its share of the machine's."""
    return max(1, min(workers, min(free, available) // CARD_WORKER_BYTES))


def free_memory(cards: Sequence[str], own: str) -> int:
    """Free bytes of the CUDA device that has the least; of any but one's `own`, all of its memory counts as free."""
    import torch

    # To ask a device what is free, one must start CUDA on it, which takes memory there.
    sizes = [torch.cuda.get_device_properties(card).total_memory for card in cards if card != own]
    return min([torch.cuda.mem_get_info(own)[0], *sizes])


def new_engines(config: SegmentConfig, device: str) -> list[Engine]:
    """The engines of a worker, each for a thread of its own; raises like `Engine`."""
    from ..engine.engine import Engine

    first = Engine(config, device)
    several = first.device.type == "cuda" and is_small(config) and not config.sequence
    return [first, *(Engine(config, device, first) for _ in range(ENGINES - 1 if several else 0))]


def available_memory() -> int:
    """Available bytes of memory, at most a container's limit; on systems other than Linux all memory."""
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) << 10
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except (OSError, ValueError):
        return available
    return min(available, int(limit)) if limit.isdecimal() else available


GRACE_S = 10.0
"""Time for a worker to stop, which it does at its next iteration; then it is killed."""
ITERATED_EVERY_S = 0.1
"""Least seconds between two messages about iterations."""
CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Environment variables with the size of torch's caches of prepared CPU convolutions. By default they hold 1024 image
sizes, some 100 MB in a folder of images of many sizes."""
CACHE_SIZE = 256
"""Many times what one image needs."""
STOP_POLL_S = 0.1
"""Interval at which a worker that waits for a job checks whether it should stop."""


class Channel(Protocol):
    """The worker's end of the connection to the pool: a pipe, or a pair of queues."""

    def recv(self) -> Assignment | Job | None: ...  # EOFError once the pool is gone

    def send(self, message: Message) -> None: ...


class _Mailbox:
    """The connection as the stream sees it: jobs as an iterator, messages from any thread, and whether to stop."""

    def __init__(self, channel: Channel) -> None:
        self.stop = threading.Event()
        self.begun = False
        """Whether there may be work to lose."""
        self._channel = channel
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._last_iterated = 0.0

    def listen(self) -> None:
        """Receive jobs until the end, or until the pool is gone."""
        try:
            while (job := self._channel.recv()) is not None:
                assert isinstance(job, Job)
                self._jobs.put(job)
        except (EOFError, OSError):
            pass
        self.stop.set()

    def jobs(self) -> Iterator[Job]:
        while not self.stop.is_set():
            try:
                yield self._jobs.get(timeout=STOP_POLL_S)
            except queue.Empty:
                continue

    def send(self, message: Message) -> None:
        with self._sending:
            try:
                self._channel.send(message)
            except OSError:  # the pool is gone
                self.stop.set()

    def observe(self, message: Began | Iterated | FitProgress) -> None:
        if isinstance(message, Iterated):
            now = time.monotonic()
            if now - self._last_iterated < ITERATED_EVERY_S:
                return
            self._last_iterated = now
        self.send(message)


def work(channel: Channel, *, own_process: bool, own_log: bool = True) -> None:
    """Work for a pool until it says stop or is gone.

    Parameters
    ----------
    own_process : whether the process is the worker's own, so that it ends with the work, within `GRACE_S`.
    own_log : whether warnings are sent to the pool. A pool in the same process gets them without that.
    """
    mailbox = _Mailbox(channel)
    try:
        assignment = channel.recv()
    except (EOFError, OSError):
        return
    assert isinstance(assignment, Assignment)
    listener = threading.Thread(target=_listen, args=(mailbox, own_process), daemon=True)
    listener.start()
    try:
        with _warnings_to(mailbox) if own_log else nullcontext():
            _serve(mailbox, assignment)
    except UsageError as error:
        mailbox.send(Refused(str(error)))
    except (ImportError, MemoryError, OSError) as error:
        mailbox.send(Broken(f"a worker cannot go on: {reason(error)}", traceback.format_exc()))
    except Exception as error:
        mailbox.send(Broken(f"unexpected {type(error).__name__}: {error}", traceback.format_exc()))
    if not own_process:
        listener.join()


def _listen(mailbox: _Mailbox, own_process: bool) -> None:
    mailbox.listen()
    if own_process:
        if mailbox.begun:
            time.sleep(GRACE_S)
        os._exit(1)


def _serve(mailbox: _Mailbox, assignment: Assignment) -> None:
    import torch

    from .. import __version__
    from ..batch.stages import run_stream, window
    from ..engine.device import describe_device, resolve_devices

    devices = resolve_devices(assignment.device)
    if assignment.fit:
        _fit(mailbox, assignment, devices[0])
        return
    device = devices[assignment.number % len(devices)]
    cores = torch.get_num_threads()
    threads, workers = assignment.threads, assignment.workers
    if workers is None and devices == ["cpu"]:
        threads = threads or threads_of_worker(assignment.segment, cores)
        workers = workers_with_room(cores, threads)
    elif workers is None and all(name.startswith("cuda") for name in devices):
        share = cores // len(devices)
        most = workers_of_card(assignment.segment, share)
        threads = threads or max(1, share // most)
        available = available_memory() // len(devices)
        workers = len(devices) * card_workers_with_room(most, free_memory(devices, device), available)
    workers = len(devices) if workers is None else workers
    if threads or workers > 1:
        torch.set_num_threads(threads or max(1, cores // workers))
    engines = new_engines(assignment.segment, device)
    folder = _created(assignment.output)
    mailbox.begun = True
    mailbox.send(Ready(describe_device(engines[0].device), workers, window(engines), __version__))
    batch, sequences = assignment.batch, assignment.sequences
    for job, outcome in run_stream(mailbox.jobs(), folder, batch, engines, mailbox.observe, mailbox.stop, sequences):
        mailbox.send(Finished(job.name, outcome))


def _fit(mailbox: _Mailbox, assignment: Assignment, device: str) -> None:
    """Fit a network to all images of a folder, by default with all cores."""
    import torch

    from ..folder.stream import fit_network

    if assignment.threads:
        torch.set_num_threads(assignment.threads)
    folder = _created(assignment.output)
    mailbox.begun = True
    segment, batch, jobs = assignment.segment, assignment.batch, assignment.fit
    try:
        model = fit_network(jobs, folder, segment, batch, device, mailbox.observe, mailbox.stop, assignment.skip)
    except InterruptedWorkError:
        return
    except ImageError as error:  # it diverged, or a mosaic does not fit the memory
        mailbox.send(Broken(str(error), ""))
    except OSError as error:
        mailbox.send(Broken(f"the network of the folder cannot be saved: {error.strerror}: {error.filename}", ""))
    else:
        mailbox.send(Fitted(model))


def _created(output: str) -> OutputFolder:
    folder = OutputFolder(Path(output))
    try:
        folder.mark()
    except OSError as error:
        raise UsageError(f"{output} cannot be created: {error.strerror}; name another `output` folder") from error
    return folder


@contextmanager
def _warnings_to(mailbox: _Mailbox) -> Iterator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            mailbox.send(Warned(record.getMessage()))

    package, handler = logging.getLogger(__package__.partition(".")[0]), Handler(logging.WARNING)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def main() -> None:
    """Entry point of a worker process; its argument is the descriptor of the connection."""
    # A terminal or a job scheduler signals every process; the pool decides and tells its workers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    for cache in CACHES:
        os.environ.setdefault(cache, str(CACHE_SIZE))
    work(Connection(int(sys.argv[1])), own_process=True)
    # Nothing is left to write, and torch takes long to shut down.
    os._exit(0)

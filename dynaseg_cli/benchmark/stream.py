"""The stream of images as a worker of `segment` runs it, timed from outside: a fresh process, its start included."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

from ..batch.stages import run_stream
from ..config import BatchConfig, CutConfig, SegmentConfig, WeightsFile
from ..errors import reason
from ..files.output_folder import Job, OutputFolder
from ..workers.local import why_ended
from ..workers.worker import new_engines
from .measurement import peak_memory_of_process

MOST_IMAGES = 32
"""Most images that are streamed, the first by name."""
UNCOUNTED = {"cpu": 1, "mps": 12, "cuda": 15}
"""Images before the clock of the steady state starts: the first, which is the cold start, and those decoded meanwhile.
With a GPU a worker has up to 14 images at a time, and the images after them would look faster than it can go on."""
COUNTED = {"cpu": 8, "mps": 48, "cuda": 48}
"""Least images that the steady state is measured over."""
AHEAD = 16
"""Images that follow: the worker is stopped while it has work, as in the middle of a large folder. A stream that ran
dry would look faster."""


class Stream:
    """A worker of `segment` in a process of its own, which passes over the images until there are enough.

    Each pass writes files of its own, which are removed afterwards. The clock is the system's monotonic one, which both
    processes read.

    Parameters
    ----------
    jobs : the images, at least one.
    device : cpu, cuda:N or mps.
    """

    def __init__(self, config: SegmentConfig, jobs: Sequence[Job], device: str, cut: CutConfig | None = None) -> None:
        self._config = config
        self._cut = cut or CutConfig()
        self._device = device
        self._uncounted = UNCOUNTED[_kind(device)]
        self._steps = steps_of_stream(len(jobs), device)
        passes = (Job(job.path, f"{number}/{job.name}") for number in itertools.count() for job in jobs[:MOST_IMAGES])
        self._jobs = list(itertools.islice(passes, self._steps + AHEAD))
        self._started = 0.0
        self._finished: list[float] = []
        """When each image's files were there, in the order of the jobs."""
        self._peak: dict[str, int | None] = {"host": None, "device": None}

    @property
    def first_image_seconds(self) -> float | None:
        """Seconds from before the start of the process to the files of the first image: the cold start."""
        return self._finished[0] - self._started if self._finished else None

    @property
    def images(self) -> int:
        """How many images `images_per_second` is measured over; each counts equally often once all is done."""
        return max(0, len(self._finished) - self._uncounted)

    @property
    def images_per_second(self) -> float | None:
        """Images a second from disk to disk, in the steady state."""
        return self.images / (self._finished[-1] - self._finished[self._uncounted - 1]) if self.images else None

    def document(self) -> dict[str, Any]:
        """All figures as JSON."""
        return {
            "images": self.images,
            "images_per_second": self.images_per_second,
            "first_image_seconds": self.first_image_seconds,
            "peak_bytes": self._peak,
        }

    def run(self, output: Path) -> Generator[tuple[Job, str | None], None, None]:
        """Yield each image as it is finished, or the reason why it was not, which ends the stream.

        Results go to a temporary folder in `output`. Closing the iterator ends the process.
        """
        # The same code as here, wherever it was imported from.
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        try:
            output.mkdir(parents=True, exist_ok=True)
            with (
                TemporaryDirectory(prefix=".dynaseg-stream-", dir=output, ignore_cleanup_errors=True) as folder,
                TemporaryFile("w+") as request,
                TemporaryFile("w+", errors="replace") as errors,
            ):
                options = dataclasses.asdict(self._config)  # also of the file of weights in it
                jobs = [(job.path, job.name) for job in self._jobs]
                work = {"options": options, "cut": self._cut.as_options(), "jobs": jobs}
                json.dump({**work, "device": self._device, "output": folder}, request)
                request.seek(0)
                self._started = time.monotonic()
                with (
                    _interrupts_held() as release,
                    subprocess.Popen(
                        [sys.executable, "-c", code], stdin=request, stdout=subprocess.PIPE, stderr=errors, text=True
                    ) as process,
                ):
                    try:
                        release()
                        yield from self._read(process, errors)
                    finally:
                        process.kill()
        except OSError as error:
            yield self._jobs[len(self._finished)], reason(error)

    def _read(self, process: subprocess.Popen[str], errors: IO[str]) -> Generator[tuple[Job, str | None], None, None]:
        assert process.stdout is not None
        for job in self._jobs[: self._steps]:
            line = process.stdout.readline()
            if not line.endswith("\n"):
                code = process.wait()
                errors.seek(0)
                yield job, f"the process {why_ended(code, errors.read())}"
                return
            outcome = json.loads(line)
            if outcome["reason"] is not None:
                yield job, outcome["reason"]
                return
            self._finished.append(outcome["finished"])
            self._peak = {"host": outcome["host_bytes"], "device": outcome["device_bytes"]}
            yield job, None


def main() -> None:
    """The process that `Stream` times: run the request on stdin, a JSON document, and write a line for each outcome."""
    # Ctrl-C is sent to both processes; the one that waits for this one decides, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as lines:
        # Output of libraries must not come between the lines.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        request = json.load(sys.stdin)
        jobs = [Job(path, name) for path, name in request["jobs"]]
        options = request["options"]
        if isinstance(options["weights"], dict):
            options["weights"] = WeightsFile(**options["weights"])
        engines = new_engines(SegmentConfig(**options), request["device"])
        folder, batch = OutputFolder(Path(request["output"])), BatchConfig(cut=CutConfig(**request["cut"]))
        for _, outcome in run_stream(jobs, folder, batch, engines):
            finished = time.monotonic()
            host, device = peak_memory_of_process(engines[0].device)
            assert outcome is not None, "nobody else works in a temporary folder"
            line = {"finished": finished, "reason": outcome.reason, "host_bytes": host, "device_bytes": device}
            print(json.dumps(line), file=lines, flush=True)


def steps_of_stream(images: int, device: str) -> int:
    """How often a stream over `images` images yields. The steady state is whole passes, in which each counts alike."""
    images = min(images, MOST_IMAGES)
    return UNCOUNTED[_kind(device)] + images * -(-COUNTED[_kind(device)] // images)


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C until the yielded function is called, so that no process that is being started is left behind."""
    if threading.current_thread() is not threading.main_thread():  # it never interrupts another
        yield lambda: None
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))

    def release() -> None:
        signal.signal(signal.SIGINT, handler)
        if held:
            held.clear()
            signal.raise_signal(signal.SIGINT)

    try:
        yield release
    finally:
        signal.signal(signal.SIGINT, handler)


def _kind(device: str) -> str:
    return device.partition(":")[0]

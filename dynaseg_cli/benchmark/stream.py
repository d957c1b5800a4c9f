"""The stream of images as a worker of `segment` runs it, timed from outside: a fresh process, its start included."""

from __future__ import annotations

import dataclasses
import json
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

from ..batch.job import Job
from ..batch.local_crew import why_ended
from ..config import SegmentConfig

MOST_IMAGES = 32
"""Only so many of the images are streamed, the first by name."""
UNCOUNTED = {"cpu": 1, "mps": 12, "cuda": 12}
"""Images before the clock of the steady state starts: the first, which is the cold start, and those that were decoded
meanwhile. With a GPU a worker has up to 11 images at a time, and what follows would look faster than it can go on."""
COUNTED = {"cpu": 8, "mps": 48, "cuda": 48}
"""The steady state is measured over at least so many images."""
AHEAD = 16
"""Images that follow those: the worker is broken off while it has work, as busy at the end of the measurement as at its
beginning, and as in the middle of a large folder. A stream that ran dry would be the faster for it."""


class Stream:
    """A worker of `segment` in a process of its own, over passes over the images until there are enough.

    Results go where `run` is told and are removed; each pass writes files of its own. The clock is the system's
    monotonic one, which both processes read.

    Parameters
    ----------
    config : the options of the method.
    jobs : the images, at least one.
    device : cpu, cuda:N or mps.
    """

    def __init__(self, config: SegmentConfig, jobs: Sequence[Job], device: str) -> None:
        self._config = config
        self._device = device
        images = jobs[:MOST_IMAGES]
        self._uncounted = UNCOUNTED[_kind(device)]
        self._steps = steps_of_stream(len(jobs), device)
        self._jobs = [
            Job(images[number % len(images)].path, f"{number // len(images)}/{images[number % len(images)].name}")
            for number in range(self._steps + AHEAD)
        ]
        self._started = 0.0
        self._finished: list[float] = []
        """When each image's files were there, in the order of the jobs."""
        self._peak: dict[str, int | None] = {"host": None, "device": None}

    @property
    def first_image_seconds(self) -> float | None:
        """From before the start of the process to the files of the first image: the cold start."""
        return self._finished[0] - self._started if self._finished else None

    @property
    def images(self) -> int:
        """How many images `images_per_second` is measured over: each of them equally often once all is done."""
        return max(0, len(self._finished) - self._uncounted)

    @property
    def images_per_second(self) -> float | None:
        """From disk to disk, once the stream flows."""
        return self.images / (self._finished[-1] - self._finished[self._uncounted - 1]) if self.images else None

    def document(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {
            "images": self.images,
            "images_per_second": self.images_per_second,
            "first_image_seconds": self.first_image_seconds,
            "peak_bytes": self._peak,
        }

    def run(self, output: Path) -> Generator[tuple[Job, str | None], None, None]:
        """Each image as it is finished, or why it was not, which is the last then.

        Results go to a temporary folder in `output`. Closing the iterator ends the process.
        """
        try:
            yield from self._run(output)
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
            yield self._jobs[len(self._finished)], reason

    def _run(self, output: Path) -> Generator[tuple[Job, str | None], None, None]:
        output.mkdir(parents=True, exist_ok=True)
        with (
            TemporaryDirectory(prefix=".dynaseg-stream-", dir=output, ignore_cleanup_errors=True) as folder,
            TemporaryFile("w+") as request,
            TemporaryFile("w+", errors="replace") as errors,
        ):
            options = dataclasses.asdict(self._config)  # also of the file of weights in it
            jobs = [(job.path, job.name) for job in self._jobs]
            json.dump({"options": options, "device": self._device, "output": folder, "jobs": jobs}, request)
            request.seek(0)
            # The same code as here, wherever it was imported from.
            code = f"import sys; sys.path[:] = {sys.path!r}; from {__package__}.stream_process import main; main()"
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


def steps_of_stream(images: int, device: str) -> int:
    """How often a stream of `images` different ones yields. Those that count are whole passes: each counts alike."""
    images = min(images, MOST_IMAGES)
    return UNCOUNTED[_kind(device)] + images * -(-COUNTED[_kind(device)] // images)


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits until what is yielded is called: a process that is being started is not left behind."""
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

"""The stream: jobs -> decoded images -> engine -> files -> outcomes, one bad image never stopping the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig
from ..engine.device import describe_device
from ..engine.engine import Engine
from ..engine.segmentation import Segmentation
from ..errors import ImageError, InterruptedWorkError
from ..method.silhouette import Silhouette
from .claims import Claims
from .decoding import decode, read_source
from .job import EXTENSIONS, Job
from .messages import Began, Iterated
from .outcome import Outcome
from .pipeline import work_ahead
from .resume import is_complete
from .statistics import stats_document
from .writing import refuse_unwritable, write_colors, write_json, write_labels

Observer = Callable[[Began | Iterated], None]
"""Told, from any thread, where each image is."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class _Decoded:
    image: NDArray[np.uint8]
    sha256: str
    silhouette: Silhouette | None


@dataclass(frozen=True)
class _Segmented:
    decoded: _Decoded
    segmentation: Segmentation


@dataclass(frozen=True)
class _Taken:
    """Another process works on the image."""


def readers(engine: Engine) -> int:
    """Threads that read, decode and find silhouettes: a GPU is faster than one of them."""
    return 1 if engine.device.type == "cpu" else min(8, os.cpu_count() or 1)


def run_stream(
    jobs: Iterable[Job],
    output: Path,
    batch: BatchConfig,
    engine: Engine,
    observe: Observer | None = None,
    stop: threading.Event | None = None,
) -> Generator[tuple[Job, Outcome | None], None, None]:
    """Do jobs in their order, which may come as slowly as they like; None for one that another process works on.

    Setting `stop`, or closing the iterator, drops the images at hand and leaves the finished ones; `jobs` must end by
    itself then.
    """
    stop = stop or threading.Event()
    tell = observe or (lambda message: None)
    device = describe_device(engine.device)

    def read(job: Job, _: None) -> _Decoded | Outcome | _Taken:
        tell(Began(job.name, "read"))
        for product in EXTENSIONS:
            refuse_unwritable(job.result(output, product), output)
        content, sha256 = read_source(job.source, batch.max_pixels)
        if not claims.take(job.name):
            return _Taken()
        # Only now: what another process had finished before it gave up the claim is seen.
        if not batch.overwrite and is_complete(job, output, sha256, engine.config, batch.save):
            return Outcome(job.path, "skipped")
        image = decode(content, batch.max_pixels)
        decoded = _Decoded(image, sha256, engine.find_silhouette(image))
        tell(Began(job.name, "decoded"))
        return decoded

    def segment(job: Job, decoded: _Decoded) -> _Segmented:
        def watch(iteration: int, labels: int) -> None:
            if stop.is_set():
                raise InterruptedWorkError
            tell(Iterated(job.name, iteration, labels))

        tell(Began(job.name, "segmented"))
        return _Segmented(decoded, engine.segment(decoded.image, decoded.silhouette, watch))

    def write(job: Job, segmented: _Segmented) -> Outcome:
        tell(Began(job.name, "written"))
        return _write_results(output, batch, job, segmented, engine, device, claimed=claims.exclusive)

    count = readers(engine)
    with (
        Claims(output) as claims,
        closing(work_ahead(_stage(read), ((job, None) for job in jobs), count, count + 1, stop)) as decoded,
        closing(work_ahead(_stage(segment), decoded, 1, 2, stop)) as segmented,
    ):
        try:
            for job, result in map(_stage(write), segmented):
                claims.release(job.name)
                assert isinstance(result, (Outcome, _Taken))
                yield job, result if isinstance(result, Outcome) else None
        except InterruptedWorkError:
            if not stop.is_set():
                raise


def _stage(
    work: Callable[[Job, In], Out],
) -> Callable[[tuple[Job, In | Outcome | _Taken]], tuple[Job, Out | Outcome | _Taken]]:
    """A step of the stream, with the one per-image exception boundary.

    A job that has an outcome already passes through. Named errors, failing files and exhausted memory become the
    job's outcome; anything else is a programming error and surfaces.
    """

    def step(item: tuple[Job, In | Outcome | _Taken]) -> tuple[Job, Out | Outcome | _Taken]:
        job, value = item
        if isinstance(value, (Outcome, _Taken)):
            return job, value
        try:
            return job, work(job, value)
        except ImageError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        except MemoryError:
            reason = "out of memory"
        return job, Outcome(job.path, "failed", reason)

    return step


def _write_results(
    output: Path, batch: BatchConfig, job: Job, segmented: _Segmented, engine: Engine, device: str, *, claimed: bool
) -> Outcome:
    decoded, segmentation = segmented.decoded, segmented.segmentation
    # What an earlier run left is made anew, too, asked for or not: all files of an image are of one segmentation.
    products = {product for product in EXTENSIONS if product in batch.save or job.result(output, product).is_file()}
    stats = job.result(output, "stats")
    # No stats while other files are replaced: it is the mark that they belong together.
    stats.unlink(missing_ok=True)
    if "labels" in products:
        write_labels(job.result(output, "labels"), segmentation.labels, claimed=claimed)
    if "color" in products:
        write_colors(job.result(output, "color"), segmentation.labels, claimed=claimed)
    if "stats" in products:
        document = stats_document(job.path, decoded.sha256, decoded.image, segmentation, engine.config, device)
        write_json(stats, document, claimed=claimed)
    return Outcome(
        path=job.path,
        status="done",
        num_labels=segmentation.num_labels,
        iterations=segmentation.fit.iterations,
        stop_reason=segmentation.fit.stop_reason,
        seconds=round(segmentation.seconds, 3),
    )

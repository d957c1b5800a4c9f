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

from ..config import BatchConfig, CutConfig
from ..engine.device import describe_device
from ..engine.engine import Engine
from ..engine.segmentation import Segmentation
from ..errors import ImageError, InterruptedWorkError
from ..method.silhouette import Silhouette
from ..pictures.recording import Frame, Recorder
from .claims import Claims
from .decoding import Photo, decode_photo, read_source
from .job import Job
from .messages import Began, Iterated
from .outcome import Outcome
from .pipeline import work_ahead
from .products import Earlier, Products, read_earlier
from .resume import Stats, cut_of, earlier_stats, is_complete
from .scribble_files import ScribbleFile, decode_scribbles, read_scribbles
from .statistics import stats_document

Observer = Callable[[Began | Iterated], None]
"""Told, from any thread, where each image is."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class _Decoded:
    photo: Photo
    sha256: str
    silhouette: Silhouette | None
    earlier: Earlier | None
    """What need not be segmented again."""
    drawn: ScribbleFile | None
    scribbles: NDArray[np.uint8] | None
    """(H, W), what is drawn there."""
    cut: CutConfig


@dataclass(frozen=True)
class _Segmented:
    decoded: _Decoded
    segmentation: Segmentation | None
    """None where an earlier one serves."""
    frames: list[Frame]
    """Of the recording, where one is made."""


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

    def find_earlier(job: Job, hashes: tuple[str, str | None], content: bytes) -> Stats | None:
        return earlier_stats(
            job, output, *hashes, engine.config, batch.range, content, scribbled=batch.scribbles is not None
        )

    def read(job: Job, _: None) -> _Decoded | Outcome | _Taken:
        tell(Began(job.name, "read"))
        Products(job, output, batch, claimed=False).refuse_unwritable()
        content, sha256 = read_source(job.source, batch.max_pixels)
        drawn = None if batch.scribbles is None else read_scribbles(job, batch.scribbles, batch.max_pixels)
        if not claims.take(job.name):
            return _Taken()
        # Only now: what another process had finished before it gave up the claim is seen.
        hashes = sha256, None if drawn is None else drawn.sha256
        stats = None if batch.overwrite else find_earlier(job, hashes, content)
        if stats is not None and is_complete(job, output, stats, batch):
            return Outcome(job.path, "skipped")
        photo = decode_photo(content, batch.max_pixels, batch.range)
        earlier = None if stats is None else read_earlier(job, output, stats, batch, photo.pixels.shape[:2])
        scribbles = silhouette = None
        if earlier is None and drawn is not None:
            scribbles = decode_scribbles(drawn, photo.pixels.shape[:2], engine.config.clusters, batch.max_pixels)
        if earlier is None and scribbles is None:
            silhouette = engine.find_silhouette(photo.pixels)
        tell(Began(job.name, "decoded"))
        return _Decoded(photo, sha256, silhouette, earlier, drawn, scribbles, cut_of(stats, batch))

    def segment(job: Job, decoded: _Decoded) -> _Segmented:
        def watch(iteration: int, labels: int) -> None:
            if stop.is_set():
                raise InterruptedWorkError
            tell(Iterated(job.name, iteration, labels))

        if decoded.earlier is not None:
            return _Segmented(decoded, None, [])
        tell(Began(job.name, "segmented"))
        recorder = Recorder() if Products(job, output, batch, claimed=claims.exclusive).has_recording else None
        on_labels = None if recorder is None else recorder.add
        segmentation = engine.segment(decoded.photo.pixels, decoded.silhouette, watch, decoded.scribbles, on_labels)
        return _Segmented(decoded, segmentation, [] if recorder is None else recorder.frames)

    def write(job: Job, segmented: _Segmented) -> Outcome:
        tell(Began(job.name, "written"))
        decoded, segmentation = segmented.decoded, segmented.segmentation
        products = Products(job, output, batch, claimed=claims.exclusive)
        if decoded.earlier is not None:
            products.complete(decoded.earlier, decoded.photo.pixels)
            return _outcome(job.path, decoded.earlier.stats, 0.0, decoded.photo.warnings, segmented=False)
        assert segmentation is not None
        stats = stats_document(
            job.path, decoded.sha256, decoded.photo, segmentation, engine.config, device, batch.colors, decoded.drawn
        )
        products.write(segmentation, decoded.photo.pixels, stats, segmented.frames, decoded.cut)
        return _outcome(job.path, stats, round(segmentation.seconds, 3), decoded.photo.warnings, segmented=True)

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


def _outcome(path: str, stats: Stats, seconds: float, warnings: tuple[str, ...], *, segmented: bool) -> Outcome:
    """What to report of an image whose files are written."""
    fit = stats["fit"]
    return Outcome(
        path=path,
        status="done",
        num_labels=stats["num_labels"],
        iterations=fit["iterations"],
        stop_reason=fit["stop_reason"],
        seconds=seconds,
        segmented=segmented,
        warnings=warnings,
    )


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

"""The stream: jobs -> decoded images -> engine -> files -> outcomes. A bad image never stops the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, SegmentConfig
from ..engine.device import describe_device
from ..engine.engine import Engine
from ..engine.segmentation import Segmentation
from ..errors import ImageError, InterruptedWorkError, reason
from ..files.output_folder import Job, OutputFolder
from ..images.decoding import Photo
from ..images.masks import Mask, read_mask
from ..images.pages import read_job
from ..images.scribbles import ScribbleFile, decode_scribbles, read_scribbles
from ..method.silhouette import Silhouette
from ..pictures.recording import Frame, Recorder
from ..regions.area import Area, area_of
from ..workers.messages import Began, Iterated
from .outcomes import Outcome
from .products import Earlier, Products
from .resume import is_complete, stats_to_continue
from .statistics import stats_of_fit

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int, stop: threading.Event
) -> Generator[Result, None, None]:
    """Yield `function(item)` for all items in order, computed by `workers` threads.

    At most `ahead` items are taken from `items` before their results are consumed, which bounds memory. `items` may
    block; results that are ready are yielded meanwhile. If the iteration is broken off, `stop` is set, so that a
    `function` and `items` that check it return soon. However the iteration ends, the threads are joined.
    """
    executor = ThreadPoolExecutor(workers)
    futures: SimpleQueue[Future[Result] | None] = SimpleQueue()
    room = threading.Semaphore(ahead)

    def feed() -> None:
        try:
            remaining = iter(items)
            while room.acquire() and not stop.is_set():
                futures.put(executor.submit(function, next(remaining)))
        except StopIteration:
            pass
        except BaseException as error:
            failed: Future[Result] = Future()
            failed.set_exception(error)
            futures.put(failed)
        finally:
            futures.put(None)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        while (future := futures.get()) is not None:
            result = future.result()
            room.release()
            yield result
    except BaseException:
        stop.set()
        raise
    finally:
        room.release()
        executor.shutdown(wait=True, cancel_futures=True)
        feeder.join()


Observer = Callable[[Began | Iterated], None]
"""Called from any thread with the progress of each image."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class _Decoded:
    products: Products
    photo: Photo
    sha256: str
    silhouette: Silhouette | None
    earlier: Earlier | None
    """Results from which everything can be made without segmenting again."""
    drawn: ScribbleFile | None
    scribbles: NDArray[np.uint8] | None
    """(H, W) uint8: the labels drawn in that file."""
    mask: Mask | None
    area: Area | None
    """What the mask leaves of the photo, if that is not all."""


@dataclass(frozen=True)
class _Segmented:
    decoded: _Decoded
    segmentation: Segmentation | None
    """None if an earlier one is used."""
    frames: list[Frame]
    """Frames of the recording, if one is made."""


@dataclass(frozen=True)
class _Taken:
    """Another process is working on the image."""


def readers(engine: Engine) -> int:
    """Number of threads that read, decode and run the silhouette phase: a GPU is faster than one thread."""
    return 1 if engine.device.type == "cpu" else min(8, os.cpu_count() or 1)


def run_stream(
    jobs: Iterable[Job],
    folder: OutputFolder,
    batch: BatchConfig,
    engine: Engine,
    observe: Observer | None = None,
    stop: threading.Event | None = None,
) -> Generator[tuple[Job, Outcome | None], None, None]:
    """Do jobs in their order, however slowly they arrive. The outcome is None if another process has the job.

    Setting `stop`, or closing the iterator, drops unfinished images; `jobs` must then end by itself.
    """
    stop = stop or threading.Event()
    tell = observe or (lambda message: None)
    device = describe_device(engine.device)

    def read(job: Job, _: None) -> _Decoded | Outcome | _Taken:
        tell(Began(job.name, "read"))
        products = Products(job, folder, batch)
        products.refuse_unwritable()
        source = read_job(job, batch.max_pixels)
        drawn = None if batch.scribbles is None else read_scribbles(job, batch.scribbles, batch.max_pixels)
        mask = read_mask(job, batch.mask, batch.max_pixels)
        if not folder.claim(job.name):
            return _Taken()
        # Only after the claim: results that another process finished before it released the claim are seen.
        stats = None
        if not batch.overwrite:
            stats = stats_to_continue(job, folder, source, drawn, mask, engine.config, batch)
        if stats is not None and is_complete(job, folder, stats, batch):
            return Outcome(job.path, "skipped", page=job.page)
        photo = source.photo(batch.max_pixels, batch.range, batch.channels, mask)
        area = area_of(photo.counts)
        earlier = None if stats is None else products.read_earlier(stats, photo.pixels.shape[:2], area)
        scribbles = silhouette = None
        if drawn is not None:
            scribbles = decode_scribbles(drawn, photo.pixels.shape[:2], engine.config.clusters, batch.max_pixels)
        if earlier is None and scribbles is None:
            silhouette = engine.find_silhouette(_seen(photo) if area is None else area.seen(photo.pixels))
        tell(Began(job.name, "decoded"))
        return _Decoded(products, photo, source.sha256, silhouette, earlier, drawn, scribbles, mask, area)

    def segment(job: Job, decoded: _Decoded) -> _Segmented:
        def watch(iteration: int, labels: int) -> None:
            if stop.is_set():
                raise InterruptedWorkError
            tell(Iterated(job.name, iteration, labels))

        if decoded.earlier is not None:
            return _Segmented(decoded, None, [])
        tell(Began(job.name, "segmented"))
        photo = decoded.photo
        recorder = Recorder() if decoded.products.has_recording else None
        on_labels = None if recorder is None else recorder.add
        mask = None if decoded.area is None else decoded.area.counts
        segmentation = engine.segment(_seen(photo), decoded.silhouette, watch, decoded.scribbles, on_labels, mask)
        if photo.surroundings is not None:
            segmentation = segmentation.cropped(*photo.surroundings.inner)
        return _Segmented(decoded, segmentation, [] if recorder is None else recorder.frames)

    def write(job: Job, segmented: _Segmented) -> Outcome:
        tell(Began(job.name, "written"))
        return _write_files(job, segmented, engine.config, device)

    count = readers(engine)
    with (
        folder,
        closing(work_ahead(_stage(read), ((job, None) for job in jobs), count, count + 1, stop)) as decoded,
        closing(work_ahead(_stage(segment), decoded, 1, 2, stop)) as segmented,
    ):
        try:
            for job, result in map(_stage(write), segmented):
                folder.release(job.name)
                assert isinstance(result, (Outcome, _Taken))
                yield job, result if isinstance(result, Outcome) else None
        except InterruptedWorkError:
            if not stop.is_set():
                raise


def _seen(photo: Photo) -> NDArray[np.uint8]:
    """The pixels that are segmented."""
    return photo.pixels if photo.surroundings is None else photo.surroundings.pixels


def _write_files(job: Job, segmented: _Segmented, config: SegmentConfig, device: str) -> Outcome:
    decoded, segmentation = segmented.decoded, segmented.segmentation
    photo, products = decoded.photo, decoded.products
    if decoded.earlier is not None:
        stats = products.complete(decoded.earlier, photo.pixels, decoded.scribbles)
    else:
        assert segmentation is not None
        of_fit = stats_of_fit(
            job.path, decoded.sha256, photo, segmentation, config, device, decoded.drawn, job.page, decoded.mask
        )
        stats = products.write(segmentation, of_fit, segmented.frames)
    fit = stats["fit"]
    return Outcome(
        path=job.path,
        status="done",
        num_labels=stats["num_labels"],
        iterations=fit["iterations"],
        stop_reason=fit["stop_reason"],
        seconds=0.0 if segmentation is None else round(segmentation.seconds, 3),
        segmented=segmentation is not None,
        warnings=photo.warnings,
        page=job.page,
    )


def _stage(
    work: Callable[[Job, In], Out],
) -> Callable[[tuple[Job, In | Outcome | _Taken]], tuple[Job, Out | Outcome | _Taken]]:
    """A step of the stream, with the one per-image exception boundary.

    A job that already has an outcome passes through. Named errors, file errors and exhausted memory become the job's
    outcome; anything else is a programming error and surfaces.
    """

    def step(item: tuple[Job, In | Outcome | _Taken]) -> tuple[Job, Out | Outcome | _Taken]:
        job, value = item
        if isinstance(value, (Outcome, _Taken)):
            return job, value
        try:
            return job, work(job, value)
        except (ImageError, OSError, MemoryError) as error:
            return job, Outcome(job.path, "failed", reason(error), page=job.page)

    return step

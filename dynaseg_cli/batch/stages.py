"""The stream: jobs -> decoded images -> engine -> files -> outcomes. A bad image never stops the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, SegmentConfig
from ..engine.device import describe_device
from ..engine.engine import Engine, OnIteration
from ..engine.segmentation import Segmentation
from ..errors import ImageError, InterruptedWorkError, reason
from ..files.output_folder import Job, OutputFolder
from ..images.decoding import Photo
from ..images.masks import Mask, read_mask
from ..images.pages import Source, read_job
from ..images.scribbles import ScribbleFile, decode_scribbles, read_scribbles
from ..method.silhouette import Silhouette
from ..pictures.recording import Frame, Recorder
from ..regions.area import Area, area_of
from ..workers.messages import Began, Iterated
from .outcomes import Outcome
from .products import Earlier, Products
from .resume import Stats, is_complete, stats_to_continue
from .sequence_networks import SequenceNetworks, Start
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
class _Read:
    decode: Callable[[], _Decoded]
    complete: Stats | None = None
    """Statistics of complete results in a sequence, which hold unless an image before this one is segmented anew."""


@dataclass(frozen=True)
class _Segmented:
    decoded: _Decoded
    segmentation: Segmentation | None
    """None if an earlier one is used."""
    frames: list[Frame]
    """Frames of the recording, if one is made."""
    start: Start


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
    sequences: Sequence[Sequence[Job]] = (),
) -> Generator[tuple[Job, Outcome | None], None, None]:
    """Do jobs in their order, however slowly they arrive. The outcome is None if another process has the job.

    With `sequence`, `sequences` has those of all jobs, and the jobs of one arrive in its order.

    Setting `stop`, or closing the iterator, drops unfinished images; `jobs` must then end by itself.
    """
    stop = stop or threading.Event()
    tell = observe or (lambda message: None)
    networks = SequenceNetworks(sequences, folder, batch, engine) if engine.config.sequence else None
    decode = partial(_decode, engine=engine, batch=batch, tell=tell)

    def read(job: Job, _: None) -> _Read | Outcome | _Taken:
        tell(Began(job.name, "read"))
        if networks is not None and not networks.claim(job):
            return _Taken()
        products = Products(job, folder, batch)
        products.refuse_unwritable()
        source = read_job(job, batch.max_pixels)
        drawn = None if batch.scribbles is None else read_scribbles(job, batch.scribbles, batch.max_pixels)
        mask = read_mask(job, batch.mask, batch.max_pixels)
        if networks is None and not folder.claim(job.name):
            return _Taken()
        # Only after the claim: results that another process finished before it released the claim are seen.
        stats = None
        if not batch.overwrite:
            stats = stats_to_continue(job, folder, source, drawn, mask, engine.config, batch)
        if stats is not None and is_complete(job, folder, stats, batch):
            if networks is None:
                return Outcome(job.path, "skipped", page=job.page)
            return _Read(partial(decode, job, products, source, drawn, mask, None), stats)
        decoded = decode(job, products, source, drawn, mask, stats)
        return _Read(lambda: decoded)

    def segment(job: Job, read: _Read) -> _Segmented | Outcome:
        def watch(iteration: int, labels: int) -> None:
            if stop.is_set():
                raise InterruptedWorkError
            tell(Iterated(job.name, iteration, labels))

        if read.complete is not None and networks is not None and networks.is_current(job, read.complete):
            return Outcome(job.path, "skipped", page=job.page)
        decoded = read.decode()
        if decoded.earlier is not None and (networks is None or networks.is_current(job, decoded.earlier.stats)):
            return _Segmented(decoded, None, [], Start())
        tell(Began(job.name, "segmented"))
        start = Start() if networks is None else networks.start(job, watch)
        segmentation, frames = _segment(decoded, engine, watch, start)
        if networks is not None:
            networks.add(job, start, segmentation, decoded.sha256)
        return _Segmented(decoded, segmentation, frames, start)

    def write(job: Job, segmented: _Segmented) -> Outcome:
        tell(Began(job.name, "written"))
        outcome = _write_files(job, segmented, engine.config, describe_device(engine.device))
        if networks is not None and segmented.segmentation is not None:
            networks.save(job, segmented.start, segmented.segmentation, segmented.decoded.sha256)
        return outcome

    count = readers(engine)
    with (
        folder,
        closing(work_ahead(_stage(read), ((job, None) for job in jobs), count, count + 1, stop)) as decoded,
        closing(work_ahead(_stage(segment), decoded, 1, 2, stop)) as segmented,
    ):
        try:
            for job, result in map(_stage(write), segmented):
                if networks is None:
                    folder.release(job.name)
                else:
                    networks.release(job)
                assert isinstance(result, (Outcome, _Taken))
                yield job, result if isinstance(result, Outcome) else None
        except InterruptedWorkError:
            if not stop.is_set():
                raise


def _decode(
    job: Job,
    products: Products,
    source: Source,
    drawn: ScribbleFile | None,
    mask: Mask | None,
    stats: Stats | None,
    *,
    engine: Engine,
    batch: BatchConfig,
    tell: Observer,
) -> _Decoded:
    photo = source.photo(batch.max_pixels, batch.range, batch.channels, mask)
    area = area_of(photo.counts)
    earlier = None if stats is None else products.read_earlier(stats, photo.pixels.shape[:2], area)
    scribbles = silhouette = None
    if drawn is not None:
        scribbles = decode_scribbles(drawn, photo.pixels.shape[:2], engine.config.clusters, batch.max_pixels)
    # Whether an image is the first of its sequence, which alone is asked, is found out later.
    if earlier is None and scribbles is None and not engine.config.sequence:
        silhouette = engine.find_silhouette(_seen(photo) if area is None else area.seen(photo.pixels))
    tell(Began(job.name, "decoded"))
    return _Decoded(products, photo, source.sha256, silhouette, earlier, drawn, scribbles, mask, area)


def _segment(decoded: _Decoded, engine: Engine, watch: OnIteration, start: Start) -> tuple[Segmentation, list[Frame]]:
    photo, mask = decoded.photo, None if decoded.area is None else decoded.area.counts
    recorder = Recorder() if decoded.products.has_recording else None
    on_labels = None if recorder is None else recorder.add
    segmentation = engine.segment(
        _seen(photo), decoded.silhouette, watch, decoded.scribbles, on_labels, mask, start.network
    )
    if photo.surroundings is not None:
        segmentation = segmentation.cropped(*photo.surroundings.inner)
    return segmentation, [] if recorder is None else recorder.frames


def _seen(photo: Photo) -> NDArray[np.uint8]:
    """The pixels that are segmented."""
    return photo.pixels if photo.surroundings is None else photo.surroundings.pixels


def _write_files(job: Job, segmented: _Segmented, config: SegmentConfig, device: str) -> Outcome:
    decoded, segmentation = segmented.decoded, segmented.segmentation
    photo, products = decoded.photo, decoded.products
    if segmentation is None:
        assert decoded.earlier is not None
        stats = products.complete(decoded.earlier, photo.pixels, decoded.scribbles)
    else:
        drawn, history = decoded.drawn, segmented.start.history
        of_fit = stats_of_fit(
            job.path,
            decoded.sha256,
            photo,
            segmentation,
            config,
            device,
            drawn,
            job.page,
            decoded.mask,
            history,
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

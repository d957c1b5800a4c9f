"""The stream: jobs -> decoded images -> engine -> files -> outcomes. A bad image never stops the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import LifoQueue, SimpleQueue
from typing import TypeVar

import numpy as np
import torch
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
from ..workers.messages import Began, Iterated, Step
from .outcomes import Outcome
from .products import Earlier, Products
from .resume import Stats, is_complete, stats_to_continue
from .sequence_networks import SequenceNetworks, Start
from .statistics import stats_of_fit

READERS = 8
"""Most threads that read ahead of a GPU."""
WRITERS = 2
"""Threads that write beside a GPU: while one waits for the disk, the other merges regions."""

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
    """Number of threads that read, decode and run the silhouette phase: a GPU is faster than one thread.

    It is the worker's share of the cores, but at least two, since they also wait: for files, and for the GPU.
    """
    return 1 if engine.device.type == "cpu" else max(2, min(READERS, torch.get_num_threads()))


def writers(engine: Engine) -> int:
    """Number of threads that write; those of a sequence are written in order, as its network is."""
    return WRITERS if engine.device.type == "cuda" and not engine.config.sequence else 1


def window(engines: Sequence[Engine]) -> int:
    """Images that keep a stream busy: those being written and segmented, those being read, and one between."""
    return writers(engines[0]) + len(engines) + readers(engines[0]) + 1


def run_stream(
    jobs: Iterable[Job],
    folder: OutputFolder,
    batch: BatchConfig,
    engines: Sequence[Engine],
    observe: Observer | None = None,
    stop: threading.Event | None = None,
    sequences: Sequence[Sequence[Job]] = (),
) -> Generator[tuple[Job, Outcome | None], None, None]:
    """Do jobs in their order, however slowly they arrive. The outcome is None if another process has the job.

    Setting `stop`, or closing the iterator, drops unfinished images; `jobs` must then end by itself.

    Parameters
    ----------
    engines : of the same options and device. Each has one image at a time; with `sequence` there is one engine.
    sequences : with `sequence`, those of all jobs. The jobs of one arrive in its order.
    """
    stop = stop or threading.Event()
    stages = _Stages(folder, batch, engines, sequences, observe or (lambda message: None), stop)
    reading, segmenting = readers(engines[0]), len(engines)
    with (
        folder,
        closing(work_ahead(_stage(stages.read), ((job, None) for job in jobs), reading, reading + 1, stop)) as decoded,
        closing(work_ahead(_stage(stages.segment), decoded, segmenting, segmenting + 1, stop)) as segmented,
        closing(_written(_stage(stages.write), segmented, writers(engines[0]), stop)) as finished,
    ):
        try:
            for job, result in finished:
                stages.release(job)
                assert isinstance(result, (Outcome, _Taken))
                yield job, result if isinstance(result, Outcome) else None
        except InterruptedWorkError:
            if not stop.is_set():
                raise


def _written(
    write: Callable[[Item], Result], segmented: Iterable[Item], threads: int, stop: threading.Event
) -> Generator[Result, None, None]:
    """Yield `write(item)` in order; a single thread is the caller's, which has nothing else to do."""
    if threads == 1:
        yield from map(write, segmented)
        return
    with closing(work_ahead(write, segmented, threads, threads, stop)) as results:
        yield from results


class _Stages:
    """What is done with an image, each in threads of its own."""

    def __init__(
        self,
        folder: OutputFolder,
        batch: BatchConfig,
        engines: Sequence[Engine],
        sequences: Sequence[Sequence[Job]],
        tell: Observer,
        stop: threading.Event,
    ) -> None:
        self._folder = folder
        self._batch = batch
        self._engine = engines[0]
        """Says what all of them have in common, and finds silhouettes, which any thread may ask it to."""
        self._tell = tell
        self._stop = stop
        self._networks: SequenceNetworks | None = None
        if self._engine.config.sequence:
            (engine,) = engines
            self._networks = SequenceNetworks(sequences, folder, batch, engine)
        # The engine that was used last is taken first: where one is enough, the others capture no graphs.
        self._idle: LifoQueue[Engine] = LifoQueue()
        for engine in engines:
            self._idle.put(engine)

    @contextmanager
    def _step(self, job: Job, step: Step, then: Step) -> Iterator[None]:
        """A step that waits for files. Its end is told, since the image may then wait for another one's turn."""
        self._tell(Began(job.name, step))
        try:
            yield
        finally:
            self._tell(Began(job.name, then))

    def read(self, job: Job, _: None) -> _Read | Outcome | _Taken:
        with self._step(job, "read", then="decoded"):
            return self._read(job)

    def _read(self, job: Job) -> _Read | Outcome | _Taken:
        folder, batch, networks = self._folder, self._batch, self._networks
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
            stats = stats_to_continue(job, folder, source, drawn, mask, self._engine.config, batch)
        if stats is not None and is_complete(job, folder, stats, batch):
            if networks is None:
                return Outcome(job.path, "skipped", page=job.page)
            return _Read(partial(self._decode_late, job, products, source, drawn, mask), stats)
        decoded = self._decode(job, products, source, drawn, mask, stats)
        return _Read(lambda: decoded)

    def segment(self, job: Job, read: _Read) -> _Segmented | Outcome:
        networks = self._networks

        def go_on() -> None:
            if self._stop.is_set():
                raise InterruptedWorkError

        def watch(iteration: int, labels: int) -> None:
            go_on()
            self._tell(Iterated(job.name, iteration, labels))

        if read.complete is not None and networks is not None and networks.is_current(job, read.complete):
            return Outcome(job.path, "skipped", page=job.page)
        decoded = read.decode()
        if decoded.earlier is not None and (networks is None or networks.is_current(job, decoded.earlier.stats)):
            return _Segmented(decoded, None, [], Start())
        go_on()
        self._tell(Began(job.name, "segmented"))
        start = Start() if networks is None else networks.start(job, watch)
        engine = self._idle.get()
        try:
            segmentation, frames = _segment(decoded, engine, watch, start)
        finally:
            self._idle.put(engine)
        if networks is not None:
            networks.add(job, start, segmentation, decoded.sha256)
        return _Segmented(decoded, segmentation, frames, start)

    def write(self, job: Job, segmented: _Segmented) -> Outcome:
        with self._step(job, "written", then="finished"):
            outcome = _write_files(job, segmented, self._engine.config, describe_device(self._engine.device))
            if self._networks is not None and segmented.segmentation is not None:
                self._networks.save(job, segmented.start, segmented.segmentation, segmented.decoded.sha256)
            return outcome

    def release(self, job: Job) -> None:
        """Release the claim of a finished image."""
        if self._networks is None:
            self._folder.release(job.name)
        else:
            self._networks.release(job)

    def _decode_late(
        self, job: Job, products: Products, source: Source, drawn: ScribbleFile | None, mask: Mask | None
    ) -> _Decoded:
        with self._step(job, "read", then="decoded"):
            return self._decode(job, products, source, drawn, mask, None)

    def _decode(
        self,
        job: Job,
        products: Products,
        source: Source,
        drawn: ScribbleFile | None,
        mask: Mask | None,
        stats: Stats | None,
    ) -> _Decoded:
        engine, batch = self._engine, self._batch
        photo = source.photo(batch.max_pixels, batch.range, batch.channels, mask)
        area = area_of(photo.counts)
        earlier = None if stats is None else products.read_earlier(stats, photo.pixels.shape[:2], area)
        scribbles = silhouette = None
        if drawn is not None:
            scribbles = decode_scribbles(drawn, photo.pixels.shape[:2], engine.config.clusters, batch.max_pixels)
        # Whether an image is the first of its sequence, which alone is asked, is found out later.
        if earlier is None and scribbles is None and not engine.config.sequence:
            silhouette = engine.find_silhouette(_seen(photo) if area is None else area.seen(photo.pixels))
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

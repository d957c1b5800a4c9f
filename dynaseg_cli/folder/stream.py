"""The folder fit: reads the images epoch after epoch, and saves the network beside the results."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .. import __version__
from ..batch.planning import earlier_model
from ..batch.stages import readers, work_ahead
from ..config import MOST_FITTED, BatchConfig, Mode, SegmentConfig, WeightsFile, channels_text, range_text
from ..engine.folder_fitting import FolderFitter
from ..engine.region_fitting import RegionFitter
from ..errors import ImageError, InterruptedWorkError, UsageError
from ..files.output_folder import MODEL_NAME, Job, OutputFolder
from ..files.tiles import Tile
from ..images.masks import read_mask
from ..images.pages import read_job
from ..regions.area import area_of
from ..workers.messages import Began, FitProgress, Step
from .mosaics import CROPS, crop, mosaics

STATE_KEY = "dynaseg_fit"
"""Metadata key of a checkpoint: the fit that it belongs to, and how much of it is done."""
COLLAPSED = 0.8
"""Share of all pixels with one label above which the user is warned."""
KEEPS_MORE: dict[Mode, str] = {"scf": "a smaller `alpha`", "fsf": "a larger `alpha`", "fixed": "a smaller `mu`"}
"""Changes that weaken the continuity loss, which removes labels."""
CHECKPOINT_IMAGES = 64
"""A fit that looks at every image once keeps what it has seen after so many."""
POLL_S = 0.5
"""Interval at which the end of another process's fit is looked for."""

Observer = Callable[[Began | FitProgress], None]
"""Called from any thread with the progress of each image and of the fit."""

Fitter = TypeVar("Fitter", FolderFitter, RegionFitter)
Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def fit_network(
    jobs: Sequence[Job],
    folder: OutputFolder,
    config: SegmentConfig,
    batch: BatchConfig,
    device: str,
    observe: Observer,
    stop: threading.Event,
    skip: Collection[str] = (),
) -> WeightsFile:
    """Fit a network to the images of `jobs` and save it in `folder`.

    A fit that was interrupted continues after its last whole epoch, or after the last `CHECKPOINT_IMAGES`. If another
    process is fitting a network to the same folder, its model is waited for.

    Parameters
    ----------
    skip : names of jobs whose images must not be read.

    Raises
    ------
    UsageError
        If no image can be read.
    InterruptedWorkError
        Once `stop` is set.
    DivergedError
        If the loss is no longer a finite number.
    DeviceMemoryError
        If a mosaic, or an image, does not fit the device's memory.
    OSError
        If the model cannot be written.
    """
    with folder:
        waited = False
        while not folder.claim(MODEL_NAME):
            if not waited:
                waited = True
                _log.warning("another dynaseg fits a network to this folder: waiting for it")
            if stop.wait(POLL_S):
                raise InterruptedWorkError
        # A model that another process has just fitted is not the one to overwrite.
        model = earlier_model(folder, config) if waited or not batch.overwrite else None
        if model is not None:
            return model
        given = jobs, folder, config, batch, observe, stop, skip
        if config.has_frozen_backbone:
            return _RegionFit(RegionFitter(config, device), *given).run()
        return _MosaicFit(FolderFitter(config, device), *given).run()


class _Fit(ABC, Generic[Fitter]):
    """What the fits have in common: reading ahead, progress, checkpoints, and the file that they end with."""

    _fitter: Fitter

    def __init__(
        self,
        fitter: Fitter,
        jobs: Sequence[Job],
        folder: OutputFolder,
        config: SegmentConfig,
        batch: BatchConfig,
        observe: Observer,
        stop: threading.Event,
        skip: Collection[str],
    ) -> None:
        self._jobs = jobs
        self._folder = folder
        self._config = config
        self._max_pixels = batch.max_pixels
        self._range, self._channels, self._mask = batch.range, batch.channels, batch.mask
        self._fitter = fitter
        self._observe = observe
        self._stop = stop
        self._skip = skip
        self._seen = self._before = 0
        self._unreadable = "all of them were left out"

    def run(self) -> WeightsFile:
        areas = self._fit()
        self._warn_of_collapse(areas)
        self._fitter.number_by_area(areas)
        content = self._fitter.model()
        self._folder.write(self._folder.model, content)
        self._folder.checkpoint.unlink(missing_ok=True)
        return WeightsFile(str(self._folder.model.absolute()), hashlib.sha256(content).hexdigest())

    @abstractmethod
    def _fit(self) -> NDArray[np.integer] | NDArray[np.floating]:
        """Fit the network; (q,) the area of each label over the images, in any unit."""

    def _warn_of_collapse(self, areas: NDArray[np.integer] | NDArray[np.floating]) -> None:
        labels, most = int(np.count_nonzero(areas)), areas.max() / max(areas.sum(), 1)
        few = labels <= min(int(self._config.min_labels), self._config.clusters - 1)
        if few or (most > COLLAPSED and len(self._jobs) > 1):
            _log.warning(
                "only %d of %d labels are left over all images, one of them on %.0f%% of all pixels:"
                " another `seed`, fewer `epochs` or %s may keep more",
                labels,
                self._config.clusters,
                100 * most,
                KEEPS_MORE[self._config.mode],
            )

    def _ahead(self, read: Callable[[Item], Result], items: Iterable[Item], kept: int) -> Generator[Result, None, None]:
        """Results of `read` in order; at most `kept` of them wait, besides those being read."""
        count = readers(self._fitter.engine)
        with closing(work_ahead(read, items, count, count + kept, self._stop)) as results:
            for result in results:
                if self._stop.is_set():
                    break
                yield result
        if self._stop.is_set():
            raise InterruptedWorkError

    def _read(self, job: Job) -> NDArray[np.uint8] | None:
        """What is fitted of an image: all of it, or an area's box."""
        found = self._read_with_inside(job)
        return None if found is None else found[0]

    def _read_with_inside(self, job: Job) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None:
        """The result of `_read`, and which of its pixels count, None for all.

        None if the image cannot be read, which is reported when it is to be labelled.
        """
        if job.name in self._skip:
            return None
        self._observe(Began(job.name, "read"))
        then: Step = "decoded"
        try:
            mask = read_mask(job, self._mask, self._max_pixels)
            source = read_job(job, self._max_pixels)
            photo = source.photo(self._max_pixels, self._range, self._channels, mask)
            area = area_of(photo.counts)
            return (photo.pixels, None) if area is None else (area.filled(photo.pixels), area.inside)
        except (ImageError, OSError, MemoryError) as error:
            self._unreadable = f"{job.shown}: {error}"
            then = "unreadable"
            return None
        finally:
            self._observe(Began(job.name, then))

    def _refuse_nothing(self) -> NoReturn:
        raise UsageError(f"no image can be read, so that no network can be fitted: {self._unreadable}")

    def _identity(self) -> dict[str, object]:
        """The properties that a checkpoint must share with the fit that continues from it.

        Images are compared by name, size and time: reading all of them takes as long as an epoch.
        """
        images = hashlib.sha256()
        masks = None if self._mask in (None, "alpha", "nodata") else Path(self._mask)
        for job in self._jobs:
            images.update(os.fsencode(job.name))
            if isinstance(job.page, Tile):
                images.update(f"\0{job.page}".encode())
            files = [job.source] if masks is None else [job.source, job.drawing(masks)]
            for file in files:
                with suppress(OSError):
                    found = file.stat()
                    images.update(f"\0{found.st_size}\0{found.st_mtime_ns}".encode())
            images.update(b"\0\0")
        return {
            "options": self._config.as_options(),
            "images": images.hexdigest(),
            "device": self._fitter.engine.device.type,
            # Absent if default, so that checkpoints of versions without ranges can be continued.
            **({} if self._range == BatchConfig.range else {"range": range_text(self._range)}),
            **({} if self._channels is None else {"channels": channels_text(self._channels)}),
            **({} if self._mask is None else {"mask": str(self._mask)}),
            "dynaseg": __version__,
        }

    def _save_checkpoint(self, identity: dict[str, object]) -> None:
        content = safetensors.torch.save(self._fitter.state(), {STATE_KEY: json.dumps(identity)})
        self._folder.write(self._folder.checkpoint, content)

    def _load_checkpoint(self, identity: dict[str, object]) -> int:
        """Continue an earlier fit of the same images with the same options; return how much of it is done."""
        try:
            with safe_open(self._folder.checkpoint, framework="pt") as content:
                found = json.loads((content.metadata() or {})[STATE_KEY])
                state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a dict
            done = int(found.pop("done"))
            if found != identity:
                raise ValueError("it belongs to other images or options")
            self._fitter.load_state(state)
        except FileNotFoundError:
            return 0
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            _log.warning("%s is not continued: %s", self._folder.checkpoint, error)
            return 0
        return done


class _MosaicFit(_Fit[FolderFitter]):
    """Sees every image in each epoch, in mosaics."""

    def _fit(self) -> NDArray[np.int64]:
        identity, epochs = self._identity(), self._config.epochs
        assert epochs is not None
        begun = self._load_checkpoint(identity)
        self._seen = self._before = begun * len(self._jobs)
        for epoch in range(begun, epochs):
            for mosaic in self._mosaics(epoch):
                fit = self._fitter.improve(mosaic)
                self._tell(f"epoch {epoch + 1} of {epochs}", epoch, CROPS, fit.labels_per_iteration[-1])
            self._save_checkpoint({**identity, "done": epoch + 1})
        for mosaic in self._mosaics(epochs):
            self._fitter.measure(mosaic)
            self._tell("statistics", epochs, CROPS)
        self._fitter.apply_measured()
        return self._areas(epochs + 1)

    def _mosaics(self, epoch: int) -> Iterator[NDArray[np.uint8]]:
        """Mosaics of all images; order and crops depend on the seed, the epoch and the images' names alone."""
        # Stream 0 of random numbers is for the order, the following ones are for the images.
        order = np.random.default_rng((self._config.seed, epoch, 0)).permutation(len(self._jobs))

        def cut(index: int) -> NDArray[np.uint8] | None:
            image = self._read(self._jobs[index])
            if image is None:
                return None
            return crop(image, self._config.max_size, np.random.default_rng((self._config.seed, epoch, index + 1)))

        empty = True
        with closing(self._ahead(cut, order.tolist(), CROPS)) as crops:
            for mosaic in mosaics(found for found in crops if found is not None):
                empty = False
                yield mosaic
        if empty:
            self._refuse_nothing()

    def _areas(self, passes: int) -> NDArray[np.int64]:
        """(q,) int64: pixels of each label over all images."""
        clusters = self._config.clusters
        areas = np.zeros(clusters, dtype=np.int64)
        with closing(self._ahead(self._read_with_inside, self._jobs, 1)) as images:
            for found in images:
                if found is not None:
                    image, inside = found
                    labels = self._fitter.engine.apply(image).labels
                    counted = labels.reshape(-1) if inside is None else labels[inside]
                    areas += np.bincount(counted, minlength=clusters)
                self._tell("areas", passes, 1)
        return areas

    def _tell(self, step: str, passes: int, images: int, labels: int | None = None) -> None:
        """Report that `images` more were read, after `passes` over all of them."""
        before = passes * len(self._jobs)
        self._seen = min(max(self._seen, before) + images, before + len(self._jobs))
        self._observe(FitProgress(step, self._seen, self._before, labels))


class _RegionFit(_Fit[RegionFitter]):
    """Looks at every image once, or at `MOST_FITTED` of them, and keeps only what it sees in their regions."""

    def _fit(self) -> NDArray[np.float64]:
        identity = self._identity()
        order = np.random.default_rng(self._config.seed).permutation(len(self._jobs))[:MOST_FITTED]
        self._seen = self._before = self._load_checkpoint(identity)
        jobs = [self._jobs[index] for index in order[self._seen :].tolist()]
        with closing(self._ahead(self._read, jobs, 1)) as images:
            for image in images:
                if image is not None:
                    self._fitter.describe(image)
                self._seen += 1
                self._observe(FitProgress("regions", self._seen, self._before, None))
                if self._seen % CHECKPOINT_IMAGES == 0:
                    self._save_checkpoint({**identity, "done": self._seen})
        if not self._fitter.regions:
            self._refuse_nothing()
        areas: NDArray[np.float64] = self._fitter.fit()
        return areas

"""The stream of a folder fit: its images go by, epoch after epoch, and the network is kept beside the results."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .. import __version__
from ..config import BatchConfig, Mode, SegmentConfig, WeightsFile, range_text
from ..engine.folder_fitting import FolderFitter
from ..errors import ImageError, InterruptedWorkError, UsageError
from ..writing import write_atomically
from .claims import Claims
from .decoding import decode, read_source
from .job import Job
from .messages import Began, FitProgress
from .mosaics import CROPS, crop, mosaics
from .output_folder import CHECKPOINT_NAME, MODEL_NAME
from .pipeline import work_ahead
from .planning import earlier_model
from .stages import readers

STATE_KEY = "dynaseg_fit"
"""Of the checkpoint's metadata: what it belongs to, and how many epochs are done."""
COLLAPSED = 0.8
"""Share of all pixels of one label above which a person should know."""
KEEPS_MORE: dict[Mode, str] = {"scf": "a smaller --alpha", "fsf": "a larger --alpha", "fixed": "a smaller --mu"}
"""What weakens the continuity loss, under which labels vanish."""
LOOK_EVERY_S = 0.5
"""Seconds after which a fit of another process is looked for again."""

Observer = Callable[[Began | FitProgress], None]
"""Told, from any thread, where each image is, and the fit."""

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def fit_network(
    jobs: Sequence[Job],
    output: Path,
    config: SegmentConfig,
    batch: BatchConfig,
    device: str,
    observe: Observer,
    stop: threading.Event,
    skip: Collection[str] = (),
) -> WeightsFile:
    """Fit a network to the images of `jobs` and keep it in `output`.

    A fit that was interrupted goes on after its last whole epoch. Where another process fits a network to the same
    output folder, its model is waited for.

    Parameters
    ----------
    skip : names of jobs whose images are not to be read.

    Raises
    ------
    UsageError
        If no image can be read.
    InterruptedWorkError
        Once `stop` is set.
    DivergedError
        If the loss is no longer a finite number.
    DeviceMemoryError
        If a mosaic does not fit the device's memory.
    OSError
        If the model cannot be written.
    """
    with Claims(output) as claims:
        waited = False
        while not claims.take(MODEL_NAME):
            if not waited:
                waited = True
                _log.warning("another dynaseg fits a network to this folder: waiting for it")
            if stop.wait(LOOK_EVERY_S):
                raise InterruptedWorkError
        # What another process has fitted meanwhile serves; a model that is to be replaced was there before.
        model = earlier_model(output, config) if waited or not batch.overwrite else None
        if model is None:
            fit = _Fit(jobs, output, config, batch, FolderFitter(config, device), observe, stop, skip)
            model = fit.run(claimed=claims.exclusive)
        return model


class _Fit:
    """A fit that this process does."""

    def __init__(
        self,
        jobs: Sequence[Job],
        output: Path,
        config: SegmentConfig,
        batch: BatchConfig,
        fitter: FolderFitter,
        observe: Observer,
        stop: threading.Event,
        skip: Collection[str],
    ) -> None:
        assert config.epochs is not None
        self._jobs = jobs
        self._output = output
        self._config = config
        self._epochs = config.epochs
        self._max_pixels = batch.max_pixels
        self._range = batch.range
        self._fitter = fitter
        self._observe = observe
        self._stop = stop
        self._skip = skip
        self._seen = self._before = 0
        self._unreadable = "all of them were left out"

    def run(self, *, claimed: bool) -> WeightsFile:
        """Fit, and write the model; `claimed` says whether no other process does."""
        identity = self._identity()
        begun = self._load_checkpoint(identity)
        self._seen = self._before = begun * len(self._jobs)
        for epoch in range(begun, self._epochs):
            for mosaic in self._mosaics(epoch):
                fit = self._fitter.improve(mosaic)
                self._tell(f"epoch {epoch + 1} of {self._epochs}", epoch, CROPS, fit.labels)
            self._save_checkpoint({**identity, "epochs_done": epoch + 1}, claimed=claimed)
        for mosaic in self._mosaics(self._epochs):
            self._fitter.measure(mosaic)
            self._tell("statistics", self._epochs, CROPS)
        self._fitter.apply_measured()
        areas = self._areas()
        self._warn_of_collapse(areas)
        self._fitter.number_by_area(areas)
        content = self._fitter.model()
        path = (self._output / MODEL_NAME).absolute()
        write_atomically(path, lambda stream: stream.write(content), claimed=claimed)
        self._checkpoint.unlink(missing_ok=True)
        return WeightsFile(str(path), hashlib.sha256(content).hexdigest())

    def _mosaics(self, epoch: int) -> Iterator[NDArray[np.uint8]]:
        """Of all images, in an order and with crops that depend on the seed, the epoch and the images' names alone."""
        # A stream of random numbers each: 0 is the order's, those above are the images'.
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
            raise UsageError(f"no image can be read, so that no network can be fitted: {self._unreadable}")

    def _areas(self) -> NDArray[np.int64]:
        """(q,), pixels of each label over all images."""
        clusters = self._config.clusters
        areas = np.zeros(clusters, dtype=np.int64)
        with closing(self._ahead(self._read, self._jobs, 1)) as images:
            for image in images:
                if image is not None:
                    labels = self._fitter.engine.apply(image).labels
                    areas += np.bincount(labels.reshape(-1), minlength=clusters)
                self._tell("areas", self._epochs + 1, 1)
        return areas

    def _warn_of_collapse(self, areas: NDArray[np.int64]) -> None:
        labels, most = int(np.count_nonzero(areas)), areas.max() / max(areas.sum(), 1)
        few = labels <= min(int(self._config.min_labels), self._config.clusters - 1)
        if few or (most > COLLAPSED and len(self._jobs) > 1):
            _log.warning(
                "only %d of %d labels are left over all images, one of them on %.0f%% of all pixels:"
                " another --seed, fewer --epochs or %s may keep more",
                labels,
                self._config.clusters,
                100 * most,
                KEEPS_MORE[self._config.mode],
            )

    def _ahead(self, read: Callable[[Item], Result], items: Iterable[Item], kept: int) -> Generator[Result, None, None]:
        """What `read` gives for each item in its order, at most `kept` of them waiting, beside those being read."""
        count = readers(self._fitter.engine)
        with closing(work_ahead(read, items, count, count + kept, self._stop)) as results:
            for result in results:
                if self._stop.is_set():
                    break
                yield result
        if self._stop.is_set():
            raise InterruptedWorkError

    def _read(self, job: Job) -> NDArray[np.uint8] | None:
        """An image; None if it cannot be read, of which a person hears when it is to be labelled."""
        if job.name in self._skip:
            return None
        self._observe(Began(job.name, "read"))
        try:
            return decode(read_source(job.source, self._max_pixels)[0], self._max_pixels, self._range)
        except (ImageError, OSError, MemoryError) as error:
            self._unreadable = f"{job.path}: {error}"
            return None
        finally:
            self._observe(Began(job.name, "decoded"))

    def _tell(self, step: str, passes: int, images: int, labels: int | None = None) -> None:
        """That so many more images went by, after so many passes over all of them."""
        before = passes * len(self._jobs)
        self._seen = min(max(self._seen, before) + images, before + len(self._jobs))
        self._observe(FitProgress(step, self._seen, self._before, labels))

    @property
    def _checkpoint(self) -> Path:
        return self._output / CHECKPOINT_NAME

    def _identity(self) -> dict[str, object]:
        """What a checkpoint must have in common with a fit that goes on from it.

        Of the images their names, sizes and times: to read all of them takes as long as an epoch.
        """
        images = hashlib.sha256()
        for job in self._jobs:
            images.update(os.fsencode(job.name))
            with suppress(OSError):
                found = job.source.stat()
                images.update(f"\0{found.st_size}\0{found.st_mtime_ns}".encode())
            images.update(b"\0\0")
        return {
            "options": self._config.as_options(),
            "images": images.hexdigest(),
            "device": self._fitter.engine.device.type,
            # Left out if default, so that checkpoints of versions without ranges can be continued.
            **({} if self._range == BatchConfig.range else {"range": range_text(self._range)}),
            "dynaseg": __version__,
        }

    def _save_checkpoint(self, identity: dict[str, object], *, claimed: bool) -> None:
        content = safetensors.torch.save(self._fitter.state(), {STATE_KEY: json.dumps(identity)})
        write_atomically(self._checkpoint, lambda stream: stream.write(content), claimed=claimed)

    def _load_checkpoint(self, identity: dict[str, object]) -> int:
        """Take up an earlier fit of the same images with the same options; gives the number of epochs it did."""
        try:
            with safe_open(self._checkpoint, framework="pt") as content:
                found = json.loads((content.metadata() or {})[STATE_KEY])
                state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a dict
            epochs = int(found.pop("epochs_done"))
            if found != identity:
                raise ValueError("it is of other images or options")
            self._fitter.load_state(state)
        except FileNotFoundError:
            return 0
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            _log.warning("%s is not gone on with: %s", self._checkpoint, error)
            return 0
        return epochs

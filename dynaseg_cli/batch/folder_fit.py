"""One network for the folder: its images stream by, epoch after epoch, and the network is kept beside the results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..config import WeightsFile, WorkersConfig
from ..engine.device import resolve_devices
from ..engine.folder_fitting import FolderFitter
from ..errors import ImageError, InterruptedWorkError, UsageError
from .claims import Claims
from .decoding import decode, read_source
from .job import Job
from .mosaics import CROPS, crop, mosaics
from .pipeline import work_ahead
from .planning import MODEL_NAME, Plan, earlier_model
from .stages import readers
from .writing import write_atomically

CHECKPOINT_NAME = "model-unfinished.safetensors"
"""Where a fit stands after its last whole epoch."""
STATE_KEY = "dynaseg_fit"
"""Of the checkpoint's metadata: what it belongs to, and how many epochs are done."""
LOOK_EVERY_S = 0.5
"""Seconds after which a fit of another process is looked for again."""

_log = logging.getLogger(__name__)


class FitProgress(NamedTuple):
    """How far a folder fit is."""

    step: str
    """In words: an epoch, or what comes after the last."""
    seen: int
    """Images that went by so far, in all epochs and after them."""
    before: int
    """Of these, in a run before this one."""
    labels: int | None
    """q' of the last mosaic."""


Item = TypeVar("Item")
Result = TypeVar("Result")

OnProgress = Callable[[FitProgress], None]


def visits(plan: Plan) -> int:
    """Images that go by in a fit: all of them in each epoch, and twice after the last."""
    return len(plan.found) * ((plan.segment.epochs or 0) + 2)


def fit_folder(
    plan: Plan,
    workers: WorkersConfig | None = None,
    on_progress: OnProgress | None = None,
    stop: threading.Event | None = None,
) -> Plan:
    """The plan with its model: fitted to all images of the folder, in every shard, in this very process.

    The model is written to the output folder. A fit that was interrupted goes on after its last whole epoch. Where
    another process fits a network to the same output folder, its model is waited for.

    Raises
    ------
    UsageError
        If the device does not exist, or no image can be read.
    InterruptedWorkError
        Once `stop` is set.
    DivergedError
        If the loss is no longer a finite number.
    OSError
        If the model cannot be written.
    """
    stop = stop or threading.Event()
    plan.output.mkdir(parents=True, exist_ok=True)
    with Claims(plan.output) as claims:
        told = False
        while not claims.take(MODEL_NAME):
            if not told:
                told = True
                _log.warning("another dynaseg fits a network to this folder: waiting for it")
            if stop.wait(LOOK_EVERY_S):
                raise InterruptedWorkError
        # What another process has fitted meanwhile serves; one that is to be replaced was there before.
        model = earlier_model(plan.output, plan.segment) if told or not plan.batch.overwrite else None
        if model is None:
            model = _Fit(plan, workers or WorkersConfig(), on_progress or (lambda progress: None), stop).run()
    return dataclasses.replace(plan, segment=dataclasses.replace(plan.segment, model=model))


class _Fit:
    """A fit that this process does."""

    def __init__(self, plan: Plan, workers: WorkersConfig, on_progress: OnProgress, stop: threading.Event) -> None:
        self._plan = plan
        self._config = plan.segment
        self._max_size = plan.segment.max_size
        self._on_progress = on_progress
        self._stop = stop
        self._seen = self._before = 0
        if workers.threads:
            torch.set_num_threads(workers.threads)
        device = resolve_devices(workers.device)[0]
        self._fitter = FolderFitter(plan.segment, device)
        self._identity = _identity(plan, self._fitter.engine.device.type)
        self._unreadable: str | None = None

    def run(self) -> WeightsFile:
        epochs = self._config.epochs or 0
        begun = self._load_checkpoint()
        self._seen = self._before = begun * len(self._plan.found)
        for epoch in range(begun, epochs):
            for mosaic in self._mosaics(epoch):
                fit = self._fitter.improve(mosaic)
                self._tell(f"epoch {epoch + 1} of {epochs}", CROPS, fit.labels)
            self._seen = (epoch + 1) * len(self._plan.found)
            self._save_checkpoint(epoch + 1)
        for mosaic in self._mosaics(epochs):
            self._fitter.measure(mosaic)
            self._tell("statistics", CROPS)
        self._fitter.apply_measured()
        self._fitter.number_by_area(self._areas())
        content = self._fitter.model()
        path = self._plan.output / MODEL_NAME
        write_atomically(path, lambda stream: stream.write(content))
        self._checkpoint.unlink(missing_ok=True)
        return WeightsFile(str(path), hashlib.sha256(content).hexdigest())

    def _mosaics(self, epoch: int) -> Iterator[NDArray[np.uint8]]:
        """Of all images, in an order and with crops that depend on the seed, the epoch and the images' names alone."""
        jobs = self._plan.found
        order = np.random.default_rng((self._config.seed, epoch)).permutation(len(jobs))

        def cut(index: int) -> NDArray[np.uint8] | None:
            image = self._read(jobs[index])
            if image is None:
                return None
            return crop(image, self._max_size, np.random.default_rng((self._config.seed, epoch, index)))

        empty = True
        with closing(self._ahead(cut, order.tolist())) as crops:
            for mosaic in mosaics(found for found in crops if found is not None):
                empty = False
                yield mosaic
        if empty:
            raise UsageError(f"no image can be read, so that no network can be fitted: {self._unreadable}")

    def _areas(self) -> NDArray[np.int64]:
        """(q,), pixels of each label over all images."""
        clusters = self._config.clusters
        areas = np.zeros(clusters, dtype=np.int64)
        for image in self._ahead(self._read, self._plan.found):
            if image is not None:
                labels = self._fitter.engine.apply(image).labels
                areas += np.bincount(labels.reshape(-1), minlength=clusters)
            self._tell("areas", 1)
        return areas

    def _ahead(self, read: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
        """What `read` gives for each item, read ahead; ends with an InterruptedWorkError where the run is to stop."""
        count = readers(self._fitter.engine)
        with closing(work_ahead(read, items, count, count + CROPS, self._stop)) as results:
            for result in results:
                if self._stop.is_set():
                    raise InterruptedWorkError
                yield result
        if self._stop.is_set():
            raise InterruptedWorkError

    def _read(self, job: Job) -> NDArray[np.uint8] | None:
        """An image; None if it cannot be read, which the run says in its turn."""
        most = self._plan.batch.max_pixels
        try:
            return decode(read_source(job.source, most)[0], most)
        except (ImageError, OSError, MemoryError) as error:
            self._unreadable = f"{job.path}: {error}"
            return None

    def _tell(self, step: str, images: int, labels: int | None = None) -> None:
        self._seen = min(self._seen + images, visits(self._plan))
        self._on_progress(FitProgress(step, self._seen, self._before, labels))

    @property
    def _checkpoint(self) -> Path:
        return self._plan.output / CHECKPOINT_NAME

    def _save_checkpoint(self, epochs: int) -> None:
        metadata = {STATE_KEY: json.dumps({**self._identity, "epochs_done": epochs})}
        content = safetensors.torch.save(self._fitter.state(), metadata)
        write_atomically(self._checkpoint, lambda stream: stream.write(content))

    def _load_checkpoint(self) -> int:
        """Take up an earlier fit of the same images with the same options; gives the number of epochs it did."""
        try:
            with safe_open(self._checkpoint, framework="pt") as content:
                found = json.loads((content.metadata() or {})[STATE_KEY])
                state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a dict
            epochs = int(found.pop("epochs_done"))
            if found != self._identity:
                raise ValueError("it is of other images or options")
            self._fitter.load_state(state)
        except FileNotFoundError:
            return 0
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s is not gone on with: %s", self._checkpoint, error)
            return 0
        return epochs


def _identity(plan: Plan, device: str) -> dict[str, object]:
    """What a checkpoint must have in common with a fit that goes on from it."""
    names = hashlib.sha256("\0".join(job.name for job in plan.found).encode(errors="surrogateescape"))
    return {"options": plan.segment.as_options(), "images": names.hexdigest(), "device": device}

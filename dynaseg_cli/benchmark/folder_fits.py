"""Methods of one label space: fitted to the photos of a folder before they label any."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..baselines.folder.deep_clustering import DeepClustering
from ..baselines.folder.iic import FolderIic
from ..baselines.folder.kmeans_features import FeatureKMeans
from ..baselines.folder.method import FolderMethod, look
from ..baselines.folder.picie import Picie
from ..baselines.folder.settings import DeepClusteringConfig, FeatureKMeansConfig, FolderIicConfig, PicieConfig
from ..batch.stages import work_ahead
from ..config import BatchConfig, CutConfig, SegmentConfig, WeightsFile
from ..engine.engine import Engine
from ..errors import ImageError, UsageError
from ..files.output_folder import Job, OutputFolder
from ..folder.stream import fit_network
from ..regions.hierarchy import build_hierarchy
from ..regions.tidying import Labels, tidy
from ..workers.messages import Began, FitProgress
from .methods import Labelled, read_pixels, segment_by_engine
from .variants import Variant

READERS, AHEAD = 1, 2
"""Threads that read photos, and photos that wait, with the one being read."""


class FolderFit(ABC):
    """A method that is fitted to photos, and then called with any photo for its labels."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.unreadable: set[str] = set()
        """Names of the photos that the fit saw, and of those that it left out because they cannot be read."""

    @abstractmethod
    def looks(self, photos: int) -> int:
        """How many looks at a photo a fit to so many takes."""

    @abstractmethod
    def fit(self, jobs: Sequence[Job], batch: BatchConfig) -> Generator[tuple[Job, int], None, None]:
        """Fit to the photos; yields now and then the photo of the last look, and how many looks there were since.

        In all these are `looks`, also where photos cannot be read, which are left out. Closing the iterator ends the
        fit.

        Raises
        ------
        UsageError
            If no photo can be read.
        DivergedError, DeviceMemoryError
            If a loss is not finite, or the device has too little memory.
        """

    @abstractmethod
    def __call__(self, photo: NDArray[np.uint8]) -> Labelled:
        """The labels of an RGB (H, W, 3) uint8 photo."""


def make_folder_fit(variant: Variant, device: torch.device) -> FolderFit:
    """Prepare a method of one label space on a device."""
    config, cut = variant.config, variant.cut
    assert cut is not None
    match config:
        case SegmentConfig():
            return _OwnFit(config, cut, device)
        case FeatureKMeansConfig():
            return _OtherFit(FeatureKMeans(config, device), cut)
        case DeepClusteringConfig():
            return _OtherFit(DeepClustering(config, device), cut)
        case FolderIicConfig():
            return _OtherFit(FolderIic(config, device), cut)
        case PicieConfig():
            return _OtherFit(Picie(config, device), cut)
        case _:
            raise AssertionError(variant.method)


class _OwnFit(FolderFit):
    """This tool, as `segment` with ``fit=folder`` runs it."""

    def __init__(self, config: SegmentConfig, cut: CutConfig, device: torch.device) -> None:
        super().__init__()
        self._config, self._cut, self._device = config, cut, str(device)
        self._engine: Engine | None = None

    def looks(self, photos: int) -> int:
        return self._config.fit_visits(photos)

    def fit(self, jobs: Sequence[Job], batch: BatchConfig) -> Generator[tuple[Job, int], None, None]:
        by_name, last, seen = {job.name: job for job in jobs}, jobs[0], 0
        messages: queue.SimpleQueue[Began | FitProgress | WeightsFile | BaseException] = queue.SimpleQueue()
        stop = threading.Event()
        with TemporaryDirectory(prefix="dynaseg-fit-") as place:

            def work() -> None:
                try:
                    folder = OutputFolder(Path(place))
                    messages.put(fit_network(jobs, folder, self._config, batch, self._device, messages.put, stop))
                except BaseException as error:
                    messages.put(error)

            thread = threading.Thread(target=work)
            thread.start()
            try:
                while not isinstance(message := messages.get(), WeightsFile):
                    if isinstance(message, BaseException):
                        raise message
                    if isinstance(message, Began):
                        last = by_name[message.name]
                        if message.step != "read":
                            (self.seen if message.step == "decoded" else self.unreadable).add(message.name)
                    else:
                        yield last, message.seen - seen
                        seen = message.seen
            finally:
                stop.set()
                thread.join()
            self._engine = Engine(dataclasses.replace(self._config, model=message), self._device)

    def __call__(self, photo: NDArray[np.uint8]) -> Labelled:
        assert self._engine is not None
        return segment_by_engine(self._engine, self._cut, photo)


class _OtherFit(FolderFit):
    """A method of `baselines.folder`."""

    def __init__(self, method: FolderMethod[Any], cut: CutConfig) -> None:
        super().__init__()
        self._method, self._cut = method, cut

    def looks(self, photos: int) -> int:
        return photos * self._method.passes

    def fit(self, jobs: Sequence[Job], batch: BatchConfig) -> Generator[tuple[Job, int], None, None]:
        photos, told = FolderPhotos(jobs, batch, self.seen, self.unreadable), 0
        with closing(photos):
            # The method says so after every look, but of a batch only once all of its photos were read.
            for _ in chain(self._method.fit(photos), [None]):
                if photos.taken > told:
                    yield photos.last, photos.taken - told
                told = photos.taken

    def __call__(self, photo: NDArray[np.uint8]) -> Labelled:
        started = time.perf_counter()
        labels = as_labels(self._method.label(photo), self._method.config.clusters)
        stages = {"label": time.perf_counter() - started}
        if not self._cut.is_raw:
            backbone = self._method.backbone
            maps = [] if backbone is None else look(backbone, photo, self._method.device)
            features = [found.permute(1, 2, 0).contiguous().cpu().numpy() for found in maps]
            hierarchy = build_hierarchy(labels, photo, features)
            labels = tidy(labels, photo, self._cut, hierarchy, renumber=False).labels
            stages["merge"] = time.perf_counter() - started - stages["label"]
        return Labelled(labels, None, stages)


class FolderPhotos:
    """The photos of jobs, read anew each time, one ahead of the work. Photos that cannot be read are left out.

    The names of those that were read are added to `seen`, of the others to `unreadable`.
    """

    def __init__(self, jobs: Sequence[Job], batch: BatchConfig, seen: set[str], unreadable: set[str]) -> None:
        self._jobs, self._batch = jobs, batch
        self._seen, self._unreadable = seen, unreadable
        self._open: list[Generator[tuple[int, NDArray[np.uint8] | None], None, None]] = []
        self.last = jobs[0]
        """The job of the photo that was read last."""
        self.taken = 0
        """How many photos were read, or could not be, over all passes."""

    def __len__(self) -> int:
        return len(self._jobs)

    def read(self, order: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The photos with these indices, each with its index."""
        photos = work_ahead(self._read, order, READERS, AHEAD, threading.Event())
        self._open = [photos]
        for index, photo in photos:
            self.last = self._jobs[index]
            self.taken += 1
            (self._unreadable if photo is None else self._seen).add(self.last.name)
            if photo is not None:
                yield index, photo
        if not self._seen:
            raise UsageError("no image can be read, so that nothing can be fitted")

    def close(self) -> None:
        """End what is being read."""
        for photos in self._open:
            photos.close()

    def _read(self, index: int) -> tuple[int, NDArray[np.uint8] | None]:
        try:
            return index, read_pixels(self._jobs[index], self._batch.max_pixels)
        except (ImageError, OSError, MemoryError):  # reported when it is to be labelled
            return index, None


def as_labels(labels: NDArray[np.int32], clusters: int) -> Labels:
    """(H, W) labels 0..clusters-1 in as few bits as a PNG has for all of them."""
    return labels.astype(np.uint8 if clusters <= np.iinfo(np.uint8).max + 1 else np.uint16)

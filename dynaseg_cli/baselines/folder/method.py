"""What the methods of one label space have in common: fit to photos that are read again and again, then label any."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...engine.backbones import MOST_SIZE, Backbone
from ...engine.device import is_out_of_memory
from ...engine.labelling import to_input
from ...engine.precision import exact_arithmetic
from ...errors import DeviceMemoryError, DivergedError
from .embedding import Embedding, seen_by
from .labels import labels_of, response_to_centres
from .settings import FolderMethodConfig, TrainedMethodConfig
from .streaming_kmeans import StreamingKMeans

PLACES = 1024
"""Most places of a photo that are clustered, drawn at random: those of a fine map are alike."""

Settings = TypeVar("Settings", bound=FolderMethodConfig)
TrainedSettings = TypeVar("TrainedSettings", bound=TrainedMethodConfig)
Item = TypeVar("Item")

Photo = NDArray[np.uint8]
"""RGB, (H, W, 3)."""


class Photos(Protocol):
    """The photos of a folder, which are read anew each time."""

    def __len__(self) -> int: ...

    def read(self, order: Sequence[int]) -> Iterator[tuple[int, Photo]]:
        """The photos with these indices, each with its index.

        Those that cannot be read are left out; if there are no others, it raises an error.
        """


class FolderMethod(ABC, Generic[Settings]):
    """A method whose labels mean the same in all photos. Equal photos, settings and devices give equal labels."""

    backbone: Backbone | None = None
    """What sees the photos, if it stays as it is."""

    def __init__(self, config: Settings, device: torch.device) -> None:
        self.config = config
        self.device = device

    @property
    @abstractmethod
    def passes(self) -> int:
        """How often `fit` looks at every photo."""

    def fit(self, photos: Photos) -> Iterator[None]:
        """Fit to photos; yields after each look at one of them.

        Raises
        ------
        DivergedError
            If a loss is not finite.
        DeviceMemoryError
            If the device's memory is too small.
        """
        with exact_arithmetic(), _named_memory_errors(self.device):
            yield from self._fit(photos)

    def label(self, photo: Photo) -> NDArray[np.int32]:
        """The labels of a photo, (H, W), 0..clusters-1. Not all of them need to occur.

        Raises DeviceMemoryError if the device's memory is too small.
        """
        with exact_arithmetic(), torch.inference_mode(), _named_memory_errors(self.device):
            return labels_of(self._respond(photo), *photo.shape[:2])

    @abstractmethod
    def _fit(self, photos: Photos) -> Iterator[None]: ...

    @abstractmethod
    def _respond(self, photo: Photo) -> Tensor:
        """(clusters, h, w) what is greatest for the label of each place of a photo."""

    def _order(self, photos: Photos, number: int) -> list[int]:
        """A random order of the photos for a pass."""
        order: list[int] = np.random.default_rng((self.config.seed, number)).permutation(len(photos)).tolist()
        return order


class TrainedMethod(FolderMethod[TrainedSettings]):
    """A method that trains the head of an `Embedding`."""

    def __init__(self, config: TrainedSettings, device: torch.device) -> None:
        super().__init__(config, device)
        self._embedding = Embedding(config).to(device)
        self.backbone = self._embedding.backbone
        self._centres = torch.empty(0)

    def _embed(self, photo: Photo) -> Tensor:
        """(C, h, w) the vectors of a whole photo."""
        vectors: Tensor = self._embedding(self._embedding.input_of(photo, self.device))[0]
        return vectors

    def _respond(self, photo: Photo) -> Tensor:
        """By the nearest of the centres that `_cluster` found."""
        self._embedding.eval()
        return response_to_centres(functional.normalize(self._embed(photo), dim=0), self._centres)

    def _cluster(self, photos: Photos, number: int) -> Iterator[None]:
        """Find the centres that label, by k-means of the unit vectors of whole photos, as PiCIE's authors do."""
        self._embedding.eval()
        means = StreamingKMeans(self.config.clusters, self.config.seed)
        for index, photo in photos.read(self._order(photos, number)):
            with torch.inference_mode():
                vectors = functional.normalize(self._embed(photo), dim=0)
            means.add(some_places(vectors, np.random.default_rng((self.config.seed, number, index))))
            yield
        self._centres = torch.tensor(means.centres, device=self.device)


@contextmanager
def _named_memory_errors(device: torch.device) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"{device} has too little memory: free some, or give a smaller size or batch") from None


def look(backbone: Backbone, photo: Photo, device: torch.device) -> list[Tensor]:
    """(C, h, w) maps of what a backbone sees in a photo at the size at which this tool looks, from fine to coarse."""
    with torch.inference_mode():
        return [found[0] for found in seen_by(backbone, to_input(backbone.resized(photo, MOST_SIZE), device))]


def some_places(vectors: Tensor, random: np.random.Generator) -> NDArray[np.float32]:
    """(n, C) at most `PLACES` of the vectors of a (C, h, w) map, at random."""
    found: NDArray[np.float32] = vectors.flatten(1).T.cpu().numpy()
    if len(found) <= PLACES:
        return np.ascontiguousarray(found)
    return found[random.choice(len(found), PLACES, replace=False)]


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`; the last one may be shorter."""
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """A step down the gradient of a loss; raises DivergedError if the loss is not finite."""
    if not loss.isfinite():
        raise DivergedError(f"the loss became {loss.item()}")
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()

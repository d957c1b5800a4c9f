"""Photos in memory, for the tests of what is fitted to a folder, and fits of a fraction of a second."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scenes import made_scene

from dynaseg_cli.baselines.folder.deep_clustering import DeepClustering
from dynaseg_cli.baselines.folder.iic import FolderIic
from dynaseg_cli.baselines.folder.kmeans_features import FeatureKMeans
from dynaseg_cli.baselines.folder.method import FolderMethod
from dynaseg_cli.baselines.folder.picie import Picie
from dynaseg_cli.baselines.folder.settings import (
    DeepClusteringConfig,
    FeatureKMeansConfig,
    FolderIicConfig,
    PicieConfig,
)

CPU = torch.device("cpu")
TINY_TIMM: dict[str, Any] = {"backbone": "timm:test_resnet", "weights": "random"}
"""timm's smallest network, which has learned nothing."""
TINY: dict[str, Any] = {"clusters": 3, "epochs": 1, "batch": 2, "size": 64, "features": 4}
"""Settings of a trained method."""
METHODS: dict[str, tuple[type[FolderMethod[Any]], type[Any], dict[str, Any]]] = {
    "kmeans": (FeatureKMeans, FeatureKMeansConfig, {"clusters": 3}),
    "deep-clustering": (DeepClustering, DeepClusteringConfig, TINY),
    "iic": (FolderIic, FolderIicConfig, TINY | {"displacement": 1, "overclusters": 2}),
    "picie": (Picie, PicieConfig, TINY),
}


class PhotosInMemory:
    """Photos, some of which cannot be read. Each read gives a copy."""

    def __init__(self, photos: Sequence[NDArray[np.uint8]], unreadable: Collection[int] = ()) -> None:
        self._photos, self._unreadable = photos, unreadable
        self.orders: list[list[int]] = []
        """The indices that were asked for, of each pass."""

    def __len__(self) -> int:
        return len(self._photos)

    def read(self, order: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        self.orders.append(list(order))
        for index in order:
            if index not in self._unreadable:
                yield index, self._photos[index].copy()


def some_scenes(count: int, width: int = 30, height: int = 24) -> list[NDArray[np.uint8]]:
    return [made_scene(seed, width, height)[0] for seed in range(count)]


def make(method: str, **settings: Any) -> FolderMethod[Any]:
    """A method with tiny settings, or others."""
    kind, config, tiny = METHODS[method]
    return kind(config(**tiny | settings), CPU)


def fitted(method: str, photos: PhotosInMemory, **settings: Any) -> FolderMethod[Any]:
    """It, fitted to photos."""
    made = make(method, **settings)
    for _ in made.fit(photos):
        pass
    return made

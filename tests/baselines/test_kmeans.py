from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from dynaseg_cli.baselines.kmeans import pixel_windows, segment_by_kmeans

COLOURS = np.array([[20, 20, 20], [230, 30, 30], [30, 220, 40], [40, 50, 230]], dtype=np.uint8)


def mirrored(index: int, length: int) -> int:
    """The index that an index beyond the border is mirrored to, at the centre of the last pixel, as often as needed."""
    if length == 1:
        return 0
    while not 0 <= index < length:
        index = -index if index < 0 else 2 * (length - 1) - index
    return index


def explicit_windows(image: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """(H, W, 3, window, window), pixel by pixel."""
    height, width = image.shape[:2]
    reach = window // 2
    windows = np.empty((height, width, 3, window, window), dtype=np.uint8)
    for y, x, channel, down, across in np.ndindex(windows.shape):
        row, column = mirrored(y + down - reach, height), mirrored(x + across - reach, width)
        windows[y, x, channel, down, across] = image[row, column, channel]
    return windows


def same_partition(one: NDArray[Any], other: NDArray[Any]) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(other))


def mosaic(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """An image of four noisy colours, pixel by pixel at random, and which pixel has which."""
    generator = np.random.default_rng(0)
    truth = generator.integers(4, size=(height, width))
    noisy = COLOURS[truth] + generator.normal(0, 4, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize(("height", "width"), [(5, 6), (2, 3), (1, 4), (4, 1), (1, 1)])
def test_windows_are_mirrored_at_the_border(height: int, width: int, window: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixel_windows(image, window), explicit_windows(image, window))


@pytest.mark.parametrize(("clusters", "window"), [(2, 1), (6, 3), (9, 5)])
def test_labels_are_scikit_learns_on_the_explicit_windows(photo: NDArray[np.uint8], clusters: int, window: int) -> None:
    features = explicit_windows(photo, window).reshape(photo.shape[0] * photo.shape[1], -1).astype(np.float32)
    expected = KMeans(clusters, n_init=1, random_state=3).fit_predict(features)
    labels = segment_by_kmeans(photo, clusters=clusters, window=window, seed=3)
    assert len(np.unique(expected)) == clusters
    assert same_partition(labels, expected)


def test_colours_far_apart_are_the_clusters() -> None:
    image, truth = mosaic(12, 16)
    labels = segment_by_kmeans(image, clusters=4, window=1, seed=0)
    assert labels.shape == (12, 16)
    assert labels.dtype == np.int32
    assert same_partition(labels, truth)


def test_a_window_tells_textures_of_the_same_colours_apart() -> None:
    """Stripes down on the left and across on the right, both black and white."""
    rows, columns = np.mgrid[:16, :32]
    stripes = np.where(columns < 16, columns % 2, rows % 2) * 255
    image = np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8)

    def shared(window: int) -> set[int]:
        labels = segment_by_kmeans(image, clusters=4, window=window, seed=0)
        return set(labels[2:-2, 2:14].flat) & set(labels[2:-2, 18:-2].flat)

    assert shared(window=3) == set()
    assert len(shared(window=1)) == 2


def test_large_image_is_fitted_on_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[NDArray[np.float32]] = []

    class Recording(KMeans):
        def fit(self, features: NDArray[np.float32]) -> Recording:
            fitted.append(features)
            return super().fit(features)

    monkeypatch.setattr("sklearn.cluster.KMeans", Recording)
    monkeypatch.setattr("dynaseg_cli.baselines.kmeans.SAMPLE", 40)
    image, truth = mosaic(12, 16)
    for seed in (0, 0, 1):
        assert same_partition(segment_by_kmeans(image, clusters=4, window=1, seed=seed), truth)
    assert [len(features) for features in fitted] == [40, 40, 40]
    assert np.array_equal(fitted[0], fitted[1])
    assert not np.array_equal(fitted[0], fitted[2])


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    whole = segment_by_kmeans(photo, clusters=5, window=3, seed=0)
    monkeypatch.setattr("dynaseg_cli.baselines.kmeans.CHUNK", 37)
    assert np.array_equal(segment_by_kmeans(photo, clusters=5, window=3, seed=0), whole)


def test_equal_seeds_give_equal_labels_in_every_call_and_thread(photo: NDArray[np.uint8]) -> None:
    first = segment_by_kmeans(photo, clusters=7, window=3, seed=5)
    with ThreadPoolExecutor(3) as pool:
        for labels in pool.map(lambda _: segment_by_kmeans(photo, clusters=7, window=3, seed=5), range(4)):
            assert np.array_equal(labels, first)
    assert not np.array_equal(segment_by_kmeans(photo, clusters=7, window=3, seed=6), first)


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (6, 7)])
def test_constant_image_is_one_cluster(height: int, width: int, window: int) -> None:
    labels = segment_by_kmeans(np.full((height, width, 3), 77, np.uint8), clusters=4, window=window, seed=0)
    assert labels.shape == (height, width)
    assert len(np.unique(labels)) == 1


def test_fewer_distinct_windows_than_clusters_are_a_cluster_each() -> None:
    """Warnings are errors here, and scikit-learn's would be one."""
    image = COLOURS[np.array([[0, 1, 2, 0, 1, 2]])]
    labels = segment_by_kmeans(image, clusters=5, window=1, seed=0)
    assert same_partition(labels, np.array([[0, 1, 2, 0, 1, 2]]))


def test_two_colours_can_make_more_windows_than_two() -> None:
    image = COLOURS[np.array([[0, 0, 0, 1, 1, 1]])]
    labels = segment_by_kmeans(image, clusters=4, window=3, seed=0)
    assert same_partition(labels, np.array([[0, 0, 1, 2, 3, 3]]))

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from dynaseg_cli.baselines.folder import streaming_kmeans
from dynaseg_cli.baselines.folder.streaming_kmeans import ITERATIONS, StreamingKMeans

Vectors = NDArray[np.float32]


def parts(seed: int, *lengths: int, channels: int = 3) -> list[Vectors]:
    """Parts of vectors around five places."""
    random = np.random.default_rng(seed)
    places = random.normal(0, 4, (5, channels))
    return [
        (places[random.integers(5, size=length)] + random.normal(size=(length, channels))).astype(np.float32)
        for length in lengths
    ]


def streamed(clusters: int, *given: Vectors, starts: int = 1) -> StreamingKMeans:
    means = StreamingKMeans(clusters, 0, starts)
    for part in given:
        means.add(part.copy())
    return means


def moved(centres: Vectors, counts: NDArray[np.float64], part: Vectors) -> None:
    """Move centres by a part, vector by vector: the mean of a cluster by the share of the part in the cluster."""
    members: dict[int, list[Vectors]] = {}
    for vector in part:
        members.setdefault(int(((centres - vector) ** 2).sum(1).argmin()), []).append(vector)
    for cluster, own in members.items():
        counts[cluster] += len(own)
        rate = len(own) / counts[cluster]
        centres[cluster] = (1 - rate) * centres[cluster] + rate * np.mean(own, axis=0)


@pytest.mark.parametrize("starts", [1, 4])
def test_few_vectors_are_clustered_by_kmeans(starts: int) -> None:
    given = parts(0, 30, 50, 7)
    means = streamed(4, *given, starts=starts)
    expected = KMeans(4, n_init=starts, max_iter=ITERATIONS, random_state=0).fit(np.concatenate(given))
    np.testing.assert_allclose(means.centres, expected.cluster_centers_, rtol=1e-5)
    np.testing.assert_allclose(means.shares, np.bincount(expected.labels_) / 87, rtol=1e-6)
    assert means.centres.dtype == means.shares.dtype == np.float32


def test_further_parts_move_the_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    given = parts(1, 30, 20, 40, 1, 60)
    monkeypatch.setattr(streaming_kmeans, "KEPT", 50)
    means = streamed(4, *given)
    first = KMeans(4, n_init=1, max_iter=ITERATIONS, random_state=0).fit(np.concatenate(given[:2]))
    centres, counts = first.cluster_centers_.copy(), np.bincount(first.labels_).astype(float)
    for part in given[2:]:
        moved(centres, counts, part)
    np.testing.assert_allclose(means.centres, centres, rtol=1e-5)
    np.testing.assert_allclose(means.shares, counts / 151, rtol=1e-6)
    assert not np.allclose(means.centres, first.cluster_centers_, rtol=1e-2), "they did move"


def test_a_step_is_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming_kmeans, "KEPT", 4)
    means = streamed(2, np.float32([[0, 0], [0, 2], [10, 0], [10, 2]]), np.float32([[0, 4], [2, 1]]))
    order = np.argsort(means.centres[:, 0])
    # (0, 1) of two vectors, and (1, 2.5) of two more; none came to (10, 1).
    np.testing.assert_allclose(means.centres[order], [[0.5, 1.75], [10, 1]], atol=1e-6)
    np.testing.assert_allclose(means.shares[order], [4 / 6, 2 / 6], rtol=1e-6)


def test_memory_does_not_grow_with_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming_kmeans, "KEPT", 100)
    means = StreamingKMeans(3, 0)
    for part in parts(2, *[30] * 20):
        means.add(part)
        kept = sum(map(len, means._kept))
        assert kept < 100
    assert kept == 0


@pytest.mark.parametrize("kept", [1 << 16, 8])
def test_fewer_different_vectors_than_clusters_are_centres_themselves(
    monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(streaming_kmeans, "KEPT", kept)
    part = np.repeat(np.float32([[0, 1], [1, 0], [0.6, 0.8]]), [1, 3, 4], axis=0)
    means = streamed(5, part, part)
    order = np.lexsort(means.centres.T)
    np.testing.assert_allclose(means.centres[order], [[1, 0], [0.6, 0.8], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(means.shares[order], [3 / 8, 4 / 8, 1 / 8], rtol=1e-6)


def test_fewer_vectors_than_clusters() -> None:
    part = parts(3, 4)[0]
    np.testing.assert_allclose(np.sort(streamed(9, part).centres, axis=0), np.sort(part, axis=0), atol=1e-5)


@pytest.mark.parametrize("kept", [1 << 16, 60])
def test_shares_are_of_all_vectors_and_none_is_zero(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(streaming_kmeans, "KEPT", kept)
    means = streamed(6, *parts(4, 50, 50, 50))
    assert means.shares.shape == (6,)
    assert means.shares.min() > 0
    assert means.shares.sum() == pytest.approx(1, abs=1e-6)


def test_centres_follow_the_seed_alone() -> None:
    def centres(seed: int) -> Vectors:
        means = StreamingKMeans(12, seed)
        means.add(parts(5, 80)[0])
        return means.centres

    assert np.array_equal(centres(1), centres(1))
    assert not np.array_equal(np.sort(centres(1), axis=0), np.sort(centres(2), axis=0))

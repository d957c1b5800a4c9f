from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, silhouette_score
from threadpoolctl import threadpool_info, threadpool_limits

from dynaseg_cli.method.silhouette import CANDIDATES, SAMPLE, mean_silhouettes, silhouette_phase


def noisy_colours(colours: list[tuple[int, int, int]], height: int, width: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng(0)
    image = np.array(colours)[generator.integers(len(colours), size=(height, width))]
    return (image + generator.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("clusters", [2, 5, 12])
@pytest.mark.parametrize("seed", range(3))
def test_mean_silhouette_equals_scikit_learn(clusters: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    colours = generator.integers(0, 256, (60, 3)).astype(np.float32)
    labels = generator.integers(0, clusters, 60)
    distances = pairwise_distances(colours).astype(np.float32)
    assert mean_silhouettes(distances, [labels]) == [pytest.approx(silhouette_score(colours, labels), abs=1e-5)]


@pytest.mark.parametrize("labels", [[0, 1, 1, 1, 2, 2], [5, 0, 0, 9, 9, 3], [0, 0, 0, 0, 0, 7]])
def test_mean_silhouette_equals_scikit_learn_with_singletons_and_gaps(labels: list[int]) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (6, 3)).astype(np.float32)
    distances = pairwise_distances(colours).astype(np.float32)
    assert mean_silhouettes(distances, [np.array(labels)]) == [
        pytest.approx(silhouette_score(colours, labels), abs=1e-5)
    ]


def test_mean_silhouette_is_worked_by_hand() -> None:
    points = np.array([[0.0], [2.0], [10.0]])
    distances = pairwise_distances(points).astype(np.float32)
    # a, b: (2, 10), (2, 8); the third is alone and counts 0
    assert mean_silhouettes(distances, [np.array([0, 0, 1])]) == [pytest.approx((8 / 10 + 6 / 8 + 0) / 3)]


def test_clusterings_of_the_same_samples_are_judged_apart() -> None:
    distances = pairwise_distances(np.array([[0.0], [2.0], [10.0]])).astype(np.float32)
    together = mean_silhouettes(distances, [np.array([4, 4, 4]), np.array([0, 0, 1]), np.array([1, 0, 0])])
    assert together[0] is None
    assert together[1:] == [pytest.approx(31 / 60), pytest.approx((0 - 6 / 8 + 2 / 10) / 3)]


def test_mean_silhouette_of_twins_in_two_clusters_is_zero() -> None:
    assert mean_silhouettes(np.zeros((4, 4), dtype=np.float32), [np.array([0, 0, 1, 1])]) == [0]


def test_five_separated_colours_give_five() -> None:
    image = noisy_colours([(20, 20, 20), (230, 30, 30), (30, 220, 40), (40, 50, 230), (230, 230, 220)], 24, 32)
    silhouette = silhouette_phase(image, seed=0)
    assert silhouette.k == 5
    assert set(silhouette.scores) == set(CANDIDATES)
    assert silhouette.scores[5] > 0.9


def test_scores_are_those_of_the_clusterings_of_the_pixels() -> None:
    """Three points are three clusters whatever k-means does, and the score is then known."""
    image = np.repeat(np.array([[[0, 0, 0], [9, 0, 0], [0, 99, 0]]], dtype=np.uint8), 4, axis=0)
    silhouette = silhouette_phase(image, seed=0)
    assert silhouette.k == 3
    assert silhouette.scores == {3: pytest.approx(1.0)}


@pytest.mark.parametrize(
    ("colours", "height", "width"),
    [(1, 24, 32), (2, 24, 32), (1, 1, 1), (2, 1, 2), (3, 1, 3)],
    ids=["constant", "two colours", "one pixel", "two pixels", "three pixels"],
)
def test_too_few_colours_to_cluster_are_the_answer_themselves(colours: int, height: int, width: int) -> None:
    palette = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 0]], dtype=np.uint8)
    image = palette[np.arange(height * width).reshape(height, width) % colours]
    silhouette = silhouette_phase(image, seed=0)
    assert silhouette.k == colours
    assert silhouette.scores == {}


def test_equal_seeds_give_equal_results_in_every_call_and_thread(photo: NDArray[np.uint8]) -> None:
    first = silhouette_phase(photo, seed=3)
    assert silhouette_phase(photo, seed=3) == first
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: silhouette_phase(photo, seed=3), range(6))) == [first] * 6


def test_large_image_is_judged_by_a_seeded_sample_of_its_pixels() -> None:
    colours = [(20, 20, 20), (230, 30, 30), (30, 220, 40), (40, 50, 230)]
    image = noisy_colours(colours, 64, 64)
    assert image.shape[0] * image.shape[1] > SAMPLE
    first = silhouette_phase(image, seed=0)
    assert first.k == 4
    assert silhouette_phase(image, seed=0) == first
    assert silhouette_phase(image, seed=1).scores != first.scores


def test_overlapping_phases_leave_the_settings_of_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One phase begins inside another and outlives it; a lock that keeps them apart passes too, after the waits."""
    image = noisy_colours([(20, 20, 20), (230, 30, 30), (30, 220, 40)], 4, 4)
    inner = threading.Thread(target=silhouette_phase, args=(image, 0))
    inner_began, outer_ended = threading.Event(), threading.Event()

    def cluster(*args: int, **options: int) -> KMeans:
        if threading.current_thread() is inner:
            inner_began.set()
            outer_ended.wait(1)
        elif not inner.is_alive():
            inner.start()
            inner_began.wait(1)
        return KMeans(*args, **options)

    def settings() -> tuple[list[object], list[int]]:
        return list(warnings.filters), [pool["num_threads"] for pool in threadpool_info()]

    monkeypatch.setattr("dynaseg_cli.method.silhouette.CANDIDATES", [3])
    monkeypatch.setattr("sklearn.cluster.KMeans", cluster)
    with warnings.catch_warnings(), threadpool_limits(2):
        before = settings()
        silhouette_phase(image, 0)
        outer_ended.set()
        inner.join()
        assert settings() == before

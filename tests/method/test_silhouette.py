"""Against scikit-learn: its k-means++, its k-means from the same centres, and its silhouette score."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import silhouette_score
from step_samples import NothingFromTheHost
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from dynaseg_cli.method import silhouette as module
from dynaseg_cli.method.silhouette import (
    CANDIDATES,
    GROUP,
    SAMPLE,
    TRIALS,
    Draws,
    SquaredDistances,
    cluster,
    colour_sample,
    kmeans_draws,
    seed_centres,
    silhouette_phase,
    silhouette_scores,
)


def noisy_colours(colours: list[tuple[int, int, int]], height: int, width: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng(0)
    image = np.array(colours)[generator.integers(len(colours), size=(height, width))]
    return (image + generator.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def some_sample(pixels: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (pixels, 3), dtype=np.uint8)


def as_tensor(sample: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(sample).float()


def labels_of(members: Tensor) -> NDArray[np.int64]:
    """(P, n) memberships as labels (n,); each pixel is in one cluster."""
    assert (members.sum(0) == 1).all()
    return members.argmax(0).numpy()


def summed_coefficients(colours: NDArray[np.integer], labels: list[NDArray[np.integer]]) -> NDArray[np.float64]:
    members = torch.stack(
        [torch.from_numpy(np.eye(max(map(max, labels)) + 1, dtype=np.float32)[each].T) for each in labels]
    )
    clusterings = module.Clusterings(members, members.sum(2))
    return module._summed_coefficients(
        SquaredDistances(as_tensor(colours)), [clusterings], slice(0, len(colours))
    ).numpy()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("pixels", [30, 700, SAMPLE])
def test_centres_are_those_of_scikit_learn(seed: int, pixels: int) -> None:
    sample = as_tensor(some_sample(pixels, seed))
    chosen = seed_centres(SquaredDistances(sample), kmeans_draws(seed, pixels))
    assert np.array_equal(chosen, kmeans_plusplus(sample.numpy(), CANDIDATES[-1], random_state=seed)[1])


@pytest.mark.parametrize("first", [3, 21])
def test_clusters_are_those_of_scikit_learn_from_the_same_centres(first: int) -> None:
    sample = as_tensor(some_sample(400))
    centres = sample[seed_centres(SquaredDistances(sample), kmeans_draws(0, len(sample)))]
    numbers = range(first, first + GROUP)
    members, sizes = cluster(sample, centres, numbers, 300)
    assert torch.equal(sizes, members.sum(2))
    for k, each in zip(numbers, members, strict=True):
        expected = KMeans(k, init=centres[:k], n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(sample.numpy())
        assert np.array_equal(labels_of(each), expected.labels_)


def test_a_pixel_between_two_centres_is_in_the_first() -> None:
    sample = torch.tensor([[0.0, 0, 0], [2, 0, 0], [1, 0, 0], [90, 0, 0]])
    members, sizes = cluster(sample, sample[[0, 1, 3]], range(3, 4), 1)
    assert labels_of(members[0]).tolist() == [0, 1, 0, 2]
    assert sizes.tolist() == [[2, 1, 1]]


def test_a_centre_without_pixels_stays_and_counts_for_nothing() -> None:
    sample = torch.tensor([[0.0, 0, 0], [0, 0, 0], [9, 0, 0], [9, 9, 9], [0, 0, 0], [9, 9, 9]])
    members, sizes = cluster(sample, sample[[0, 1, 2, 3]], range(4, 5), 20)
    assert labels_of(members[0]).tolist() == [0, 0, 2, 3, 0, 3]
    assert sizes.tolist() == [[3, 0, 1, 2]]


@pytest.mark.parametrize("clusters", [2, 5, 12])
def test_scores_equal_scikit_learns(clusters: int) -> None:
    generator = np.random.default_rng(clusters)
    colours = some_sample(60, clusters)
    labels = [generator.permutation(np.arange(60) % clusters) for _ in range(3)]
    expected = [60 * silhouette_score(colours.astype(float), each) for each in labels]
    assert summed_coefficients(colours, labels) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("labels", [[0, 1, 1, 1, 2, 2], [5, 0, 0, 9, 9, 3], [0, 0, 0, 0, 0, 7]])
def test_scores_equal_scikit_learns_with_singletons_and_gaps(labels: list[int]) -> None:
    colours = some_sample(6)
    expected = 6 * silhouette_score(colours.astype(float), labels)
    assert summed_coefficients(colours, [np.array(labels)]) == pytest.approx(expected, abs=1e-5)


def test_scores_are_worked_by_hand() -> None:
    colours = np.array([[0, 0, 0], [2, 0, 0], [10, 0, 0]])
    # a, b: (2, 10), (2, 8), and the third is alone and counts 0; the first is alone, (8, 2), (8, 10)
    found = summed_coefficients(colours, [np.array([0, 0, 1]), np.array([1, 0, 0])])
    assert found == pytest.approx([8 / 10 + 6 / 8 + 0, 0 - 6 / 8 + 2 / 10])


def test_twins_in_two_clusters_score_zero() -> None:
    assert summed_coefficients(np.zeros((4, 3), dtype=np.uint8), [np.array([0, 0, 1, 1])]) == [0]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many clusterings are scored in each call, of all pixels or of some."""
    numbers: list[int] = []
    actual = module._summed_coefficients

    def watched(distances: Any, clusterings: Any, rows: slice) -> Tensor:
        numbers.append(sum(len(members) for members, _ in clusterings))
        return actual(distances, clusterings, rows)

    monkeypatch.setattr(module, "_summed_coefficients", watched)
    yield numbers


def test_the_best_score_is_never_an_estimate(monkeypatch: pytest.MonkeyPatch, measured: list[int]) -> None:
    """Estimates from 40 of 400 pixels are wrong about the best; with no margin, some are found out only later."""
    monkeypatch.setattr(module, "SCREENED", 40)
    monkeypatch.setattr(module, "MARGIN", 0.0)
    corrected = 0
    for seed in range(12):
        sample, draws = as_tensor(some_sample(400, seed)), kmeans_draws(seed, 400)
        measured.clear()
        scores = silhouette_scores(sample, draws)
        assert measured[0] == len(CANDIDATES)
        assert set(measured[1:10]) == {1}
        corrected += len(measured) > 10
        with monkeypatch.context() as patch:
            patch.setattr(module, "SCREENED", 400)
            exact = silhouette_scores(sample, draws)
        assert float(scores.max()) == pytest.approx(float(exact[scores.argmax()]), abs=1e-6)
    assert corrected


@pytest.mark.requires_bsds500
def test_photos_get_the_number_that_scikit_learn_gives_them(bsds500: Path) -> None:
    """k-means is broken off after some iterations, and most scores are estimates: 197 of 200 photos get the same."""
    same = 0
    for path in sorted((bsds500 / "images" / "train").glob("*.jpg"))[:20]:
        image = np.asarray(Image.open(path).convert("RGB"))
        sample = colour_sample(image, 0).astype(np.float32)
        centres, _ = kmeans_plusplus(sample, CANDIDATES[-1], random_state=0)
        labels = [KMeans(k, init=centres[:k], n_init=1).fit_predict(sample) for k in CANDIDATES]
        scores = summed_coefficients(sample.astype(np.int64), labels)
        same += silhouette_phase(image, 0).k == CANDIDATES[int(scores.argmax())]
    assert same >= 18


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


def test_on_a_gpu_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses fake tensors, which have a device and a shape but no values: reading one raises an error."""
    monkeypatch.setattr(module, "ITERATIONS", (2, 2, 2, 2))
    with FakeTensorMode():
        cuda = torch.device("cuda")
        sample = torch.zeros(SAMPLE, 3, device=cuda)
        trials = torch.zeros(CANDIDATES[-1] - 1, TRIALS, dtype=torch.float64, device=cuda)
        draws = Draws(torch.zeros(1, dtype=torch.int64, device=cuda), trials)
        with NothingFromTheHost():
            scores = silhouette_scores(sample, draws)
    assert (scores.device.type, scores.shape) == ("cuda", (len(CANDIDATES),))


@pytest.mark.requires_cuda
def test_a_gpu_finds_what_a_cpu_finds(photo: NDArray[np.uint8]) -> None:
    sample = as_tensor(colour_sample(np.tile(photo, (3, 3, 1)), 0))
    draws = kmeans_draws(0, len(sample))
    found = silhouette_scores(sample.cuda(), Draws(*(numbers.cuda() for numbers in draws))).cpu()
    expected = silhouette_scores(sample, draws)
    assert found.argmax() == expected.argmax()
    assert found.max() == pytest.approx(float(expected.max()), abs=1e-4)

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import variation_of_information as skimage_voi
from sklearn.metrics import mutual_info_score, rand_score

from dynaseg_cli.evaluation.contingency import contingency_table
from dynaseg_cli.evaluation.metrics import (
    best_overlaps,
    class_ious,
    match_clusters,
    matched_pixels,
    rand_index,
    variation_of_information,
)

SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 8))


@st.composite
def pairs_of_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    maps = arrays(np.int64, shape, elements=st.integers(0, 5))
    return draw(maps), draw(maps)


def permuted(labels: np.ndarray) -> np.ndarray:
    """The same segments under other numbers."""
    return np.array([40, 3, 17, 0, 8, 21])[labels]


TRUTH = np.array([[1, 1, 1, 2], [1, 1, 1, 2]])
PREDICTION = np.array([[0, 0, 3, 3], [0, 0, 3, 3]])
"""Segment 1 (6 pixels): 4/6 with label 0, 2/8 with 3. Segment 2 (2 pixels): 2/4 with label 3."""


# Worked by hand


def test_best_overlaps_by_hand() -> None:
    np.testing.assert_allclose(best_overlaps(contingency_table(TRUTH, PREDICTION)), [4 / 6, 2 / 4])


def test_rand_index_by_hand() -> None:
    """Of 28 pairs, truth joins 15 + 1, prediction 6 + 6, both 6 + 1 + 1."""
    assert rand_index(contingency_table(TRUTH, PREDICTION)) == pytest.approx(1 - (16 + 12 - 2 * 8) / 28)


def test_variation_of_information_by_hand() -> None:
    given_prediction = 0.5 * 1.0  # the right half of the prediction is half of one segment, half of the other
    given_truth = 6 / 8 * (-(4 / 6) * math.log2(4 / 6) - (2 / 6) * math.log2(2 / 6))
    voi = variation_of_information(contingency_table(TRUTH, PREDICTION))
    assert voi == pytest.approx(given_prediction + given_truth)


def test_single_pixel_agrees_with_itself() -> None:
    table = contingency_table(np.zeros((1, 1), dtype=int), np.ones((1, 1), dtype=int))
    assert (rand_index(table), variation_of_information(table), best_overlaps(table).tolist()) == (1.0, 0.0, [1.0])


# Against independent implementations


def brute_best_overlaps(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    return [
        max(
            np.logical_and(truth == t, prediction == p).sum() / np.logical_or(truth == t, prediction == p).sum()
            for p in np.unique(prediction)
        )
        for t in np.unique(truth)
    ]


def brute_rand_index(truth: np.ndarray, prediction: np.ndarray) -> float:
    pairs = list(combinations(zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True), 2))
    return sum((a[0] == b[0]) == (a[1] == b[1]) for a, b in pairs) / len(pairs) if pairs else 1.0


@given(pairs_of_maps())
def test_best_overlaps_equal_brute_force(maps: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(best_overlaps(contingency_table(*maps)), brute_best_overlaps(*maps), rtol=1e-12)


@given(pairs_of_maps())
def test_rand_index_equals_brute_force_and_scikit_learn(maps: tuple[np.ndarray, np.ndarray]) -> None:
    measured = rand_index(contingency_table(*maps))
    assert measured == pytest.approx(brute_rand_index(*maps))
    assert measured == pytest.approx(rand_score(maps[0].ravel(), maps[1].ravel()))


@given(pairs_of_maps())
def test_variation_of_information_equals_scikit_image_and_scikit_learn(maps: tuple[np.ndarray, np.ndarray]) -> None:
    measured = variation_of_information(contingency_table(*maps))
    assert measured == pytest.approx(float(np.sum(skimage_voi(*maps))), abs=1e-12)

    def entropy(labels: np.ndarray) -> float:
        return float(mutual_info_score(labels.ravel(), labels.ravel()))

    information = float(mutual_info_score(maps[0].ravel(), maps[1].ravel()))
    assert measured == pytest.approx((entropy(maps[0]) + entropy(maps[1]) - 2 * information) / math.log(2), abs=1e-9)


# Laws


@given(pairs_of_maps())
def test_numbers_of_the_labels_do_not_matter(maps: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = maps
    table, other = contingency_table(truth, prediction), contingency_table(permuted(truth), permuted(prediction))
    assert rand_index(other) == rand_index(table)
    assert variation_of_information(other) == pytest.approx(variation_of_information(table), abs=1e-12)
    np.testing.assert_allclose(np.sort(best_overlaps(other)), np.sort(best_overlaps(table)))


@given(pairs_of_maps())
def test_rand_index_and_variation_of_information_are_symmetric(maps: tuple[np.ndarray, np.ndarray]) -> None:
    table, mirrored = contingency_table(*maps), contingency_table(*maps[::-1])
    assert rand_index(mirrored) == rand_index(table)
    assert variation_of_information(mirrored) == pytest.approx(variation_of_information(table), abs=1e-12)


@given(arrays(np.int64, SHAPES, elements=st.integers(0, 5)))
def test_map_agrees_perfectly_with_itself_under_other_numbers(labels: np.ndarray) -> None:
    table = contingency_table(labels, permuted(labels))
    assert (best_overlaps(table) == 1).all()
    assert rand_index(table) == 1
    assert variation_of_information(table) == 0


@given(pairs_of_maps())
def test_ignoring_equals_cutting_away(maps: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = maps
    kept = truth != 0
    if kept.any():
        table = contingency_table(truth, prediction, ignore=0)
        cut = contingency_table(truth[kept][None], prediction[kept][None])
        np.testing.assert_array_equal(best_overlaps(table), best_overlaps(cut))
        assert rand_index(table) == rand_index(cut)


# Classes


def test_match_is_the_best_of_all_assignments() -> None:
    """Taking each class's largest cluster in turn would cover 9 + 0 + 1 pixels."""
    confusion = np.array([[9, 8, 0], [8, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(match_clusters(confusion), [1, 0, 2])


def test_class_without_a_cluster_has_none() -> None:
    np.testing.assert_array_equal(match_clusters(np.array([[5], [9], [2]])), [-1, 0, -1])


def test_class_ious_by_hand() -> None:
    confusion = np.array([[6, 2, 1], [1, 4, 0], [0, 0, 0], [0, 3, 0]])
    cluster = np.array([0, 1, 2, -1])
    np.testing.assert_array_equal(matched_pixels(confusion, cluster), [6, 4, 0, 0])
    np.testing.assert_allclose(class_ious(confusion, cluster), [6 / 10, 4 / 10, np.nan, 0])

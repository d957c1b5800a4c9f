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
from sklearn.metrics.cluster import contingency_matrix

from dynaseg_cli.evaluation.contingency import ContingencyTable, contingency_table, joined

MAPS = arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-3, 6))


def dense(table: ContingencyTable) -> np.ndarray:
    matrix = np.zeros((len(table.truth_areas), len(table.prediction_areas)), dtype=np.int64)
    matrix[table.rows, table.columns] = table.counts
    return matrix


def test_case_worked_by_hand() -> None:
    table = contingency_table(np.array([[1, 1, 1], [7, 7, 9]]), np.array([[0, 0, 5], [5, 5, 5]]))
    np.testing.assert_array_equal(dense(table), [[2, 1], [0, 2], [0, 1]])
    np.testing.assert_array_equal(table.truth_values, [1, 7, 9])
    np.testing.assert_array_equal(table.prediction_values, [0, 5])
    np.testing.assert_array_equal(table.truth_areas, [3, 2, 1])
    np.testing.assert_array_equal(table.prediction_areas, [2, 4])
    assert table.pixels == 6


def test_ignored_pixels_count_nowhere() -> None:
    table = contingency_table(np.array([[1, 1, 255], [255, 2, 2]]), np.array([[0, 3, 4], [0, 3, 3]]), ignore=255)
    np.testing.assert_array_equal(dense(table), [[1, 1], [0, 2]])
    np.testing.assert_array_equal(table.prediction_areas, [1, 3])
    np.testing.assert_array_equal(table.prediction_values, [0, 3])


def test_nothing_is_left_when_all_is_ignored() -> None:
    assert contingency_table(np.full((2, 3), 255), np.zeros((2, 3), dtype=int), ignore=255).pixels == 0


def test_counts_are_exact_int64() -> None:
    table = contingency_table(np.zeros((2, 3), dtype=np.uint8), np.array([[0, 0, 1]] * 2, dtype=np.uint16))
    for counts in (table.counts, table.truth_areas, table.prediction_areas):
        assert counts.dtype == np.int64


def test_maps_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        contingency_table(np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int))


def test_many_segments_of_either_need_no_dense_matrix() -> None:
    """10^5 x 10^5 segments: a dense table would be 80 GB."""
    own = np.arange(100_000).reshape(400, 250)
    table = contingency_table(own, own[::-1])
    assert len(table.counts) == 100_000
    assert set(table.counts) == {1}


@given(MAPS)
def test_equals_scikit_learn(truth: np.ndarray) -> None:
    prediction = np.random.default_rng(truth.size).integers(0, 5, truth.shape)
    table = contingency_table(truth, prediction)
    np.testing.assert_array_equal(dense(table), contingency_matrix(truth.ravel(), prediction.ravel()))


def assert_equal(table: ContingencyTable, expected: ContingencyTable) -> None:
    for name, values in vars(expected).items():
        found = getattr(table, name)
        np.testing.assert_array_equal(found, values, err_msg=name)
        assert found.dtype == values.dtype, name


def test_segments_joined_by_hand() -> None:
    truth = np.array([[1, 1, 1], [7, 7, 9]])
    table = joined(contingency_table(truth, np.array([[0, 2, 2], [0, 4, 4]])), np.array([5, 3, 5]))
    np.testing.assert_array_equal(dense(table), [[2, 1], [0, 2], [0, 1]])
    np.testing.assert_array_equal(table.prediction_values, [3, 5])
    np.testing.assert_array_equal(table.prediction_areas, [2, 4])


@given(MAPS, st.lists(st.integers(-2, 5), min_size=6, max_size=6), st.sampled_from([None, 0, 2]))
def test_joining_segments_equals_counting_the_joined_map(
    truth: np.ndarray, values: list[int], ignore: int | None
) -> None:
    prediction = np.random.default_rng(truth.size).integers(0, 6, truth.shape)
    into = np.array(values)
    table = contingency_table(truth, prediction, ignore)
    assert_equal(joined(table, into[table.prediction_values]), contingency_table(truth, into[prediction], ignore))


def test_joining_many_segments_needs_no_dense_matrix() -> None:
    own = np.arange(100_000).reshape(400, 250)
    table = joined(contingency_table(own, own), own.ravel() // 2)
    assert len(table.counts) == 100_000
    assert set(table.prediction_areas) == {2}


# Metrics

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
    np.testing.assert_allclose(contingency_table(TRUTH, PREDICTION).best_overlaps, [4 / 6, 2 / 4])


def test_rand_index_by_hand() -> None:
    """Of 28 pairs, truth joins 15 + 1, prediction 6 + 6, both 6 + 1 + 1."""
    assert contingency_table(TRUTH, PREDICTION).rand_index == pytest.approx(1 - (16 + 12 - 2 * 8) / 28)


def test_variation_of_information_by_hand() -> None:
    given_prediction = 0.5 * 1.0  # the right half of the prediction is half of one segment, half of the other
    given_truth = 6 / 8 * (-(4 / 6) * math.log2(4 / 6) - (2 / 6) * math.log2(2 / 6))
    voi = contingency_table(TRUTH, PREDICTION).variation_of_information
    assert voi == pytest.approx(given_prediction + given_truth)


def test_single_pixel_agrees_with_itself() -> None:
    table = contingency_table(np.zeros((1, 1), dtype=int), np.ones((1, 1), dtype=int))
    assert (table.rand_index, table.variation_of_information, table.best_overlaps.tolist()) == (1.0, 0.0, [1.0])


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
    np.testing.assert_allclose(contingency_table(*maps).best_overlaps, brute_best_overlaps(*maps), rtol=1e-12)


@given(pairs_of_maps())
def test_rand_index_equals_brute_force_and_scikit_learn(maps: tuple[np.ndarray, np.ndarray]) -> None:
    measured = contingency_table(*maps).rand_index
    assert measured == pytest.approx(brute_rand_index(*maps))
    assert measured == pytest.approx(rand_score(maps[0].ravel(), maps[1].ravel()))


@given(pairs_of_maps())
def test_variation_of_information_equals_scikit_image_and_scikit_learn(maps: tuple[np.ndarray, np.ndarray]) -> None:
    measured = contingency_table(*maps).variation_of_information
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
    assert other.rand_index == table.rand_index
    assert other.variation_of_information == pytest.approx(table.variation_of_information, abs=1e-12)
    np.testing.assert_allclose(np.sort(other.best_overlaps), np.sort(table.best_overlaps))


@given(pairs_of_maps())
def test_rand_index_and_variation_of_information_are_symmetric(maps: tuple[np.ndarray, np.ndarray]) -> None:
    table, mirrored = contingency_table(*maps), contingency_table(*maps[::-1])
    assert mirrored.rand_index == table.rand_index
    assert mirrored.variation_of_information == pytest.approx(table.variation_of_information, abs=1e-12)


@given(arrays(np.int64, SHAPES, elements=st.integers(0, 5)))
def test_map_agrees_perfectly_with_itself_under_other_numbers(labels: np.ndarray) -> None:
    table = contingency_table(labels, permuted(labels))
    assert (table.best_overlaps == 1).all()
    assert table.rand_index == 1
    assert table.variation_of_information == 0


@given(pairs_of_maps())
def test_ignoring_equals_cutting_away(maps: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = maps
    kept = truth != 0
    if kept.any():
        table = contingency_table(truth, prediction, ignore=0)
        cut = contingency_table(truth[kept][None], prediction[kept][None])
        np.testing.assert_array_equal(table.best_overlaps, cut.best_overlaps)
        assert table.rand_index == cut.rand_index

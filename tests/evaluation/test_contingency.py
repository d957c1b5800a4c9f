from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage.measure import label as label_regions

from dynaseg_cli.regions.merging import merge_small_regions

LABEL_MAPS = arrays(np.int16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))


def grey(values: list[list[int]]) -> NDArray[np.uint8]:
    return np.repeat(np.array(values, dtype=np.uint8)[..., None], 3, axis=2)


def random_image(labels: NDArray[np.int16], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*labels.shape, 3), dtype=np.uint8)


def regions_of(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    return label_regions(labels.astype(np.int64), connectivity=1, background=-1) - 1


def test_small_region_joins_the_neighbour_nearest_in_colour() -> None:
    labels = np.array([[5, 5, 2, 8, 8]])
    assert merge_small_regions(labels, grey([[0, 0, 90, 100, 100]]), 2).tolist() == [[5, 5, 8, 8, 8]]
    assert merge_small_regions(labels, grey([[80, 80, 90, 200, 200]]), 2).tolist() == [[5, 5, 5, 8, 8]]


def test_colour_is_compared_in_all_three_channels() -> None:
    labels = np.array([[0, 0, 1, 2, 2]])
    image = np.array([[[200, 0, 0]] * 2 + [[100, 0, 90]] + [[100, 0, 0]] * 2], dtype=np.uint8)
    assert merge_small_regions(labels, image, 2).tolist() == [[0, 0, 2, 2, 2]]
    image[0, 3:] = [100, 255, 0]
    assert merge_small_regions(labels, image, 2).tolist() == [[0, 0, 0, 2, 2]]


def test_corners_are_no_neighbours() -> None:
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 2]])
    image = grey([[50, 0, 0], [0, 200, 0], [0, 0, 50]])
    assert merge_small_regions(labels, image, 2).tolist() == [[0] * 3] * 3


def test_smallest_goes_first_and_counts_with_its_new_neighbour_from_then_on() -> None:
    """1 joins 2 and the two are then large enough together; 2 alone would have joined 3."""
    labels = np.array([[0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 3]])
    image = grey([[0, 0, 0, 0, 112, 100, 100, 90, 90, 90, 90]])
    assert merge_small_regions(labels, image, 3).tolist() == [[0, 0, 0, 0, 2, 2, 2, 3, 3, 3, 3]]


def test_joint_mean_colour_and_all_neighbours_decide_the_next_merge() -> None:
    """1 joins 2; their joint mean of 80 is nearest to 0, a neighbour of 1 alone, though the 70 of 2 is nearest to 3."""
    labels = np.array([[0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 3]])
    image = grey([[135, 135, 135, 135, 100, 70, 70, 20, 20, 20, 20]])
    assert merge_small_regions(labels, image, 4).tolist() == [[0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3]]


def test_regions_are_judged_by_connected_pixels_not_by_label() -> None:
    labels = np.array([[0, 1, 0, 0]])
    assert merge_small_regions(labels, grey([[9, 10, 200, 200]]), 2).tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("min_region", [0, 1, 2])
def test_map_without_small_regions_is_left_as_it_is(min_region: int) -> None:
    labels = np.array([[3, 3, 7, 7]], dtype=np.int16)
    assert np.array_equal(merge_small_regions(labels, grey([[0, 0, 9, 9]]), min_region), labels)


def test_image_smaller_than_a_region_becomes_one_region() -> None:
    merged = merge_small_regions(np.array([[4, 4, 6], [4, 5, 6]]), grey([[0, 0, 9], [0, 5, 9]]), 100)
    assert len(np.unique(merged)) == 1
    assert merge_small_regions(np.array([[4]]), grey([[0]]), 100).tolist() == [[4]]


@given(LABEL_MAPS, st.integers(0, 12), st.integers(0, 3))
def test_no_region_under_the_minimum_is_left(labels: NDArray[np.int16], min_region: int, seed: int) -> None:
    merged = merge_small_regions(labels, random_image(labels, seed), min_region)
    assert merged.shape == labels.shape
    assert merged.dtype == labels.dtype
    assert np.bincount(regions_of(merged).reshape(-1)).min() >= min(min_region, labels.size)


@given(LABEL_MAPS, st.integers(0, 12), st.integers(0, 3))
def test_large_regions_keep_their_labels(labels: NDArray[np.int16], min_region: int, seed: int) -> None:
    merged = merge_small_regions(labels, random_image(labels, seed), min_region)
    regions = regions_of(labels)
    large = np.bincount(regions.reshape(-1))[regions] >= min_region
    assert np.array_equal(merged[large], labels[large])
    assert set(np.unique(merged)) <= set(np.unique(labels))


@given(LABEL_MAPS, st.integers(0, 12), st.integers(0, 3))
def test_merging_never_splits_a_region(labels: NDArray[np.int16], min_region: int, seed: int) -> None:
    merged = merge_small_regions(labels, random_image(labels, seed), min_region)
    pairs = np.stack([regions_of(labels).reshape(-1), merged.reshape(-1)])
    assert np.unique(pairs, axis=1).shape[1] == len(np.unique(pairs[0]))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage.measure import label as label_regions

from dynaseg_cli.regions.connected import connected_regions

LABEL_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


def assert_same_as_scikit_image(labels: NDArray[np.integer]) -> None:
    """Equal up to numbering: as many pairs of numbers as there are numbers on either side."""
    regions = connected_regions(labels)
    expected = label_regions(labels.astype(np.int64), connectivity=1, background=-1)
    pairs = np.unique(np.stack([regions.reshape(-1), expected.reshape(-1)]), axis=1)
    assert regions.shape == labels.shape
    assert pairs.shape[1] == len(np.unique(regions)) == len(np.unique(expected))


@given(LABEL_MAPS)
def test_regions_are_those_of_scikit_image(labels: NDArray[np.uint8]) -> None:
    assert_same_as_scikit_image(labels)


@given(LABEL_MAPS)
def test_regions_are_numbered_in_scan_order_without_gaps(labels: NDArray[np.uint8]) -> None:
    regions = connected_regions(labels)
    numbers, first_seen = np.unique(regions, return_index=True)
    assert numbers.tolist() == list(range(len(numbers)))
    assert (np.diff(first_seen) > 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_regions_of_a_large_map_are_those_of_scikit_image(dtype: type[np.integer]) -> None:
    assert_same_as_scikit_image(np.random.default_rng(0).integers(0, 2, (300, 400)).astype(dtype))


def test_corners_do_not_connect_and_detours_do() -> None:
    labels = np.array(
        [
            [1, 1, 0, 1],
            [0, 0, 0, 1],
            [1, 0, 1, 1],
        ]
    )
    assert connected_regions(labels).tolist() == [
        [0, 0, 1, 2],
        [1, 1, 1, 2],
        [3, 1, 2, 2],
    ]
    assert connected_regions(labels).dtype == np.int32

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage.measure import label as label_regions

from dynaseg_cli.regions import segments
from dynaseg_cli.regions.segments import boundary_shares, connected_regions, number_by_area, touching_pairs

LABEL_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))
RAW_MAPS = arrays(np.int16, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 9))


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


def test_largest_area_is_0_and_the_smaller_label_wins_a_tie() -> None:
    raw = np.array([[7, 7, 7], [4, 2, 4], [9, 2, 7]])
    numbered = number_by_area(raw)
    assert numbered.labels.tolist() == [[0, 0, 0], [2, 1, 2], [3, 1, 0]]
    assert numbered.count == 4
    assert numbered.numbers[[7, 2, 4, 9]].tolist() == [0, 1, 2, 3]
    assert sorted(numbered.numbers.tolist()) == list(range(10)), "those that do not occur come last"


@given(RAW_MAPS)
def test_areas_fall_and_pixels_stay_together(raw: NDArray[np.int16]) -> None:
    numbered = number_by_area(raw)
    labels, count = numbered.labels, numbered.count
    assert np.array_equal(numbered.numbers[raw], labels)
    areas = np.bincount(labels.reshape(-1))
    assert len(areas) == count == len(np.unique(raw))
    assert (np.diff(areas) <= 0).all()
    assert areas.min() > 0
    assert len(set(zip(raw.reshape(-1).tolist(), labels.reshape(-1).tolist(), strict=True))) == count


@given(RAW_MAPS)
def test_numbering_twice_changes_nothing(raw: NDArray[np.int16]) -> None:
    once = number_by_area(raw).labels
    assert np.array_equal(number_by_area(once).labels, once)


@pytest.mark.parametrize(("count", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_labels_are_as_wide_as_their_number_needs(count: int, dtype: type[np.unsignedinteger]) -> None:
    numbered = number_by_area(np.arange(count, dtype=np.int16)[None])
    assert numbered.count == count
    assert numbered.labels.dtype == dtype
    assert numbered.labels.max() == count - 1


def test_kept_labels_stay_and_the_others_go_around_them() -> None:
    raw = np.array([[7, 7, 7], [4, 2, 4], [9, 2, 7]])
    numbered = number_by_area(raw, kept=[2, 0, 200])  # of which two do not occur
    assert numbered.labels.tolist() == [[1, 1, 1], [3, 2, 3], [4, 2, 1]]
    assert numbered.count == 4


@given(RAW_MAPS, st.lists(st.integers(0, 254), unique=True, max_size=4))
def test_kept_labels_are_taken_by_no_other(raw: NDArray[np.int16], kept: list[int]) -> None:
    numbered = number_by_area(raw, kept)
    labels, count = numbered.labels, numbered.count
    assert len(np.unique(labels)) == count == len(np.unique(raw))
    assert len(set(zip(raw.reshape(-1).tolist(), labels.reshape(-1).tolist(), strict=True))) == count
    for label in kept:
        assert np.array_equal(labels == label, raw == label)
    others = np.setdiff1d(np.unique(labels), kept)
    assert (np.diff([np.count_nonzero(labels == label) for label in others]) <= 0).all()
    assert others.tolist() == np.setdiff1d(np.arange(300), kept)[: len(others)].tolist()


@given(LABEL_MAPS, st.integers(1, 20))
def test_touching_pairs_are_those_of_neighbouring_pixels(labels: NDArray[np.uint8], band: int) -> None:
    regions = connected_regions(labels)
    expected = set()
    for (y, x), one in np.ndenumerate(regions):
        for other in (*regions[y + 1 : y + 2, x], *regions[y, x + 1 : x + 2]):
            if one != other:
                expected.add((min(one, other), max(one, other)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "BAND_PIXELS", band)
        found = touching_pairs(regions)
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def shares_by_counting(segments: NDArray[np.integer]) -> dict[tuple[int, int], float]:
    """The share of each boundary, one pair of pixels after another."""
    height, width = segments.shape
    across, down = height * (width - 1), (height - 1) * width
    found: dict[tuple[int, int], float] = {}
    for (y, x), one in np.ndenumerate(segments):
        right, below = segments[y, x + 1 : x + 2], segments[y + 1 : y + 2, x]
        for others, pairs in ((right, across), (below, down)):
            for other in others:
                if one != other:
                    pair = (int(min(one, other)), int(max(one, other)))
                    found[pair] = found.get(pair, 0) + 1 / pairs
    return found


@given(LABEL_MAPS, st.booleans())
def test_shares_of_boundaries_are_those_of_pairs_of_pixels(labels: NDArray[np.uint8], connected: bool) -> None:
    regions = connected_regions(labels)
    if not connected:
        regions = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    expected = shares_by_counting(regions)
    pairs, shares = boundary_shares(regions)
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(expected)
    assert pairs.tolist() == touching_pairs(regions).tolist()
    np.testing.assert_allclose(shares, [expected[pair] for pair in sorted(expected)])


@pytest.mark.parametrize("axis", [0, 1])
def test_of_a_line_of_pixels_only_its_own_pairs_count(axis: int) -> None:
    line = np.expand_dims(np.array([0, 1, 1, 2, 1, 0], dtype=np.int32), axis)
    pairs, shares = boundary_shares(line)
    assert pairs.tolist() == [[0, 1], [1, 2]]
    np.testing.assert_allclose(shares, [2 / 5, 2 / 5])


def test_shares_of_a_map_worked_out() -> None:
    segments = np.array([[0, 0, 1], [0, 2, 1]], dtype=np.int32)
    # Of four pairs across, 0-1, 0-2 and 1-2 have one each; of three down, 0-2 has one.
    pairs, shares = boundary_shares(segments)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    np.testing.assert_allclose(shares, [1 / 4, 1 / 4 + 1 / 3, 1 / 4])


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 5)])
def test_one_segment_has_no_boundaries(shape: tuple[int, int]) -> None:
    pairs, shares = boundary_shares(np.zeros(shape, dtype=np.int32))
    assert pairs.shape == (0, 2)
    assert shares.shape == (0,)
    assert pairs.dtype == np.int64
    assert shares.dtype == np.float64


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 2**31))
def test_groups_that_edges_join_are_those_of_scipy(count: int, edges: int, seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, count, (2, edges))
    found = segments.merged_groups(first, second, count)
    assert found.tolist() == segments.joined_groups(first, second, count).tolist()


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_chain_is_one_group(order: int) -> None:
    chain = np.random.default_rng(0).permutation(5000)[::order]
    assert (segments.merged_groups(chain[1:], chain[:-1], 5000) == 0).all()


@given(st.lists(st.integers(-300, 300) | st.sampled_from([-(10**9), 10**9]), min_size=1))
def test_places_are_those_among_the_values_that_occur(values: list[int]) -> None:
    occurring, places = np.unique(values, return_inverse=True)
    assert segments.places_in(occurring, np.array(values)).tolist() == places.tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_values_whose_difference_overflows_their_type_have_places(dtype: type[np.signedinteger]) -> None:
    values = np.array([[-100, 127], [127, 0]]).astype(dtype) * dtype(1 if dtype == np.int8 else 200)
    assert segments.places_in(np.unique(values), values).tolist() == [[0, 2], [2, 1]]

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dynaseg_cli.regions import graph as graph_module
from dynaseg_cli.regions import hierarchy as hierarchy_module
from dynaseg_cli.regions.cues import photo_cues
from dynaseg_cli.regions.hierarchy import (
    STRONGEST,
    Hierarchy,
    boundary_map,
    build_hierarchy,
    hierarchy_of,
    hierarchy_over,
)
from dynaseg_cli.regions.segments import connected_regions

LABEL_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))


def photo(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def built(labels: NDArray[np.integer], seed: int = 0) -> Hierarchy:
    """The hierarchy over the connected regions of a label map of noise."""
    return hierarchy_over(connected_regions(labels), labels, photo_cues(photo(labels.shape, seed)))


def refines(fine: NDArray[np.integer], coarse: NDArray[np.integer]) -> bool:
    """Whether every region of the one lies within a region of the other."""
    pairs = np.unique(np.stack([fine.reshape(-1), coarse.reshape(-1)]), axis=1)
    return pairs.shape[1] == len(np.unique(fine))


def same_partition(one: NDArray[np.integer], other: NDArray[np.integer]) -> bool:
    return refines(one, other) and refines(other, one)


@given(LABEL_MAPS)
def test_the_finest_cut_has_every_fragment_and_the_coarsest_none(labels: NDArray[np.uint8]) -> None:
    hierarchy = built(labels)
    assert same_partition(hierarchy.cut(1), connected_regions(labels))
    assert (hierarchy.cut(0) == 0).all()


@given(LABEL_MAPS, st.floats(0, 1), st.floats(0, 1))
def test_coarser_regions_are_unions_of_finer_ones(labels: NDArray[np.uint8], one: float, other: float) -> None:
    hierarchy = built(labels)
    fine, coarse = hierarchy.cut(max(one, other)), hierarchy.cut(min(one, other))
    assert refines(fine, coarse)
    assert hierarchy.count(max(one, other)) == fine.max() + 1


@given(LABEL_MAPS, st.integers(1, 90))
def test_a_number_of_regions_is_met(labels: NDArray[np.uint8], number: int) -> None:
    hierarchy = built(labels)
    assert hierarchy.cut_to(number).max() + 1 == min(number, hierarchy.size)


@given(LABEL_MAPS, st.floats(0, 1))
def test_regions_are_connected_and_numbered_by_falling_area(labels: NDArray[np.uint8], granularity: float) -> None:
    regions = built(labels).cut(granularity)
    assert same_partition(connected_regions(regions), regions)
    areas = np.bincount(regions.reshape(-1))
    assert (areas > 0).all()
    assert (np.diff(areas) <= 0).all()
    assert regions.dtype == np.int32


@given(LABEL_MAPS)
def test_a_boundary_map_holds_the_whole_hierarchy(labels: NDArray[np.uint8]) -> None:
    hierarchy = built(labels)
    grid = boundary_map(hierarchy)
    height, width = labels.shape
    assert grid.shape == (2 * height - 1, 2 * width - 1)
    assert grid.dtype == np.uint16
    again = hierarchy_of(grid)
    for name, values in vars(hierarchy).items():
        if not name.startswith("_"):
            np.testing.assert_array_equal(getattr(again, name), values, err_msg=name)
    for regions in (1, 2, 5, 40):
        np.testing.assert_array_equal(again.cut_to(regions), hierarchy.cut_to(regions))


@given(LABEL_MAPS, st.floats(0, 1))
def test_what_is_stronger_in_the_map_separates_regions(labels: NDArray[np.uint8], granularity: float) -> None:
    hierarchy = built(labels)
    grid, regions = boundary_map(hierarchy), hierarchy.cut(granularity)
    stronger = grid > round((1 - granularity) * STRONGEST)
    np.testing.assert_array_equal(regions[:, 1:] != regions[:, :-1], stronger[::2, 1::2])
    np.testing.assert_array_equal(regions[1:] != regions[:-1], stronger[1::2, ::2])


def test_the_map_of_four_pixels_worked_out() -> None:
    hierarchy = Hierarchy(
        fragments=np.array([[0, 0], [1, 2]], dtype=np.int32),
        first=np.array([0, 0, 1]),
        second=np.array([1, 2, 2]),
        strength=np.array([7, 9, 9], dtype=np.uint16),
    )
    assert boundary_map(hierarchy).tolist() == [[0, 0, 0], [7, 9, 9], [0, 9, 0]]
    assert hierarchy.cut_to(2).tolist() == [[0, 0], [0, 1]]


def test_equal_strengths_are_given_up_in_the_order_of_their_numbers() -> None:
    fragments = np.arange(4, dtype=np.int32)[None]
    hierarchy = Hierarchy(fragments, np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([5, 5, 5], dtype=np.uint16))
    assert hierarchy.cut_to(3).tolist() == [[0, 0, 1, 2]]
    assert hierarchy.cut_to(2).tolist() == [[0, 0, 0, 1]]
    threshold = 1 - 5 / STRONGEST
    assert hierarchy.count(threshold) == 1
    assert hierarchy.count(threshold + 1 / STRONGEST) == 4


def test_levels_go_from_one_region_to_all_fragments() -> None:
    hierarchy = built(np.random.default_rng(0).integers(0, 4, (20, 30)))
    granularities, regions = zip(*hierarchy.levels(), strict=True)
    assert granularities[0] == 0
    assert granularities[-1] == 1
    assert list(regions) == sorted(regions)
    assert (regions[0], regions[-1]) == (1, hierarchy.size)


def test_regions_follow_what_is_seen() -> None:
    """Two halves of different colour, each in fragments by labels that mean nothing."""
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[:, :35] = (180, 60, 40)
    image[:, 35:] = (40, 90, 180)
    random = np.random.default_rng(0)
    image += random.integers(0, 12, image.shape, dtype=np.uint8)
    labels = random.integers(0, 3, (8, 12)).repeat(5, 0).repeat(5, 1)
    labels[:, 35:] += 3
    halves = hierarchy_over(connected_regions(labels), labels, photo_cues(image)).cut_to(2)
    assert same_partition(halves, np.broadcast_to(np.arange(60) >= 35, (40, 60)).astype(int))


def test_textures_separate_what_has_one_colour() -> None:
    """Left fine stripes, right a plain grey of the same mean colour."""
    image = np.full((48, 96, 3), 128, dtype=np.uint8)
    image[:, :48:4] = 78
    image[:, 2:48:4] = 178
    labels = np.zeros((48, 96), dtype=np.uint8)
    labels[:, 24:] = 1
    labels[:, 48:] = 2
    labels[:, 72:] = 3
    hierarchy = hierarchy_over(connected_regions(labels), labels, photo_cues(image))
    assert same_partition(hierarchy.cut_to(2), np.broadcast_to(np.arange(96) >= 48, (48, 96)).astype(int))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_smallest_images(shape: tuple[int, int]) -> None:
    labels = np.arange(shape[0] * shape[1]).reshape(shape)
    hierarchy = built(labels)
    assert hierarchy.size == labels.size
    np.testing.assert_array_equal(hierarchy_of(boundary_map(hierarchy)).cut(1), hierarchy.cut(1))


def test_more_regions_than_32_bits_have_pairs() -> None:
    """The square of their number is past 2**31."""
    labels = np.indices((270, 270)).sum(0) % 2
    hierarchy = built(labels)
    assert hierarchy.size == 72_900
    for regions in (1, 1000, 70_000):
        assert hierarchy.cut_to(regions).max() + 1 == regions
    np.testing.assert_array_equal(hierarchy_of(boundary_map(hierarchy)).strength, hierarchy.strength)


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy = built(np.random.default_rng(0).integers(0, 3, (23, 30)))
    grid = boundary_map(hierarchy)
    monkeypatch.setattr(hierarchy_module, "BAND_ROWS", 4)
    np.testing.assert_array_equal(boundary_map(hierarchy), grid)
    np.testing.assert_array_equal(hierarchy_of(grid).strength, hierarchy.strength)


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (np.zeros((3, 4), dtype=np.uint16), "odd sides, not 4 x 3"),
        (np.zeros((4, 3), dtype=np.uint16), "odd sides, not 3 x 4"),
        (np.full((3, 3), 70000), "0..65535"),
        (np.full((3, 3), -1), "0..65535"),
    ],
)
def test_what_is_no_boundary_map_is_refused(grid: NDArray[np.integer], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        hierarchy_of(grid)


@given(arrays(np.uint16, st.sampled_from([(1, 1), (3, 5), (5, 5), (7, 3)]), elements=st.integers(0, 3)))
@settings(max_examples=200)
def test_any_map_of_odd_sides_has_a_hierarchy(grid: NDArray[np.uint16]) -> None:
    """Also one that is not ultrametric, or has boundaries that enclose nothing."""
    hierarchy = hierarchy_of(grid)
    assert hierarchy.cut(1).max() + 1 == hierarchy.size
    assert (hierarchy.cut(0) == 0).all()


@pytest.mark.parametrize("granularity", [-0.1, 1.1, float("nan")])
def test_granularities_outside_the_range_are_refused(granularity: float) -> None:
    with pytest.raises(ValueError, match="granularity must be"):
        built(np.zeros((2, 2), dtype=np.uint8)).cut(granularity)


def test_fewer_than_one_region_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        built(np.zeros((2, 2), dtype=np.uint8)).cut_to(0)


def test_a_faint_photo_is_cut_at_weaker_boundaries() -> None:
    """At 1/2 of the contrast boundaries are less than 1/2 weaker, and the order of merging is what it was."""
    different = np.linspace(1, 300, 150)
    bright, faint = (hierarchy_module.adapted(different * scale) for scale in (1, 0.5))
    np.testing.assert_allclose(faint / bright, 0.5 ** (1 - hierarchy_module.ADAPTATION))


def test_the_common_cut_leaves_a_typical_photo_its_typical_regions() -> None:
    different = np.linspace(1, 300, 150)
    contrast = different[-hierarchy_module.TYPICAL_REGIONS]
    found = hierarchy_module.adapted(different * hierarchy_module.TYPICAL_CONTRAST / contrast)
    assert np.count_nonzero(found >= 1 - 1e-9) == hierarchy_module.TYPICAL_REGIONS


@pytest.mark.parametrize("pairs", [0, 1, 99])
def test_contrast_is_taken_from_as_many_boundaries_as_there_are(pairs: int) -> None:
    assert np.isfinite(hierarchy_module.adapted(np.arange(1.0, pairs + 1))).all()


def test_regions_that_do_not_differ_at_all_are_the_first_to_merge() -> None:
    """Two labels that share a column, on a plain photo."""
    labels = np.repeat([0, graph_module.MOST_LABELS, 1], 4)[None].repeat(3, 0)
    plain = np.full((*labels.shape, 3), 128, dtype=np.uint8)
    hierarchy = hierarchy_over(connected_regions(labels), labels, photo_cues(plain))
    assert hierarchy.size == 3
    assert hierarchy.cut_to(2).tolist() == [[0] * 8 + [1] * 4] * 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 60), (300, 700)])
def test_fragments_are_those_of_the_photo_whatever_its_labels(shape: tuple[int, int]) -> None:
    image = photo(shape)
    plain, noisy = (build_hierarchy(np.random.default_rng(0).integers(0, n, shape), image) for n in (1, 9))
    np.testing.assert_array_equal(plain.fragments, noisy.fragments)
    assert same_partition(connected_regions(plain.fragments), plain.fragments)


def test_labels_decide_between_what_looks_the_same() -> None:
    """Three stripes in one colour, between thin lines; two of them have one label."""
    image = np.full((45, 60, 3), 120, dtype=np.uint8)
    image[14:16], image[29:31] = 90, 90
    for odd in (0, 2):
        labels = np.ones((45, 60), dtype=int)
        labels[15 * odd : 15 * odd + 15] = 2
        found = build_hierarchy(labels, image).cut_to(2)[[5, 22, 40], 30]
        assert (found == found[1]).tolist() == [odd != 0, True, odd != 2]


def test_features_decide_between_boundaries_of_one_contrast() -> None:
    """Three stripes, each a little brighter than the one before; a network sees the same thing in two of them."""
    image = np.repeat(np.array([100, 120, 140], dtype=np.uint8), 15)[:, None, None].repeat(60, 1).repeat(3, 2)
    labels = np.zeros((45, 60), dtype=int)
    for odd in (0, 2):
        features = np.zeros((3, 4, 2), dtype=np.float32)
        features[..., 0] = 1
        features[odd] = 0, 1
        found = build_hierarchy(labels, image, [features]).cut_to(2)[[5, 22, 40], 30]
        assert (found == found[1]).tolist() == [odd != 0, True, odd != 2]


def test_features_change_no_fragments() -> None:
    image, labels = photo((40, 60)), np.zeros((40, 60), dtype=int)
    features = np.random.default_rng(0).random((3, 4, 2)).astype(np.float32)
    seen, unseen = build_hierarchy(labels, image, [features]), build_hierarchy(labels, image)
    np.testing.assert_array_equal(seen.fragments, unseen.fragments)
    assert (seen.strength != unseen.strength).any()


def test_labels_of_another_photo_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("(3, 4) do not belong to a photo of shape (4, 3, 3)")):
        build_hierarchy(np.zeros((3, 4), dtype=int), photo((4, 3)))

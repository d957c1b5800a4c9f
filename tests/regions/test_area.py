from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dynaseg_cli.config import FREE, CutConfig
from dynaseg_cli.regions.area import Area, area_of
from dynaseg_cli.regions.hierarchy import boundary_map, build_hierarchy, hierarchy_of
from dynaseg_cli.regions.segments import connected_regions, number_by_area
from dynaseg_cli.regions.tidying import tidy

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(lambda mask: mask.any())


def area(mask: NDArray[np.bool_]) -> Area:
    return Area(mask)


def photo_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_area_of_all_pixels_is_none_and_of_no_pixel_an_error() -> None:
    assert area_of(None) is None
    assert area_of(np.ones((2, 3), bool)) is None
    with pytest.raises(ValueError, match="no pixel counts"):
        area_of(np.zeros((2, 3), bool))


def test_pixels_that_do_not_count_have_the_colour_of_the_nearest_that_does() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1, 1], mask[2, 4], mask[3, 3] = True, True, True
    photo = photo_of(mask.shape)
    found = area(mask)
    assert found.box == (slice(1, 4), slice(1, 5))
    # a is (1, 1), b (2, 4) and c (3, 3); by Euclidean distance, worked by hand
    a, b, c = photo[1, 1], photo[2, 4], photo[3, 3]
    expected = np.array([[a, a, b, b], [a, a, c, b], [a, c, c, c]])
    filled = found.filled(photo)
    tied = [(0, 2), (1, 2), (2, 3)]  # two are equally near: either will do
    for y, x in np.ndindex(3, 4):
        if (y, x) not in tied:
            assert filled[y, x].tolist() == expected[y, x].tolist()
    assert found.seen(photo).tolist() == [[a.tolist(), b.tolist(), c.tolist()]]


@given(MASKS)
def test_filling_is_that_of_a_search_through_all_pixels(mask: NDArray[np.bool_]) -> None:
    photo, found = photo_of(mask.shape), area(mask)
    filled, (rows, columns) = found.filled(photo), found.box
    counted = np.argwhere(mask)
    for y, x in np.ndindex(filled.shape[:2]):
        distance = ((counted - (y + rows.start, x + columns.start)) ** 2).sum(axis=1)
        nearest = counted[distance == distance.min()]
        assert filled[y, x].tolist() in [photo[tuple(place)].tolist() for place in nearest]


@given(MASKS)
def test_what_is_continued_or_pasted_is_cropped_to_what_it_was(mask: NDArray[np.bool_]) -> None:
    found = area(mask)
    values = np.arange(found.inside.size, dtype=np.int32).reshape(found.inside.shape)
    continued, pasted = found.continued(values), found.pasted(values, -1)
    assert continued.shape == pasted.shape == mask.shape
    assert np.array_equal(continued[found.box], values)
    assert np.array_equal(pasted[mask], values[found.inside])
    assert (pasted[~mask] == -1).all()


@given(MASKS, st.integers(0, 5))
def test_hierarchy_of_the_box_comes_back_from_the_file_of_the_photo(mask: NDArray[np.bool_], seed: int) -> None:
    found = area(mask)
    raw = np.random.default_rng(seed).integers(0, 3, mask.shape).astype(np.uint8)
    photo = photo_of(mask.shape, seed)
    box = build_hierarchy(raw[found.box], found.filled(photo))
    boundaries = boundary_map(found.continued_hierarchy(box))
    assert boundaries.shape == tuple(2 * side - 1 for side in mask.shape)
    back = found.hierarchy_of_box(hierarchy_of(boundaries))
    for granularity in (0.0, 0.3, 0.5, 0.7, 1.0):
        assert np.array_equal(back.cut(granularity), box.cut(granularity))


def test_scribbles_outside_do_not_count() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1:, 1:] = True
    scribbles = np.full((3, 4), FREE, np.uint8)
    scribbles[0] = 5
    assert area(mask).drawn(scribbles) is None
    assert area(mask).drawn(None) is None
    scribbles[2, 2] = 7
    drawn = area(mask).drawn(scribbles)
    assert drawn is not None
    assert drawn.tolist() == [[FREE, FREE, FREE], [FREE, 7, FREE]]


# Labels


@given(MASKS, st.sampled_from([CutConfig(), CutConfig("raw"), CutConfig(2)]), st.integers(0, 9), st.booleans())
def test_regions_are_connected_and_numbered_by_what_counts(
    mask: NDArray[np.bool_], cut: CutConfig, seed: int, background: bool
) -> None:
    raw = number_by_area(np.random.default_rng(seed).integers(0, 4, mask.shape)).labels
    tidied = tidy(raw, photo_of(mask.shape, seed), cut, area=area(mask), background=background)
    assert tidied.outside == (0 if background else 255)
    assert np.array_equal(tidied.regions < 0, ~mask)
    assert (tidied.labels[~mask] == tidied.outside).all()
    assert tidied.labels.dtype == np.uint8
    first = int(background)
    for values, start in ((tidied.regions[mask], 0), (tidied.labels[mask], first)):
        numbers, areas = np.unique(values, return_counts=True)
        assert numbers.tolist() == list(range(start, start + len(numbers)))
        assert (np.diff(areas) <= 0).all()
    parts = connected_regions(tidied.regions)
    assert len(np.unique(parts[mask])) == tidied.regions.max() + 1
    for region in range(int(tidied.regions.max()) + 1):
        assert len(np.unique(tidied.labels[tidied.regions == region])) == 1


@given(st.data(), st.sampled_from([CutConfig(), CutConfig("raw"), CutConfig(3)]), st.integers(0, 9))
def test_rectangle_is_cut_as_a_photo_of_its_own(data: st.DataObject, cut: CutConfig, seed: int) -> None:
    height, width = 9, 11
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), bool)
    mask[top : data.draw(st.integers(top + 1, height)), left : data.draw(st.integers(left + 1, width))] = True
    photo, found = photo_of(mask.shape, seed), area(mask)
    box = number_by_area(np.random.default_rng(seed).integers(0, 4, found.inside.shape)).labels
    alone = tidy(box, np.ascontiguousarray(photo[found.box]), cut)
    within = tidy(found.continued(box), photo, cut, area=found)
    assert np.array_equal(within.labels[found.box], alone.labels)
    assert np.array_equal(within.regions[found.box], alone.regions)
    assert np.array_equal(within.numbers[np.unique(box)], alone.numbers[np.unique(box)])


def test_region_that_the_border_divides_falls_apart() -> None:
    raw = np.zeros((3, 7), np.uint8)
    mask = np.ones((3, 7), bool)
    mask[:, 2] = False
    mask[0, 0] = False
    tidied = tidy(raw, np.zeros((3, 7, 3), np.uint8), CutConfig(1), area=area(mask))
    assert tidied.regions.tolist() == [[-1, 1, -1, 0, 0, 0, 0], [1, 1, -1, 0, 0, 0, 0], [1, 1, -1, 0, 0, 0, 0]]
    assert tidied.labels[mask].tolist() == [0] * 17


def test_numbers_follow_the_area_inside_and_say_so() -> None:
    raw = np.array([[0, 0, 0, 0, 1, 1, 2]], np.uint8)
    mask = np.array([[False, True, False, False, True, True, True]])
    # In the box label 0 is largest, but of what counts label 1.
    tidied = tidy(raw, np.zeros((1, 7, 3), np.uint8), CutConfig("raw"), area=area(mask))
    assert tidied.labels.tolist() == [[255, 1, 255, 255, 0, 0, 2]]
    assert tidied.numbers.tolist() == [1, 0, 2]
    kept = tidy(raw, np.zeros((1, 7, 3), np.uint8), CutConfig("raw"), area=area(mask), renumber=False)
    assert kept.labels.tolist() == [[255, 0, 255, 255, 1, 1, 2]]


@pytest.mark.parametrize(("count", "background", "outside"), [(255, False, 255), (256, False, 65535), (255, True, 0)])
def test_void_is_no_label(count: int, background: bool, outside: int) -> None:
    raw = np.append(np.arange(count), 0).astype(np.uint8)[None]
    mask = np.ones(raw.shape, bool)
    mask[0, -1] = False
    tidied = tidy(raw, np.zeros((*raw.shape, 3), np.uint8), CutConfig("raw"), area=area(mask), background=background)
    assert (tidied.outside, tidied.labels[0, -1]) == (outside, outside)
    assert tidied.labels[0, :-1].tolist() == list(range(int(background), count + int(background)))

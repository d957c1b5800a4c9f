from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from samples import noise

from dynaseg_cli.folder.mosaics import COLUMNS, CROPS, FULL_SIDE, ROWS, SMALLEST_SIDE, crop, crop_side, mosaics
from dynaseg_cli.resampling import shrink, working_size


def plain(value: int, side: int = 2) -> NDArray[np.uint8]:
    return np.full((side, side, 3), value, dtype=np.uint8)


def values(mosaic: NDArray[np.uint8], side: int = 2) -> list[list[int]]:
    """The value of each crop of a mosaic of plain ones, in its place."""
    for row in range(ROWS):
        for column in range(COLUMNS):
            place = mosaic[row * side : (row + 1) * side, column * side : (column + 1) * side]
            assert len(np.unique(place)) == 1
    found: list[list[int]] = mosaic[::side, ::side, 0].tolist()
    return found


def test_crops_lie_side_by_side_in_their_order() -> None:
    (mosaic,) = mosaics(map(plain, range(8)))
    assert (mosaic.shape, mosaic.dtype) == ((4, 8, 3), np.uint8)
    assert values(mosaic) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_first_crops_fill_up_the_last_mosaic() -> None:
    first, second = mosaics(map(plain, range(11)))
    assert values(first) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert values(second) == [[8, 9, 10, 0], [1, 2, 3, 4]]


@pytest.mark.parametrize("count", [1, 3])
def test_few_crops_are_repeated(count: int) -> None:
    (mosaic,) = mosaics(map(plain, range(count)))
    assert [value for row in values(mosaic) for value in row] == [index % count for index in range(CROPS)]


def test_of_no_crops_there_is_no_mosaic() -> None:
    assert list(mosaics([])) == []


def test_crops_are_taken_as_they_are_needed() -> None:
    taken = 0

    def crops() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for index in range(10 * CROPS):
            taken += 1
            yield plain(index)

    for number, _ in enumerate(mosaics(crops()), start=1):
        assert taken == number * CROPS


@pytest.mark.parametrize(("max_size", "side"), [(192, 96), (0, FULL_SIDE), (16, SMALLEST_SIDE), (33, SMALLEST_SIDE)])
def test_side_of_a_crop_follows_the_working_size(max_size: int, side: int) -> None:
    assert crop_side(max_size) == side


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    max_size=st.sampled_from([0, 16, 32, 64]),
    seed=st.integers(0, 99),
)
def test_crop_is_a_square_of_the_image_at_its_working_size(width: int, height: int, max_size: int, seed: int) -> None:
    image = noise(seed, width, height)
    found = crop(image, max_size, np.random.default_rng(seed))
    side = crop_side(max_size)
    assert (found.shape, found.dtype) == ((side, side, 3), np.uint8)
    small = shrink(image, *working_size(width, height, max_size))
    windows = np.lib.stride_tricks.sliding_window_view(small, (min(side, small.shape[0]), min(side, small.shape[1]), 3))
    inside = found[: windows.shape[3], : windows.shape[4]]
    assert (windows == inside).all((-1, -2, -3)).any(), "what is not mirrored lies in the image"


def test_narrow_image_is_mirrored_outwards() -> None:
    image = noise(0, 40, 3)
    found = crop(image, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(found[:3, :40], image)
    np.testing.assert_array_equal(found[3:6, :40], image[::-1])
    np.testing.assert_array_equal(found[:3, 40:80], image[:, ::-1])


def test_crops_differ_by_their_draw_and_reach_every_border() -> None:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:40, :60]
    corners = {tuple(crop(image, 60, np.random.default_rng(seed))[0, 0, :2].tolist()) for seed in range(3000)}
    assert {top for top, _ in corners} == set(range(11))
    assert {left for _, left in corners} == set(range(31))


@pytest.mark.parametrize("max_size", [0, 600])
def test_crop_does_not_keep_the_photo(max_size: int) -> None:
    found = crop(np.zeros((400, 600, 3), dtype=np.uint8), max_size, np.random.default_rng(0))
    assert found.base is None

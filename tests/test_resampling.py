from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynaseg_cli.resampling import level_sizes, shrink, working_size

SIDE = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [
        ((481, 321), 240, (240, 160)),
        ((321, 481), 240, (160, 240)),
        ((240, 100), 240, (240, 100)),
        ((100, 50), 240, (100, 50)),
        ((4000, 3000), 0, (4000, 3000)),
        ((10_000, 1), 100, (100, 1)),
    ],
)
def test_working_size_is_worked_by_hand(size: tuple[int, int], max_size: int, expected: tuple[int, int]) -> None:
    assert working_size(*size, max_size) == expected


@given(width=SIDE, height=SIDE, max_size=st.integers(16, 5000))
def test_longest_side_fits_and_the_aspect_is_kept(width: int, height: int, max_size: int) -> None:
    new = working_size(width, height, max_size)
    assert max(new) == min(max(width, height), max_size)
    scale = max(new) / max(width, height)
    for old_side, new_side in zip((width, height), new, strict=True):
        assert 1 <= new_side <= old_side
        assert abs(new_side - old_side * scale) <= 0.5 or new_side == 1


def test_shrinking_averages_the_area_behind_each_pixel() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[:2, :2] = [[[10, 0, 1], [20, 0, 1]], [[30, 0, 1], [40, 0, 5]]]
    image[2:, 2:] = 200
    small = shrink(image, 2, 2)
    assert small.dtype == np.uint8
    assert small.tolist() == [[[25, 0, 2], [0, 0, 0]], [[0, 0, 0], [200, 200, 200]]]


def test_shrinking_takes_width_before_height(photo: NDArray[np.uint8]) -> None:
    assert shrink(photo, 16, 6).shape == (6, 16, 3)


def test_image_of_the_right_size_is_left_as_it_is(photo: NDArray[np.uint8]) -> None:
    assert shrink(photo, 32, 24) is photo


@pytest.mark.parametrize(
    ("max_size", "levels", "expected"),
    [
        (192, 1, [192]),
        (192, 2, [96, 192]),
        (192, 3, [48, 96, 192]),
        (192, 9, [48, 96, 192]),
        (481, 2, [240, 481]),
        (40, 2, [40]),
        (1, 2, [1]),
    ],
)
def test_each_level_is_half_the_next_down_to_a_least_size(max_size: int, levels: int, expected: list[int]) -> None:
    assert level_sizes(max_size, levels) == expected

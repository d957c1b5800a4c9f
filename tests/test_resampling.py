from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynaseg_cli.resampling import level_sizes, resize, shrink, working_size

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


def test_resizing_takes_width_before_height(photo: NDArray[np.uint8]) -> None:
    large = resize(photo, 50, 70)
    assert large.shape == (70, 50, 3)
    assert large.dtype == np.uint8
    np.testing.assert_array_equal(resize(photo, 32, 24), photo)


def test_enlarging_goes_on_smoothly_between_pixels() -> None:
    """Along a ramp new pixels lie 1/4 before and after the old ones; the ends have no more to go on to."""
    ramp = np.broadcast_to(np.arange(0, 240, 40, dtype=np.uint8)[None, :, None], (3, 6, 3))
    large = resize(ramp, 12, 3)
    expected = 20 * np.arange(12) - 10
    np.testing.assert_array_equal(large[:, 3:-3], np.broadcast_to(expected[None, 3:-3, None], (3, 6, 3)))
    assert (np.diff(large.astype(int), axis=1) > 0).all()


def test_an_edge_enlarged_is_that_of_the_cubic_convolution() -> None:
    """Keys' kernel, a = -1/2, at distances of 1/4, 3/4, 5/4 and 7/4: 0.867, 0.227, -0.070 and -0.023."""
    edge = np.repeat(np.array([50, 150], dtype=np.uint8), 3)[None, :, None].repeat(2, 0).repeat(3, 2)
    expected = [50, 50, 50, 48, 43, 70, 130, 157, 152, 150, 150, 150]
    assert resize(edge, 12, 2)[0, :, 0].tolist() == expected


def test_resizing_to_less_averages_what_is_too_fine() -> None:
    stripes = np.zeros((4, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    # The first and the last pixel see more of one than of the other.
    np.testing.assert_array_equal(resize(stripes, 8, 4)[:, 1:-1], np.full((4, 6, 3), 100))


@given(st.integers(0, 255), st.integers(1, 40), st.integers(1, 40))
def test_what_is_plain_stays_plain_at_any_size(value: int, width: int, height: int) -> None:
    plain = np.full((5, 7, 3), value, dtype=np.uint8)
    np.testing.assert_array_equal(resize(plain, width, height), np.full((height, width, 3), value))


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

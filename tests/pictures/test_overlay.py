from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from samples import noise
from scipy.ndimage import maximum_filter, minimum_filter

from dynaseg_cli.pictures import overlay as module
from dynaseg_cli.pictures.overlay import EDGE_OPACITY, LINE, OPACITY, boundaries, edge_width, line_width, overlay
from dynaseg_cli.pictures.palette import label_palette

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


def test_colours_shine_through_and_boundaries_are_white_with_dark_edges() -> None:
    photo = np.full((3, 6, 3), 100, dtype=np.uint8)
    regions = np.array([[0, 0, 0, 1, 1, 1]] * 3)
    laid = overlay(photo, regions, np.array([[200, 0, 100], [0, 0, 0]], dtype=np.uint8))
    expected = np.rint([100 * (1 - OPACITY) + colour * OPACITY for colour in (200, 0, 100)])
    np.testing.assert_array_equal(laid[:, :1], np.broadcast_to(expected, (3, 1, 3)))
    np.testing.assert_array_equal(laid[:, 1:2], np.broadcast_to(np.rint(expected * (1 - EDGE_OPACITY)), (3, 1, 3)))
    np.testing.assert_array_equal(laid[:, 2:4], np.broadcast_to(LINE, (3, 2, 3)))
    np.testing.assert_array_equal(laid[:, 4:5], np.rint(laid[:, 5:] * (1 - EDGE_OPACITY)))


@pytest.mark.parametrize("grey", [0, 64, 128, 192, 255])
def test_outlines_show_on_light_and_dark(grey: int) -> None:
    """Across a boundary there are two neighbours that differ by a third of the range, whatever the photo's grey."""
    photo = np.full((1, 12, 3), grey, dtype=np.uint8)
    for colour in (0, 128, 255):
        laid = overlay(photo, np.arange(12)[None] // 6, np.full((2, 3), colour, dtype=np.uint8)).astype(int)
        steps = np.abs(np.diff(laid[0], axis=0)).min(1)
        assert steps.max() > 85
        assert np.abs(laid[0, 0] - grey).max() <= 0.25 * 255 + 1


def test_things_keep_their_own_colour() -> None:
    """Of a grey cat under the palette's strongest colour no more than a quarter is that colour."""
    photo = np.full((1, 1, 3), 120, dtype=np.uint8)
    for colour in label_palette():
        laid = overlay(photo, np.zeros((1, 1), dtype=np.int32), colour[None]).astype(float)[0, 0]
        assert np.ptp(laid) <= 0.25 * np.ptp(colour.astype(float)) + 1


def test_one_region_has_no_boundary() -> None:
    photo = noise(0, 7, 5)
    laid = overlay(photo, np.zeros((5, 7), dtype=np.int32), np.zeros((1, 3), dtype=np.uint8))
    np.testing.assert_allclose(laid, photo * (1 - OPACITY), atol=0.5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_smallest_photos_are_laid_over(size: tuple[int, int]) -> None:
    regions = np.arange(size[0] * size[1]).reshape(size)
    laid = overlay(noise(0, size[1], size[0]), regions, np.full((regions.size, 3), 255, dtype=np.uint8))
    assert laid.shape == (*size, 3)


@st.composite
def region_maps(draw: st.DrawFn) -> NDArray[np.int64]:
    size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    return np.random.default_rng(draw(st.integers(0, 999))).integers(0, 3, size)


@given(region_maps())
def test_thinnest_boundary_is_where_neighbours_differ(regions: NDArray[np.int64]) -> None:
    differ = maximum_filter(regions, footprint=CROSS) != minimum_filter(regions, footprint=CROSS)
    np.testing.assert_array_equal(boundaries(regions), differ)


@given(region_maps(), st.integers(1, 4))
def test_wider_boundary_reaches_further_across_and_down(regions: NDArray[np.int64], width: int) -> None:
    row = np.ones((1, 2 * width + 1), dtype=bool)
    differ = [maximum_filter(regions, footprint=way) != minimum_filter(regions, footprint=way) for way in (row, row.T)]
    np.testing.assert_array_equal(boundaries(regions, width), differ[0] | differ[1])


@given(region_maps(), st.integers(1, 9), st.sampled_from([1, 4]))
def test_picture_does_not_depend_on_the_rows_drawn_at_a_time(
    regions: NDArray[np.int64], band: int, pixels_of_a_line: int
) -> None:
    photo, colors = noise(1, regions.shape[1], regions.shape[0]), noise(2, 3, 1)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIXELS_OF_A_LINE", pixels_of_a_line)
        whole = overlay(photo, regions, colors)
        patch.setattr(module, "BAND", band)
        np.testing.assert_array_equal(overlay(photo, regions, colors), whole)


def test_lines_are_wider_in_large_photos() -> None:
    assert [line_width(*size) for size in ((1, 1), (321, 481), (3000, 4000))] == [1, 1, 8]
    assert [edge_width(width) for width in (1, 2, 8)] == [1, 1, 4]


def test_what_does_not_belong_together_is_refused() -> None:
    photo, regions = np.zeros((3, 4, 3), dtype=np.uint8), np.arange(12).reshape(3, 4)
    with pytest.raises(ValueError, match=r"shape \(4, 3\) do not belong to a photo of shape \(3, 4, 3\)"):
        overlay(photo, regions.T, np.zeros((12, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="11 colours for 12 regions"):
        overlay(photo, regions, np.zeros((11, 3), dtype=np.uint8))

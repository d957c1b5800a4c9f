from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dynaseg_cli.regions import fragments as fragments_module
from dynaseg_cli.regions.cues import CUE_SIZE, photo_cues
from dynaseg_cli.regions.fragments import catchment_basins, photo_fragments
from dynaseg_cli.regions.segments import connected_regions

RELIEFS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 5))


def downhill(relief: NDArray[np.float32], y: int, x: int) -> tuple[int, int]:
    """Where one comes to from a pixel by steps to the lowest neighbour, of equal ones any."""
    height, width = relief.shape
    near = [(v, u) for v in range(y - 1, y + 2) for u in range(x - 1, x + 2) if 0 <= v < height and 0 <= u < width]
    lowest = min(near, key=lambda place: float(relief[place]))
    return (y, x) if relief[lowest] == relief[y, x] else downhill(relief, *lowest)


def test_two_valleys_and_the_ridge_between_them() -> None:
    relief = np.array([[1, 2, 5, 1, 0]], dtype=np.float32)
    assert catchment_basins(relief).tolist() == [[1, 1, 2, 2, 2]]
    assert catchment_basins(np.zeros((3, 4), dtype=np.float32)).tolist() == [[1] * 4] * 3


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(0, 1, width=32)))
def test_pixels_belong_to_where_steps_downhill_lead(relief: NDArray[np.float32]) -> None:
    relief += np.arange(relief.size, dtype=np.float32).reshape(relief.shape) * np.float32(1e-3)  # hardly any are equal
    if len(np.unique(relief)) < relief.size:
        return
    basins = catchment_basins(relief)
    ends = np.array(
        [
            [np.ravel_multi_index(downhill(relief, y, x), relief.shape) for x in range(relief.shape[1])]
            for y in range(relief.shape[0])
        ]
    )
    pairs = np.unique(np.stack([basins.reshape(-1), ends.reshape(-1)]), axis=1)
    assert pairs.shape[1] == len(np.unique(basins)) == len(np.unique(ends))


@given(RELIEFS)
def test_basins_are_numbered_without_gaps(relief: NDArray[np.float32]) -> None:
    basins = catchment_basins(relief)
    assert np.unique(basins).tolist() == list(range(1, basins.max() + 1))


def two_halves(height: int, width: int, edge: int) -> NDArray[np.uint8]:
    image = np.full((height, width, 3), (190, 60, 50), dtype=np.uint8)
    image[:, edge:] = (50, 90, 180)
    return image


@pytest.mark.parametrize(("size", "edge"), [((60, 90), 41), ((300, 1500), 704), ((1500, 300), 113)])
def test_fragments_end_where_the_photo_has_its_edge(size: tuple[int, int], edge: int) -> None:
    """Also in photos that were shrunk for their cues, whose pixels are three wide then."""
    image = two_halves(*size, edge)
    fragments = photo_fragments(image, photo_cues(image).contrast)
    assert fragments.shape == size
    assert np.intersect1d(fragments[:, :edge], fragments[:, edge:]).size == 0


def test_fragments_are_connected_and_numbered_in_scan_order() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, CUE_SIZE + 200, 3), dtype=np.uint8)
    fragments = photo_fragments(image, photo_cues(image).contrast)
    np.testing.assert_array_equal(connected_regions(fragments), fragments)


def test_bands_change_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (400, 1100, 3), dtype=np.uint8)
    contrast = photo_cues(image).contrast
    whole = photo_fragments(image, contrast)
    monkeypatch.setattr(fragments_module, "BAND_PIXELS", 1100 * 100)
    banded = photo_fragments(image, contrast)
    borders = [(one[1:] != one[:-1]) for one in (whole, banded)]
    assert (borders[0] == borders[1]).mean() > 0.999

"""Fragments: the finest regions of a photo, which end where its contrast is greatest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum_filter, minimum_filter

from ..resampling import middle_indices
from .cues import steepness
from .gaussian import smoothed
from .segments import BAND_PIXELS, connected_regions

SMOOTHING = 1.0
"""Standard deviation in pixels of the Gaussian that the contrast is smoothed with, so that noise makes no fragments."""
MARGIN = 64
"""Rows above and below a band that its pixels may flow into."""

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (-1, -1), (-1, 1))
"""Steps down and to the right. Of equally low neighbours, a pixel flows to the first."""


def photo_fragments(image: NDArray[np.uint8], contrast: NDArray[np.float32]) -> NDArray[np.int32]:
    """The 4-connected fragments 0..F-1, in scan order, of an RGB (H, W, 3) uint8 photo: (H, W) int32.

    They are the catchment basins of the photo's contrast, in which every pixel flows to the lowest around it (Meyer
    1994, doi:10.1016/0165-1684(94)90060-4, "topographic distance").

    Parameters
    ----------
    contrast : (h, w) that of the photo, shrunk or not. If it was shrunk, boundaries are moved to the photo's own
        contrast: its many basins are joined to those of the shrunk one.
    """
    height, width = image.shape[:2]
    found = catchment_basins(smoothed(contrast, SMOOTHING))
    if found.shape == (height, width):
        return connected_regions(found)
    inside = minimum_filter(found, 3) == maximum_filter(found, 3)
    rows, columns = map(middle_indices, found.shape, (height, width))
    fragments = np.empty((height, width), dtype=np.int32)
    for top in range(0, height, step := max(BAND_PIXELS // width, MARGIN)):
        first, last = max(top - MARGIN, 0), min(top + step + MARGIN, height)
        small = catchment_basins(steepness(image[first:last].astype(np.float32), SMOOTHING))
        # Where a basin lies in several, its last pixel decides, if possible of those that are not next to a boundary.
        near, belongs = np.ix_(rows[first:last], columns), np.empty(int(small.max()) + 1, dtype=np.int32)
        belongs[small] = found[near]
        belongs[small[inside[near]]] = found[near][inside[near]]
        fragments[top : top + step] = belongs[small][top - first :][:step]
    return connected_regions(fragments)


def catchment_basins(relief: NDArray[np.float32]) -> NDArray[np.int32]:
    """Number the catchment basins of an (H, W) relief from 1: (H, W) int32, 8-connected.

    A pixel belongs to where one comes from it by steps to the lowest of its eight neighbours: to a minimum, or to level
    ground from which no step leads down.
    """
    way = _ways_down(relief)
    # Pixels without a lower neighbour that touch each other are equally high.
    basins: NDArray[np.int32] = label(way == 0, np.ones((3, 3)))[0]
    steps = np.array([0, *(down * relief.shape[1] + right for down, right in _NEIGHBOURS)])
    end = steps[way.reshape(-1)]
    end += np.arange(relief.size)
    while not np.array_equal(further := end[end], end):
        end = further
    found: NDArray[np.int32] = basins.reshape(-1)[end].reshape(relief.shape)
    return found


def _ways_down(relief: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) which of `_NEIGHBOURS`, from 1, each pixel flows to; 0 for none."""
    height, width = relief.shape
    walled = np.pad(relief, 1, constant_values=np.inf)
    lowest, way = relief.copy(), np.zeros(relief.shape, dtype=np.uint8)
    for number, (down, right) in enumerate(_NEIGHBOURS, 1):
        neighbour = walled[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        is_lower = neighbour < lowest
        np.minimum(lowest, neighbour, out=lowest)
        np.maximum(way, is_lower.view(np.uint8) * np.uint8(number), out=way)
    return way

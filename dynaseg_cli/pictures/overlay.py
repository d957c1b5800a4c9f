"""A photo with what was found in it laid over: boundaries, and colours that it shines through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPACITY = 0.45
"""Of the colours, over a photo whose own are still to be recognised."""
PIXELS_OF_A_LINE = 500
"""The longest side of a photo whose boundaries are drawn one pixel wide on either side."""
LINE = np.array([255, 255, 255], dtype=np.uint8)


def overlay(photo: NDArray[np.uint8], regions: NDArray[np.integer], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay regions over a photo: translucent colours, and white lines between neighbours.

    Parameters
    ----------
    photo : (H, W, 3) uint8 RGB.
    regions : (H, W) integers in 0..R-1.
    colors : (R, 3) uint8 RGB, of each region.

    Returns
    -------
    (H, W, 3) uint8 RGB.
    """
    shares = [np.rint(np.arange(256) * share).astype(np.uint8) for share in (1 - OPACITY, OPACITY)]
    laid = shares[0][photo] + shares[1][colors][regions]
    width = max(1, round(max(regions.shape) / PIXELS_OF_A_LINE))
    laid[boundaries(regions, width)] = LINE
    return laid


def boundaries(regions: NDArray[np.integer], width: int = 1) -> NDArray[np.bool_]:
    """(H, W): which pixels are no further than `width` from one of another region, across or down."""
    found = np.zeros(regions.shape, dtype=bool)
    for step in range(1, width + 1):
        across = regions[:, step:] != regions[:, :-step]
        down = regions[step:] != regions[:-step]
        found[:, step:] |= across
        found[:, :-step] |= across
        found[step:] |= down
        found[:-step] |= down
    return found

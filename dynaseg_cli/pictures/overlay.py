"""A photo with what was found in it laid over: boundaries, and colours that it shines through."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPACITY = 0.45
"""Of the colours, over a photo whose own are still to be recognised."""
PIXELS_OF_A_LINE = 500
"""Pixels of the longest side for which a line gets one more pixel on either side of a boundary."""
LINE = np.array([255, 255, 255], dtype=np.uint8)
BAND = 256
"""Rows that are drawn at a time, which bounds the memory."""


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
    behind = np.rint(np.arange(256) * (1 - OPACITY)).astype(np.uint8)
    before = np.rint(colors * OPACITY).astype(np.uint8)
    width = line_width(*regions.shape)
    laid = np.empty_like(photo)
    for top in range(0, len(regions), BAND):
        rows, near = slice(top, top + BAND), max(top - width, 0)
        laid[rows] = behind[photo[rows]] + before[regions[rows]]
        lines = boundaries(regions[near : top + BAND + width], width)[top - near :][:BAND]
        laid[rows][lines] = LINE
    return laid


def line_width(height: int, width: int) -> int:
    """Pixels on either side of a boundary that are drawn in a picture of this size."""
    return max(1, round(max(height, width) / PIXELS_OF_A_LINE))


def boundaries(regions: NDArray[np.integer], width: int = 1) -> NDArray[np.bool_]:
    """(H, W): which pixels have one of another region at most `width` pixels away, across or down."""
    found = np.zeros(regions.shape, dtype=bool)
    for step in range(1, width + 1):
        across = regions[:, step:] != regions[:, :-step]
        found[:, step:] |= across
        found[:, :-step] |= across
        down = regions[step:] != regions[:-step]
        found[step:] |= down
        found[:-step] |= down
    return found

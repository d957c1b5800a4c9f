"""Overlays: a photo below the boundaries and translucent colours of its regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPACITY = 0.45
"""Opacity of the colours; low enough to keep the photo recognisable."""
PIXELS_OF_A_LINE = 500
"""For every so many pixels of the longest side, lines are a pixel wider on either side of the boundary."""
LINE = np.array([255, 255, 255], dtype=np.uint8)
BAND = 256
"""Rows that are drawn at a time, to bound the memory."""


def overlay(photo: NDArray[np.uint8], regions: NDArray[np.integer], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay regions over a photo: translucent colours, and white lines between neighbours. (H, W, 3) uint8 RGB.

    Parameters
    ----------
    photo : (H, W, 3) uint8 RGB.
    regions : (H, W) integers in 0..R-1.
    colors : (R, 3) uint8 RGB of each region.

    Raises
    ------
    ValueError
        If the photo and the regions differ in size, or a region has no colour.
    """
    if photo.shape != (*regions.shape, 3):
        raise ValueError(f"regions of shape {regions.shape} do not belong to a photo of shape {photo.shape}")
    if regions.max() >= len(colors):
        raise ValueError(f"there are {len(colors)} colours for {regions.max() + 1} regions")
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
    """Width in pixels of the line on either side of a boundary, in a picture of this size."""
    return max(1, round(max(height, width) / PIXELS_OF_A_LINE))


def boundaries(regions: NDArray[np.integer], width: int = 1) -> NDArray[np.bool_]:
    """(H, W) mask of the pixels that have another region at most `width` pixels away, across or down."""
    found = np.zeros(regions.shape, dtype=bool)
    for step in range(1, width + 1):
        across = regions[:, step:] != regions[:, :-step]
        found[:, step:] |= across
        found[:, :-step] |= across
        down = regions[step:] != regions[:-step]
        found[step:] |= down
        found[:-step] |= down
    return found

"""Overlays: a photo below the boundaries and translucent colours of its regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPACITY = 0.25
"""Opacity of the colours; low enough for things to keep their own: a grey cat stays grey under blue."""
PIXELS_OF_A_LINE = 500
"""For every so many pixels of the longest side, lines are a pixel wider on either side of the boundary."""
LINE = np.array([255, 255, 255], dtype=np.uint8)
EDGE_OPACITY = 0.6
"""Opacity of the black edges along the lines, which show on a light photo, where white does not."""
BAND = 256
"""Rows that are drawn at a time, to bound the memory."""


def overlay(photo: NDArray[np.uint8], regions: NDArray[np.integer], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay regions over a photo: translucent colours, and between neighbours white lines with dark edges.

    Where there is no region, the photo stays as it is but for the lines along its border.

    Returns (H, W, 3) uint8 RGB.

    Parameters
    ----------
    photo : (H, W, 3) uint8 RGB.
    regions : (H, W) integers in 0..R-1, or -1 for no region.
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
    is_whole = regions.min() >= 0
    darker = np.rint(np.arange(256) * (1 - EDGE_OPACITY)).astype(np.uint8)
    width = line_width(*regions.shape)
    reach = width + edge_width(width)
    laid = np.empty_like(photo)
    for top in range(0, len(regions), BAND):
        rows, near = slice(top, top + BAND), max(top - reach, 0)
        laid[rows] = behind[photo[rows]] + before[regions[rows]]
        if not is_whole:
            laid[rows][regions[rows] < 0] = photo[rows][regions[rows] < 0]
        nearby = regions[near : top + BAND + reach]
        edges, lines = (boundaries(nearby, far)[top - near :][:BAND] for far in (reach, width))
        laid[rows][edges] = darker[laid[rows][edges]]
        laid[rows][lines] = LINE
    return laid


def line_width(height: int, width: int) -> int:
    """Width in pixels of the line on either side of a boundary, in a picture of this size."""
    return max(1, round(max(height, width) / PIXELS_OF_A_LINE))


def edge_width(width: int) -> int:
    """Width in pixels of the dark edge on either side of a line that is `width` wide on either side."""
    return max(1, width // 2)


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

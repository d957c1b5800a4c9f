"""The hierarchy of an image, as far as its thumbnail shows it, for a page that cuts it into any number of regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import CutConfig
from ..regions.hierarchy import Hierarchy
from ..regions.segments import areas_and_colors
from .packing import packed, runs_of
from .thumbnail import shrunk_map

STEPS = 100
"""Steps of granularity from 0, the whole image, to 1, every fragment, whose numbers of regions the page knows."""


def granularity_entry(hierarchy: Hierarchy, photo: NDArray[np.uint8], cut: dict[str, Any]) -> dict[str, Any]:
    """The hierarchy of an (H, W, 3) photo, for its thumbnail.

    Fragments that no pixel of the thumbnail shows are left out, and what they join is joined without them, so that any
    cut of the rest is that of the whole.

    Parameters
    ----------
    cut : how the regions were cut, as in the statistics; the slider starts there.

    Returns
    -------
    dict of {"width", "height" of the thumbnail; "runs" (uint16, of pixels of one fragment in a row) and "fragments"
    (uint32, 0..V-1, of each run); "colors" (uint8, mean red, green and blue) and "areas" (uint32, pixels in the photo)
    of each fragment; "joins" (uint32, two fragments each, V-1 of them, from fine to coarse) and "left" (uint32, how
    many regions the photo has after each); "most" (regions that are possible); "regions" (how many the photo has at
    each of 0..100 steps of granularity); "start" (a number of regions)}, with numbers `packed`.
    """
    small = shrunk_map(hierarchy.fragments)
    height, width = small.shape
    visible, inverse = np.unique(small, return_inverse=True)
    runs, fragments = runs_of(inverse.reshape(height, width))
    areas, colors = areas_and_colors(hierarchy.fragments, photo)
    joins, left = hierarchy.joins_of(visible)
    return {
        "width": width,
        "height": height,
        "runs": packed(runs, "<u2"),
        "fragments": packed(fragments, "<u4"),
        "colors": packed(colors[visible], "u1"),
        "areas": packed(areas[visible], "<u4"),
        "joins": packed(joins, "<u4"),
        "left": packed(left, "<u4"),
        "most": hierarchy.size,
        "regions": [hierarchy.count(step / STEPS) for step in range(STEPS + 1)],
        "start": _start(hierarchy, CutConfig(**cut)),
    }


def _start(hierarchy: Hierarchy, cut: CutConfig) -> int:
    """How many regions were cut."""
    if isinstance(cut.regions, int):
        return min(cut.regions, hierarchy.size)
    assert cut.common_granularity is not None
    return hierarchy.count(cut.common_granularity)

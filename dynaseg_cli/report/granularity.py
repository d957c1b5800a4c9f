"""The hierarchy of an image, as far as its thumbnail shows it, for a page that cuts it at any granularity."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import CutConfig
from ..regions.hierarchy import STRONGEST, Hierarchy
from ..regions.segments import areas_and_colors
from .thumbnail import shrunk_map

STEPS = 100
"""Steps of the slider from 0, the whole image, to 1, every fragment."""


def granularity_entry(hierarchy: Hierarchy, photo: NDArray[np.uint8], cut: dict[str, Any]) -> dict[str, Any]:
    """The hierarchy of an (H, W, 3) photo, for its thumbnail.

    Fragments that no pixel of the thumbnail shows are left out, and what they join is joined without them, so that any
    cut of the rest is that of the whole. A page opened from disk cannot read files, and in some browsers no exact
    pixels of pictures: hence numbers, little-endian, compressed by zlib, in base64.

    Parameters
    ----------
    cut : how the regions were cut, as in the statistics; the slider starts there.

    Returns
    -------
    dict of {"width", "height" of the thumbnail; "runs" (uint16, of pixels of one fragment in a row) and "fragments"
    (uint32, 0..V-1, of each run); "colors" (uint8, mean red, green and blue) and "areas" (uint32, pixels in the photo)
    of each fragment; "joins" (uint32, two fragments each, V-1 of them) and "steps" (uint8: at this and all coarser ones
    they are one), from fine to coarse; "regions" (how many the photo has at each of 0..100 steps); "start" (a step)}.
    """
    small = shrunk_map(hierarchy.fragments)
    height, width = small.shape
    visible, inverse = np.unique(small, return_inverse=True)
    fragments = inverse.reshape(height, width)
    starts = np.ones((height, width), dtype=bool)
    starts[:, 1:] = fragments[:, 1:] != fragments[:, :-1]
    runs = np.diff(np.append(np.flatnonzero(starts), fragments.size))
    areas, colors = areas_and_colors(hierarchy.fragments, photo)
    joins, strengths = hierarchy.joins_of(visible)
    regions = [hierarchy.count(step / STEPS) for step in range(STEPS + 1)]
    return {
        "width": width,
        "height": height,
        "runs": _packed(runs, "<u2"),
        "fragments": _packed(fragments[starts], "<u4"),
        "colors": _packed(colors[visible], "u1"),
        "areas": _packed(areas[visible], "<u4"),
        "joins": _packed(joins, "<u4"),
        "steps": _packed(step_of(strengths), "u1"),
        "regions": regions,
        "start": _start(cut, regions),
    }


def step_of(strength: NDArray[np.integer]) -> NDArray[np.intp]:
    """The finest step of the slider at which `Hierarchy.cut` leaves no boundary of this strength."""
    thresholds = [round((1 - step / STEPS) * STRONGEST) for step in range(STEPS, -1, -1)]
    return STEPS - np.searchsorted(thresholds, strength, side="left")


def _start(cut: dict[str, Any], regions: list[int]) -> int:
    """The step at which the slider shows the regions that were cut, or the nearest."""
    granularity = CutConfig(**cut).common_granularity
    if granularity is None:
        return min(range(STEPS + 1), key=lambda step: abs(regions[step] - cut["regions"]))
    return round(granularity * STEPS)


def _packed(values: NDArray[np.integer], dtype: str) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).astype(dtype).tobytes())).decode("ascii")

"""What a page needs to cut an image's hierarchy itself, at any granularity, as far as its thumbnail shows it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import COMMON_GRANULARITY
from ..regions.hierarchy import STRONGEST, Hierarchy
from .thumbnail import shrunk_map

STEPS = 100
"""Of the slider, from 0, the whole image, to 1, every fragment."""
BAND_PIXELS = 1 << 22
"""Pixels that are summed at a time, which bounds the memory."""

Pairs = NDArray[np.int64]
"""(2, N) of fragments."""


def granularity_entry(hierarchy: Hierarchy, photo: NDArray[np.uint8], cut: dict[str, Any]) -> dict[str, Any]:
    """The hierarchy of an (H, W, 3) photo, for its thumbnail.

    Fragments that no pixel of the thumbnail shows are left out, and what they join is joined without them, so that any
    cut of the rest is that of the whole. A page that is opened from disk may read no file, and in some browsers no
    picture either, exactly: so this is numbers, compressed (zlib) and as text (base64), little-endian.

    Parameters
    ----------
    cut : as in the statistics, how the regions were cut: where the slider starts.

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
    areas, colors = _areas_and_colors(hierarchy, photo)
    joins, steps = _joins_of(hierarchy, visible)
    regions = [hierarchy.count(step / STEPS) for step in range(STEPS + 1)]
    return {
        "width": width,
        "height": height,
        "runs": _packed(runs, "<u2"),
        "fragments": _packed(fragments[starts], "<u4"),
        "colors": _packed(colors[visible], "u1"),
        "areas": _packed(areas[visible], "<u4"),
        "joins": _packed(joins.T, "<u4"),
        "steps": _packed(steps, "u1"),
        "regions": regions,
        "start": _start(cut, regions),
    }


def step_of(strength: NDArray[np.integer]) -> NDArray[np.intp]:
    """The finest of the slider's steps at which `Hierarchy.cut` leaves no boundary so strong."""
    thresholds = [round((1 - step / STEPS) * STRONGEST) for step in range(STEPS, -1, -1)]
    return STEPS - np.searchsorted(thresholds, strength, side="left")


def _joins_of(hierarchy: Hierarchy, visible: NDArray[np.integer]) -> tuple[Pairs, NDArray[np.intp]]:
    """A spanning tree of the `visible` fragments, by place in that list, and the step of each join, falling.

    Boruvka's algorithm, twice. First each group that nothing visible is in joins its nearest neighbour, which changes
    no strongest boundary on the best way between two others; then all groups do.
    """
    order = np.lexsort((hierarchy.second, hierarchy.first, hierarchy.strength))
    first, second = hierarchy.first[order], hierarchy.second[order]
    seen = np.zeros(hierarchy.size, dtype=bool)
    seen[visible] = True
    group, _ = _joined(first, second, seen, lambda occupied: ~occupied)
    place = np.zeros(hierarchy.size, dtype=np.int64)
    place[group[visible]] = np.arange(len(visible))
    first, second = place[group[first]], place[group[second]]
    apart = first != second
    first, second = first[apart], second[apart]
    _, chosen = _joined(first, second, np.ones(len(visible), dtype=bool), np.ones_like)
    steps = step_of(hierarchy.strength[order][apart][chosen])
    return np.stack([first[chosen], second[chosen]]), steps


def _joined(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    occupied: NDArray[np.bool_],
    may_join: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Join groups to their nearest neighbour until none that may is left alone.

    Parameters
    ----------
    first, second : (E,) pairs of neighbours 0..N-1, nearest first.
    occupied : (N,) whether anything is in each.
    may_join : which groups do, by whether anything is in them.

    Returns
    -------
    (N,) the group of each, named by one of its members, and which pairs were joined, rising.
    """
    size = len(occupied)
    group = np.arange(size)
    left = np.arange(len(first))
    joined = np.zeros(len(first), dtype=bool)
    while True:
        one, other = group[first[left]], group[second[left]]
        apart = one != other
        left, one, other = left[apart], one[apart], other[apart]
        nearest = np.full(size, len(first))
        np.minimum.at(nearest, one, left)
        np.minimum.at(nearest, other, left)
        joining = np.flatnonzero(may_join(occupied) & (nearest < len(first)))
        if not len(joining):
            return group, np.flatnonzero(joined)
        pair = nearest[joining]
        joined[pair] = True
        ends = group[first[pair]], group[second[pair]]
        parent = np.arange(size)
        parent[joining] = np.where(ends[0] == joining, ends[1], ends[0])
        mutual = (parent[parent] == np.arange(size)) & (parent > np.arange(size))
        parent[mutual] = np.flatnonzero(mutual)
        while (parent[parent] != parent).any():
            parent = parent[parent]
        group = parent[group]
        members = np.flatnonzero(occupied)
        occupied = np.zeros(size, dtype=bool)
        occupied[parent[members]] = True


def _areas_and_colors(hierarchy: Hierarchy, photo: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Of each fragment: (F,) pixels, and the (F, 3) mean of their colours."""
    size = hierarchy.size
    areas = np.zeros(size, dtype=np.int64)
    sums = np.zeros((3, size))
    height, width = hierarchy.fragments.shape
    for top in range(0, height, rows := max(BAND_PIXELS // width, 1)):
        flat = hierarchy.fragments[top : top + rows].reshape(-1)
        areas += np.bincount(flat, minlength=size)
        for channel in range(3):
            sums[channel] += np.bincount(flat, photo[top : top + rows, :, channel].reshape(-1), size)
    return areas, np.rint(sums / areas).astype(np.uint8).T


def _start(cut: dict[str, Any], regions: list[int]) -> int:
    """The step at which the slider shows the regions that were cut, or as near as it comes."""
    if isinstance(cut["regions"], int):
        return min(range(STEPS + 1), key=lambda step: abs(regions[step] - cut["regions"]))
    granularity = COMMON_GRANULARITY if cut["granularity"] is None else cut["granularity"]
    return round(granularity * STEPS)


def _packed(values: NDArray[np.integer], dtype: str) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).astype(dtype).tobytes())).decode("ascii")

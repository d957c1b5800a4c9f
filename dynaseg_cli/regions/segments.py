"""Segments of integer maps: connected regions, areas, sums of pixel values, and numbering by area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BAND_PIXELS = 1 << 22
"""Pixels that are summed at a time, which bounds the memory whatever the size of the image."""
MOST_LOOKED_UP = 1 << 16
"""Values up to so far apart are looked up in a table."""

Value = TypeVar("Value", bound=np.integer)


@dataclass(frozen=True)
class Numbered:
    """An (H, W) map whose values were renumbered."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """uint8 if they fit."""
    count: int
    """Number of labels that occur."""
    numbers: NDArray[np.int32]
    """(N,) the new number of each value 0..N-1, whether it occurs or not."""


def connected_regions(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the 4-connected regions of equal label of an (H, W) integer map: (H, W) int32, 0..R-1 in scan order."""
    return regions_between(labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1])


def regions_between(across: NDArray[np.bool_], down: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the regions that boundaries enclose: (H, W) int32, 0..R-1 in scan order.

    Horizontal runs of joined pixels are the nodes of a graph, and runs that touch vertically its edges: far fewer of
    both than there are pixels. `across`, (H, W-1), has the boundaries between a pixel and the one to its right, and
    `down`, (H-1, W), those to the one below.
    """
    height, width = across.shape[0], down.shape[1]
    starts = np.ones((height, width), dtype=bool)
    starts[:, 1:] = across
    runs = np.cumsum(starts, dtype=np.int32).reshape(height, width) - np.int32(1)
    # Where two runs touch along several pixels, the first pixel is enough.
    touching = ~down
    touching[:, 1:] &= starts[1:, 1:] | starts[:-1, 1:] | down[:, :-1]
    above = np.flatnonzero(touching)
    run = runs.reshape(-1)
    component: NDArray[np.int32] = joined_groups(run[above], run[above + width], int(run[-1]) + 1)[runs]
    return component


def joined_groups(first: NDArray[np.integer], second: NDArray[np.integer], count: int) -> NDArray[np.int32]:
    """(count,) the group of each of the nodes 0..count-1 that the edges `first`-`second` join, by first node."""
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(count, count))
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1].astype(np.int32)
    return groups


def merged_groups(first: NDArray[np.integer], second: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Like `joined_groups`, and faster where groups are small."""
    root = np.arange(count)
    while len(first := root[first]):
        second = root[second]
        apart = first != second
        first, second = first[apart], second[apart]
        # Roots take the smallest of their neighbours, and then lead to where that leads.
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while ((further := root[root]) != root).any():
            root = further
    number = np.cumsum(root == np.arange(count)) - 1
    groups: NDArray[np.int64] = number[root]
    return groups


def places_in(present: NDArray[np.integer], values: NDArray[np.integer]) -> NDArray[np.intp]:
    """The place in `present`, which rises, of each of `values`, all of which are in it."""
    lowest, highest = int(present[0]), int(present[-1])
    if highest - lowest >= MOST_LOOKED_UP:
        return np.searchsorted(present, values)
    place_of = np.zeros(highest - lowest + 1, dtype=np.intp)
    place_of[np.subtract(present, lowest, dtype=np.int64)] = np.arange(len(present))
    places: NDArray[np.intp] = place_of[np.subtract(values, lowest, dtype=np.int64)]
    return places


def value_of_each(segments: NDArray[np.integer], values: NDArray[Value]) -> NDArray[Value]:
    """(S,) the value of each of the segments 0..S-1 of an (H, W) map of `values` that is constant in each."""
    value_of = np.empty(int(segments.max()) + 1, dtype=values.dtype)
    value_of[segments.reshape(-1)] = values.reshape(-1)
    return value_of


def areas_and_sums(
    segments: NDArray[np.integer], values: NDArray[np.uint8] | NDArray[np.float32], count: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels of each segment, (S,), and the sums of its values, (S, C).

    `segments` are (H, W) integers in 0..S-1, `values` (H, W, C); `count` is S, if the largest number may be missing.
    """
    count = int(segments.max()) + 1 if count is None else count
    height, width, channels = values.shape
    areas, sums = np.zeros(count, dtype=np.int64), np.zeros((channels, count))
    for top in range(0, height, rows := max(BAND_PIXELS // width, 1)):
        flat = segments[top : top + rows].reshape(-1)
        areas += np.bincount(flat, minlength=count)
        for channel in range(channels):
            sums[channel] += np.bincount(flat, values[top : top + rows, :, channel].reshape(-1), count)
    return areas, sums.T


def areas_and_colors(
    segments: NDArray[np.integer], photo: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Pixels of each segment, (S,), and its mean colour, (S, 3); black where a number does not occur."""
    areas, sums = areas_and_sums(segments, photo)
    return areas, np.rint(sums / np.maximum(areas, 1)[:, None]).astype(np.uint8)


def pair_keys(one: NDArray[np.integer], other: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """One number for each pair, whichever comes first. In 64 bits, as the square of `count` may not fit 32."""
    keys: NDArray[np.int64] = np.minimum(one, other).astype(np.int64) * count + np.maximum(one, other)
    return keys


def touching_pairs(segments: NDArray[np.int32]) -> NDArray[np.int64]:
    """(P, 2) the pairs of the segments 0..S-1 of an (H, W) map that share a boundary, smaller number first, rising."""
    count = int(segments.max()) + 1
    found = [np.empty(0, dtype=np.int64)]
    for top in range(0, len(segments), rows := max(BAND_PIXELS // segments.shape[1], 1)):
        band = segments[top : top + rows + 1]
        for ones, others in ((band[:, :-1], band[:, 1:]), (band[:-1], band[1:])):
            differ = ones != others
            found.append(np.unique(pair_keys(ones[differ], others[differ], count)))
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // count, keys % count], axis=1)


def neighbours_of_each(segments: NDArray[np.int32], numbers: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """The segments that share a boundary with each of `numbers` in an (H, W) map of integers >= 0, rising."""
    pairs = touching_pairs(segments)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    begins, ends = (np.searchsorted(both[:, 0], numbers, side) for side in ("left", "right"))
    return [both[begin:end, 1] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def boundary_shares(segments: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The boundaries of the segments 0..S-1 of an (H, W) map.

    (P, 2) the pairs that touch, smaller number first, rising; and (P,) the share of all horizontal pairs of pixels plus
    that of all vertical ones that lie between the two.
    """
    count = int(segments.max()) + 1
    keys, shares = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    height, width = segments.shape
    for top in range(0, height, rows := max(BAND_PIXELS // width, 1)):
        band = segments[top : top + rows + 1]
        for ones, others, of_all in (
            (band[:rows, :-1], band[:rows, 1:], height * (width - 1)),
            (band[:-1], band[1:], (height - 1) * width),
        ):
            differ = ones != others
            found, sides = np.unique(pair_keys(ones[differ], others[differ], count), return_counts=True)
            keys.append(found)
            shares.append(sides / max(of_all, 1))
    pairs, where = np.unique(np.concatenate(keys), return_inverse=True)
    summed = np.bincount(where, np.concatenate(shares), len(pairs)).astype(np.float64)
    return np.stack([pairs // count, pairs % count], axis=1), summed


def number_by_area(raw: NDArray[np.integer], kept: Sequence[int] = ()) -> Numbered:
    """Renumber the labels of an (H, W) map of small non-negative integers to 0..K-1 by falling area.

    Of two labels with equal area, the smaller comes first. Labels in `kept` keep their numbers, whether they occur or
    not; the others get the remaining numbers.
    """
    areas = np.bincount(raw.reshape(-1))
    if kept:
        numbers = np.arange(len(areas), dtype=np.int32)
        others = np.setdiff1d(numbers, kept)
        free = np.setdiff1d(np.arange(len(areas) + len(kept), dtype=np.int32), kept)
        numbers[others] = free[numbers_by_area(areas[others])]
    else:
        numbers = numbers_by_area(areas)
    dtype = np.uint8 if numbers[areas > 0].max() < 256 else np.uint16
    return Numbered(numbers.astype(dtype)[raw], int(np.count_nonzero(areas)), numbers)


def number_like(raw: NDArray[np.integer], before: NDArray[np.integer]) -> Numbered:
    """Renumber the labels of an (H, W) map as those of earlier maps.

    `before` is (B,) the number of each label so far, and -1 for those that have none. These get the next free numbers
    by falling area.
    """
    areas = np.bincount(raw.reshape(-1), minlength=len(before))
    numbers = np.full(len(areas), -1, dtype=np.int32)
    numbers[: len(before)] = before
    new = np.flatnonzero(numbers < 0)
    numbers[new] = np.setdiff1d(np.arange(len(areas), dtype=np.int32), numbers)[numbers_by_area(areas[new])]
    dtype = np.uint8 if numbers[areas > 0].max() < 256 else np.uint16
    return Numbered(numbers.astype(dtype)[raw], int(np.count_nonzero(areas)), numbers)


def numbers_by_area(areas: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.int32]:
    """(N,) new numbers 0..N-1 by falling area; equal areas keep their order."""
    numbers = np.empty(len(areas), dtype=np.int32)
    numbers[np.argsort(-areas, kind="stable")] = np.arange(len(areas), dtype=np.int32)
    return numbers

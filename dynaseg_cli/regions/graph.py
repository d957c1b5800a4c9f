"""Regions and their neighbours as a graph, and what is known of both as sums: joined regions need only be added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .connected import value_of_each
from .cues import TEXTURE_BINS, TEXTURE_STEPS, Cues, texture_bins

MOST_LABELS = 256
"""Columns for labels, which bounds the memory however many there are."""
BAND_PIXELS = 1 << 22
"""Pixels that are summed at a time, which bounds the memory whatever the image's size."""


@dataclass(frozen=True)
class RegionGraph:
    """R regions and E pairs of neighbours.

    Areas are fractions of the image's, lengths are in sides of the square of that area: a rule stated in them means the
    same at every size.
    """

    area: NDArray[np.float64]
    """(R,)."""
    lab: NDArray[np.float64]
    """(R, 3) L*a*b*, summed over the area."""
    texture: NDArray[np.float32]
    """(R, C * TEXTURE_BINS) a histogram for each of C filters, summed over the area."""
    labels: NDArray[np.float32]
    """(R, K) the area of each label that occurs; of more than `MOST_LABELS`, some share a column."""
    first: NDArray[np.int64]
    """(E,) the region of a pair that has the smaller number."""
    second: NDArray[np.int64]
    """(E,) the other one."""
    length: NDArray[np.float64]
    """(E,) of the boundary between them."""
    contrast: NDArray[np.float64]
    """(E,) summed along the boundary."""

    def joined(self, group: NDArray[np.intp], groups: int) -> tuple[RegionGraph, NDArray[np.int64]]:
        """The graph of groups of regions, and where each pair went: (E,), -1 for inside a group.

        Parameters
        ----------
        group : (R,) of each region, 0..groups-1.
        """
        joining = _summing(group, groups)
        joining_histograms = joining.astype(np.float32)
        first, second = group[self.first], group[self.second]
        between = first != second
        keys, edge = np.unique(pair_keys(first[between], second[between], groups), return_inverse=True)
        edge_of = np.full(len(first), -1, dtype=np.int64)
        edge_of[between] = edge
        graph = RegionGraph(
            area=joining @ self.area,
            lab=joining @ self.lab,
            texture=joining_histograms @ self.texture,
            labels=joining_histograms @ self.labels,
            first=keys // groups,
            second=keys % groups,
            length=_summed(edge, self.length[between], len(keys)),
            contrast=_summed(edge, self.contrast[between], len(keys)),
        )
        return graph, edge_of


def region_graph(regions: NDArray[np.int32], labels: NDArray[np.integer], cues: Cues) -> RegionGraph:
    """The graph of the 4-connected regions 0..R-1, (H, W), of a map of `labels`, as the photo's cues describe them."""
    height, width = regions.shape
    count = int(regions.max()) + 1
    filters = len(cues.texture)
    area = np.zeros(count)
    lab = np.zeros((3, count))
    steps = (TEXTURE_BINS - 1) * TEXTURE_STEPS + 1
    texture = np.zeros((count, filters, TEXTURE_BINS), dtype=np.float32)
    boundaries = []
    for start in range(0, height, rows := max(BAND_PIXELS // width, 1)):
        # One row more than is summed: the boundary below the last belongs to it.
        seen = regions[start : start + rows + 1]
        near = np.ix_(
            _nearest(start, len(seen), height, cues.contrast.shape[0]),
            _nearest(0, width, width, cues.contrast.shape[1]),
        )
        flat = seen[:rows].reshape(-1)
        area += np.bincount(flat, minlength=count)
        for channel in range(3):
            lab[channel] += np.bincount(flat, cues.lab[..., channel][near][:rows].reshape(-1), count)
        cell = flat.astype(np.int64) * steps
        for index in range(filters):
            step = cues.texture[index][near][:rows].reshape(-1)
            texture[:, index] += texture_bins(np.bincount(cell + step, minlength=count * steps).reshape(count, steps))
        boundaries.append(_boundaries(seen, cues.contrast[near], rows, count))
    pairs, lengths, contrasts = (np.concatenate(part) for part in zip(*boundaries, strict=True))
    keys, edge = np.unique(pairs, return_inverse=True)
    pixels = height * width
    column = np.unique(value_of_each(regions, labels), return_inverse=True)[1] % MOST_LABELS
    areas_of_labels = np.zeros((count, int(column.max()) + 1), dtype=np.float32)
    areas_of_labels[np.arange(count), column] = area / pixels
    return RegionGraph(
        area=area / pixels,
        lab=lab.T / pixels,
        texture=texture.reshape(count, -1) / np.float32(pixels),
        labels=areas_of_labels,
        first=keys // count,
        second=keys % count,
        length=_summed(edge, lengths, len(keys)) / np.sqrt(pixels),
        contrast=_summed(edge, contrasts, len(keys)) / np.sqrt(pixels),
    )


def _boundaries(
    seen: NDArray[np.int32], contrast: NDArray[np.float32], rows: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Pairs of regions that touch within the first `rows`, or there and below: key, pixels, contrast summed."""
    keys, strengths = [], []
    for one, other, here, there in (
        (seen[:rows, :-1], seen[:rows, 1:], contrast[:rows, :-1], contrast[:rows, 1:]),
        (seen[:-1], seen[1:], contrast[:-1], contrast[1:]),
    ):
        differ = one != other
        keys.append(pair_keys(one[differ], other[differ], count))
        strengths.append((here[differ] + there[differ]) / 2)
    pairs, edge = np.unique(np.concatenate(keys), return_inverse=True)
    pixels = np.ones(len(edge))
    return pairs, _summed(edge, pixels, len(pairs)), _summed(edge, np.concatenate(strengths), len(pairs))


def _summed(index: NDArray[np.integer], values: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    """(length,) the values of each index added up."""
    return np.bincount(index, values, length).astype(np.float64)  # of nothing it makes whole numbers


def pair_keys(one: NDArray[np.integer], other: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """One number a pair, whichever comes first. In 64 bits: the square of the number of regions has no room in 32."""
    keys: NDArray[np.int64] = np.minimum(one, other).astype(np.int64) * count + np.maximum(one, other)
    return keys


def _summing(group: NDArray[np.intp], groups: int) -> csr_array:
    """(groups, R): multiplied by rows of values, it sums those of each group."""
    regions = len(group)
    return csr_array((np.ones(regions), (group, np.arange(regions))), shape=(groups, regions))


def _nearest(start: int, count: int, fine: int, coarse: int) -> NDArray[np.intp]:
    """Of `coarse` pixels, those under `count` of `fine` over the same extent."""
    return ((np.arange(start, start + count) + 0.5) * (coarse / fine)).astype(np.intp)

"""Regions and their neighbours as a graph whose attributes are sums, so that regions are joined by adding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ..resampling import middle_indices
from .cues import BIN_STEPS, COLOUR_BINS, TEXTURE_BINS, Cues, bins_of_steps
from .features import Features, pixels_of_each, summed_features
from .segments import BAND_PIXELS, areas_and_sums, pair_keys

MOST_LABELS = 256
"""Columns for labels; the number bounds the memory."""


@dataclass(frozen=True)
class RegionGraph:
    """R regions and E pairs of neighbours.

    Areas are fractions of the image, and lengths multiples of the square root of its area, so that a rule means the
    same at every size.
    """

    area: NDArray[np.float64]
    """(R,)"""
    lab: NDArray[np.float64]
    """(R, 3) L*a*b*, summed over the area."""
    colours: NDArray[np.float32]
    """(R, 3 * COLOUR_BINS) a histogram for each channel of L*a*b*, summed over the area."""
    texture: NDArray[np.float32]
    """(R, C * TEXTURE_BINS) a histogram for each of C filters, summed over the area."""
    labels: NDArray[np.float32]
    """(R, K) the area of each label that occurs; beyond `MOST_LABELS`, some share a column."""
    features: NDArray[np.float32]
    """(R, C) features of a pretrained network, summed over the area; C is 0 without one."""
    first: NDArray[np.int64]
    """(E,) the region with the smaller number in each pair."""
    second: NDArray[np.int64]
    """(E,) the other region."""
    length: NDArray[np.float64]
    """(E,) length of the boundary between them."""
    contrast: NDArray[np.float64]
    """(E,) contrast, summed along the boundary."""

    def joined(self, group: NDArray[np.integer], groups: int) -> tuple[RegionGraph, NDArray[np.int64]]:
        """The graph of groups of regions, and the new index of each pair, (E,), -1 inside a group.

        `group` is (R,), the group of each region, 0..groups-1.
        """
        # Multiplied by rows of values, this sums those of each group.
        joining = csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(groups, len(group)))
        joining_histograms = joining.astype(np.float32)
        first, second = group[self.first], group[self.second]
        between = first != second
        keys, edge = np.unique(pair_keys(first[between], second[between], groups), return_inverse=True)
        edge_of = np.full(len(first), -1, dtype=np.int64)
        edge_of[between] = edge
        graph = RegionGraph(
            area=joining @ self.area,
            lab=joining @ self.lab,
            colours=joining_histograms @ self.colours,
            texture=joining_histograms @ self.texture,
            labels=joining_histograms @ self.labels,
            features=joining_histograms @ self.features,
            first=keys // groups,
            second=keys % groups,
            length=_summed(edge, self.length[between], len(keys)),
            contrast=_summed(edge, self.contrast[between], len(keys)),
        )
        return graph, edge_of

    def beside_itself(self, times: int) -> RegionGraph:
        """A graph of so many copies of this one, all regions and pairs of one after those of another."""
        values = {name: np.concatenate([value] * times) for name, value in vars(self).items()}
        offset = np.repeat(np.arange(times) * len(self.area), len(self.first))
        return RegionGraph(**{**values, "first": values["first"] + offset, "second": values["second"] + offset})


def region_graph(
    regions: NDArray[np.int32], labels: NDArray[np.integer], cues: Cues, features: Features = ()
) -> RegionGraph:
    """The graph of the 4-connected regions 0..R-1, (H, W).

    They are described by the cues of the photo, a map of `labels`, and what a pretrained network sees in it.
    """
    height, width = regions.shape
    count = int(regions.max()) + 1
    near_rows, near_columns = map(middle_indices, cues.contrast.shape, regions.shape)
    present = np.unique(labels)
    columns = np.arange(len(present)) % MOST_LABELS
    area, lab = np.zeros(count), np.zeros((count, 3))
    colours = np.zeros((count, 3, COLOUR_BINS), dtype=np.float32)
    texture = np.zeros((count, len(cues.texture), TEXTURE_BINS), dtype=np.float32)
    areas_of_labels = np.zeros((count, min(len(present), MOST_LABELS)), dtype=np.float32)
    boundaries = []
    for start in range(0, height, rows := max(BAND_PIXELS // width, 1)):
        # One row more than is summed, for the boundary below the last row.
        band = slice(start, start + rows + 1)
        seen, near = regions[band], np.ix_(near_rows[band], near_columns)
        areas, sums = areas_and_sums(seen[:rows], cues.lab[near][:rows], count)
        area += areas
        lab += sums
        for histograms, channels, bins in ((colours, cues.colour, COLOUR_BINS), (texture, cues.texture, TEXTURE_BINS)):
            steps = (bins - 1) * BIN_STEPS + 1
            for index, channel in enumerate(channels):
                histograms[:, index] += bins_of_steps(_areas_of(seen[:rows], channel[near][:rows], count, steps))
        column = columns[np.searchsorted(present, labels[start : start + rows])]
        areas_of_labels += _areas_of(seen[:rows], column, *areas_of_labels.shape)
        boundaries.append(_boundaries(seen, cues.contrast[near], rows, count))
    pairs, lengths, contrasts = (np.concatenate(part) for part in zip(*boundaries, strict=True))
    keys, edge = np.unique(pairs, return_inverse=True)
    pixels = height * width
    size = cues.contrast.shape
    of_features = np.empty((count, 0), dtype=np.float32)
    if features:
        of_features = summed_features(pixels_of_each(regions, size, count), size, features)
    return RegionGraph(
        area=area / pixels,
        lab=lab / pixels,
        colours=colours.reshape(count, -1) / np.float32(pixels),
        texture=texture.reshape(count, -1) / np.float32(pixels),
        labels=areas_of_labels / np.float32(pixels),
        features=of_features / np.float32(pixels),
        first=keys // count,
        second=keys % count,
        length=_summed(edge, lengths, len(keys)) / np.sqrt(pixels),
        contrast=_summed(edge, contrasts, len(keys)) / np.sqrt(pixels),
    )


def _areas_of(regions: NDArray[np.int32], values: NDArray[np.integer], count: int, limit: int) -> NDArray[np.int64]:
    """(count, limit) pixels of each region that have each value below `limit`."""
    cell = regions.astype(np.int64) * limit + values
    return np.bincount(cell.reshape(-1), minlength=count * limit).reshape(count, limit)


def _boundaries(
    seen: NDArray[np.int32], contrast: NDArray[np.float32], rows: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Key, boundary length and summed contrast of each pair of regions that touch in or just below the first `rows`."""
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
    """(length,) sums of the values of each index."""
    return np.bincount(index, values, length).astype(np.float64)  # bincount of nothing is an integer array

"""Regions and their neighbours as a graph whose attributes are sums, so that regions are joined by adding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from ..resampling import middle_indices
from .cues import BIN_STEPS, COLOUR_BINS, TEXTURE_BINS, Cues, bins_of_steps
from .features import Features, pixels_of_each, summed_features
from .segments import BAND_PIXELS, areas_and_sums, pair_keys, places_in

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
    histograms: NDArray[np.float32]
    """(R, B) histograms of colour, texture and labels side by side; each of the three sums to the area."""
    bins: tuple[int, int, int]
    """Columns of these three."""
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

    @property
    def colours(self) -> NDArray[np.float32]:
        """(R, 3 * COLOUR_BINS) histograms of the channels of L*a*b*."""
        return self.histograms[:, : self.bins[0]]

    @property
    def texture(self) -> NDArray[np.float32]:
        """(R, C * TEXTURE_BINS) histograms of C filters."""
        return self.histograms[:, self.bins[0] : sum(self.bins[:2])]

    @property
    def labels(self) -> NDArray[np.float32]:
        """(R, K) the area of each label that occurs; beyond `MOST_LABELS`, some share a column."""
        return self.histograms[:, sum(self.bins[:2]) :]

    def joined(self, group: NDArray[np.integer], groups: int) -> tuple[RegionGraph, NDArray[np.int64]]:
        """The graph of groups of regions, and the new index of each pair, (E,), -1 inside a group.

        `group` is (R,), the group of each region, 0..groups-1.
        """
        first, second = group[self.first], group[self.second]
        between = np.flatnonzero(first != second)
        keys, edge = np.unique(pair_keys(first[between], second[between], groups), return_inverse=True)
        edge_of = np.full(len(first), -1, dtype=np.int64)
        edge_of[between] = edge
        low = keys // groups
        graph = RegionGraph(
            area=_summed(group, self.area, groups),
            lab=np.stack([_summed(group, channel, groups) for channel in self.lab.T], axis=1),
            histograms=_joined_rows(group, self.histograms, groups),
            bins=self.bins,
            features=_joined_rows(group, self.features, groups),
            first=low,
            second=keys - low * groups,
            length=_summed(edge, self.length[between], len(keys)),
            contrast=_summed(edge, self.contrast[between], len(keys)),
        )
        return graph, edge_of

    def with_pairs(self, pairs: NDArray[np.integer]) -> RegionGraph:
        """The same regions, and of the pairs of neighbours those with these indices."""
        some = {name: getattr(self, name)[pairs] for name in ("first", "second", "length", "contrast")}
        return replace(self, **some)

    def beside_itself(self, times: int) -> RegionGraph:
        """A graph of so many copies of this one, all regions and pairs of one after those of another."""
        values = {name: np.concatenate([value] * times) for name, value in vars(self).items() if name != "bins"}
        offset = np.repeat(np.arange(times) * len(self.area), len(self.first))
        values |= {"first": values["first"] + offset, "second": values["second"] + offset}
        return RegionGraph(**values, bins=self.bins)


def region_graph(
    regions: NDArray[np.int32], labels: NDArray[np.integer], cues: Cues, features: Features = ()
) -> RegionGraph:
    """The graph of the 4-connected regions 0..R-1, (H, W).

    They are described by the cues of the photo, a map of `labels`, and what a pretrained network sees in it.
    """
    height, width = regions.shape
    count = int(regions.max()) + 1
    size = cues.contrast.shape
    near_rows, near_columns = map(middle_indices, size, regions.shape)
    present = np.unique(labels)
    bins = 3 * COLOUR_BINS, len(cues.texture) * TEXTURE_BINS, min(len(present), MOST_LABELS)
    area, lab = np.zeros(count), np.zeros((count, 3))
    histograms = np.zeros((count, sum(bins)), dtype=np.float32)
    colours, texture, areas_of_labels = np.split(histograms, np.cumsum(bins)[:2], axis=1)
    boundaries = []
    for start in range(0, height, rows := max(BAND_PIXELS // width, 1)):
        # One row more than is summed, for the boundary below the last row.
        band = slice(start, start + rows + 1)
        near = (band,) if size == regions.shape else np.ix_(near_rows[band], near_columns)
        seen = regions[band]
        areas, sums = areas_and_sums(seen[:rows], cues.lab[near][:rows], count)
        area += areas
        lab += sums
        for of_kind, channels, bins_of_each in (
            (colours, cues.colour, COLOUR_BINS),
            (texture, cues.texture, TEXTURE_BINS),
        ):
            steps = (bins_of_each - 1) * BIN_STEPS + 1
            for index, channel in enumerate(channels):
                columns = of_kind[:, index * bins_of_each :][:, :bins_of_each]
                columns += bins_of_steps(_areas_of(seen[:rows], channel[near][:rows], count, steps)) / len(channels)
        column = places_in(present, labels[start : start + rows]) % MOST_LABELS
        areas_of_labels += _areas_of(seen[:rows], column, *areas_of_labels.shape)
        boundaries.append(_boundaries(seen, cues.contrast[near], rows, count))
    pairs, lengths, contrasts = (np.concatenate(part) for part in zip(*boundaries, strict=True))
    keys, edge = np.unique(pairs, return_inverse=True)
    pixels = height * width
    of_features = np.empty((count, 0), dtype=np.float32)
    if features:
        of_features = summed_features(pixels_of_each(regions, size, count), size, features)
    return RegionGraph(
        area=area / pixels,
        lab=lab / pixels,
        histograms=histograms / np.float32(pixels),
        bins=bins,
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
    width = seen.shape[1]
    region, strength = seen.reshape(-1), contrast.reshape(-1)
    across, down = np.zeros((2, *seen[:rows].shape), dtype=bool)
    np.not_equal(seen[:rows, :-1], seen[:rows, 1:], out=across[:, :-1])
    np.not_equal(seen[:-1], seen[1:], out=down[: len(seen) - 1])
    keys, strengths = [], []
    for differ, step in ((across, 1), (down, width)):
        here = np.flatnonzero(differ)
        keys.append(pair_keys(region[here], region[here + step], count))
        strengths.append((strength[here] + strength[here + step]) / 2)
    pairs, edge = np.unique(np.concatenate(keys), return_inverse=True)
    pixels = np.ones(len(edge))
    return pairs, _summed(edge, pixels, len(pairs)), _summed(edge, np.concatenate(strengths), len(pairs))


def _summed(index: NDArray[np.integer], values: NDArray[np.floating], length: int) -> NDArray[np.float64]:
    """(length,) sums of the values of each index."""
    return np.bincount(index, values, length).astype(np.float64)  # bincount of nothing is an integer array


def _joined_rows(group: NDArray[np.integer], values: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """(groups, C) sums of the (R, C) values of the regions of each group."""
    if not values.shape[1]:
        return np.empty((groups, 0), dtype=np.float32)
    ones = np.ones(len(group), dtype=np.float32)
    joining = csc_array((ones, group, np.arange(len(group) + 1)), shape=(groups, len(group)))
    joined: NDArray[np.float32] = joining @ values
    return joined

"""Small regions merged into the neighbour that looks most like them (`--min-region`)."""

from __future__ import annotations

import heapq
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .connected import connected_regions, value_of_each
from .graph import pair_keys

Labels = TypeVar("Labels", bound=np.integer)


def merge_small_regions(labels: NDArray[Labels], image: NDArray[np.uint8], min_region: int) -> NDArray[Labels]:
    """Give every 4-connected region under `min_region` pixels the label of its neighbour nearest in mean RGB colour.

    Smallest regions go first, and a merged region counts with its joint size and mean colour from then on, so that
    afterwards no region under `min_region` pixels is left unless the whole image is smaller.

    Parameters
    ----------
    labels : (H, W) integer map.
    image : (H, W, 3) uint8, the photo behind it.
    """
    regions = connected_regions(labels)
    flat = regions.reshape(-1)
    sizes = np.bincount(flat)
    if sizes.min() >= min_region:
        return labels
    count = len(sizes)
    colour = np.stack([np.bincount(flat, weights=image[..., c].reshape(-1)) for c in range(3)], axis=1)
    label_of = value_of_each(regions, labels)
    neighbours = _neighbours(regions, count)

    parent = np.arange(count)
    small = [(int(size), region) for region, size in enumerate(sizes) if size < min_region]
    heapq.heapify(small)
    while small:
        size, region = heapq.heappop(small)
        if parent[region] != region or size != sizes[region]:
            continue  # merged since, or grown
        adjacent = {_root(parent, other) for other in neighbours[region]} - {region}
        if not adjacent:
            break  # the region is the whole image
        mean = colour[region] / sizes[region]
        target = min(adjacent, key=lambda other: (float(((colour[other] / sizes[other] - mean) ** 2).sum()), other))
        parent[region] = target
        sizes[target] += sizes[region]
        colour[target] += colour[region]
        neighbours[target] |= neighbours[region]
        neighbours[region] = set()
        if sizes[target] < min_region:
            heapq.heappush(small, (int(sizes[target]), target))
    roots = np.array([_root(parent, region) for region in range(count)])
    merged: NDArray[Labels] = label_of[roots][regions]
    return merged


def _neighbours(regions: NDArray[np.int32], count: int) -> list[set[int]]:
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in ((regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])):
        differ = one != other
        pairs = np.unique(pair_keys(one[differ], other[differ], count))
        for pair in pairs.tolist():
            first, second = divmod(pair, count)
            neighbours[first].add(second)
            neighbours[second].add(first)
    return neighbours


def _root(parent: NDArray[np.intp], region: int) -> int:
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = int(parent[region])
    return region

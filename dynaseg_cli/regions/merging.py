"""Merging of small regions into the neighbour with the most similar colour."""

from __future__ import annotations

import heapq
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .segments import areas_and_sums, connected_regions, touching_pairs, value_of_each

Labels = TypeVar("Labels", bound=np.integer)


def merge_small_regions(labels: NDArray[Labels], image: NDArray[np.uint8], min_region: int) -> NDArray[Labels]:
    """Give every 4-connected region under `min_region` pixels the label of its neighbour nearest in mean RGB colour.

    `labels` is an (H, W) integer map, `image` the (H, W, 3) uint8 photo. The smallest regions go first, and a merged
    region counts with its joint size and mean colour from then on. No region under `min_region` pixels is left, unless
    the whole image is smaller.
    """
    regions = connected_regions(labels)
    if np.bincount(regions.reshape(-1)).min() >= min_region:
        return labels
    sizes, colour = areas_and_sums(regions, image)
    count = len(sizes)
    label_of = value_of_each(regions, labels)
    neighbours = _neighbours(regions, count)

    parent = np.arange(count)
    small = [(int(size), region) for region, size in enumerate(sizes) if size < min_region]
    heapq.heapify(small)
    while small:
        size, region = heapq.heappop(small)
        if parent[region] != region or size != sizes[region]:
            continue  # already merged, or grown
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
    for first, second in touching_pairs(regions).tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)
    return neighbours


def _root(parent: NDArray[np.intp], region: int) -> int:
    while parent[region] != region:
        parent[region] = parent[parent[region]]
        region = int(parent[region])
    return region

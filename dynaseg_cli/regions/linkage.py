"""Bottom-up merging of neighbours, and the strength of the boundaries between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .graph import RegionGraph
from .segments import joined_groups

HISTOGRAM_AREA = 2e-4
"""Fraction of the image; in much smaller regions histograms of the photo are noise, and count little."""
LEAST = 1e-6
"""Colour difference of regions that look the same."""
AREA_EXPONENT = 0.25
LENGTH_EXPONENT = 0.3

CHEAPEST = 1 / 64
"""Share of the regions that merge with their nearest neighbour in each round, even if it is nearer to another."""
EDGES_AT_ONCE = 1 << 16
"""Pairs whose histograms are compared at a time, to bound the memory."""


@dataclass(frozen=True)
class View:
    """What counts how much where two regions are compared, in colour differences."""

    colour: float
    """Of a colour difference of one between the means."""
    contrast: float
    """Of a contrast of one colour difference per pixel along the boundary."""
    colours: float
    """Of histograms of colour with nothing in common."""
    texture: float
    """Of histograms of texture with nothing in common."""
    labels: float
    """Of no common label."""


VIEWS = (
    View(colour=0.5, contrast=0.7, colours=120, texture=80, labels=9),
    View(colour=0.5, contrast=0.7, colours=20, texture=360, labels=9),
    View(colour=1, contrast=4, colours=20, texture=80, labels=9),
    View(colour=1, contrast=0.7, colours=20, texture=80, labels=50),
)
"""Each trusts one cue more than the others. Found on 50 photos of BSDS500 train."""


def boundary_strengths(graph: RegionGraph) -> NDArray[np.float64]:
    """(E,) > 0, how strong the boundary of each pair is on average over `VIEWS`; ultrametric, see `merge_heights`.

    Which of several neighbours a region joins is decided by little, and everything after it follows: a single hierarchy
    is noisy, and the average of several that differ is less so (Arbelaez et al. 2014, doi:10.1109/CVPR.2014.49,
    averages hierarchies of several scales). Regions are then merged once more, by the average along their boundary.
    """
    heights = [merge_heights(graph, partial(dissimilarity, view=view)) for view in VIEWS]
    average = np.exp(np.mean(np.log(heights), axis=0))
    plain = replace(
        graph,
        contrast=average * graph.length,
        **{name: getattr(graph, name)[:, :0] for name in ("colours", "texture", "labels")},
    )
    return merge_heights(plain, lambda merged: merged.contrast / merged.length)


def dissimilarity(graph: RegionGraph, view: View) -> NDArray[np.float64]:
    """Dissimilarity of each pair of neighbours, (E,) > 0.

    Differences in colour (means and histograms), texture and labels, and the contrast along the boundary, times a power
    of the area over a power of the boundary length: as in Ward's linkage, small regions go first, and those that share
    much boundary.
    """
    one, other = graph.first, graph.second
    mean = graph.lab / graph.area[:, None]
    colour = np.sqrt(((mean[one] - mean[other]) ** 2).sum(1))
    area = graph.area[one] * graph.area[other] / (graph.area[one] + graph.area[other])
    patterns = view.colours * _chi_squared(graph.colours, graph) + view.texture * _chi_squared(graph.texture, graph)
    looks = (
        view.colour * colour
        + view.contrast * graph.contrast / graph.length
        + patterns * area / (area + HISTOGRAM_AREA)
        + view.labels * _chi_squared(graph.labels, graph)
        + LEAST
    )
    different: NDArray[np.float64] = looks * area**AREA_EXPONENT / graph.length**LENGTH_EXPONENT
    return different


def merge_heights(
    graph: RegionGraph, dissimilarity: Callable[[RegionGraph], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Merge neighbours until one region is left: (E,) the dissimilarity at which the two sides of a pair were joined.

    It is ultrametric: of three regions that touch each other, no boundary is stronger than both others. Each round
    merges all pairs that are each other's nearest neighbour, which are those that single merges would come to (Murtagh
    1983, doi:10.1093/comjnl/26.4.354) unless merging brings neighbours nearer; and the cheapest others.
    """
    strength = np.zeros(len(graph.first))
    pair = np.arange(len(graph.first))  # index in the current graph of each pair of the first
    height = np.zeros(len(graph.area))
    while len(graph.first):
        cost = dissimilarity(graph)
        chosen = _to_merge(graph, cost)
        group = joined_groups(graph.first[chosen], graph.second[chosen], len(height))
        groups = int(group.max()) + 1
        merged_at = np.zeros(groups)
        np.maximum.at(merged_at, group, height)
        np.maximum.at(merged_at, group[graph.first[chosen]], cost[chosen])
        height = merged_at
        inside_of = group[graph.first]
        graph, went_to = graph.joined(group, groups)
        left = np.flatnonzero(pair >= 0)
        gone = left[went_to[pair[left]] < 0]
        strength[gone] = merged_at[inside_of[pair[gone]]]
        pair[left] = went_to[pair[left]]
    return strength


def _to_merge(graph: RegionGraph, cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """Pairs that are each other's nearest, and the cheapest pairs of a region and its nearest.

    Without the latter, many neighbours of one region would join it one a round, as would a chain of ever nearer ones.
    """
    order = np.argsort(cost, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    nearest = np.full(len(graph.area), len(order))
    np.minimum.at(nearest, graph.first, rank)
    np.minimum.at(nearest, graph.second, rank)
    mutual = (rank == nearest[graph.first]) & (rank == nearest[graph.second])
    cheapest = np.sort(nearest)[: max(int(len(nearest) * CHEAPEST), 1)]
    chosen: NDArray[np.intp] = np.union1d(np.flatnonzero(mutual), order[cheapest])
    return chosen


def _chi_squared(histograms: NDArray[np.float32], graph: RegionGraph) -> NDArray[np.float64]:
    """(E,) distance, 0..1, of the (R, B) histograms of each pair: half the sum of (a - b)^2 / (a + b) over the bins."""
    share = histograms / histograms.sum(1, keepdims=True)
    distance = np.empty(len(graph.first))
    for start in range(0, len(distance), EDGES_AT_ONCE):
        some = slice(start, start + EDGES_AT_ONCE)
        one, other = share[graph.first[some]], share[graph.second[some]]
        distance[some] = ((one - other) ** 2 / np.maximum(one + other, np.float32(1e-12))).sum(1) / 2
    return distance

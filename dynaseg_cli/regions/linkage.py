"""Bottom-up merging of neighbours, and the strength of the boundaries between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .features import unit_length
from .graph import RegionGraph
from .segments import joined_groups, value_of_each

HISTOGRAM_AREA = 2e-4
"""Fraction of the image; in much smaller regions histograms of the photo are noise, and count little."""
LEAST = 1e-6
"""Colour difference of regions that look the same."""
AREA_EXPONENT = 0.23
LENGTH_EXPONENT = 0.3
STRONG = 36.0
"""Average strength of a boundary from which the area counts for more, and fully at e times as much."""
STRONG_AREA = 0.01
STRONG_EXPONENT = 0.15
"""Such boundaries are weaker the smaller the regions are than this area: what is small belongs in fine cuts."""
FEATURE_EXPONENT = 0.7
"""Power of the unlikeness of features by which boundaries of large regions are weaker or stronger."""
FEATURE_AREA = 0.02
"""In regions of this area features count half of that: they are too coarse for much smaller ones."""
USUAL_FEATURES = 0.385
"""Unlikeness of features, in units of the photo's spread, that leaves the strength as it is."""
SAME_FEATURES = 0.003
"""Unlikeness that no network tells from none."""
LEAST_SPREAD = 1e-4
"""A spread below it is rounding: the network sees the same everywhere."""

CHEAPEST = 1 / 16
"""Share of the regions that merge with their nearest neighbour in each round, even if it is nearer to another."""
EDGES_AT_ONCE = 1 << 16
"""Pairs whose histograms are compared at a time, to bound the memory."""

Weight: TypeAlias = float | NDArray[np.float64]
Dissimilarity: TypeAlias = Callable[[RegionGraph, NDArray[np.intp]], NDArray[np.float64]]


class View(NamedTuple):
    """What counts how much where two regions are compared, in colour differences; (E,) if pairs differ in it."""

    colour: Weight
    """Of a colour difference of one between the means."""
    contrast: Weight
    """Of a contrast of one colour difference per pixel along the boundary."""
    colours: Weight
    """Of histograms of colour with nothing in common."""
    texture: Weight
    """Of histograms of texture with nothing in common."""
    labels: Weight
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
    averages hierarchies of several scales). Regions are then merged once more, by `average_strength`.

    Features of a pretrained network count in that last merging alone. They are coarser than fragments: as one more cue
    in each view they would split what is large, and fine cuts would get worse.
    """
    weights = np.array(VIEWS)
    each = merge_heights(
        replace(graph, features=graph.features[:, :0]).beside_itself(len(VIEWS)),
        lambda merged, view: dissimilarity(merged, View(*weights[view].T)),
        np.repeat(np.arange(len(VIEWS)), len(graph.area)),
    )
    average = np.exp(np.log(each.reshape(len(VIEWS), -1)).mean(0))
    plain = replace(
        graph,
        contrast=average * graph.length,
        **{name: getattr(graph, name)[:, :0] for name in ("colours", "texture", "labels")},
    )
    spread = feature_spread(graph)
    return merge_heights(plain, lambda merged, _: average_strength(merged, spread))


def dissimilarity(graph: RegionGraph, view: View) -> NDArray[np.float64]:
    """Dissimilarity of each pair of neighbours, (E,) > 0.

    Differences in colour (means and histograms), texture and labels, and the contrast along the boundary, times a power
    of the area over a power of the boundary length: as in Ward's linkage, small regions go first, and those that share
    much boundary.
    """
    one, other = graph.first, graph.second
    mean = graph.lab / graph.area[:, None]
    colour = np.sqrt(((mean[one] - mean[other]) ** 2).sum(1))
    area = _area_between(graph)
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


def average_strength(graph: RegionGraph, spread: float = 0) -> NDArray[np.float64]:
    """(E,) > 0, the average along each boundary, where `contrast` has strengths; of strong ones, times a power of area.

    One power of the area (`dissimilarity`) does not do for all cuts: with a larger one, coarse cuts lose specks and
    get better, and fine cuts lose small things and split large ones.

    Boundaries are weaker before that where a pretrained network sees the same on both sides, and stronger where it sees
    something else, if the regions are large. `spread` is the `feature_spread` of the photo.
    """
    strength = graph.contrast / graph.length
    if spread > 0:
        area = _area_between(graph)
        unlike = (1 - _cosines(graph)) / spread
        power = FEATURE_EXPONENT * area / (area + FEATURE_AREA)
        strength = strength * ((unlike + SAME_FEATURES) / USUAL_FEATURES) ** power
    beyond = np.clip(np.log(strength / STRONG), 0, 1)
    with_area = strength * (_area_between(graph) / STRONG_AREA) ** (STRONG_EXPONENT * beyond)
    average: NDArray[np.float64] = np.where(beyond > 0, np.maximum(with_area, STRONG), strength)
    return average


def feature_spread(graph: RegionGraph) -> float:
    """How much the features of a photo differ: about the mean of 1 - cosine over pairs of places; 0 without features.

    Networks differ in it, and so do photos: of a face, everything is a part of one thing.
    """
    squares = float(((graph.features**2).sum(1) / graph.area).sum())
    spread = 1 - float((graph.features.sum(0) ** 2).sum()) / squares if squares > 0 else 0.0
    return spread if spread > LEAST_SPREAD else 0.0


def _cosines(graph: RegionGraph) -> NDArray[np.float64]:
    """(E,) cosine of the angle between the features of each pair."""
    unit = unit_length(graph.features)
    cosine = np.empty(len(graph.first))
    for start in range(0, len(cosine), EDGES_AT_ONCE):
        some = slice(start, start + EDGES_AT_ONCE)
        cosine[some] = np.einsum("ec,ec->e", unit[graph.first[some]], unit[graph.second[some]])
    return np.minimum(cosine, 1)


def _area_between(graph: RegionGraph) -> NDArray[np.float64]:
    """(E,) product over sum of the areas on both sides, by which Ward's linkage weighs: about that of the smaller."""
    one, other = graph.area[graph.first], graph.area[graph.second]
    between: NDArray[np.float64] = one * other / (one + other)
    return between


def merge_heights(
    graph: RegionGraph, dissimilarity: Dissimilarity, part: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Merge neighbours until none are left: (E,) the dissimilarity at which the two sides of a pair were joined.

    It is ultrametric: of three regions that touch each other, no boundary is stronger than both others. Each round
    merges all pairs that are each other's nearest neighbour, which are those that single merges would come to (Murtagh
    1983, doi:10.1093/comjnl/26.4.354) unless merging brings neighbours nearer; and the cheapest others.

    Parameters
    ----------
    dissimilarity : of each pair of neighbours, (E,) > 0, from the graph as it is by then and the part of each pair.
    part : (R,) the part, 0..P-1, of the graph that each region is in. No pair is between two, and merging one is as if
        the others were not there; together they take no more rounds than one. By default all is one part.
    """
    part = np.zeros(len(graph.area), dtype=np.intp) if part is None else part
    strength = np.zeros(len(graph.first))
    pair = np.arange(len(graph.first))  # index in the current graph of each pair of the first
    height = np.zeros(len(graph.area))
    while len(graph.first):
        cost = dissimilarity(graph, part[graph.first])
        chosen = _to_merge(graph, cost, part)
        group = joined_groups(graph.first[chosen], graph.second[chosen], len(height))
        groups = int(group.max()) + 1
        merged_at = np.zeros(groups)
        np.maximum.at(merged_at, group, height)
        np.maximum.at(merged_at, group[graph.first[chosen]], cost[chosen])
        height, part = merged_at, value_of_each(group, part)
        inside_of = group[graph.first]
        graph, went_to = graph.joined(group, groups)
        left = np.flatnonzero(pair >= 0)
        gone = left[went_to[pair[left]] < 0]
        strength[gone] = merged_at[inside_of[pair[gone]]]
        pair[left] = went_to[pair[left]]
    return strength


def _to_merge(graph: RegionGraph, cost: NDArray[np.float64], part: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs that are each other's nearest, and the cheapest pairs of a region and its nearest in each part.

    Without the latter, many neighbours of one region would join it one a round, as would a chain of ever nearer ones.
    """
    order = np.lexsort((cost, part[graph.first]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    alone = len(order)
    nearest = np.full(len(graph.area), alone)
    np.minimum.at(nearest, graph.first, rank)
    np.minimum.at(nearest, graph.second, rank)
    mutual = (rank == nearest[graph.first]) & (rank == nearest[graph.second])
    # Ranks rise from part to part, so this is one part after another, the cheapest of each first.
    ranked = np.sort(nearest[nearest < alone])
    sizes = np.bincount(part[nearest < alone])
    place = np.arange(len(ranked)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    cheapest = ranked[place < np.repeat(np.maximum(sizes * CHEAPEST, 1), sizes)]
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

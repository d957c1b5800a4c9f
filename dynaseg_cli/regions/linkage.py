"""Bottom-up merging of neighbours, and the strength of the boundaries between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .features import unit_length
from .graph import RegionGraph
from .segments import merged_groups, value_of_each

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
PAIRS_AT_ONCE = 256
"""Pairs whose histograms or features are compared at a time, so that they stay in the processor's cache."""
NOTHING = np.float32(1e-30)
"""Less than any share of an area."""

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
    weights = np.array(VIEWS).T
    differences = pair_differences(graph)
    each = merge_heights(
        replace(graph, features=graph.features[:, :0]).beside_itself(len(VIEWS)),
        lambda merged, view: dissimilarity(merged, View(*weights[:, view])),
        np.repeat(np.arange(len(VIEWS)), len(graph.area)),
        np.concatenate([weighed(differences, view, graph) for view in VIEWS]),
    )
    average = np.exp(np.log(each.reshape(len(VIEWS), -1)).mean(0))
    plain = replace(graph, contrast=average * graph.length, histograms=graph.histograms[:, :0], bins=(0, 0, 0))
    spread = feature_spread(graph)
    return merge_heights(plain, lambda merged, _: average_strength(merged, spread))


def dissimilarity(graph: RegionGraph, view: View) -> NDArray[np.float64]:
    """Dissimilarity of each pair of neighbours, (E,) > 0: their `pair_differences`, `weighed`."""
    return weighed(pair_differences(graph), view, graph)


def pair_differences(graph: RegionGraph) -> NDArray[np.float64]:
    """(5, E) what a `View` weighs, for each pair of neighbours.

    Histograms of colour and texture differ the less, the smaller the regions.
    """
    mean = (graph.lab / graph.area[:, None]).T
    area = _area_between(graph)
    differences = np.empty((len(View._fields), len(graph.first)))
    differences[0] = np.sqrt(((mean[:, graph.first] - mean[:, graph.second]) ** 2).sum(0))
    differences[1] = graph.contrast / graph.length
    differences[2:] = chi_squared(graph)
    differences[2:4] *= area / (area + HISTOGRAM_AREA)
    return differences


def weighed(differences: NDArray[np.float64], view: View, graph: RegionGraph) -> NDArray[np.float64]:
    """(E,) > 0, the sums of weighted `pair_differences`, times a power of the area over a power of the boundary length.

    As in Ward's linkage, small regions go first, and those that share much boundary.
    """
    looks = sum(weight * difference for weight, difference in zip(view, differences, strict=True))
    area = _area_between(graph)
    different: NDArray[np.float64] = (looks + LEAST) * area**AREA_EXPONENT / graph.length**LENGTH_EXPONENT
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
    for start in range(0, len(cosine), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        cosine[some] = np.einsum("ec,ec->e", unit[graph.first[some]], unit[graph.second[some]])
    return np.minimum(cosine, 1)


def _area_between(graph: RegionGraph) -> NDArray[np.float64]:
    """(E,) product over sum of the areas on both sides, by which Ward's linkage weighs: about that of the smaller."""
    one, other = graph.area[graph.first], graph.area[graph.second]
    between: NDArray[np.float64] = one * other / (one + other)
    return between


def merge_heights(
    graph: RegionGraph,
    dissimilarity: Dissimilarity,
    part: NDArray[np.intp] | None = None,
    cost: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Merge neighbours until none are left: (E,) the dissimilarity at which the two sides of a pair were joined.

    It is ultrametric: of three regions that touch each other, no boundary is stronger than both others. Each round
    merges all pairs that are each other's nearest neighbour, which are those that single merges would come to (Murtagh
    1983, doi:10.1093/comjnl/26.4.354) unless merging brings neighbours nearer; and the cheapest others.

    Parameters
    ----------
    dissimilarity : (E,) > 0 of each pair of a graph, from its two regions and their boundary alone, and its part. It is
        asked about pairs of which a region has changed.
    part : (R,) the part, 0..P-1 and rising, of the graph that each region is in. No pair is between two, and merging
        one is as if the others were not there; together they take no more rounds than one. By default all is one part.
    cost : (E,) the dissimilarity of each pair, if it is known.
    """
    part = np.zeros(len(graph.area), dtype=np.intp) if part is None else part
    cost = dissimilarity(graph, part[graph.first]) if cost is None else cost
    height = np.zeros(len(graph.area))
    rounds = []
    while len(graph.first):
        chosen = _to_merge(graph, cost, part)
        group = merged_groups(graph.first[chosen], graph.second[chosen], len(height))
        sizes = np.bincount(group)
        merged_at = np.zeros(len(sizes))
        np.maximum.at(merged_at, group, height)
        np.maximum.at(merged_at, group[graph.first[chosen]], cost[chosen])
        joined, went_to = graph.joined(group, len(sizes))
        between = went_to >= 0
        rounds.append((merged_at[group[graph.first]], between, went_to[between]))
        known = np.empty(len(joined.first))
        known[went_to[between]] = cost[between]
        height, part, graph, cost = merged_at, value_of_each(group, part), joined, known
        has_changed = sizes > 1
        changed = np.flatnonzero(has_changed[graph.first] | has_changed[graph.second])
        cost[changed] = dissimilarity(graph.with_pairs(changed), part[graph.first[changed]])
    # From the last round back: a pair that a round leaves is as strong as the pair that it becomes part of.
    strength = np.empty(0)
    for merged_here, between, went_to in reversed(rounds):
        merged_here[between] = strength[went_to]
        strength = merged_here
    return strength


def _to_merge(graph: RegionGraph, cost: NDArray[np.float64], part: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs that are each other's nearest, and the cheapest pairs of a region and its nearest in each part.

    Without the latter, many neighbours of one region would join it one a round, as would a chain of ever nearer ones.
    Of equally near pairs, the one with the smaller number is nearer.
    """
    ends, costs = np.concatenate([graph.first, graph.second]), np.concatenate([cost, cost])
    least = np.full(len(graph.area), np.inf)
    np.minimum.at(least, ends, costs)
    are_least = np.flatnonzero(costs == least[ends])
    nearest = np.full(len(graph.area), len(cost))
    np.minimum.at(nearest, ends[are_least], are_least % len(cost))
    has_one = nearest < len(cost)
    least, nearest = least[has_one], nearest[has_one]
    is_chosen = np.bincount(nearest, minlength=len(cost)) == 2  # the nearest of both
    start = 0
    for size in np.bincount(part[has_one]).tolist():
        some = slice(start, start + size)
        is_chosen[_cheapest(least[some], nearest[some], math.ceil(max(size * CHEAPEST, 1)))] = True
        start += size
    return np.flatnonzero(is_chosen)


def _cheapest(costs: NDArray[np.float64], pairs: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Those `count` of the `pairs` that cost least, and of those that cost the same have the smallest numbers."""
    if len(pairs) <= count:
        return pairs
    limit = np.partition(costs, count - 1)[count - 1]
    below, at_limit = pairs[costs < limit], pairs[costs == limit]
    return np.concatenate([below, np.sort(at_limit)[: count - len(below)]])


def chi_squared(graph: RegionGraph) -> NDArray[np.float32]:
    """(3, E) distance, 0..1, of the histograms of colour, texture and labels of each pair.

    Half the sum over the bins of (a - b)^2 / (a + b), where a and b are shares of the areas.
    """
    ends = np.cumsum(graph.bins).tolist()
    kinds = [slice(end - bins, end) for end, bins in zip(ends, graph.bins, strict=True)]
    area = graph.area.astype(np.float32)
    # The smaller region is compared as if it were as large as the larger one, whichever of them has the smaller number.
    is_smaller = area[graph.first] < area[graph.second]
    larger = np.where(is_smaller, graph.second, graph.first)
    smaller = np.where(is_smaller, graph.first, graph.second)
    times = area[larger] / area[smaller]
    distance = np.empty((len(kinds), len(larger)), dtype=np.float32)
    room = np.empty((3, min(PAIRS_AT_ONCE, len(larger)), ends[-1]), dtype=np.float32)
    for start in range(0, len(larger), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        one, other, difference = room[:, : len(larger[some])]
        np.take(graph.histograms, larger[some], axis=0, out=one, mode="clip")
        np.take(graph.histograms, smaller[some], axis=0, out=other, mode="clip")
        other *= times[some, None]
        np.subtract(one, other, out=difference)
        one += other
        np.maximum(one, NOTHING, out=one)
        np.divide(difference, one, out=one)
        for row, kind in zip(distance, kinds, strict=True):
            np.einsum("eb,eb->e", one[:, kind], difference[:, kind], out=row[some])
    distance /= 2 * area[larger]
    return distance

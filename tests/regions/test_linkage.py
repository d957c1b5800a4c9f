from __future__ import annotations

import heapq
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynaseg_cli.regions import linkage
from dynaseg_cli.regions.cues import photo_cues
from dynaseg_cli.regions.features import Features, unit_length
from dynaseg_cli.regions.graph import RegionGraph, region_graph
from dynaseg_cli.regions.linkage import (
    VIEWS,
    View,
    average_strength,
    boundary_strengths,
    chi_squared,
    dissimilarity,
    feature_spread,
    merge_heights,
)
from dynaseg_cli.regions.segments import connected_regions


def make_graph(
    edges: list[tuple[int, int]],
    *,
    area: list[float],
    lab: list[float],
    contrast: float = 0,
    features: list[list[float]] | None = None,
) -> RegionGraph:
    """Regions that differ in L* and in mean `features` alone, each boundary of length 1."""
    first, second = np.array(edges, dtype=np.int64).T
    areas = np.array(area)
    alike = np.zeros((len(area), 4), dtype=np.float32)
    alike[:, 0] = areas
    return RegionGraph(
        area=areas,
        lab=np.stack([np.array(lab) * areas, np.zeros(len(area)), np.zeros(len(area))], axis=1),
        histograms=np.concatenate([alike] * 3, axis=1),
        bins=(4, 4, 4),
        features=(np.array(features or [[]] * len(area)) * areas[:, None]).astype(np.float32),
        first=first,
        second=second,
        length=np.ones(len(edges)),
        contrast=np.full(len(edges), float(contrast)),
    )


VIEW = View(colour=3, contrast=4, colours=40, texture=160, labels=18)


def seen_with(view: View, graph: RegionGraph, _: object = None) -> NDArray[np.float64]:
    return dissimilarity(graph, view)


seen = partial(seen_with, VIEW)


def of_noise(seed: int, height: int = 14, width: int = 17, labels: int = 3, features: Features = ()) -> RegionGraph:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    map_of_labels = random.integers(0, labels, (height, width))
    return region_graph(connected_regions(map_of_labels), map_of_labels, photo_cues(image), features)


def some_features(seed: int = 0) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return [unit_length(random.normal(size=size).astype(np.float32)) for size in ((4, 5, 6), (2, 2, 3))]


def one_at_a_time(graph: RegionGraph) -> NDArray[np.float64]:
    """Strengths by the definition: merge the nearest two, look at all again."""
    strength = np.zeros(len(graph.first))
    pair = np.arange(len(graph.first))
    reached = 0.0
    while len(graph.first):
        cost = seen(graph)
        nearest = int(np.argmin(cost))
        reached = max(reached, float(cost[nearest]))
        group = np.arange(len(graph.area))
        group[graph.second[nearest]] = graph.first[nearest]
        kept, group = np.unique(group, return_inverse=True)
        graph, went_to = graph.joined(group, len(kept))
        for edge in range(len(pair)):
            if pair[edge] >= 0:
                pair[edge] = went_to[pair[edge]]
                if pair[edge] < 0:
                    strength[edge] = reached
    return strength


def round_by_round(graph: RegionGraph) -> NDArray[np.float64]:
    """Heights by the rule of the rounds, pair by pair, all of which are looked at again in each round."""
    count = len(graph.area)
    pairs = list(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
    strength, height, member = np.zeros(len(pairs)), np.zeros(count), np.arange(count)
    while len(graph.first):
        ordered = sorted((cost, number) for number, cost in enumerate(seen(graph).tolist()))
        ends = graph.first.tolist(), graph.second.tolist()
        nearest: dict[int, tuple[float, int]] = {}
        for cost, number in ordered:
            for end in ends:
                nearest.setdefault(end[number], (cost, number))
        of_regions = sorted(nearest.values())
        mutual = {pair for pair in of_regions if of_regions.count(pair) == 2}
        share = math.ceil(max(len(of_regions) * linkage.CHEAPEST, 1))
        group = np.arange(len(graph.area))
        reached = height.copy()
        for cost, number in mutual | set(of_regions[:share]):
            one, other = group[ends[0][number]], group[ends[1][number]]
            top = max(cost, reached[one], reached[other])
            group[group == max(one, other)] = min(one, other)
            reached[min(one, other)] = top
        kept, group = np.unique(group, return_inverse=True)
        height, before = reached[kept], member
        member = group[before]
        for number, (one, other) in enumerate(pairs):
            if before[one] != before[other] and member[one] == member[other]:
                strength[number] = height[member[one]]
        graph, _ = graph.joined(group, len(kept))
    return strength


@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(2, 12))
@settings(max_examples=30)
def test_heights_are_those_of_the_rounds(seed: int, height: int, width: int) -> None:
    """Though a pair is looked at again only if one of its regions has changed."""
    graph = of_noise(seed, height, width)
    np.testing.assert_allclose(merge_heights(graph, seen), round_by_round(graph), rtol=1e-9)


def test_only_pairs_of_changed_regions_are_looked_at_again() -> None:
    graph = of_noise(0)
    asked = []

    def counted(merged: RegionGraph, _: object) -> NDArray[np.float64]:
        asked.append(len(merged.first))
        return seen(merged)

    heights = merge_heights(graph, counted)
    assert asked[0] == len(graph.first)
    known = asked.copy()
    asked.clear()
    np.testing.assert_array_equal(merge_heights(graph, counted, cost=seen(graph)), heights)
    assert asked == known[1:]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(1, 20), st.integers(0, 2**31))
def test_of_equal_costs_the_smaller_numbers_are_the_cheapest(costs: list[int], count: int, seed: int) -> None:
    pairs = np.random.default_rng(seed).permutation(len(costs))
    found = linkage._cheapest(np.array(costs, dtype=float), pairs, count)
    assert sorted(found.tolist()) == sorted(pair for _, pair in sorted(zip(costs, pairs.tolist(), strict=True))[:count])


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 256]))
def test_distances_of_histograms_are_those_of_the_formula(seed: int, at_once: int) -> None:
    graph = of_noise(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linkage, "PAIRS_AT_ONCE", at_once)
        found = chi_squared(graph)
    assert found.shape == (3, len(graph.first))
    for distance, histograms in zip(found, (graph.colours, graph.texture, graph.labels), strict=True):
        shares = histograms.astype(np.float64) / histograms.sum(1, dtype=np.float64)[:, None]
        one, other = shares[graph.first], shares[graph.second]
        both = np.where(one + other > 0, one + other, 1)
        np.testing.assert_allclose(distance, ((one - other) ** 2 / both).sum(1) / 2, rtol=1e-4, atol=1e-6)


def test_the_dissimilarity_of_two_regions_worked_out() -> None:
    graph = make_graph([(0, 1)], area=[0.2, 0.3], lab=[50, 40], contrast=2)
    expected = (3 * 10 + 4 * 2) * 0.12**linkage.AREA_EXPONENT
    np.testing.assert_allclose(seen(graph), [expected])


def test_textures_count_as_far_as_regions_are_large_enough_to_have_one() -> None:
    graph = make_graph([(0, 1)], area=[0.5, 0.5], lab=[50, 50])
    graph.texture[1] = [0, 0.5, 0, 0]  # nothing in common
    large = 0.25 / (0.25 + linkage.HISTOGRAM_AREA)
    np.testing.assert_allclose(seen(graph), [VIEW.texture * large * 0.25**linkage.AREA_EXPONENT])
    tiny = make_graph([(0, 1)], area=[1e-6, 0.5], lab=[50, 50])
    tiny.texture[0] = [0, 1e-6, 0, 0]
    assert seen(tiny)[0] < 0.01 * VIEW.texture * 1e-6**linkage.AREA_EXPONENT


def test_colours_count_besides_their_mean() -> None:
    graph = make_graph([(0, 1)], area=[0.5, 0.5], lab=[50, 50])
    graph.colours[1] = [0, 0.5, 0, 0]
    large = 0.25 / (0.25 + linkage.HISTOGRAM_AREA)
    np.testing.assert_allclose(seen(graph), [VIEW.colours * large * 0.25**linkage.AREA_EXPONENT])


def test_regions_of_other_labels_are_further_apart() -> None:
    graph = make_graph([(0, 1)], area=[0.5, 0.5], lab=[50, 50])
    graph.labels[1] = [0.25, 0.25, 0, 0]  # half of it has the label of the other: 1/2 (1/4 / 3/2 + 1/2)
    expected = (VIEW.labels / 3 + linkage.LEAST) * 0.25**linkage.AREA_EXPONENT
    np.testing.assert_allclose(seen(graph), [expected])


def test_pairs_are_compared_a_few_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = of_noise(0)
    whole = seen(graph)
    monkeypatch.setattr(linkage, "PAIRS_AT_ONCE", 7)
    np.testing.assert_array_equal(seen(graph), whole)


def test_a_chain_joins_in_order_of_its_differences() -> None:
    graph = make_graph([(0, 1), (1, 2), (2, 3)], area=[0.25] * 4, lab=[0, 1, 40, 43])
    strength = boundary_strengths(graph)
    assert strength[0] < strength[2] < strength[1]


@given(st.integers(0, 2**31))
@settings(max_examples=30)
def test_strengths_are_ultrametric(seed: int) -> None:
    graph = of_noise(seed)
    strength = boundary_strengths(graph)
    assert (strength > 0).all()
    # The weakest way between the ends of a pair, by its strongest boundary, is no weaker than the pair itself.
    neighbours: dict[int, list[tuple[float, int]]] = {}
    for one, other, value in zip(graph.first.tolist(), graph.second.tolist(), strength.tolist(), strict=True):
        neighbours.setdefault(one, []).append((value, other))
        neighbours.setdefault(other, []).append((value, one))
    for one, other, value in zip(graph.first.tolist()[:20], graph.second.tolist(), strength.tolist(), strict=False):
        best, queue = {one: 0.0}, [(0.0, one)]
        while queue:
            reached, here = heapq.heappop(queue)
            for step, there in neighbours[here]:
                if max(reached, step) < best.get(there, np.inf):
                    best[there] = max(reached, step)
                    heapq.heappush(queue, (best[there], there))
        assert best[other] == value


def test_rounds_come_to_nearly_what_merging_one_at_a_time_does() -> None:
    correlations = []
    for seed in range(5):
        graph = of_noise(seed, labels=4)
        rounds, single = merge_heights(graph, seen), one_at_a_time(graph)
        correlations.append(np.corrcoef(np.log(rounds), np.log(single))[0, 1])
        np.testing.assert_allclose(rounds.min(), single.min(), rtol=0.05)
    assert np.mean(correlations) > 0.7


def test_long_chains_take_few_rounds() -> None:
    count = 3000
    # Ever nearer neighbours: only the last two are each other's nearest.
    lab = np.cumsum(1 + np.arange(count, 0, -1) / count)
    graph = make_graph([(n, n + 1) for n in range(count - 1)], area=[1 / count] * count, lab=lab.tolist())
    rounds = 0

    def counted(merged: RegionGraph, _: object) -> NDArray[np.float64]:
        nonlocal rounds
        rounds += 1
        return seen(merged)

    assert (merge_heights(graph, counted) > 0).all()
    assert rounds < 700


@given(st.integers(0, 2**31))
@settings(max_examples=8)
def test_parts_of_a_graph_merge_as_if_each_were_alone(seed: int) -> None:
    graph, weights = of_noise(seed), np.array(VIEWS)
    together = merge_heights(
        graph.beside_itself(len(VIEWS)),
        lambda merged, view: dissimilarity(merged, View(*weights[view].T)),
        np.repeat(np.arange(len(VIEWS)), len(graph.area)),
    )
    for heights, view in zip(together.reshape(len(VIEWS), -1), VIEWS, strict=True):
        alone = merge_heights(graph, partial(seen_with, view))
        np.testing.assert_allclose(heights, alone, rtol=1e-9)


def test_a_boundary_that_all_views_agree_on_is_stronger_than_one_that_a_single_view_sees() -> None:
    """The first two regions differ in colour, the last two in their label."""
    graph = make_graph([(0, 1), (1, 2), (2, 3)], area=[0.25] * 4, lab=[20, 45, 90, 90])
    graph.labels[3] = [0, 0.25, 0, 0]
    trusting_labels = merge_heights(graph, partial(seen_with, VIEWS[3]))
    assert trusting_labels[0] < trusting_labels[2]
    strength = boundary_strengths(graph)
    assert strength[2] < strength[0] < strength[1]


def test_the_result_is_the_same_every_time_and_of_any_numbering() -> None:
    graph = of_noise(3)
    np.testing.assert_array_equal(boundary_strengths(graph), boundary_strengths(graph))
    random = np.random.default_rng(0).permutation(len(graph.area))
    renumbered, went_to = graph.joined(random, len(random))
    np.testing.assert_allclose(merge_heights(renumbered, seen)[went_to], merge_heights(graph, seen), rtol=1e-9)
    # Averages of equal heights differ in the last digit, so which of them merge first is up to the numbers.
    strengths = boundary_strengths(renumbered)[went_to], boundary_strengths(graph)
    assert np.corrcoef(np.log(strengths))[0, 1] > 0.9


def test_the_average_strength_of_two_regions_worked_out() -> None:
    graph = make_graph([(0, 1), (1, 2), (2, 3), (3, 4)], area=[0.3, 0.2, 0.3, 0.2, 2e-6], lab=[0] * 5)
    graph.contrast[:] = [20, linkage.STRONG * np.e, linkage.STRONG * np.e**0.5, linkage.STRONG * 1.01]
    found = average_strength(graph)
    beyond = 0.12 / linkage.STRONG_AREA
    assert found[0] == 20
    np.testing.assert_allclose(found[1], linkage.STRONG * np.e * beyond**linkage.STRONG_EXPONENT)
    np.testing.assert_allclose(found[2], linkage.STRONG * np.e**0.5 * beyond ** (linkage.STRONG_EXPONENT / 2))
    assert found[3] == linkage.STRONG  # a speck is weaker, but no weaker than what is not strong


SAME, OTHER = [1.0, 0.0], [0.6, 0.8]
"""Unit vectors whose cosine is 0.6."""


def test_the_spread_of_two_regions_worked_out() -> None:
    graph = make_graph([(0, 1)], area=[0.25, 0.75], lab=[0, 0], features=[SAME, OTHER])
    # Of two places, one is in each region with probability 2 * 1/4 * 3/4, and then 1 - cosine is 0.4.
    assert feature_spread(graph) == pytest.approx(0.15, rel=1e-5)


@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(1, 5))
def test_spread_is_the_mean_unlikeness_of_two_places(seed: int, regions: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    area, unit = random.dirichlet(np.ones(regions)), unit_length(random.normal(size=(regions, channels)))
    edges = [(n, n + 1) for n in range(regions - 1)]
    graph = make_graph(edges, area=area.tolist(), lab=[0] * regions, features=unit.tolist())
    expected = (np.outer(area, area) * (1 - unit @ unit.T)).sum()
    assert feature_spread(graph) == pytest.approx(expected, abs=1e-5)


def test_a_photo_without_features_has_no_spread() -> None:
    assert feature_spread(of_noise(0)) == 0


def test_a_photo_whose_features_are_all_0_has_no_spread() -> None:
    assert feature_spread(make_graph([(0, 1)], area=[0.5, 0.5], lab=[0, 0], features=[[0.0], [0.0]])) == 0


def test_equal_features_have_no_spread() -> None:
    equal = np.broadcast_to(some_features()[0][0, 0], (4, 5, 6))
    assert feature_spread(of_noise(0, features=[equal])) == pytest.approx(0, abs=1e-6)


def test_the_strength_between_regions_with_features_worked_out() -> None:
    """A boundary that they make a strong one is one for which the area counts."""
    graph = make_graph([(0, 1), (1, 2)], area=[0.2, 0.3, 0.2], lab=[0] * 3, features=[SAME, OTHER, OTHER])
    graph.contrast[:] = 20, 30
    power = linkage.FEATURE_EXPONENT * 0.12 / (0.12 + linkage.FEATURE_AREA)
    same, other = (((unlike + linkage.SAME_FEATURES) / linkage.USUAL_FEATURES) ** power for unlike in (0, 0.4 / 0.5))
    np.testing.assert_allclose(average_strength(graph, 0.5), [20 * other, 30 * same], rtol=1e-3)
    graph.contrast[:] = 30, 30
    strong = 30 * other
    assert strong > linkage.STRONG
    beyond = linkage.STRONG_EXPONENT * np.log(strong / linkage.STRONG)
    expected = strong * (0.12 / linkage.STRONG_AREA) ** beyond
    np.testing.assert_allclose(average_strength(graph, 0.5)[0], expected, rtol=1e-5)


def test_usual_unlikeness_leaves_the_strength_as_it_is() -> None:
    graph = make_graph([(0, 1)], area=[0.5, 0.5], lab=[0, 0], contrast=20, features=[SAME, OTHER])
    spread = 0.4 / (linkage.USUAL_FEATURES - linkage.SAME_FEATURES)
    np.testing.assert_allclose(average_strength(graph, spread), 20, rtol=1e-5)


def test_the_same_thing_on_both_sides_weakens_a_boundary_and_another_strengthens_it() -> None:
    graph = make_graph([(0, 1), (1, 2)], area=[0.25, 0.25, 0.5], lab=[0] * 3, contrast=20, features=[SAME, SAME, OTHER])
    within, between = average_strength(graph, feature_spread(graph))
    assert within < 20 < between


@pytest.mark.parametrize("features", [[SAME, SAME], [SAME, [-1.0, 0.0]]], ids=["same", "opposite"])
def test_features_do_not_count_in_specks(features: list[list[float]]) -> None:
    speck, large = (
        make_graph([(0, 1)], area=[area, 1 - area], lab=[0, 0], contrast=20, features=features) for area in (1e-6, 0.5)
    )
    assert average_strength(speck, 0.5)[0] == pytest.approx(20, rel=1e-3)
    assert average_strength(large, 0.5)[0] != pytest.approx(20, rel=0.3)


def test_without_a_spread_features_do_not_count() -> None:
    seen, unseen = of_noise(0, features=some_features()), of_noise(0)
    for spread in (0, -1e-7):
        np.testing.assert_array_equal(average_strength(seen, spread), average_strength(unseen))


def test_features_that_count_for_nothing_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """They count in the last merging alone."""
    seen, unseen = of_noise(0, features=some_features()), of_noise(0)
    assert (boundary_strengths(seen) != boundary_strengths(unseen)).any()
    monkeypatch.setattr(linkage, "FEATURE_EXPONENT", 0)
    np.testing.assert_array_equal(boundary_strengths(seen), boundary_strengths(unseen))


def test_features_are_compared_a_few_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = of_noise(0, features=some_features())
    whole, spread = boundary_strengths(graph), feature_spread(graph)
    once = average_strength(graph, spread)
    monkeypatch.setattr(linkage, "PAIRS_AT_ONCE", 7)
    np.testing.assert_array_equal(average_strength(graph, spread), once)
    np.testing.assert_array_equal(boundary_strengths(graph), whole)


def test_a_merged_region_has_the_features_of_its_parts() -> None:
    """0 and 1 join first: together they are half one thing and half another, and as far from 2 as from 3."""
    features = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    graph = make_graph([(0, 1), (1, 2), (1, 3)], area=[0.25] * 4, lab=[0] * 4, features=features)
    graph.contrast[:] = 0.01, 20, 20
    joined, _ = graph.joined(np.array([0, 0, 1, 2]), 3)
    found = average_strength(joined, feature_spread(graph))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    apart = average_strength(graph, feature_spread(graph))
    assert apart[2] < found[1] < apart[1]


def test_the_same_features_everywhere_count_for_nothing() -> None:
    for seed in range(8):
        equal = np.broadcast_to(some_features(seed)[0][0, 0], (4, 5, 6))
        seen, unseen = of_noise(seed, features=[equal]), of_noise(seed)
        np.testing.assert_array_equal(boundary_strengths(seen), boundary_strengths(unseen))

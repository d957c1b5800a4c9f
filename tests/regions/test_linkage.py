from __future__ import annotations

import heapq
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynaseg_cli.regions import linkage
from dynaseg_cli.regions.cues import photo_cues
from dynaseg_cli.regions.graph import RegionGraph, region_graph
from dynaseg_cli.regions.linkage import VIEWS, View, average_strength, boundary_strengths, dissimilarity, merge_heights
from dynaseg_cli.regions.segments import connected_regions


def make_graph(
    edges: list[tuple[int, int]], *, area: list[float], lab: list[float], contrast: float = 0
) -> RegionGraph:
    """Regions that differ in L* alone, each boundary of length 1."""
    first, second = np.array(edges, dtype=np.int64).T
    areas = np.array(area)
    alike = np.zeros((len(area), 4), dtype=np.float32)
    alike[:, 0] = areas
    return RegionGraph(
        area=areas,
        lab=np.stack([np.array(lab) * areas, np.zeros(len(area)), np.zeros(len(area))], axis=1),
        colours=alike.copy(),
        texture=alike,
        labels=alike.copy(),
        first=first,
        second=second,
        length=np.ones(len(edges)),
        contrast=np.full(len(edges), float(contrast)),
    )


VIEW = View(colour=3, contrast=4, colours=40, texture=160, labels=18)


def seen_with(view: View, graph: RegionGraph, _: object = None) -> NDArray[np.float64]:
    return dissimilarity(graph, view)


seen = partial(seen_with, VIEW)


def of_noise(seed: int, height: int = 14, width: int = 17, labels: int = 3) -> RegionGraph:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    map_of_labels = random.integers(0, labels, (height, width))
    return region_graph(connected_regions(map_of_labels), map_of_labels, photo_cues(image))


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
    monkeypatch.setattr(linkage, "EDGES_AT_ONCE", 7)
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
@settings(max_examples=20)
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

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from dynaseg_cli.evaluation.pooling import LabelCounts
from dynaseg_cli.plots.label_counts import (
    BINS,
    FEW,
    TICKS,
    bin_edges,
    draw_histogram,
    draw_scatter,
    of_images,
    of_truth,
)


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_bins_hold_every_number_once_and_are_few(one: int, other: int) -> None:
    least, most = sorted((one, other))
    edges = bin_edges(least, most)
    assert edges[0] <= least < edges[1]
    assert edges[-2] <= most < edges[-1]
    assert all(low < high for low, high in pairwise(edges.tolist()))
    assert len(edges) <= BINS + 3


@pytest.mark.parametrize(
    ("least", "most", "edges"),
    [
        (3, 3, [3, 4]),
        (0, 0, [0, 1]),
        (2, 6, [2, 3, 4, 5, 6, 7]),
        (5, 44, list(range(4, 47, 2))),
        (4, 60, list(range(0, 66, 5))),
        (2, 120, [2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128]),
        (1, 60_000, [2**power for power in range(17)]),
    ],
)
def test_bins_are_numbers_then_equal_then_powers_of_2(least: int, most: int, edges: list[int]) -> None:
    assert bin_edges(least, most).tolist() == edges


@pytest.mark.parametrize(
    "ends", [(3, 3), (0, 5), (5, 24), (5, 44), (4, 60), (14, 23), (0, 70_000), (2, 120), (1, 60_000)], ids=str
)
def test_ticks_are_at_what_they_say(ends: tuple[int, int]) -> None:
    axes = Figure().subplots()
    edges = bin_edges(*ends)
    series = of_images("truth", list(ends)), of_images("labels", list(ends))
    draw_histogram(axes, series, edges, "labels")
    ticks = {
        text.get_text().replace(",", ""): place
        for text, place in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
    }
    assert 1 <= len(ticks) <= TICKS
    for said, place in ticks.items():
        bar = int(np.searchsorted(edges, int(said)))
        assert place == (bar if (np.diff(edges) == 1).all() else bar - 0.5)
    assert [sum(bar.get_height() for bar in container) for container in axes.containers] == [2, 2]


def test_annotations_of_an_image_weigh_as_much_as_one() -> None:
    truth = of_truth([LabelCounts(1, (4, 5, 6)), LabelCounts(1, (7,))])
    assert truth.counts.tolist() == [4, 5, 6, 7]
    assert truth.weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


@pytest.mark.parametrize(
    ("annotations", "median"),
    [
        ([(4,)], 4.0),
        ([(4,), (9,)], 6.5),
        ([(9,), (4,), (5,)], 5.0),
        ([(1, 1, 1, 1, 1), (8,), (9,)], 8.0),  # of the numbers alone it would be 1
        ([(1, 2, 3), (9,)], 6.0),
        ([(1, 2, 3), (1, 2, 3), (1, 2, 3)], 2.0),
    ],
)
def test_the_median_is_of_images(annotations: list[tuple[int, ...]], median: float) -> None:
    assert of_truth([LabelCounts(1, each) for each in annotations]).median == median


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30))
def test_without_annotators_the_median_is_the_usual_one(numbers: list[int]) -> None:
    assert of_images("labels", numbers).median == np.median(numbers)


@pytest.mark.parametrize(
    ("counts", "scale"),
    [
        ([LabelCounts(5, (6,)), LabelCounts(9, (20,))], "linear"),
        ([LabelCounts(5, (6,)), LabelCounts(900, (20,))], "log"),
        ([LabelCounts(5, (1, 200))], "log"),  # an annotator's, too
        ([LabelCounts(0, (6,)), LabelCounts(900, (20,))], "linear"),  # what is none has no logarithm
        ([LabelCounts(0, (0,))], "linear"),
        ([LabelCounts(1, (1,))], "linear"),
    ],
)
def test_axes_are_logarithmic_over_decades_and_hold_every_point(counts: list[LabelCounts], scale: str) -> None:
    axes = Figure().subplots()
    draw_scatter(axes, counts, "labels", "segments")
    assert (axes.get_xscale(), axes.get_yscale()) == (scale, scale)
    low, high = axes.get_xlim()
    for one in counts:
        assert all(low <= number <= high for number in (one.predicted, *one.truth))


def test_annotators_of_many_images_are_not_told_apart() -> None:
    axes = Figure().subplots()
    draw_scatter(axes, [LabelCounts(5, (1, 9))] * (FEW + 1), "labels", "segments")
    assert list(axes.collections) == []
    assert axes.lines[1].get_xydata().tolist() == [[5, 5]] * (FEW + 1)

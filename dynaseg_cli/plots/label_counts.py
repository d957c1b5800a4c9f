"""Labels of an image against those of its ground truth, as panels of a picture: the paper's figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..evaluation.pooling import LabelCounts
from .style import BLUE, FAINT, ORANGE, legend_above, number, use_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 20
"""Most pairs of bars beside each other."""
TICKS = 9
"""Most numbers below them."""
SPREAD = "#BBBBBB"
LOG_FROM = 30
"""Ratio of the most to the least number from which equal steps are equal factors."""
ROUNDING = 1e-9
"""Larger than the rounding error of a sum of parts of images."""
FEW = 40
"""Most images whose annotators are told apart: the lines of more would be a haze."""


@dataclass(frozen=True)
class Series:
    """Numbers an image has by one way of counting, as one of two colours."""

    name: str
    color: str
    counts: NDArray[np.int64]
    weights: NDArray[np.float64]
    """The part of an image that each stands for: annotators share one."""

    @property
    def median(self) -> float:
        """Median over the images."""
        order = np.argsort(self.counts, kind="stable")
        counts, below = self.counts[order], np.cumsum(self.weights[order]) / self.weights.sum()
        lower, upper = np.searchsorted(below, (0.5 - ROUNDING, 0.5 + ROUNDING))
        return float(counts[lower] + counts[upper]) / 2


def of_truth(counts: Sequence[LabelCounts]) -> Series:
    """The numbers of every annotation."""
    numbers = [number for one in counts for number in one.truth]
    weights = [1 / len(one.truth) for one in counts for _ in one.truth]
    return Series("ground truth", BLUE, np.array(numbers, np.int64), np.array(weights))


def of_images(name: str, numbers: Sequence[int]) -> Series:
    """One number an image."""
    return Series(name, ORANGE, np.array(numbers, np.int64), np.ones(len(numbers)))


def bin_edges(least: int, most: int) -> NDArray[np.int64]:
    """Edges of bins of whole numbers: equally wide, or over decades at powers of 2."""
    if _spans_decades(least, most):
        octaves = np.log2(most / least)
        powers = np.arange(0, np.log2(most) + 2, 0.5 if octaves <= BINS / 2 else 1)
        known = np.unique((2**powers).round().astype(np.int64))
        return known[np.searchsorted(known, least, side="right") - 1 : np.searchsorted(known, most, side="right") + 1]
    width = _round_step((most - least + 1) / BINS)
    return np.arange(least - least % width, most + width + 1, width, dtype=np.int64)


def draw_histogram(axes: Axes, series: Sequence[Series], edges: NDArray[np.int64], what: str) -> None:
    """How many images have how many of `what`, the two series beside each other in each bin."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # an extra, and slow to import

    places = np.arange(len(edges) - 1)
    for one, side in zip(series, (-1, 1), strict=True):
        heights, _ = np.histogram(one.counts, edges, weights=one.weights)
        label = f"{one.name}, median {number(one.median)}"
        axes.bar(places + 0.21 * side, heights, 0.42, color=one.color, label=label)
    widths = np.diff(edges)
    if (widths == 1).all():  # each bin is a number
        ticks, shift = places, 0.0
    else:  # a bin is from the number on its left to below that on its right
        ticks, shift = np.arange(len(edges)), -0.5
        axes.set_xticks(ticks + shift, minor=True)  # where each begins, also those that have no room for it
    if (widths == widths[0]).all():
        ticks = ticks[edges[ticks] % (_round_step(len(ticks) / TICKS) * widths[0]) == 0]
    else:
        ticks = ticks[(edges & (edges - 1)) == 0]  # the powers of 2
        ticks = ticks[:: -(-len(ticks) // TICKS)]
    axes.set_xticks(ticks + shift, [number(edge) for edge in edges[ticks]])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set(xlabel=what, ylabel="images", xlim=(-0.7, len(places) - 0.3))
    axes.grid(axis="y")
    legend_above(axes)


def draw_scatter(axes: Axes, counts: Sequence[LabelCounts], predicted: str, truth: str) -> None:
    """A dot for each image's two numbers, and the line where they are equal; of annotators the mean and the range."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # as above

    across = np.array([one.truth_mean for one in counts])
    up = np.array([one.predicted for one in counts])
    least, most = min(across.min(), up.min()), max(across.max(), up.max())
    annotators = len(counts) <= FEW and any(len(one.truth) > 1 for one in counts)
    if annotators:
        least = min(least, *(min(one.truth) for one in counts))
        most = max(most, *(max(one.truth) for one in counts))
        few, many = ([end(one.truth) for one in counts] for end in (min, max))
        axes.hlines(up, few, many, color=SPREAD, linewidth=1.5, label="its annotators")
    if _spans_decades(least, most):
        ends = least / 1.25, most * 1.25
        use_log_axis(axes, "x", *ends)
        use_log_axis(axes, "y", *ends)
    else:
        margin = max(1.0, 0.05 * (most - least))
        ends = max(0.0, least - margin), most + margin
        axes.set(xlim=ends, ylim=ends)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.plot(ends, ends, "--", color=FAINT, linewidth=1, label="equal numbers")
    size, alpha = (7.0, 0.8) if len(counts) <= 200 else (4.0, 0.4) if len(counts) <= 2000 else (3.0, 0.2)
    axes.plot(across, up, "o", color=ORANGE, markersize=size, alpha=alpha, markeredgewidth=0, label="an image")
    several = any(len(one.truth) > 1 for one in counts)
    axes.set(xlabel=f"{truth}, {'mean of the annotators' if several else 'ground truth'}", ylabel=predicted)
    axes.grid()
    legend_above(axes, columns=2)


def _spans_decades(least: float, most: float) -> bool:
    return least >= 1 and most / least >= LOG_FROM


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 and so on that is not below `least`."""
    return next(step for power in range(20) for digit in (1, 2, 5) if (step := int(digit * 10**power)) >= least)

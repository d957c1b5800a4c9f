"""Quality against seconds, as a panel of a benchmark's picture: each method a point with its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..evaluation.agreement import Row
from ..evaluation.headings import metric_in_words
from ..figures import FAINT, folded, use_log_axis
from .name_points import Box, name_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 24
"""Characters of a method's name on a line."""
ROOM = 2.5
"""Factor of seconds left free on either side, for names."""
LEAST_SPAN = 0.1
"""Of a metric, that an axis shows: what differs by less is not to look far apart."""

CLEAR = 5
"""Pixels that a name keeps from a line."""


@dataclass(frozen=True)
class Cost:
    """What is drawn of one method."""

    color: str
    name: str
    seconds: Sequence[float]
    """Each run's, from decoded pixels to labels."""
    metrics: Row

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def middle_half(self) -> tuple[float, float]:
        """The lower and the upper quartile of the seconds."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)


def metrics_of_quality(costs: Sequence[Cost]) -> list[str]:
    """Those that are drawn, of what the protocol has."""
    known = {metric for cost in costs for metric, value in cost.metrics.items() if value is not None}
    if "pixel_accuracy" in known:
        return ["miou"]
    return [metric for metric in ("covering", "miou_mean", "miou") if metric in known]


def best_of_all(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of these (seconds, quality) no other beats in one without being beaten in the other, the fastest first."""
    best = [
        index
        for index, (seconds, quality) in enumerate(points)
        if not any(other != (seconds, quality) and other[0] <= seconds and other[1] >= quality for other in points)
    ]
    return sorted(best, key=lambda index: points[index])


def draw_quality(axes: Axes, costs: Sequence[Cost], metric: str) -> None:
    """One metric of all methods that have it; `name_methods` adds the names once the layout is done."""
    scored = with_metric(costs, metric)
    points = _points(scored, metric)
    best = best_of_all(points)
    axes.plot(
        [points[index][0] for index in best],
        [points[index][1] for index in best],
        ":",
        color=FAINT,
        label="no method is faster and better",
        zorder=1,
    )
    for index, (cost, (seconds, quality)) in enumerate(zip(scored, points, strict=True)):
        axes.hlines(quality, *cost.middle_half, color=cost.color, linewidth=1.5)
        filled = cost.color if index in best else "white"
        axes.plot([seconds], [quality], "o", color=cost.color, markersize=9, markerfacecolor=filled, markeredgewidth=2)
    axes.plot([], [], "-", color=FAINT, linewidth=1.5, label="middle half of the runs")
    ends = [end for cost in scored for end in (cost.median, *cost.middle_half)]
    use_log_axis(axes, "x", min(ends) / ROOM, max(ends) * ROOM)
    values = [quality for _, quality in points]
    margin = max(0.2 * (max(values) - min(values)), (LEAST_SPAN - max(values) + min(values)) / 2)
    axes.set(ylim=(max(0.0, min(values) - margin), max(values) + margin))
    classes = "pixel_accuracy" in scored[0].metrics
    axes.set(xlabel="seconds an image, median", ylabel=metric_in_words(metric, classes=classes))
    axes.grid()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def name_methods(axes: Axes, costs: Sequence[Cost], metric: str) -> None:
    """The names beside the points of `draw_quality`."""
    scored = with_metric(costs, metric)
    points = _points(scored, metric)
    lines = [[(end, quality) for end in cost.middle_half] for cost, (_, quality) in zip(scored, points, strict=True)]
    lines += [list(ends) for ends in pairwise(points[index] for index in best_of_all(points))]
    obstacles = [box for line in lines for box in _boxes_along(axes.transData.transform(line))]
    name_points(axes, points, [folded(cost.name, LINE) for cost in scored], obstacles)


def _boxes_along(ends: NDArray[np.float64]) -> list[Box]:
    """Squares from end to end, (2, 2), of a line in pixels."""
    steps = int(np.hypot(*(ends[1] - ends[0])) / (2 * CLEAR)) + 2
    places = np.linspace(ends[0], ends[1], steps).tolist()
    return [Box(x - CLEAR, y - CLEAR, x + CLEAR, y + CLEAR) for x, y in places]


def with_metric(costs: Sequence[Cost], metric: str) -> list[Cost]:
    return [cost for cost in costs if cost.metrics.get(metric) is not None]


def _points(costs: Sequence[Cost], metric: str) -> list[tuple[float, float]]:
    return [(cost.median, float(cost.metrics[metric] or 0.0)) for cost in costs]

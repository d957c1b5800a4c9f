"""Quality as panels of a benchmark's picture: against the seconds that it costs, and against the number of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..benchmark.region_curve import Point
from ..benchmark.results import MethodResults
from ..config import COMMON_GRANULARITY
from ..evaluation.headings import metric_in_words
from .style import COLORS, FAINT, INK, Points, legend_above, number, plain, plot_points, use_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "os^vDP"
"""Methods past the last colour begin again with the first, and the next marker."""
ROOM = 2.0
"""Factor of seconds left free on either side."""
LEAST_SPAN = 0.1
"""Least range of a metric that an axis shows, so that small differences do not look large."""

SEGMENTS = (5.0, 1000.0)
"""Segments an image that are drawn: fewer and more are of no use."""
TICKS = (5, 10, 20, 50, 100, 200, 500, 1000)
LONGEST_FOLDER = 34
"""Characters of another method's folder in the legend."""
ABOUT_AS_MANY = 1.2
"""Settings whose numbers of segments differ by no more than this factor are compared."""


@dataclass(frozen=True)
class Method:
    """A method as it looks in every panel."""

    results: MethodResults
    color: str
    marker: str

    @property
    def seconds(self) -> list[float]:
        """Seconds of each run, from decoded pixels to labels."""
        return [run.seconds for run in self.results.runs]

    @property
    def points(self) -> list[Point]:
        """Its curve over the number of segments, in that order."""
        return self.results.curve.points() if self.results.curve is not None else []


def with_looks(results: Sequence[MethodResults]) -> list[Method]:
    """Methods in colours and markers that tell them apart."""
    looks = [(color, marker) for marker in MARKERS for color in COLORS]
    return [Method(one, *looks[index % len(looks)]) for index, one in enumerate(results)]


def metrics_against_seconds(methods: Sequence[Method]) -> list[str]:
    """The metrics drawn against seconds, of those that the protocol has."""
    timed = [one.results.metrics for one in methods if all(one.seconds)]
    known = {metric for metrics in timed for metric, value in metrics.items() if value is not None}
    if "pixel_accuracy" in known:
        return ["miou"]
    return [metric for metric in ("covering", "miou_mean", "miou") if metric in known]


def metrics_against_segments(methods: Sequence[Method]) -> list[str]:
    """The metrics drawn against the number of segments, of those that the protocol has."""
    known = {metric for method in methods for metric in next(iter(method.points), {})}
    return [metric for metric in ("covering", "miou_mean", "miou") if metric in known]


def best_of_all(points: Points) -> list[int]:
    """Indices of the (seconds, quality) that no other beats in one and matches in the other, the fastest first."""
    best = [
        index
        for index, (seconds, quality) in enumerate(points)
        if not any(other != (seconds, quality) and other[0] <= seconds and other[1] >= quality for other in points)
    ]
    return sorted(best, key=lambda index: points[index])


def draw_against_seconds(axes: Axes, methods: Sequence[Method], metric: str) -> None:
    """One metric of all methods that have it: a point at the median of the seconds, a line over their middle half."""
    scored = [one for one in methods if one.results.metrics.get(metric) is not None and all(one.seconds)]
    points = [(float(np.median(one.seconds)), float(one.results.metrics[metric] or 0.0)) for one in scored]
    best = best_of_all(points)
    plot_points(axes, [points[index] for index in best], ":", color=FAINT, label="no method is faster and better")
    ends = []
    for index, (one, (seconds, quality)) in enumerate(zip(scored, points, strict=True)):
        low, high = np.quantile(one.seconds, (0.25, 0.75)).tolist()
        axes.hlines(quality, low, high, color=one.color, linewidth=1.5)
        look = {"color": one.color, "markersize": 9, "markeredgewidth": 2}
        plot_points(axes, [(seconds, quality)], one.marker, markerfacecolor=None if index in best else "white", **look)
        ends += [low, high]
    axes.plot([], [], "-", color=FAINT, linewidth=1.5, label="middle half of the runs")
    use_log_axis(axes, "x", min(ends) / ROOM, max(ends) * ROOM)
    values = [quality for _, quality in points]
    margin = max(0.2 * (max(values) - min(values)), (LEAST_SPAN - max(values) + min(values)) / 2)
    axes.set(ylim=(max(0.0, min(values) - margin), max(values) + margin))
    classes = "pixel_accuracy" in scored[0].results.metrics
    axes.set(xlabel="seconds an image, median", ylabel=metric_in_words(metric, classes=classes))
    axes.grid()
    legend_above(axes)


def best_points(points: Sequence[Point], metric: str) -> list[Point]:
    """The points that no other with about as many segments beats."""

    def comparable(one: Point, other: Point) -> bool:
        few, many = sorted((one["segments"], other["segments"]))
        return bool(many <= ABOUT_AS_MANY * few)

    return [
        point for point in points if all(other[metric] <= point[metric] for other in points if comparable(point, other))
    ]


def draw_against_segments(
    axes: Axes, methods: Sequence[Method], metric: str, hierarchies: tuple[str, Sequence[Point]] | None = None
) -> None:
    """One metric of all curves: hierarchies as lines, settings as points with a line through the best.

    `hierarchies` are those of another method, with the name of their folder: a broken line.
    """

    def places(points: Sequence[Point]) -> Points:
        return [(point["segments"], point[metric]) for point in points]

    def seen(points: Sequence[Point]) -> list[Point]:
        return [point for point in points if SEGMENTS[0] <= point["segments"] <= SEGMENTS[1]]

    cut = False
    for one in methods:
        drawn = seen(one.points)
        if one.points and "granularity" in one.points[0]["setting"]:
            cut = True
            plot_points(axes, places(drawn), "-", color=one.color)
            common = [point for point in drawn if point["setting"]["granularity"] == COMMON_GRANULARITY]
            plot_points(axes, places(common), one.marker, color=one.color, markersize=8)
        elif one.points:  # all settings of the method, whatever the options of this variant
            plot_points(axes, places(drawn), "o", color=one.color, alpha=0.4, markersize=4)
            label = f"{one.results.variant.method} at several settings"
            plot_points(axes, places(best_points(drawn, metric)), "o-", color=one.color, markersize=4, label=label)
    if hierarchies is not None:
        folder, points = hierarchies
        plot_points(axes, places(seen(points)), "--", color=INK, label=plain(folder, LONGEST_FOLDER))
    if cut:
        axes.plot([], [], "o", color=FAINT, markersize=8, label=f"granularity {COMMON_GRANULARITY:g}")
    axes.set(xscale="log", xlim=SEGMENTS, xlabel="segments an image, mean", ylabel=metric_in_words(metric))
    axes.set_xticks(TICKS, [number(tick) for tick in TICKS])
    axes.minorticks_off()
    axes.grid()
    legend_above(axes, columns=2)

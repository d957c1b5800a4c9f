"""Quality against the number of segments, as a panel of a benchmark's picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config import COMMON_GRANULARITY
from ..evaluation.headings import metric_in_words
from ..figures import FAINT, legend_columns, number
from .region_curve import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RANGE = (5.0, 1000.0)
"""Segments an image that are drawn: fewer and more are of no use."""
TICKS = (5, 10, 20, 50, 100, 200, 500, 1000)
ABOUT_AS_MANY = 1.2
"""Settings whose numbers of segments differ by no more than this factor are compared."""
LEGEND_WIDTH = 60
"""Characters that a legend has room for beside each other."""


@dataclass(frozen=True)
class Curve:
    """What is drawn of one method."""

    color: str
    name: str
    points: list[Point]
    """By the number of segments."""

    @property
    def is_hierarchy(self) -> bool:
        """Whether it is of one segmentation that is cut, rather than of several."""
        return "granularity" in self.points[0]["setting"]


def quality_metrics(curves: Sequence[Curve]) -> tuple[str, str]:
    """The two that are drawn, of those that the protocol has."""
    return "covering", "miou_mean" if "miou_mean" in curves[0].points[0] else "miou"


def best_points(points: Sequence[Point], metric: str) -> list[Point]:
    """Those that no other with about as many segments beats."""

    def comparable(one: Point, other: Point) -> bool:
        few, many = sorted((one["segments"], other["segments"]))
        return bool(many <= ABOUT_AS_MANY * few)

    return [
        point for point in points if all(other[metric] <= point[metric] for other in points if comparable(point, other))
    ]


def draw_curves(axes: Axes, curves: Sequence[Curve], metric: str) -> None:
    """One metric of all curves: hierarchies as lines, settings as points with a line through the best."""
    for curve in curves:
        drawn = [point for point in curve.points if RANGE[0] <= point["segments"] <= RANGE[1]]
        if curve.is_hierarchy:
            _plot(axes, drawn, metric, "-", color=curve.color, label=curve.name)
            common = [point for point in drawn if point["setting"]["granularity"] == COMMON_GRANULARITY]
            _plot(axes, common, metric, "D", color=curve.color, markersize=8)
        else:
            best = best_points(drawn, metric)
            _plot(axes, drawn, metric, "o", color=curve.color, alpha=0.4, markersize=4)
            _plot(axes, best, metric, "o-", color=curve.color, linewidth=1, markersize=4, label=curve.name)
    entries = [curve.name for curve in curves]
    if any(curve.is_hierarchy for curve in curves):
        entries.append(f"granularity {COMMON_GRANULARITY:g}")
        axes.plot([], [], "D", color=FAINT, markersize=8, label=entries[-1])
    axes.set(xscale="log", xlim=RANGE, xlabel="segments an image, mean", ylabel=metric_in_words(metric))
    axes.set_xticks(TICKS, [number(tick) for tick in TICKS])
    axes.minorticks_off()
    axes.grid()
    columns = legend_columns(entries, LEGEND_WIDTH)
    axes.legend(ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _plot(axes: Axes, points: Sequence[Point], metric: str, style: str, **options: Any) -> None:
    axes.plot([point["segments"] for point in points], [point[metric] for point in points], style, **options)

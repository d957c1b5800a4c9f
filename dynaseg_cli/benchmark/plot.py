"""The figures of a benchmark as a picture: seconds by stage, seconds and memory against the size of the images, and
quality against seconds and against the number of segments.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from ..config import SegmentConfig
from ..figures import COLORS, FAINT, WIDTH, folded, legend_columns, plain, use_log_axis
from .plot_curves import Curve, draw_curves, quality_metrics
from .plot_quality import Cost, draw_quality, metrics_of_quality, name_methods
from .report import MethodReport, Run, peak_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_IN_ROW = 3
LINE = 22
"""Characters of a method's name on a line."""
IN_LEGEND = 28
"""Characters of it in a legend."""
LEGEND_WIDTH = 44
"""Characters that a legend has room for beside each other."""
EDGE = 1.2
"""Factor that logarithmic axes go on beyond their points."""
LEAST_HEIGHT = 4.2
"""Inches of a row of panels beside each other."""

Points = list[tuple[float, float]]
Panel = Callable[["Axes"], None]


def picture(reports: Sequence[MethodReport], title: str) -> Figure:
    """All panels that there are figures for, once at least one method has labelled an image."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    measured = [report for report in reports if report.runs]
    costs, curves = _costs(measured), _curves(measured)
    qualities = metrics_of_quality(costs)
    speed: list[Panel] = [partial(_draw_stages, reports=measured)]
    if len({run.pixels for report in measured for run in report.runs}) > 1:
        speed += [partial(panel, reports=measured) for panel in (_draw_seconds_of_sizes, _draw_memory_of_sizes)]
    quality: list[Panel] = [partial(draw_quality, costs=costs, metric=metric) for metric in qualities]
    by_segments: list[Panel] = []
    if curves:
        by_segments = [partial(draw_curves, curves=curves, metric=metric) for metric in quality_metrics(curves)]
    first = [speed + quality] if len(speed + quality) <= PANELS_IN_ROW else [speed, quality]
    rows = [row for row in (*first, by_segments) if row]
    heights = [_height(measured) if row[0] is speed[0] else LEAST_HEIGHT for row in rows]
    if len(rows[0]) > 1:
        heights[0] = max(heights[0], LEAST_HEIGHT)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5), layout="constrained")
    drawn: dict[int, Axes] = {}
    # Each row has its own columns: long names beside the one leave the other its width.
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights).flat
    for place, row in zip(parts, rows, strict=True):
        for axes, draw_panel in zip(place.subplots(1, len(row), squeeze=False).flat, row, strict=True):
            draw_panel(axes)
            drawn[id(draw_panel)] = axes
    figure.suptitle(title, x=0.01, ha="left")
    figure.draw_without_rendering()  # names are placed where everything else has its place
    for panel, metric in zip(quality, qualities, strict=True):
        name_methods(drawn[id(panel)], costs, metric)
    return figure


def _height(reports: Sequence[MethodReport]) -> float:
    """Inches of a row of panels, in which the bars of the methods have space for all lines of their names."""
    lines = [len(folded(report.variant.name, LINE).split("\n")) for report in reports]
    return 1.4 + 0.22 * sum(max(2, of_one) for of_one in lines)


def _costs(reports: Sequence[MethodReport]) -> list[Cost]:
    """Those that were scored, in the colours that the methods have in the other panels."""
    return [
        Cost(color, report.variant.name, [run.seconds for run in report.runs], report.metrics)
        for color, report in zip(cycle(COLORS), reports, strict=False)
        if report.metrics and all(run.seconds > 0 for run in report.runs)
    ]


def _curves(reports: Sequence[MethodReport]) -> list[Curve]:
    """Those with points, in the colours that the methods have in the other panels."""
    curves = []
    for color, report in zip(cycle(COLORS), reports, strict=False):
        if report.curve is not None and report.curve.images:
            # Felzenszwalb's curve is of the method's own settings, and not of the variant's.
            own = isinstance(report.variant.config, SegmentConfig)
            name = report.variant.name if own else report.variant.method
            curves.append(Curve(color, plain(name, 60), report.curve.points()))
    return curves


def _draw_stages(axes: Axes, reports: Sequence[MethodReport]) -> None:
    rows = range(len(reports))
    ends = [0.0] * len(reports)
    stages = [report.stages for report in reports]
    # In the order of the method that has most of them.
    names_of_stages = dict.fromkeys(name for of in sorted(stages, key=len, reverse=True) for name in of)
    for color, stage in zip(COLORS, names_of_stages, strict=False):
        seconds = [of.get(stage) or 0.0 for of in stages]
        if any(seconds):
            axes.barh(rows, seconds, left=ends, color=color, label=stage)
        ends = [end + more for end, more in zip(ends, seconds, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(f"{end:.3g} s", (end, row), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(rows, [folded(report.variant.name, LINE) for report in reports])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("seconds an image, median of each stage")
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _draw_seconds_of_sizes(axes: Axes, reports: Sequence[MethodReport]) -> None:
    lines: list[Points] = []
    for color, report in zip(cycle(COLORS), reports, strict=False):
        _plot(axes, [(run.pixels / 1e6, run.seconds) for run in report.runs], "o", color=color, alpha=0.4)
        lines.append([(size, statistics.median(run.seconds for run in runs)) for size, runs in _by_size(report.runs)])
        _plot(axes, lines[-1], "-", color=color, label=plain(report.variant.name, IN_LEGEND))
    _finish_sizes(axes, lines, "seconds an image;\nthe line is the median")


def _draw_memory_of_sizes(axes: Axes, reports: Sequence[MethodReport]) -> None:
    lines: list[Points] = []
    for color, report in zip(cycle(COLORS), reports, strict=False):
        peaks = [(size, peak_bytes(runs)) for size, runs in _by_size(report.runs)]
        for place, style, suffix in (("host", "o-", ""), ("device", "s--", ", device")):
            known = [(size, peak / 1e9) for size, of in peaks if (peak := of[place])]
            if known:
                lines.append(known)
                _plot(axes, known, style, color=color, label=plain(report.variant.name, IN_LEGEND) + suffix)
    _finish_sizes(axes, lines, "most memory in GB,\nlibraries included")


def _plot(axes: Axes, points: Points, style: str, **options: Any) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], style, markersize=4, **options)


def _finish_sizes(axes: Axes, lines: Sequence[Points], what: str) -> None:
    """Logarithmic axes, where equal steps are equal factors, and for comparison what grows as the pixels do."""
    axes.set(xlabel="megapixels", ylabel=what)
    points = [point for line in lines for point in line]
    if not points:
        return
    least, (most, highest) = min(x for x, _ in points), max(points)
    guide = [(least, highest * least / most), (most, highest)]
    _plot(axes, guide, ":", color=FAINT, zorder=0, label="in proportion to the pixels")
    (left, low), (right, high) = axes.dataLim.get_points()
    use_log_axis(axes, "x", left / EDGE, right * EDGE)
    use_log_axis(axes, "y", low / EDGE, high * EDGE)
    axes.grid()
    entries = axes.get_legend_handles_labels()[1]
    columns = legend_columns(entries, LEGEND_WIDTH)
    axes.legend(ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _by_size(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """The runs by the megapixels of their images."""
    sizes = sorted({run.pixels for run in runs})
    return [(size / 1e6, [run for run in runs if run.pixels == size]) for size in sizes]

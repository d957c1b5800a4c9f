"""The figures of a benchmark as a picture: seconds by stage, and to fit to a folder or else by the size of the images,
with memory; and quality against seconds and against the number of segments.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..benchmark.measurement import Run, peak_bytes
from ..benchmark.region_curve import Point
from ..benchmark.results import MethodResults
from .quality import (
    Method,
    draw_against_seconds,
    draw_against_segments,
    metrics_against_seconds,
    metrics_against_segments,
    with_looks,
)
from .style import (
    COLORS,
    FAINT,
    INK,
    WIDTH,
    Points,
    folded,
    legend_above,
    legend_columns,
    plain,
    plot_points,
    use_log_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANELS_IN_ROW = 3
LINE = 22
"""Characters of a method's name on a line."""
IN_LEGEND = 66
"""Characters of it in the legend."""
EDGE = 1.2
"""Factor that logarithmic axes go on beyond their points."""
LEAST_HEIGHT = 4.2
"""Inches of a row of panels beside each other."""

Panel = Callable[["Axes"], None]


def picture(
    results: Sequence[MethodResults], title: str, hierarchies: tuple[str, Sequence[Point]] | None = None
) -> Figure:
    """All panels that there are figures for, once at least one method has labelled an image.

    `hierarchies` are those of another method: the folder, and the curve.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    methods = with_looks([one for one in results if one.runs])
    speed: list[Panel] = [partial(_draw_stages, methods=methods)]
    if any(one.results.fit for one in methods):
        speed.append(partial(_draw_folder_fits, methods=methods))
    elif len({run.pixels for one in methods for run in one.results.runs}) > 1:
        speed += [partial(panel, methods=methods) for panel in (_draw_seconds_of_sizes, _draw_memory_of_sizes)]
    quality: list[Panel] = [
        partial(draw_against_seconds, methods=methods, metric=metric) for metric in metrics_against_seconds(methods)
    ]
    by_segments: list[Panel] = [
        partial(draw_against_segments, methods=methods, metric=metric, hierarchies=hierarchies)
        for metric in metrics_against_segments(methods)
    ]
    first = [speed + quality] if len(speed + quality) <= PANELS_IN_ROW else [speed, quality]
    rows = [row for row in (*first, by_segments) if row]
    heights = [LEAST_HEIGHT] * len(rows)
    heights[0] = max(_height_of_stages(methods), LEAST_HEIGHT if len(rows[0]) > 1 else 0)
    names = [plain(one.results.variant.name, IN_LEGEND) for one in methods] if rows != [speed[:1]] else []
    columns = legend_columns(names, WIDTH)
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.5 + 0.25 * -(-len(names) // columns)), layout="constrained")
    # Each row has its own columns: long names beside one leave the other its width.
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights).flat
    for place, row in zip(parts, rows, strict=True):
        for axes, draw_panel in zip(place.subplots(1, len(row), squeeze=False).flat, row, strict=True):
            draw_panel(axes)
    figure.suptitle(title, x=0.01, ha="left")
    if names:
        figure.legend(_marks(methods), names, ncols=columns, loc="outside lower left")
    return figure


def _marks(methods: Sequence[Method]) -> list[Line2D]:
    from matplotlib.lines import Line2D  # noqa: PLC0415  # as above

    return [Line2D([], [], color=one.color, marker=one.marker) for one in methods]


def _height_of_stages(methods: Sequence[Method]) -> float:
    """Inches of a panel whose bars have space for all lines of the methods' names."""
    return 1.4 + 0.22 * sum(max(2, _folded_name(one).count("\n") + 1) for one in methods)


def _folded_name(method: Method) -> str:
    return folded(method.results.variant.name, LINE)


def _draw_stages(axes: Axes, methods: Sequence[Method]) -> None:
    rows = range(len(methods))
    ends = [0.0] * len(methods)
    stages = [one.results.stages for one in methods]
    # Stages come in the order of the method that has most of them.
    names_of_stages = dict.fromkeys(name for of in sorted(stages, key=len, reverse=True) for name in of)
    for color, stage in zip(COLORS, names_of_stages, strict=False):
        seconds = [of.get(stage) or 0.0 for of in stages]
        if any(seconds):
            axes.barh(rows, seconds, left=ends, color=color, label=stage)
        ends = [end + more for end, more in zip(ends, seconds, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(f"{end:.3g} s", (end, row), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(rows, [_folded_name(one) for one in methods])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("seconds an image, median of each stage")
    legend_above(axes, columns=3)


def _draw_folder_fits(axes: Axes, methods: Sequence[Method]) -> None:
    seconds = [one.results.fit.seconds if one.results.fit else 0.0 for one in methods]
    axes.barh(range(len(methods)), seconds, color=FAINT)
    for row, end in enumerate(seconds):
        axes.annotate(f"{end:.3g} s", (end, row), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel("seconds to fit to the folder")


def _draw_seconds_of_sizes(axes: Axes, methods: Sequence[Method]) -> None:
    lines = []
    for one in methods:
        runs = [(run.pixels / 1e6, run.seconds) for run in one.results.runs]
        plot_points(axes, runs, one.marker, color=one.color, alpha=0.4, markersize=4)
        lines.append(
            [(size, statistics.median(run.seconds for run in of_size)) for size, of_size in _by_size(one.results.runs)]
        )
        plot_points(axes, lines[-1], "-", color=one.color)
    _finish_sizes(axes, lines, "seconds an image;\nthe line is the median")


def _draw_memory_of_sizes(axes: Axes, methods: Sequence[Method]) -> None:
    lines: list[Points] = []
    for one in methods:
        peaks = [(size, peak_bytes(runs)) for size, runs in _by_size(one.results.runs)]
        for place, style in (("host", "-"), ("device", "--")):
            known = [(size, peak / 1e9) for size, of in peaks if (peak := of[place])]
            if known:
                lines.append(known)
                plot_points(axes, known, one.marker + style, color=one.color, markersize=4)
    if any(run.device_bytes for one in methods for run in one.results.runs):
        axes.plot([], [], "--", color=INK, label="of the device")
    _finish_sizes(axes, lines, "most memory in GB,\nlibraries included")


def _finish_sizes(axes: Axes, lines: Sequence[Points], what: str) -> None:
    """Logarithmic axes, where equal steps are equal factors, and for comparison a line in proportion to the pixels."""
    axes.set(xlabel="megapixels", ylabel=what)
    points = [point for line in lines for point in line]
    if not points:
        return
    least, (most, highest) = min(x for x, _ in points), max(points)
    guide = [(least, highest * least / most), (most, highest)]
    plot_points(axes, guide, ":", color=FAINT, zorder=0, label="in proportion to the pixels")
    (left, low), (right, high) = axes.dataLim.get_points()
    use_log_axis(axes, "x", left / EDGE, right * EDGE)
    use_log_axis(axes, "y", low / EDGE, high * EDGE)
    axes.grid()
    legend_above(axes)


def _by_size(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """The runs by the megapixels of their images."""
    sizes = sorted({run.pixels for run in runs})
    return [(size / 1e6, [run for run in runs if run.pixels == size]) for size in sizes]

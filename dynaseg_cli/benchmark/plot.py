"""The figures of a benchmark as a picture: seconds by stage, seconds and memory against the size of the images, and
quality against the number of segments.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import TYPE_CHECKING, Any, BinaryIO

from ..config import SegmentConfig
from ..errors import UsageError
from .plot_curves import Curve, draw_curves, quality_metrics
from .report import MethodReport, Run, peak_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart."""
PANELS_IN_ROW = 3

Points = list[tuple[float, float]]


def refuse_without_matplotlib() -> None:
    """Raise UsageError where no picture can be drawn."""
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'dynaseg[plot]'")


def draw(reports: Sequence[MethodReport], stream: BinaryIO, title: str) -> None:
    """Write a PNG picture of all methods that labelled anything."""
    picture(reports, title).savefig(stream, format="png", dpi=150)


def picture(reports: Sequence[MethodReport], title: str) -> Figure:
    """All panels that there are figures for."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    measured = [report for report in reports if report.runs]
    panels: list[Callable[[Axes], None]] = [partial(_draw_stages, reports=measured)]
    if len({run.pixels for report in measured for run in report.runs}) > 1:
        panels += [partial(panel, reports=measured) for panel in (_draw_seconds_of_sizes, _draw_memory_of_sizes)]
    curves = _curves(measured)
    if curves:
        panels += [partial(draw_curves, curves=curves, metric=metric) for metric in quality_metrics(curves)]
    rows = [panels[start : start + PANELS_IN_ROW] for start in range(0, len(panels), PANELS_IN_ROW)]
    columns = len(rows[0])
    height = 1.8 + 0.45 * max(len(measured), 8 if columns > 1 else 4)
    figure = Figure(figsize=(6 * columns + 1, height * len(rows)), layout="constrained")
    # Each row has its own columns: long names beside the one leave the other its width.
    for place, row in zip(figure.subfigures(len(rows), 1, squeeze=False).flat, rows, strict=True):
        for axes, draw_panel in zip(place.subplots(1, len(row), squeeze=False).flat, row, strict=True):
            draw_panel(axes)
    figure.suptitle(title, fontsize="small")
    return figure


def _curves(reports: Sequence[MethodReport]) -> list[Curve]:
    """Those with points, in the colours that the methods have in the other panels."""
    curves = []
    for color, report in zip(cycle(COLORS), reports, strict=False):
        if report.curve is not None and report.curve.images:
            # Felzenszwalb's curve is of the method's own settings, and not of the variant's.
            own = isinstance(report.variant.config, SegmentConfig)
            name = report.variant.name if own else report.variant.method
            curves.append(Curve(color, name, report.curve.points()))
    return curves


def _draw_stages(axes: Axes, reports: Sequence[MethodReport]) -> None:
    names = [report.variant.name for report in reports]
    ends = [0.0] * len(reports)
    stages = [report.stages for report in reports]
    # In the order of the method that has most of them.
    names_of_stages = dict.fromkeys(name for of in sorted(stages, key=len, reverse=True) for name in of)
    for color, stage in zip(COLORS, names_of_stages, strict=False):
        seconds = [of.get(stage) or 0.0 for of in stages]
        if any(seconds):
            axes.barh(names, seconds, left=ends, color=color, label=stage)
        ends = [end + more for end, more in zip(ends, seconds, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(f"{end:.3g} s", (end, row), (4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("seconds an image, median of each stage")
    if reports:
        axes.legend(frameon=False, ncols=len(names_of_stages), loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_seconds_of_sizes(axes: Axes, reports: Sequence[MethodReport]) -> None:
    lines: list[Points] = []
    for color, report in zip(cycle(COLORS), reports, strict=False):
        _plot(axes, [(run.pixels / 1e6, run.seconds) for run in report.runs], "o", color=color, alpha=0.4)
        lines.append([(size, statistics.median(run.seconds for run in runs)) for size, runs in _by_size(report.runs)])
        _plot(axes, lines[-1], "-", color=color, label=report.variant.name)
    _finish_sizes(axes, lines, "seconds an image; the line is the median")


def _draw_memory_of_sizes(axes: Axes, reports: Sequence[MethodReport]) -> None:
    lines: list[Points] = []
    for color, report in zip(cycle(COLORS), reports, strict=False):
        peaks = [(size, peak_bytes(runs)) for size, runs in _by_size(report.runs)]
        for place, style, suffix in (("host", "o-", ""), ("device", "s--", ", device")):
            known = [(size, peak / 1e9) for size, of in peaks if (peak := of[place])]
            if known:
                lines.append(known)
                _plot(axes, known, style, color=color, label=report.variant.name + suffix)
    _finish_sizes(axes, lines, "most memory in GB, libraries included")


def _plot(axes: Axes, points: Points, style: str, **options: Any) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], style, markersize=4, **options)


def _finish_sizes(axes: Axes, lines: Sequence[Points], what: str) -> None:
    """Logarithmic axes, where equal steps are equal factors, and for comparison what grows as the pixels do."""
    axes.set(xscale="log", yscale="log", xlabel="megapixels", ylabel=what)
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    points = [point for line in lines for point in line]
    if not points:
        return
    least, (most, highest) = min(x for x, _ in points), max(points)
    guide = [(least, highest * least / most), (most, highest)]
    _plot(axes, guide, ":", color="grey", zorder=0, label="in proportion to the pixels")
    axes.legend(frameon=False)


def _by_size(runs: Sequence[Run]) -> list[tuple[float, list[Run]]]:
    """The runs by the megapixels of their images."""
    sizes = sorted({run.pixels for run in runs})
    return [(size / 1e6, [run for run in runs if run.pixels == size]) for size in sizes]

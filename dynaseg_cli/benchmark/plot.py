"""The figures of a benchmark as a picture: seconds by stage; seconds and memory against the size of the images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import UsageError
from .report import MethodReport, Run, peak_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart."""


Points = list[tuple[float, float]]


def refuse_without_matplotlib() -> None:
    """Raise UsageError where no picture can be drawn."""
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'dynaseg[plot]'")


def draw(reports: Sequence[MethodReport], stream: BinaryIO, title: str) -> None:
    """Write a PNG picture of all methods that labelled anything."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    measured = [report for report in reports if report.runs]
    sizes = {run.pixels for report in measured for run in report.runs}
    columns = 3 if len(sizes) > 1 else 1
    height = 1.8 + 0.45 * max(len(measured), 8 if columns > 1 else 4)
    figure = Figure(figsize=(6 * columns + 1, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _draw_stages(axes[0], measured)
    if columns > 1:
        _draw_seconds_of_sizes(axes[1], measured)
        _draw_memory_of_sizes(axes[2], measured)
    figure.suptitle(title, fontsize="small")
    figure.savefig(stream, format="png", dpi=150)


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

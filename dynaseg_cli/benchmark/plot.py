"""The figures of a benchmark as a picture: seconds by stage, and seconds against the size of the images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

from ..errors import UsageError
from .report import MethodReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart."""


def refuse_without_matplotlib() -> None:
    """Raise UsageError where no picture can be drawn."""
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'dynaseg[plot]'")


def draw(reports: Sequence[MethodReport], stream: BinaryIO, title: str) -> None:
    """Write a PNG picture of all methods that labelled anything."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    measured = [report for report in reports if report.runs]
    sizes = {run.pixels for report in measured for run in report.runs}
    columns = 2 if len(sizes) > 1 else 1
    figure = Figure(figsize=(7 * columns, 1.8 + 0.45 * max(len(measured), 4 * columns)), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _draw_stages(axes[0], measured)
    if columns == 2:
        _draw_sizes(axes[1], measured)
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


def _draw_sizes(axes: Axes, reports: Sequence[MethodReport]) -> None:
    for index, report in enumerate(reports):
        color = COLORS[index % len(COLORS)]
        axes.plot(
            [run.pixels / 1e6 for run in report.runs],
            [run.seconds for run in report.runs],
            "o",
            color=color,
            alpha=0.4,
            markersize=4,
        )
        medians = {
            size: statistics.median(run.seconds for run in report.runs if run.pixels == size)
            for size in sorted({run.pixels for run in report.runs})
        }
        axes.plot([size / 1e6 for size in medians], list(medians.values()), color=color, label=report.variant.name)
    axes.set(xscale="log", yscale="log", xlabel="megapixels", ylabel="seconds an image; the line is the median")
    axes.grid(which="both", alpha=0.2)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)

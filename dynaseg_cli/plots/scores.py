"""An evaluation as a picture for a slide: the images' scores, their labels beside the ground truth's, and classes."""

from __future__ import annotations

import heapq
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.class_scores import ClassScore
from ..evaluation.evaluate import Evaluation
from ..evaluation.headings import HEADINGS, metric_in_words, written
from ..evaluation.segment_output import silhouette_of_image
from .examples import draw_examples, examples
from .label_counts import bin_edges, draw_histogram, draw_scatter, of_images, of_truth
from .style import EXAMPLES_HEIGHT, FAINT, GREEN, HEIGHT, INK, PINK, SKY, VERMILION, WIDTH, legend_above, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 40
"""Most bars that can be read beneath each other."""
DOTTED = 40
"""Most images that are dots on their curves."""
WORST = 3
"""Lowest images that are named, where there is space."""
CLEAR = 8
"""Pixels that their names keep from the curves."""
QUARTILES = {0.25: "lower quartile", 0.5: "median", 0.75: "upper quartile"}

Panel = Callable[["Axes"], None]


def picture(evaluation: Evaluation) -> Figure:
    """All panels that there are figures for, once at least one image was scored."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, and slow to import

    panels = _count_panels(evaluation)
    below = list(panels)
    panels["scores"] = partial(draw_scores, evaluation=evaluation)
    mosaic: list[Any] = [["scores"] * len(below), below]
    classes = evaluation.per_class()
    if classes:
        panels["classes"] = partial(draw_classes, classes=classes, num_things=evaluation.num_things)
        mosaic = [[*row, "classes"] for row in mosaic]
    ratios, height = [1.15, 1.0], HEIGHT
    shown = examples(evaluation)
    if shown:
        panels["examples"] = partial(draw_examples, shown=shown)
        mosaic.append(["examples"] * len(mosaic[0]))
        ratios.append(sum(ratios) * EXAMPLES_HEIGHT / HEIGHT)
        height += EXAMPLES_HEIGHT
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    drawn = figure.subplot_mosaic(mosaic, height_ratios=ratios)
    for name, axes in drawn.items():
        panels[name](axes)
    figure.suptitle(_title(evaluation), x=0.01, ha="left")
    if evaluation.doubts:
        doubts = "\n".join(textwrap.fill(plain(doubt), 150) for doubt in evaluation.doubts)
        figure.supxlabel(doubts, x=0.01, ha="left", fontsize=11, color=VERMILION)
    figure.draw_without_rendering()  # whether there is space for names is known where everything has its place
    name_worst(drawn["scores"], evaluation)
    return figure


def draw_scores(axes: Axes, evaluation: Evaluation) -> None:
    """The images' main metric and covering, each from its lowest to its highest, with the figure of all together."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # as above

    main, rows = evaluation.main_metric, list(evaluation.per_image())
    together = evaluation.metrics()
    curves: list[NDArray[np.float64]] = []
    for metric, color in ((main, INK), ("covering", GREEN)):
        values = np.sort([value for _, row in rows if (value := row[metric]) is not None])
        style = "o-" if len(values) <= DOTTED else "-"
        label = f"{metric_in_words(metric, classes=evaluation.of_classes)}: {_summary(values, together[metric])}"
        axes.plot(np.arange(len(values)) + 1, values, style, color=color, markersize=6, label=label)
        if (level := together[metric]) is not None and len(values) > 1:
            axes.axhline(level, color=color, linestyle="--", linewidth=1, zorder=1)
        curves.append(values)
    number = len(rows)
    for quartile, name in QUARTILES.items() if number >= 4 else ():
        place = 1 + quartile * (number - 1)
        axes.axvline(place, color=FAINT, linestyle=":", linewidth=1, zorder=0)
        axes.text(place, 1, f" {name}", transform=axes.get_xaxis_transform(), va="top", color=FAINT, fontsize=10)
    margin = max(0.5, 0.015 * number)
    axes.set(xlim=(1 - margin, number + margin), ylim=(0, _top(curves)), ylabel="score, 0 to 1")
    curved = "images, each curve from its lowest score to its highest; dashed: all images together"
    axes.set_xlabel(curved if number > 1 else "the image")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(axis="y")
    legend_above(axes)


def draw_classes(axes: Axes, classes: Sequence[ClassScore], num_things: int | None) -> None:
    """The intersection over union of each class, the highest on top; of many, the largest classes."""
    shown = sorted(classes, key=lambda one: one.pixels, reverse=True)[:MOST_CLASSES]
    shown.sort(key=lambda one: one.iou, reverse=True)
    things = [row for row, one in enumerate(shown) if num_things is not None and one.value < num_things]
    stuff = [row for row in range(len(shown)) if row not in things]
    for name, rows, color in (("things", things, PINK), ("stuff", stuff, SKY)):
        if rows:
            axes.barh(rows, [shown[row].iou for row in rows], color=color, label=name)
    names = [plain(one.name or str(one.value), 20) for one in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=min(11, 370 / len(shown)))
    axes.tick_params(axis="y", length=0)
    largest = f", the {len(shown)} largest of {len(classes)} classes" if len(shown) < len(classes) else " of each class"
    axes.set(xlim=(0, _top([np.array([one.iou for one in shown])])), ylim=(len(shown) - 0.4, -0.6))
    axes.set_xlabel(f"IoU{largest}")
    axes.grid(axis="x")
    if num_things is not None:
        legend_above(axes, columns=2)


def _count_panels(evaluation: Evaluation) -> dict[str, Panel]:
    """Labels beside the ground truth, and clusters that the silhouette phase chose, where `segment` has left them."""
    use = {"hierarchy": "regions", "raw": "labels"}.get(evaluation.config.use, evaluation.config.use)
    counts = dict(evaluation.label_counts())
    ks = {
        pair.name: k
        for pair in evaluation.pairing.pairs
        if pair.name in counts and (k := silhouette_of_image(pair.prediction)) is not None
    }
    truth = of_truth(list(counts.values()))
    labels = of_images(f"predicted {use}", [one.predicted for one in counts.values()])
    silhouette = of_images("silhouette's k", list(ks.values()))
    numbers = np.concatenate([one.counts for one in (truth, labels, silhouette)])
    edges = bin_edges(int(numbers.min()), int(numbers.max()))
    histogram = partial(draw_histogram, edges=edges)
    panels: dict[str, Panel] = {"labels": partial(histogram, series=(truth, labels), what=f"{use} an image")}
    if ks:
        same = of_truth([counts[name] for name in ks])
        panels["silhouette"] = partial(histogram, series=(same, silhouette), what="clusters an image")
    truth_name = "classes" if evaluation.of_classes else "segments"
    panels["scatter"] = partial(
        draw_scatter, counts=list(counts.values()), predicted=f"predicted {use}", truth=truth_name
    )
    return panels


def name_worst(axes: Axes, evaluation: Evaluation) -> None:
    """Name the lowest in the corner below the curves of `draw_scores`, if these leave it empty."""
    metric = evaluation.main_metric
    images = [(name, row[metric] or 0.0) for name, row in evaluation.per_image()]
    if len(images) <= WORST:
        return
    worst = heapq.nsmallest(WORST, images, key=lambda named: named[1])
    lines = [f"lowest by {HEADINGS[metric]}:", *(f"{value:.2f}  {plain(name, 36)}" for name, value in worst)]
    text = axes.text(0.995, 0.03, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize=10)
    text.set(multialignment="left", linespacing=1.3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})
    box = text.get_window_extent()
    left, top = axes.transData.inverted().transform((box.x0 - CLEAR, box.y1 + CLEAR))
    named = axes.get_legend_handles_labels()[1]
    curves = [np.asarray(line.get_data(), np.float64) for line in axes.get_lines() if line.get_label() in named]
    if any(curve.size and np.interp(left, *curve) < top for curve in curves):  # they rise from there on
        text.remove()


def _summary(values: NDArray[np.float64], together: float | None) -> str:
    """A metric of the images in words."""
    if len(values) < 2 or together is None:
        return written("miou", together)
    text = f"{together:.3f} of all together; the images' mean {values.mean():.3f}"
    quartiles = ", ".join(f"{value:.2f}" for value in np.quantile(values, list(QUARTILES)))
    return f"{text}, quartiles {quartiles}" if len(values) >= 4 else text


def _title(evaluation: Evaluation) -> str:
    prediction, truth = (plain(str(path), 60) for path in (evaluation.prediction, evaluation.truth))
    images = f"{evaluation.images:,} image{'' if evaluation.images == 1 else 's'}"
    if evaluation.failures:
        images += f" of {evaluation.images + len(evaluation.failures):,}"
    row = evaluation.metrics()
    units = {"pixel_accuracy": "", "pri": "", "voi": " bits", "segments": " an image"}
    known = [name for name in units if row.get(name) is not None]
    figures = ", ".join(f"{HEADINGS[name]} {written(name, row[name])}{units[name]}" for name in known)
    if row.get("granularity") is not None:
        images += f" cut at granularity {row['granularity']:g}"
    return f"{prediction} against {truth}\n{images}, protocol {evaluation.protocol}: {figures}"


def _top(curves: Sequence[NDArray[np.float64]]) -> float:
    """The end of an axis from 0 with space for these scores, of which 1 is the highest possible."""
    highest = max((float(curve.max()) for curve in curves if len(curve)), default=0.0)
    return min(1.04, 1.1 * highest) or 1.0

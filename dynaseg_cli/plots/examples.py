"""The best and the worst image of an evaluation beside each other: photo, predicted map, ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..evaluation.evaluate import Evaluation
from ..evaluation.headings import written
from ..evaluation.pairing import Pair
from ..evaluation.segment_output import photo_of_map
from ..pictures.palette import palette_colors
from .style import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE = 300
"""Height in pixels of each picture, however large the files are."""
WIDEST = 3.0
"""Width of a picture in heights from which it is shown in part."""
GAP, BREAK = 0.03, 0.12
"""Between the pictures of an image, and between the two images; in heights of a picture."""
IGNORED = np.array([224, 224, 224], np.uint8)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Example:
    """One image, to be shown."""

    caption: str
    pictures: list[tuple[str, Picture]]
    """What each is, and (TILE, W, 3) RGB."""


def examples(evaluation: Evaluation) -> list[Example]:
    """The best and the worst image by the main metric; fewer if there is one alone, or files cannot be read any more.

    There are none of hierarchies, which have no map of their own.
    """
    if evaluation.config.use == "hierarchy":
        return []
    metric = evaluation.main_metric
    scores = [(value, name) for name, row in evaluation.per_image() if (value := row[metric]) is not None]
    if not scores:
        return []
    best, worst = max(scores, key=lambda one: one[0]), min(scores, key=lambda one: one[0])
    chosen = [("best", *best), ("worst", *worst)] if len(scores) > 1 else [("the image", *best)]
    pairs = {pair.name: pair for pair in evaluation.pairing.pairs}
    found = []
    for what, value, name in chosen:
        try:
            pictures = _pictures(evaluation, pairs[name])
        except (ImageError, OSError, MemoryError):
            continue
        found.append(Example(f"{what}, {written(metric, value)}: {plain(name, 44)}", pictures))
    return found


def _pictures(evaluation: Evaluation, pair: Pair) -> list[tuple[str, Picture]]:
    reader = evaluation.reader
    truths = reader.truths(pair.truth)
    photo = photo_of_map(pair.prediction, evaluation.config.max_pixels)
    maps = [
        ("predicted", _painted(_tile(reader.labels(pair.prediction)), None)),
        ("ground truth", _painted(_tile(truths[0]), reader.ignored_value(truths))),
    ]
    return maps if photo is None else [("photo", _tile(photo)), *maps]


def _tile(pixels: NDArray[Any]) -> NDArray[Any]:
    """The nearest pixels, `TILE` rows of them; of a wide picture the middle."""
    height, width = pixels.shape[:2]
    wide = max(1, min(round(TILE * width / height), round(TILE * WIDEST)))
    scale = height / TILE
    rows = ((np.arange(TILE) + 0.5) * scale).astype(int)
    columns = ((np.arange(wide) + 0.5) * scale + max(0.0, width - wide * scale) / 2).astype(int)
    tile: NDArray[Any] = pixels[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
    return tile


def _painted(labels: NDArray[Any], ignored: int | None) -> Picture:
    """Labels in the palette's colours by falling area, as `segment` numbers its own."""
    values, place, areas = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(values), np.intp)
    rank[np.argsort(-areas, kind="stable")] = np.arange(len(values))
    colors = palette_colors(len(values))[rank]
    if ignored is not None:
        colors[values == ignored] = IGNORED
    return np.asarray(colors[place.reshape(labels.shape)], np.uint8)


def draw_examples(axes: Axes, shown: Sequence[Example]) -> None:
    """All pictures in a row, each named below it, and each image above its first one."""
    left = 0.0
    for example in shown:
        axes.text(left, 1.04, example.caption, va="bottom", fontsize=11)
        for what, picture in example.pictures:
            right = left + picture.shape[1] / TILE
            axes.imshow(picture, extent=(left, right, 0, 1), interpolation="antialiased")
            axes.text(left, -0.04, what, va="top", fontsize=10)
            left = right + GAP
        left += BREAK
    axes.set(xlim=(0, max(left - BREAK - GAP, _caption_widths(shown))), ylim=(-0.16, 1.2), aspect="equal", anchor="W")
    axes.set_axis_off()


def _caption_widths(shown: Sequence[Example]) -> float:
    return max((0.05 * len(example.caption) for example in shown), default=1.0)

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dynaseg_cli.benchmark.name_points import MARK, NEAR, Box, name_points
from dynaseg_cli.figures import style

METHODS = ["scf", "fsf", "fixed", "reference", "kmeans:\nclusters=8", "felzenszwalb", "superpixel-cnn", "iic"]
Places = list[tuple[float, float]]


def named(points: Places, obstacles: Sequence[Box] = ()) -> tuple[Axes, list[Box]]:
    """A panel as small as in a picture of three, and where the names are."""
    with style():
        figure = Figure(figsize=(4, 4), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="seconds", ylabel="quality")
        figure.draw_without_rendering()
        name_points(axes, points, METHODS[: len(points)], obstacles)
        figure.draw_without_rendering()
        # Of the text alone: an annotation's own extent has the line in it.
        boxes = [Box(*Text.get_window_extent(text).extents) for text in axes.texts]
    return axes, boxes


def random_places(seed: int) -> Places:
    return [(float(x), float(y)) for x, y in np.random.default_rng(seed).uniform(0.05, 0.95, (8, 2))]


LAYOUTS = {
    **{f"random {seed}": random_places(seed) for seed in range(12)},
    "all at one place": [(0.5, 0.5)] * 8,
    "all in a corner": [(0.98, 0.97)] * 8,
    "in a row": [(0.1 + 0.1 * index, 0.5) for index in range(8)],
    "one above another": [(0.5, 0.3 + 0.05 * index) for index in range(8)],
    "two heaps": [(0.2, 0.2), (0.8, 0.9)] * 4,
}


@pytest.mark.parametrize("points", LAYOUTS.values(), ids=LAYOUTS)
def test_names_of_eight_cover_neither_each_other_nor_points_and_stay_inside(points: Places) -> None:
    axes, boxes = named(points)
    assert [text.get_text() for text in axes.texts] == METHODS
    panel = Box(*axes.bbox.extents)
    for box in boxes:
        assert box.shared(panel) == pytest.approx(box.area)
    for one, other in itertools.combinations(boxes, 2):
        assert one.shared(other) == 0
    for x, y in axes.transData.transform(points):
        assert not any(box.holds(x, y) for box in boxes)


def test_single_name_is_beside_its_point_without_a_line() -> None:
    axes, (box,) = named([(0.5, 0.5)])
    ((x, y),) = axes.transData.transform([(0.5, 0.5)])
    mark = MARK * axes.figure.dpi / 72
    assert mark < box.left - x < 2 * mark
    assert box.bottom < y < box.top
    assert not axes.texts[0].arrow_patch.get_visible()


def test_line_leads_to_a_name_that_is_further_off() -> None:
    axes, boxes = named([(0.5, 0.5)] * 8)
    scale = axes.figure.dpi / 72
    ((x, y),) = axes.transData.transform([(0.5, 0.5)])
    near = [
        max(box.left - x, x - box.right, 0) ** 2 + max(box.bottom - y, y - box.top, 0) ** 2 <= (NEAR * scale) ** 2
        for box in boxes
    ]
    assert [text.arrow_patch.get_visible() for text in axes.texts].count(False) >= 1
    assert all(text.arrow_patch.get_visible() for text, close in zip(axes.texts, near, strict=True) if not close)


def test_obstacle_is_gone_around() -> None:
    _, (free,) = named([(0.5, 0.5)])
    wall = Box(free.left, free.bottom, free.right, free.top)
    _, (moved,) = named([(0.5, 0.5)], [wall])
    assert moved.shared(wall) == 0


def test_boxes_share_the_area_that_both_cover() -> None:
    box = Box(0, 0, 4, 2)
    assert box.area == 8
    assert box.shared(Box(3, 1, 9, 9)) == 1
    assert box.shared(Box(4, 0, 5, 2)) == 0
    assert box.shared(Box(9, 9, 10, 10)) == 0
    assert box.holds(1, 1)
    assert not box.holds(4, 1)

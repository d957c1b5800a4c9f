from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from dynaseg_cli.benchmark.plot_quality import (
    LEAST_SPAN,
    ROOM,
    Cost,
    best_of_all,
    draw_quality,
    metrics_of_quality,
    name_methods,
)
from dynaseg_cli.figures import FAINT, style

QUICK = Cost("#112233", "quick", [0.1, 0.2, 0.3, 0.4, 0.5], {"covering": 0.3, "miou": 0.2, "pri": 0.9})
SLOW = Cost("#445566", "slow:size=0", [10.0], {"covering": 0.5, "miou": 0.4, "pri": 0.9})
WORSE = Cost("#778899", "worse", [10.0, 30.0], {"covering": 0.4, "miou": None, "pri": 0.9})


def test_best_are_those_that_none_beats_in_both() -> None:
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.4), (2.5, 0.4), (2.0, 0.3), (9.0, 0.5)]
    assert best_of_all(points) == [1, 2, 0]
    assert best_of_all([(1.0, 0.5)]) == [0]
    assert best_of_all([]) == []


def test_equals_are_all_best() -> None:
    assert best_of_all([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5)]) == [0, 1]


def test_methods_are_points_at_their_median_with_the_middle_half_of_their_seconds() -> None:
    axes = Figure().subplots()
    draw_quality(axes, [QUICK, SLOW, WORSE], "covering")
    best, quick, slow, worse, _ = axes.lines
    assert [line.get_xydata().tolist() for line in (quick, slow, worse)] == [[[0.3, 0.3]], [[10, 0.5]], [[20, 0.4]]]
    assert [spread.get_segments()[0].tolist() for spread in axes.collections] == [
        [[0.2, 0.3], [0.4, 0.3]],
        [[10, 0.5], [10, 0.5]],
        [[15, 0.4], [25, 0.4]],
    ]
    assert best.get_xydata().tolist() == [[0.3, 0.3], [10, 0.5]]
    fills = [line.get_markerfacecolor() for line in (quick, slow, worse)]
    assert fills == [QUICK.color, SLOW.color, "white"]
    assert [line.get_color() for line in (best, quick, slow, worse)] == [FAINT, QUICK.color, SLOW.color, WORSE.color]
    assert (axes.get_xscale(), axes.get_xlim()) == ("log", pytest.approx((0.2 / ROOM, 25 * ROOM)))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds an image, median", "covering")


def test_method_without_the_metric_is_left_out() -> None:
    axes = Figure().subplots()
    draw_quality(axes, [QUICK, WORSE], "miou")
    assert len(axes.lines) == 3
    name_methods(axes, [QUICK, WORSE], "miou")
    assert [text.get_text() for text in axes.texts] == ["quick"]


def test_axis_does_not_blow_up_what_hardly_differs() -> None:
    axes = Figure().subplots()
    draw_quality(axes, [QUICK, Cost("#000000", "other", [1.0], {"covering": 0.301})], "covering")
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(LEAST_SPAN)
    axes = Figure().subplots()
    draw_quality(axes, [Cost("#000000", "bad", [1.0], {"covering": 0.0})], "covering")
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize(
    ("metrics", "drawn", "said"),
    [
        ({"miou_all": 0.1, "miou_mean": 0.2, "covering": 0.3}, ["covering", "miou_mean"], "best-overlap mIoU, Mean"),
        ({"miou": 0.2, "covering": 0.3}, ["covering", "miou"], "best-overlap mIoU"),
        ({"miou": 0.2, "pixel_accuracy": 0.5, "covering": 0.3}, ["miou"], "mIoU"),
        ({}, [], ""),
    ],
)
def test_metrics_are_those_that_the_protocol_has(metrics: dict[str, float], drawn: list[str], said: str) -> None:
    costs = [Cost("#000000", "scf", [1.0], metrics)]
    assert metrics_of_quality(costs) == drawn
    if drawn:
        axes = Figure().subplots()
        draw_quality(axes, costs, drawn[-1])
        assert axes.get_ylabel() == said


def test_long_names_are_folded() -> None:
    name = "scf:iterations=2:min_labels=3:max_size=16:features=8:clusters=8"
    cost = Cost("#000000", name, [1.0], {"covering": 0.3})
    with style():
        axes = Figure(layout="constrained").subplots()
        draw_quality(axes, [cost], "covering")
        name_methods(axes, [cost], "covering")
    assert axes.texts[0].get_text().count("\n") == 2

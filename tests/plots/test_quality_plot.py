from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.figure import Figure

from dynaseg_cli.benchmark.measurement import Run
from dynaseg_cli.benchmark.results import MethodResults
from dynaseg_cli.benchmark.variants import Variant
from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.plots.quality import (
    LEAST_SPAN,
    ROOM,
    Method,
    best_of_all,
    best_points,
    draw_against_seconds,
    draw_against_segments,
    metrics_against_seconds,
    metrics_against_segments,
    with_looks,
)
from dynaseg_cli.plots.style import COLORS, FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Points:
    """Stands in for a curve over the number of segments."""

    def __init__(self, *points: dict[str, Any]) -> None:
        self.points = lambda: list(points)


def method(
    color: str, name: str, seconds: list[float], points: Points | None = None, **metrics: float | None
) -> Method:
    runs = [Run(str(image), 9, 9, 0, 3, {"fit": fit}, 0, 0, None, None) for image, fit in enumerate(seconds)]
    variant = Variant(name, name.partition(":")[0], SegmentConfig())
    results = MethodResults(variant, runs=runs, metrics=metrics, curve=points)  # type: ignore[arg-type]
    return Method(results, color, "o")


def labels_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_methods_are_told_apart_however_many() -> None:
    methods = with_looks([method("", str(number), [1.0]).results for number in range(12)])
    assert len({(one.color, one.marker) for one in methods}) == 12
    assert [one.color for one in methods[:8]] == list(COLORS)


# Against seconds

QUICK = method("#112233", "quick", [0.1, 0.2, 0.3, 0.4, 0.5], covering=0.3, miou=0.2, pri=0.9)
SLOW = method("#445566", "slow:size=0", [10.0], covering=0.5, miou=0.4, pri=0.9)
WORSE = method("#778899", "worse", [10.0, 30.0], covering=0.4, miou=None, pri=0.9)


def test_best_are_those_that_none_beats_in_both() -> None:
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.4), (2.5, 0.4), (2.0, 0.3), (9.0, 0.5)]
    assert best_of_all(points) == [1, 2, 0]
    assert best_of_all([(1.0, 0.5)]) == [0]
    assert best_of_all([]) == []


def test_equals_are_all_best() -> None:
    assert best_of_all([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5)]) == [0, 1]


def test_methods_are_points_at_their_median_with_the_middle_half_of_their_seconds() -> None:
    axes = Figure().subplots()
    draw_against_seconds(axes, [QUICK, SLOW, WORSE], "covering")
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
    draw_against_seconds(axes, [QUICK, WORSE], "miou")
    assert {line.get_color() for line in axes.lines} == {FAINT, QUICK.color}


def test_axis_does_not_blow_up_what_hardly_differs() -> None:
    axes = Figure().subplots()
    draw_against_seconds(axes, [QUICK, method("#000000", "other", [1.0], covering=0.301)], "covering")
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(LEAST_SPAN)
    axes = Figure().subplots()
    draw_against_seconds(axes, [method("#000000", "bad", [1.0], covering=0.0)], "covering")
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
    methods = [method("#000000", "scf", [1.0], **metrics)]
    assert metrics_against_seconds(methods) == drawn
    if drawn:
        axes = Figure().subplots()
        draw_against_seconds(axes, methods, drawn[-1])
        assert axes.get_ylabel() == said


def test_seconds_of_nothing_have_no_logarithm() -> None:
    assert metrics_against_seconds([method("#000000", "scf", [0.0], covering=0.3)]) == []


# Against the number of segments


def point(segments: float, covering: float, miou: float, **setting: float) -> dict[str, Any]:
    return {"setting": setting or {"scale": 1}, "segments": segments, "covering": covering, "miou": miou}


CUTS = method(
    "#112233",
    "ours",
    [1.0],
    Points(
        point(1, 0.1, 0.1, granularity=0),
        point(20, 0.4, 0.3, granularity=0.5),
        point(300, 0.2, 0.5, granularity=0.9),
        point(2000, 0.1, 0.2, granularity=1),
    ),
)
SETTINGS = method(
    "#445566", "theirs:scale=9", [1.0], Points(point(100, 0.5, 0.4), point(110, 0.6, 0.2), point(125, 0.3, 0.3))
)


def test_point_is_best_unless_one_with_about_as_many_segments_beats_it() -> None:
    first, second, third = SETTINGS.points
    # In miou, 110 is beaten by 100; 125 by neither, as 100 is too far from it. In covering 110 beats both.
    assert best_points(SETTINGS.points, "miou") == [first, third]
    assert best_points(SETTINGS.points, "covering") == [second]
    assert best_points([first, third], "covering") == [first, third]
    assert best_points([], "covering") == []


def test_hierarchy_is_a_line_with_its_common_cut_and_settings_are_points_with_the_best_joined() -> None:
    axes = Figure().subplots()
    draw_against_segments(axes, [CUTS, QUICK, SETTINGS], "miou")
    line, cut, points, best, _ = axes.lines
    assert line.get_xydata().tolist() == [[20, 0.3], [300, 0.5]]  # what is out of range would flatten the rest
    assert (cut.get_xydata().tolist(), cut.get_marker()) == ([[20, 0.3]], "o")
    assert points.get_xydata().tolist() == [[100, 0.4], [110, 0.2], [125, 0.3]]
    assert best.get_xydata().tolist() == [[100, 0.4], [125, 0.3]]
    assert [one.get_color() for one in (line, cut, points, best)] == ["#112233"] * 2 + ["#445566"] * 2
    assert labels_of(axes) == ["theirs at several settings", "granularity 0.5"]
    assert (axes.get_xscale(), axes.get_xlim()) == ("log", (5, 1000))
    assert axes.get_ylabel() == "best-overlap mIoU"


def test_settings_alone_need_no_mark_explained() -> None:
    axes = Figure().subplots()
    draw_against_segments(axes, [SETTINGS], "covering")
    assert labels_of(axes) == ["theirs at several settings"]


def test_only_curves_have_metrics_against_segments() -> None:
    assert metrics_against_segments([QUICK, SLOW]) == []
    assert metrics_against_segments([QUICK, CUTS]) == ["covering", "miou"]

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from figure_layout import assert_nothing_is_clipped_or_overlaps
from matplotlib.figure import Figure
from PIL import Image
from samples import photo_folder

from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.plot import picture
from dynaseg_cli.benchmark.plot_curves import Curve, best_points, draw_curves
from dynaseg_cli.benchmark.report import MethodReport, Run
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.figures import COLORS, FAINT, plain, save_picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OWN = "scf:iterations=2:min_labels=3:max_size=16:features=8:clusters=8"
METHODS = f"kmeans,{OWN},felzenszwalb:scale=50"


def point(segments: float, covering: float, miou: float, **setting: float) -> dict[str, object]:
    return {"setting": setting or {"scale": 1}, "segments": segments, "covering": covering, "miou": miou}


CUTS = Curve(
    "#112233",
    "ours",
    [
        point(1, 0.1, 0.1, granularity=0),
        point(20, 0.4, 0.3, granularity=0.5),
        point(300, 0.2, 0.5, granularity=0.9),
        point(2000, 0.1, 0.2, granularity=1),
    ],
)
SETTINGS = Curve("#445566", "theirs", [point(100, 0.5, 0.4), point(110, 0.6, 0.2), point(125, 0.3, 0.3)])


def labels_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_point_is_best_unless_one_with_about_as_many_segments_beats_it() -> None:
    first, second, third = SETTINGS.points
    # In miou, 110 is beaten by 100; 125 by neither, as 100 is too far from it. In covering 110 beats both.
    assert best_points(SETTINGS.points, "miou") == [first, third]
    assert best_points(SETTINGS.points, "covering") == [second]
    assert best_points([first, third], "covering") == [first, third]
    assert best_points([], "covering") == []


def test_hierarchy_is_a_line_with_its_common_cut_and_settings_are_points_with_the_best_joined() -> None:
    axes = Figure().subplots()
    draw_curves(axes, [CUTS, SETTINGS], "miou")
    line, cut, points, best, _ = axes.lines
    assert line.get_xydata().tolist() == [[20, 0.3], [300, 0.5]]  # what is out of range would flatten the rest
    assert (cut.get_xydata().tolist(), cut.get_marker()) == ([[20, 0.3]], "D")
    assert points.get_xydata().tolist() == [[100, 0.4], [110, 0.2], [125, 0.3]]
    assert best.get_xydata().tolist() == [[100, 0.4], [125, 0.3]]
    assert [one.get_color() for one in (line, cut, points, best)] == ["#112233"] * 2 + ["#445566"] * 2
    assert labels_of(axes) == ["ours", "theirs", "granularity 0.5"]
    assert (axes.get_xscale(), axes.get_xlim()) == ("log", (5, 1000))
    assert axes.get_ylabel() == "best-overlap mIoU"


def test_settings_alone_need_no_mark_explained() -> None:
    axes = Figure().subplots()
    draw_curves(axes, [SETTINGS], "covering")
    assert labels_of(axes) == ["theirs"]


@pytest.mark.parametrize("several_sizes", [False, True])
def test_picture_has_panels_of_quality_after_those_of_speed(tmp_path: Path, several_sizes: bool) -> None:
    photos = photo_folder(tmp_path / "photos", "a.png", "b.png")
    truth = photo_folder(tmp_path / "truth", "a.png")
    Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) // 12, (20, 1))).save(truth / "a.png")
    if several_sizes:
        Image.new("RGB", (40, 30)).save(photos / "b.png")
    work = Benchmark([photos], parse_variants(METHODS), tmp_path / "out", truth=truth)
    list(work.run())
    speed = ["seconds an image;\nthe line is the median", "most memory in GB,\nlibraries included"]
    speed = speed if several_sizes else []
    assert [axes.get_ylabel() for axes in picture(work.reports, "title").axes] == ["", *speed]
    work.score()
    quality = ["covering", "best-overlap mIoU"]
    assert [axes.get_ylabel() for axes in picture(work.reports, "title").axes] == ["", *speed, *quality]
    list(work.curves())
    panels = picture(work.reports, "title").axes
    assert [axes.get_ylabel() for axes in panels] == ["", *speed, *quality, *quality]
    assert labels_of(panels[-1]) == [plain(OWN, 60), "felzenszwalb", "granularity 0.5"]
    # A method has one colour in all panels, also where another one has no curve.
    assert {line.get_color() for line in panels[-1].lines} == {*COLORS[1:3], FAINT}
    names = [text.get_text().split(":")[0] for text in panels[-3].texts]
    assert names == ["kmeans", "scf", "felzenszwalb"]
    seconds = [np.median([run.seconds for run in report.runs]) for report in work.reports]
    points = [line.get_xydata()[0].tolist() for line in panels[-3].lines[1:4]]
    scores = [report.metrics["miou"] for report in work.reports]
    assert points == [list(pair) for pair in zip(seconds, scores, strict=True)]


def reports(names: str, sizes: tuple[tuple[int, int], ...] = ((30, 20),), **metrics: float) -> list[MethodReport]:
    """Of each method a run an image, which takes the longer the later the method is named."""
    found = []
    for number, variant in enumerate(parse_variants(names)):
        runs = [
            Run(f"{image}", width, height, 0, 3, {"fit": (number + 1) * (image + 1) / 10}, 0.01, 0.02, 10**9, None)
            for image, (width, height) in enumerate(sizes)
        ]
        scored = {name: value / (number + 1) for name, value in metrics.items()}
        found.append(MethodReport(variant, runs=runs, metrics=scored))
    return found


def test_stages_are_bars_one_after_another_with_their_sum() -> None:
    axes = picture(reports("scf,fsf"), "title").axes[0]
    decode, fit, write = axes.containers
    assert [bar.get_width() for bar in fit] == [0.1, 0.2]
    assert [bar.get_x() for bar in fit] == [0.01, 0.01]
    assert [bar.get_x() for bar in write] == pytest.approx([0.11, 0.21])
    assert [container.get_label() for container in (decode, fit, write)] == ["decode", "fit", "write"]
    assert [text.get_text() for text in axes.texts] == ["0.13 s", "0.23 s"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["scf", "fsf"]


def test_class_miou_is_one_panel_named_as_such() -> None:
    panels = picture(reports("scf,fsf", miou=0.4, pixel_accuracy=0.6, covering=0.5), "title").axes
    assert [axes.get_ylabel() for axes in panels] == ["", "mIoU"]


LONG = ",".join(f"scf:iterations={number}:min_labels=3:max_size=16:features=8:clusters=8" for number in (1, 2))


@pytest.mark.parametrize("names", ["scf", "scf,fsf,fixed,reference,kmeans,felzenszwalb,superpixel-cnn,iic", LONG])
@pytest.mark.parametrize("sizes", [((30, 20),), ((30, 20), (300, 200))], ids=["one size", "two sizes"])
@pytest.mark.parametrize("scores", [{}, {"miou_mean": 0.4, "covering": 0.5}], ids=["", "scored"])
def test_nothing_is_clipped_or_overlaps(
    names: str, sizes: tuple[tuple[int, int], ...], scores: dict[str, float]
) -> None:
    with style():
        assert_nothing_is_clipped_or_overlaps(picture(reports(names, sizes, **scores), "title"))


def test_names_of_methods_are_drawn_as_they_stand(tmp_path: Path) -> None:
    (report, other) = reports("scf,fsf", ((30, 20), (60, 40)), miou=0.4, covering=0.5)
    report.variant = replace(report.variant, name="scf:weights=$\\frac{$:\udce9\n_^")
    save_picture(tmp_path / "x.png", lambda: picture([report, other], "title"))
    panels = picture([report, other], "title").axes
    (name, _) = [text.get_text() for text in panels[0].get_yticklabels()]
    assert name.replace("\n", "") == r"scf:weights=\$\frac{\$:\udce9\n_^"

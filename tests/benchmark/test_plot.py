from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from samples import photo_folder

from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.plot import COLORS, picture
from dynaseg_cli.benchmark.plot_curves import Curve, best_points, draw_curves
from dynaseg_cli.benchmark.variants import parse_variants

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
def test_picture_has_two_panels_of_quality_after_those_of_speed(tmp_path: Path, several_sizes: bool) -> None:
    photos = photo_folder(tmp_path / "photos", "a.png", "b.png")
    truth = photo_folder(tmp_path / "truth", "a.png")
    Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) // 12, (20, 1))).save(truth / "a.png")
    if several_sizes:
        Image.new("RGB", (40, 30)).save(photos / "b.png")
    work = Benchmark([photos], parse_variants(METHODS), tmp_path / "out", truth=truth)
    list(work.run())
    work.score()
    speed = ["seconds an image; the line is the median", "most memory in GB, libraries included"]
    speed = speed if several_sizes else []
    assert [axes.get_ylabel() for axes in picture(work.reports, "title").axes] == ["", *speed]
    list(work.curves())
    panels = picture(work.reports, "title").axes
    assert [axes.get_ylabel() for axes in panels] == ["", *speed, "covering", "best-overlap mIoU"]
    assert labels_of(panels[-1]) == [OWN, "felzenszwalb", "granularity 0.5"]
    # A method has one colour in all panels, also where another one has no curve.
    assert {line.get_color() for line in panels[-1].lines} == {*COLORS[1:3], "grey"}

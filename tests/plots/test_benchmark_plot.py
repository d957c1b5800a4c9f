from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figure_layout import assert_nothing_is_clipped_or_overlaps
from matplotlib.figure import Figure
from PIL import Image
from samples import photo_folder

from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.measurement import FolderFitCosts, Run
from dynaseg_cli.benchmark.results import MethodResults
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.plots.benchmark import picture
from dynaseg_cli.plots.style import COLORS, FAINT, plain, save_picture, style

OWN = "scf:iterations=2:min_labels=3:max_size=16:features=8:clusters=8"
METHODS = f"kmeans,{OWN},felzenszwalb:scale=50"


def legend_of(figure: Figure) -> list[str]:
    """The methods, below all panels."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


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
    assert [axes.get_ylabel() for axes in picture(work.results, "title").axes] == ["", *speed]
    work.score()
    quality = ["covering", "best-overlap mIoU"]
    assert [axes.get_ylabel() for axes in picture(work.results, "title").axes] == ["", *speed, *quality]
    list(work.curves())
    figure = picture(work.results, "title")
    panels = figure.axes
    assert [axes.get_ylabel() for axes in panels] == ["", *speed, *quality, *quality]
    assert legend_of(figure) == ["kmeans", plain(OWN, 66), "felzenszwalb:scale=50"]
    # A method has one colour in all panels, also where another one has no curve.
    assert {line.get_color() for line in panels[-1].lines} == {*COLORS[1:3], FAINT}
    seconds = [np.median([run.seconds for run in result.runs]) for result in work.results]
    points = [line.get_xydata()[0].tolist() for line in panels[-3].lines[1:4]]
    scores = [result.metrics["miou"] for result in work.results]
    assert points == [list(pair) for pair in zip(seconds, scores, strict=True)]


def test_hierarchies_of_another_method_are_a_broken_line_in_the_panels_over_segments(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", "a.png")
    truth = photo_folder(tmp_path / "truth", "a.png")
    Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) // 12, (20, 1))).save(truth / "a.png")
    work = Benchmark([photos], parse_variants(OWN), tmp_path / "out", truth=truth)
    list(work.run())
    work.score()
    list(work.curves())
    theirs = [
        {"setting": {"granularity": number / 10}, "segments": number, "covering": 0.5, "miou": number / 50}
        for number in (1, 10, 40, 4000)
    ]
    panels = picture(work.results, "title", ("maps_$of/theirs", theirs)).axes[-2:]
    for axes, metric in zip(panels, ("covering", "miou"), strict=True):
        (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert line.get_xydata().tolist() == [[n, 0.5 if metric == "covering" else n / 50] for n in (10, 40)]
        assert line.get_label() == r"maps_\$of/theirs"


def results(names: str, sizes: tuple[tuple[int, int], ...] = ((30, 20),), **metrics: float) -> list[MethodResults]:
    """Of each method a run an image, which takes the longer the later the method is named."""
    found = []
    for number, variant in enumerate(parse_variants(names)):
        runs = [
            Run(f"{image}", width, height, 0, 3, {"fit": (number + 1) * (image + 1) / 10}, 0.01, 0.02, 10**9, None)
            for image, (width, height) in enumerate(sizes)
        ]
        scored = {name: value / (number + 1) for name, value in metrics.items()}
        found.append(MethodResults(variant, runs=runs, metrics=scored))
    return found


def test_stages_are_bars_one_after_another_with_their_sum() -> None:
    axes = picture(results("scf,fsf"), "title").axes[0]
    decode, fit, write = axes.containers
    assert [bar.get_width() for bar in fit] == [0.1, 0.2]
    assert [bar.get_x() for bar in fit] == [0.01, 0.01]
    assert [bar.get_x() for bar in write] == pytest.approx([0.11, 0.21])
    assert [container.get_label() for container in (decode, fit, write)] == ["decode", "fit", "write"]
    assert [text.get_text() for text in axes.texts] == ["0.13 s", "0.23 s"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["scf", "fsf"]


def test_methods_that_have_bars_alone_need_no_legend() -> None:
    assert legend_of(picture(results("scf,fsf"), "title")) == []
    assert legend_of(picture(results("scf,fsf", covering=0.5), "title")) == ["scf", "fsf"]


def test_seconds_of_fits_to_a_folder_are_bars_beside_those_of_an_image() -> None:
    found = results("scf,kmeans", ((30, 20), (60, 40)), miou=0.4, pixel_accuracy=0.6)
    for one, seconds in zip(found, (60.0, 8.0), strict=True):
        one.fit = FolderFitCosts(7, seconds, None, None)
    with style():
        figure = picture(found, "title")
        assert_nothing_is_clipped_or_overlaps(figure)
    stages, fits, quality = figure.axes
    assert fits.get_xlabel() == "seconds to fit to the folder"
    assert [bar.get_width() for bar in fits.patches] == [60, 8]
    assert [text.get_text() for text in fits.texts] == ["60 s", "8 s"]
    assert stages.get_ylim() == fits.get_ylim(), "its bars belong to the names beside them"
    assert quality.get_ylabel() == "mIoU"


def test_class_miou_is_one_panel_named_as_such() -> None:
    panels = picture(results("scf,fsf", miou=0.4, pixel_accuracy=0.6, covering=0.5), "title").axes
    assert [axes.get_ylabel() for axes in panels] == ["", "mIoU"]


LONG = ",".join(f"scf:iterations={number}:min_labels=3:max_size=16:features=8:clusters=8" for number in (1, 2))


TWELVE = f"scf,fsf,fixed,reference,kmeans,felzenszwalb,superpixel-cnn,iic,kmeans:clusters=3,felzenszwalb:scale=9,{LONG}"


@pytest.mark.parametrize("names", ["scf", "scf,kmeans", LONG, TWELVE])
@pytest.mark.parametrize("sizes", [((30, 20),), ((30, 20), (300, 200))], ids=["one size", "two sizes"])
@pytest.mark.parametrize("scores", [{}, {"miou_mean": 0.4, "covering": 0.5}], ids=["", "scored"])
def test_nothing_is_clipped_or_overlaps(
    names: str, sizes: tuple[tuple[int, int], ...], scores: dict[str, float]
) -> None:
    with style():
        assert_nothing_is_clipped_or_overlaps(picture(results(names, sizes, **scores), "title"))


def test_names_of_methods_are_drawn_as_they_stand(tmp_path: Path) -> None:
    (first, other) = results("scf,fsf", ((30, 20), (60, 40)), miou=0.4, covering=0.5)
    first.variant = replace(first.variant, name="scf:weights=$\\frac{$:\udce9\n_^")
    save_picture(tmp_path / "x.png", lambda: picture([first, other], "title"))
    panels = picture([first, other], "title").axes
    (name, _) = [text.get_text() for text in panels[0].get_yticklabels()]
    assert name.replace("\n", "") == r"scf:weights=\$\frac{\$:\udce9\n_^"

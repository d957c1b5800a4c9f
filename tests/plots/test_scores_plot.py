from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from figure_layout import assert_nothing_is_clipped_or_overlaps
from label_samples import save_all, save_labels
from matplotlib.figure import Figure
from PIL import Image

from dynaseg_cli.config import EvaluateConfig
from dynaseg_cli.evaluation.class_scores import ClassScore
from dynaseg_cli.evaluation.evaluate import Evaluation
from dynaseg_cli.evaluation.pooling import LabelCounts
from dynaseg_cli.pictures.palette import palette_colors
from dynaseg_cli.plots.examples import IGNORED, examples
from dynaseg_cli.plots.label_counts import draw_scatter
from dynaseg_cli.plots.scores import MOST_CLASSES, draw_classes, picture
from dynaseg_cli.plots.style import HEIGHT, PINK, SKY, WIDTH, save_picture, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = 20
DOT = 5
"""Pixels of a dot above and below its middle."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def split(at: int) -> list[list[int]]:
    return [[0] * at + [1] * (WIDE - at)] * 2


def images(number: int, name: str = "{:03}") -> None:
    """The halves of the first are at the same place as the ground truth's, and of the others one further each."""
    for index in range(number):
        save_labels(Path("gt") / f"{name.format(index)}.png", split(10))
        save_labels(Path("pred") / f"{name.format(index)}.png", split(10 - index % 10))


def evaluated(prediction: str = "pred", truth: str = "gt", **options: Any) -> Evaluation:
    evaluation = Evaluation(Path(prediction), Path(truth), EvaluateConfig(**options))
    list(evaluation.run())
    return evaluation


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_label(): axes for axes in figure.axes}


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def titled(figure: Figure) -> str:
    return figure.get_suptitle()


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# The images' scores


def test_curves_are_the_scores_sorted_each_by_itself_with_the_set_dashed() -> None:
    images(8)
    evaluation = evaluated()
    axes = panels(picture(evaluation))["scores"]
    rows = [row for _, row in evaluation.per_image()]
    for line, metric in ((axes.lines[0], "miou"), (axes.lines[2], "covering")):
        assert line.get_xdata().tolist() == list(range(1, 9))
        assert line.get_ydata().tolist() == sorted(row[metric] for row in rows)
    assert [axes.lines[index].get_ydata()[0] for index in (1, 3)] == [
        evaluation.metrics()["miou"],
        evaluation.metrics()["covering"],
    ]
    assert axes.get_ylim()[0] == 0


def test_legend_has_the_figure_of_the_set_the_mean_and_the_quartiles() -> None:
    images(8)
    evaluation = evaluated()
    values = [row["miou"] or 0 for _, row in evaluation.per_image()]
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    said = legend(panels(picture(evaluation))["scores"])[0]
    assert said == (
        f"best-overlap mIoU: {evaluation.metrics()['miou']:.3f} of all together; the images' mean"
        f" {np.mean(values):.3f}, quartiles {low:.2f}, {middle:.2f}, {high:.2f}"
    )


def test_quartiles_are_marked_where_the_curve_has_their_values() -> None:
    images(9)
    evaluation = evaluated()
    axes = panels(picture(evaluation))["scores"]
    places = [line.get_xdata()[0] for line in axes.lines[4:]]
    assert places == [3, 5, 7]
    curve = axes.lines[0].get_ydata()
    values = [row["miou"] for _, row in evaluation.per_image()]
    assert [curve[int(place) - 1] for place in places] == np.quantile(values, (0.25, 0.5, 0.75)).tolist()


@pytest.mark.parametrize("protocol", ["bsds500", "regions", "classes"])
def test_one_image_is_a_point_without_quartiles_or_a_mean(protocol: str) -> None:
    images(1)
    figure = picture(evaluated(protocol=protocol))
    axes = panels(figure)["scores"]
    assert [line.get_xydata().shape for line in axes.lines] == [(1, 2), (1, 2)]
    assert [text.partition(": ")[2] for text in legend(axes)] == ["1.000", "1.000"]
    low, high = axes.get_xlim()
    assert [place for place in axes.get_xticks() if low <= place <= high] == [1]
    assert axes.get_xlabel() == "the image"
    assert "\n1 image, protocol" in titled(figure)


def test_equal_scores_are_a_level_line_in_a_panel_that_ends_above_it() -> None:
    for index in range(5):
        save_labels(Path("pred") / f"{index}.png", split(10))
        save_labels(Path("gt") / f"{index}.png", split(10))
    with style():
        figure = picture(evaluated())
        figure.draw_without_rendering()
    axes = panels(figure)["scores"]
    assert set(axes.lines[0].get_ydata()) == {1}
    assert 1 < axes.get_ylim()[1] < 1.1
    assert texts(axes)[-1].splitlines()[1:] == ["1.00  0", "1.00  1", "1.00  2"]


def test_scores_of_nothing_right_still_have_an_axis() -> None:
    save_labels(Path("pred/a.png"), [[0, 0, 0, 0]])
    save_labels(Path("gt/a.png"), [[1, 2, 3, 4]])
    evaluation = evaluated(protocol="classes")
    axes = panels(picture(evaluation))["scores"]
    assert axes.get_ylim()[1] > 0.25


def test_lowest_are_named_below_the_curves_and_not_where_these_are() -> None:
    images(8)
    axes = panels(picture(evaluated()))["scores"]
    assert texts(axes)[-1].splitlines()[0] == "lowest by mIoU:"
    assert [line.split()[1] for line in texts(axes)[-1].splitlines()[1:]] == ["007", "006", "005"]
    for index in range(12):  # scores of next to nothing, and one perfect: the corner is not empty
        save_labels(Path("low/pred") / f"{index}.npy", np.arange(400).reshape(20, 20) % 399 if index else split(10))
        save_labels(Path("low/gt") / f"{index}.npy", np.zeros((20, 20), int) if index else split(10))
    low = panels(picture(evaluated("low/pred", "low/gt")))["scores"]
    assert texts(low) == [" lower quartile", " median", " upper quartile"]


def test_names_of_the_lowest_never_cover_a_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes space from the panel: here classes beside it, and a doubt below."""
    images(4, "{:030}")
    evaluation = evaluated(protocol="classes")
    evaluation.doubts.append("nothing " * 40)
    found = list(evaluation.per_image())
    named = []
    for highest in np.linspace(0.12, 0.18, 4):
        scores = [0.05, 0.09, highest - 0.01, highest]
        rows = [(name, {**row, "miou": at, "covering": 0.4}) for (name, row), at in zip(found, scores, strict=True)]
        monkeypatch.setattr(evaluation, "per_image", lambda rows=rows: rows)
        figure = picture(evaluation)
        axes = panels(figure)["scores"]
        figure.draw_without_rendering()
        named.append(texts(axes)[-1].startswith("lowest"))
        if named[-1]:
            box = axes.texts[-1].get_window_extent()
            left, top = axes.transData.inverted().transform((box.x0, box.y1 + DOT))
            assert np.interp(left, range(1, 5), scores) > top
    assert True in named
    assert False in named


def test_many_images_are_a_line_without_dots() -> None:
    images(70)
    line = panels(picture(evaluated()))["scores"].lines[0]
    assert (line.get_marker(), len(line.get_xdata())) == ("None", 70)


# Labels against the ground truth


def bars(axes: Axes) -> list[list[float]]:
    return [[bar.get_height() for bar in container] for container in axes.containers]


def test_histogram_counts_images_and_annotators_share_theirs() -> None:
    save_labels(Path("pred/a.png"), [[0, 1, 2, 3]])
    save_labels(Path("gt/a.mat"), np.array([[0, 0, 1, 1]]), np.array([[0, 1, 2, 3]]))
    save_labels(Path("pred/b.png"), [[0, 1, 0, 1]])
    save_labels(Path("gt/b.mat"), np.array([[0, 0, 1, 2]]))
    evaluation = evaluated()
    assert evaluation.protocol == "bsds500"
    axes = panels(picture(evaluation))["labels"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "3", "4"]
    assert bars(axes) == [[0.5, 1, 0.5], [1, 0, 1]]
    assert legend(axes) == ["ground truth, median 3", "predicted labels, median 3"]


def test_scatter_has_each_image_once_and_the_line_of_equal_numbers() -> None:
    save_labels(Path("pred/a.png"), [[0, 1, 2, 3]])
    save_labels(Path("gt/a.mat"), np.array([[0, 0, 1, 1]]), np.array([[0, 1, 2, 3]]))
    save_labels(Path("pred/b.png"), [[0, 1, 0, 1]])
    save_labels(Path("gt/b.mat"), np.array([[0, 0, 1, 2]]))
    axes = panels(picture(evaluated()))["scatter"]
    diagonal, dots = axes.lines
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist()
    assert dots.get_xydata().tolist() == [[3, 4], [3, 2]]
    (spread,) = axes.collections
    assert [segment[:, 0].tolist() for segment in spread.get_segments()] == [[2, 4], [3, 3]]
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_xlabel() == "segments, mean of the annotators"


def test_silhouette_has_a_panel_of_its_own_where_segment_left_it() -> None:
    for name, k in (("a", 3), ("sub/b", 5), ("c", None)):
        save_labels(Path("out/labels") / f"{name}.png", split(10))
        save_labels(Path("gt") / f"{name}.png", [[0, 1, 2, 3]] if name == "c" else split(10))
        stats = Path("out/stats") / f"{name}.json"
        stats.parent.mkdir(parents=True, exist_ok=True)
        stats.write_text(json.dumps({"fit": {"silhouette": k and {"k": k}}}))
    save_labels(Path("out/labels/c.png"), [[0, 0, 0, 0]])
    axes = panels(picture(evaluated("out")))["silhouette"]
    # 1 (the prediction of c) to 5; the ground truth is that of the images that have a k.
    assert bars(axes) == [[0, 2, 0, 0, 0], [0, 0, 1, 0, 1]]
    assert legend(axes) == ["ground truth, median 2", "silhouette's k, median 4"]


def test_other_maps_have_no_silhouette() -> None:
    images(2)
    assert list(panels(picture(evaluated()))) == ["scores", "labels", "scatter", "examples"]


@pytest.mark.parametrize(("use", "word"), [("labels", "labels"), ("regions", "regions"), ("hierarchy", "regions")])
def test_panels_name_what_was_scored(use: str, word: str) -> None:
    save_labels(Path("out") / use / "a.png", np.array([[0, 20_000, 0, 60_000, 0, 20_000, 0]], np.uint16))
    save_labels(Path("gt/a.png"), [[0, 0, 1, 1]] if use == "hierarchy" else [[0] * 7])
    figure = picture(evaluated("out", use=use))
    assert panels(figure)["labels"].get_xlabel() == f"{word} an image"
    assert ("cut at granularity 0.09" in titled(figure)) == (use == "hierarchy")


# Classes


def test_classes_are_bars_from_the_best_things_and_stuff_told_apart() -> None:
    save_all(Path("pred"), a=[[0, 0, 1, 1]] * 2, b=[[0, 2, 1, 1]] * 2)
    save_all(Path("gt"), a=[[4, 4, 7, 7]] * 2, b=[[4, 4, 7, 7]] * 2)
    axes = panels(picture(evaluated(protocol="classes", num_things=5)))["classes"]
    things, stuff = axes.containers
    assert [(bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in (*things, *stuff)] == [(0.75, 1), (1, 0)]
    assert [container[0].get_facecolor()[:3] for container in axes.containers] == [rgb(PINK), rgb(SKY)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["7", "4"]
    assert legend(axes) == ["things", "stuff"]


def rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))


def test_of_many_classes_the_largest_are_drawn_and_it_says_so() -> None:
    axes = Figure().subplots()
    classes = [ClassScore(value, None, value / 100, pixels=1000 - value, label=None) for value in range(60)]
    draw_classes(axes, classes, None)
    (only,) = axes.containers
    assert [bar.get_width() for bar in only] == [value / 100 for value in reversed(range(MOST_CLASSES))]
    assert axes.get_xlabel() == "IoU, the 40 largest of 60 classes"
    assert legend(axes) == []


def test_doubts_about_the_figures_are_in_the_picture() -> None:
    images(2)
    Path("pred/run.json").write_text('{"options": {}}')
    figure = picture(evaluated(protocol="classes"))
    assert figure.get_supxlabel().startswith("The figures of classes mean nothing here")
    assert picture(evaluated(protocol="regions")).get_supxlabel() == ""


# The best and the worst


def labelled(name: str, at: int, photo: tuple[int, int, int] | None = None) -> None:
    """An image whose halves lie `10 - at` columns off, written as `segment` does, with a photo of one colour."""
    save_labels(Path(f"out/labels/{name}.png"), split(at))
    save_labels(Path(f"gt/{name}.png"), split(10))
    if photo is not None:
        Path("photos").mkdir(exist_ok=True)
        Image.new("RGB", (WIDE, 2), photo).save(f"photos/{name}.png")
        content = Path(f"photos/{name}.png").read_bytes()
        source = {"path": f"photos/{name}.png", "sha256": hashlib.sha256(content).hexdigest()}
        Path(f"out/stats/{name}.json").parent.mkdir(parents=True, exist_ok=True)
        Path(f"out/stats/{name}.json").write_text(json.dumps({"source": source}))


def test_best_and_worst_are_shown_with_photo_and_both_maps() -> None:
    for name, at in (("b", 4), ("a", 10), ("c", 7)):
        labelled(name, at, (10 * at, 0, 0))
    best, worst = examples(evaluated("out"))
    assert (best.caption, worst.caption) == ("best, 1.000: a", "worst, 0.512: b")
    assert [what for what, _ in best.pictures] == ["photo", "predicted", "ground truth"]
    photo, predicted, truth = (picture for _, picture in worst.pictures)
    assert photo.shape == predicted.shape == truth.shape == (300, 900, 3), "of 20 x 2 pixels the middle"
    assert (photo == (40, 0, 0)).all()
    # The middle 6 of 20 columns: 7 to 12. The larger part, here the ground truth's first, has the first colour.
    first, second = (color.tolist() for color in palette_colors(2))
    assert predicted[0, 0].tolist() == predicted[0, -1].tolist() == first
    assert truth[0, 0].tolist() == first
    assert truth[0, -1].tolist() == second
    axes = panels(picture(evaluated("out")))["examples"]
    assert len(axes.get_images()) == 6
    assert texts(axes)[:2] == ["best, 1.000: a", "photo"]


def test_changed_or_missing_photos_are_left_out_and_the_maps_stay() -> None:
    labelled("a", 10, (1, 2, 3))
    labelled("b", 5, (1, 2, 3))
    Image.new("RGB", (9, 9)).save("photos/a.png")
    Path("photos/b.png").unlink()
    for one in examples(evaluated("out")):
        assert [what for what, _ in one.pictures] == ["predicted", "ground truth"]


def test_one_image_is_shown_once_and_one_that_is_gone_not_at_all() -> None:
    labelled("a", 7)
    evaluation = evaluated("out")
    assert [one.caption for one in examples(evaluation)] == ["the image, 0.735: a"]
    Path("out/labels/a.png").unlink()
    assert examples(evaluation) == []
    figure = picture(evaluation)
    assert "examples" not in panels(figure)
    assert figure.get_size_inches().tolist() == [WIDTH, HEIGHT]


def test_ignored_pixels_of_the_ground_truth_are_grey() -> None:
    save_labels(Path("pred/a.png"), [[0, 0, 1, 1]] * 4)
    save_labels(Path("gt/a.png"), [[255, 3, 4, 255]] * 4)
    ((_, predicted), (_, truth)) = examples(evaluated(protocol="regions"))[0].pictures
    assert truth[0, 0].tolist() == IGNORED.tolist()
    assert truth[0, 100].tolist() != IGNORED.tolist()
    assert predicted[0, 0].tolist() == palette_colors(1)[0].tolist()


def test_hierarchies_have_no_map_to_show() -> None:
    save_labels(Path("out/hierarchy/a.png"), np.array([[0, 20_000, 0, 60_000, 0, 20_000, 0]], np.uint16))
    save_labels(Path("gt/a.png"), [[0, 0, 1, 1]])
    assert examples(evaluated("out", use="hierarchy")) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (301, 299)])
def test_maps_of_any_shape_are_shown(size: tuple[int, int]) -> None:
    for folder in ("pred", "gt"):
        save_labels(Path(folder) / "a.png", np.zeros(size, np.uint8))
    (one,) = examples(evaluated())
    assert {shown.shape[0] for _, shown in one.pictures} == {300}
    assert all(1 <= shown.shape[1] <= 900 for _, shown in one.pictures)


# Axes that count


@pytest.mark.parametrize("most", [2, 3, 5, 17, 60])
def test_axes_of_counts_have_whole_numbers(most: int) -> None:
    axes = Figure().subplots()
    draw_scatter(axes, [LabelCounts(1, (2,)), LabelCounts(most, (1, 2))], "labels", "segments")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
        assert ticks
        assert all(tick == int(tick) for tick in ticks)


# As a whole


def test_title_says_what_was_scored_and_how_many_could_not_be() -> None:
    images(3)
    Path("pred/001.png").write_bytes(b"")
    evaluation = evaluated()
    first, second = titled(picture(evaluation)).split("\n")
    assert first == "pred against gt"
    assert second.startswith("2 images of 3, protocol regions: PRI ")
    assert panels(picture(evaluation))["scores"].lines[0].get_xdata().tolist() == [1, 2]


@pytest.mark.parametrize("protocol", ["regions", "classes", "bsds500"])
@pytest.mark.parametrize("number", [1, 7, 300])
def test_nothing_is_clipped_or_overlaps(tmp_path: Path, protocol: str, number: int) -> None:
    images(number, "a_long/name_of/an_image_{:03}")
    with style():
        assert_nothing_is_clipped_or_overlaps(picture(evaluated(protocol=protocol)))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_hostile_names_are_drawn(tmp_path: Path, suffix: str) -> None:
    names = ["a$b$c_{:03}", "{:03}two\nlines", "{:03}caf\udce9", r"{:03}$\frac{{$", "日本_{:03}"]
    for name in names:
        images(3, name)
    folders = [Path(name).rename(f"{name}_$x$\n") for name in ("pred", "gt")]
    evaluation = evaluated(*map(str, folders))
    assert evaluation.images == 15
    save_picture(tmp_path / f"scores{suffix}", lambda: picture(evaluation))
    with style():
        axes = panels(picture(evaluation))["scores"]
        assert titled(picture(evaluation)).startswith(r"pred_\$x\$\n against gt_\$x\$\n")
    assert all(name in texts(axes)[-1] for name in (r"002\$\frac{\$", r"002two\nlines", r"002caf\udce9"))

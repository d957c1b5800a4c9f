from __future__ import annotations

import csv
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_samples import save_all, save_labels
from matplotlib.figure import Figure
from refusal import refused
from samples import files_below, read_pixels
from typer.testing import CliRunner, Result

from dynaseg_cli.cli import app, console
from dynaseg_cli.cli.tables import ARROWS, heading
from dynaseg_cli.config import EvaluateConfig
from dynaseg_cli.evaluation.class_scores import MANY_TO_ONE
from dynaseg_cli.evaluation.evaluate import Evaluation
from dynaseg_cli.evaluation.headings import written
from dynaseg_cli.plots import scores as plot_scores
from dynaseg_cli.plots import style as figures

HALVES = [[0, 0, 1, 1]] * 2
WHOLE = [[0, 0, 0, 0]] * 2


@pytest.fixture(autouse=True)
def usual_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a terminal of the usual width."""
    monkeypatch.setattr(console.stderr, "width", 80)


@pytest.fixture
def pairs(here: Path) -> Path:
    """Three images scored perfectly, one at a half; named as from the current folder."""
    save_all(here / "pred", a=HALVES, b=WHOLE)
    save_all(here / "gt", a=HALVES, b=HALVES)
    save_labels(here / "pred/sub/c.png", WHOLE)
    save_labels(here / "gt/sub/c.png", WHOLE)
    return here


def evaluate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def summary(result: Result) -> dict[str, Any]:
    """The one JSON document on stdout."""
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def rows(result: Result, heading: str = "images") -> dict[str, list[str]]:
    """The numbers of each row of a table, the heading's row included."""
    lines = result.stderr.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(heading))
    found: dict[str, list[str]] = {}
    for line in lines[start:]:
        name, *numbers = re.split(r" {2,}", line.strip()) if line.strip() else [""]
        found[name] = numbers
    return found


# What a run prints, writes and exits with


@pytest.mark.usefixtures("pairs")
def test_scores_are_a_table_on_stderr_and_nothing_on_stdout() -> None:
    result = evaluate("pred", "gt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Protocol regions: one map an image" in result.stderr
    assert rows(result) == {
        "images": ["mIoU↑", "covering↑", "PRI↑", "VoI↓", "segments", "ignored"],
        "all 3": ["0.800", "0.833", "0.810", "0.33", "1", "0.000"],
        "from the worst:": [],
        "b": ["0.500", "0.500", "0.429", "1.00", "1", "0.000"],
        "a": ["1.000", "1.000", "1.000", "0.00", "2", "0.000"],
        "sub/c": ["1.000", "1.000", "1.000", "0.00", "1", "0.000"],
    }


@pytest.mark.usefixtures("pairs")
def test_json_is_one_document_on_stdout() -> None:
    result = evaluate("pred", "gt", "--json")
    document = summary(result)
    assert result.stdout.count("\n") == 1
    assert (document["protocol"], document["images"]) == ("regions", 3)
    assert document["metrics"]["miou"] == pytest.approx(4 / 5)
    assert "mIoU" in result.stderr


@pytest.mark.usefixtures("pairs")
def test_quiet_run_says_nothing_but_its_data() -> None:
    result = evaluate("pred", "gt", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    result = evaluate("pred", "gt", "--quiet", "--json")
    assert (summary(result)["images"], result.stderr) == (3, "")


@pytest.mark.parametrize("quiet", [(), ("-q",)], ids=["", "quiet"])
def test_failed_image_is_named_with_its_reason_and_the_exit_code_is_1(pairs: Path, quiet: tuple[str, ...]) -> None:
    (pairs / "pred/b.png").write_bytes(b"")
    (pairs / "gt/sub/c.png").write_bytes(b"damaged")
    result = evaluate("pred", "gt", "--json", *quiet)
    assert result.exit_code == 1
    assert "failed: pred/b.png: the file is empty\n" in result.stderr
    assert "failed: gt/sub/c.png: damaged, or not a PNG file\n" in result.stderr
    assert (summary(result)["images"], len(summary(result)["failures"])) == (1, 2)
    if quiet:
        assert len(result.stderr.splitlines()) == 2
    else:
        assert "1 of 3" in rows(result)


def test_nothing_scored_is_no_table_but_every_reason(pairs: Path) -> None:
    for path in (pairs / "pred").rglob("*.png"):
        path.write_bytes(b"")
    result = evaluate("pred", "gt", "--per-image", "scores.csv", "--json")
    assert result.exit_code == 1
    assert result.stderr.count("failed: ") == 3
    assert "mIoU" not in result.stderr
    assert set(summary(result)["metrics"].values()) == {None}
    assert (pairs / "scores.csv").read_bytes() == (
        b"image,miou,covering,pri,voi,segments,labels,truth_labels,ignored_fraction\r\n"
    )


def test_files_without_a_partner_are_named_and_change_nothing_else(pairs: Path) -> None:
    figures = summary(evaluate("pred", "gt", "--json"))["metrics"]
    for number in range(7):
        save_labels(pairs / f"pred/extra/{number}.png", WHOLE)
    save_labels(pairs / "gt/missed.png", WHOLE)
    result = evaluate("pred", "gt", "--json")
    assert result.exit_code == 0
    named = ", ".join(f"pred/extra/{number}.png" for number in range(5))
    assert f"not scored, without a ground truth: {named} and 2 more\n" in result.stderr
    assert "not scored, without a prediction: gt/missed.png\n" in result.stderr
    assert summary(result)["metrics"] == figures
    assert summary(result)["unmatched"] == {
        "predictions": [f"pred/extra/{number}.png" for number in range(7)],
        "ground_truth": ["gt/missed.png"],
    }


def test_one_image_is_a_table_of_one_row(pairs: Path) -> None:
    result = evaluate("pred/b.png", "gt/b.png")
    assert result.exit_code == 0
    assert list(rows(result)) == ["images", "the image"]


def test_ten_worst_are_named_the_worst_first(here: Path) -> None:
    for number in range(12):
        width = 2 + number
        save_labels(here / f"gt/{number:02}.png", [[0] * width + [1] * (20 - width)] * 2)
        save_labels(here / f"pred/{number:02}.png", [[0] * 2 + [1] * 18] * 2)
    result = evaluate("pred", "gt")
    assert list(rows(result)) == ["images", "all 12", "the 10 worst:", *(f"{number:02}" for number in range(11, 1, -1))]


@pytest.mark.usefixtures("pairs")
def test_options_reach_the_scores(here: Path) -> None:
    def options(*arguments: str) -> dict[str, Any]:
        document = summary(evaluate("pred", "gt", "--json", *arguments))
        return {name: value for name, value in document["options"].items() if value != defaults[name]}

    defaults = summary(evaluate("pred", "gt", "--json"))["options"]
    assert options("--protocol", "bsds500") == {"protocol": "bsds500"}
    assert options("--protocol", "classes", "--num-things", "1") == {"protocol": "classes", "num_things": 1}
    assert options("--use", "regions") == {"use": "regions"}
    save_labels(here / "pred/a.png", np.zeros((3, 7), np.uint16))
    assert options("--use", "hierarchy") == {"use": "hierarchy"}
    assert options("--no-connected", "--resize") == {"connected": False, "resize": True}
    assert options("--ignore-index", "none") == {"ignore_index": None}
    assert options("--ignore-index", "0xE0E0C0") == {"ignore_index": 0xE0E0C0}
    assert options("--ignore-index", "-1") == {"ignore_index": -1}
    assert options("--ignore-index", "auto", "--center-crop", "2", "--max-pixels", "9") == {
        "center_crop": 2,
        "max_pixels": 9,
    }


# The table


LONG = "a very long name " * 12


@pytest.mark.parametrize("names", [("a", "b"), (LONG + "a", LONG + "b")], ids=["short", "long"])
@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (("--protocol", "bsds500"), 9),
        (("--protocol", "regions"), 6),
        (("--protocol", "classes"), 7),
        (("--protocol", "classes", "--num-things", "1"), 9),
        (("--protocol", "coco-stuff27"), 9),
    ],
    ids=str,
)
def test_table_of_80_columns_has_every_heading_and_number_whole(
    here: Path, names: tuple[str, ...], arguments: tuple[str, ...], columns: int
) -> None:
    checkers = (np.indices((80, 80)).sum(0) % 2 * 92).astype(np.uint8)  # 6,400 segments; person and a kind of stuff
    for name in names:
        save_labels(here / "pred" / f"{name}.png", checkers)
        save_labels(here / "gt" / f"{name}.png", checkers)
    result = evaluate("pred", "gt", "--json", *arguments)
    assert result.exit_code == 0
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Protocol")]
    assert max(map(len, lines)) <= 80
    assert "…" not in result.stderr
    found = summary(result)["metrics"].items()
    metrics = {name: value for name, value in found if value is not None and name not in MANY_TO_ONE.values()}
    metrics["ignored_fraction"] = summary(result)["ignored_fraction"]
    assert len(metrics) == columns
    numbers = [written(name, value) for name, value in metrics.items()]
    assert "6,400" in numbers
    cells = [line.split()[-columns:] for line in lines]
    assert cells.count(numbers) == 3  # the set's, and either image's
    assert cells.count([heading(name, ARROWS) for name in metrics]) == 1


@pytest.mark.usefixtures("pairs")
def test_columns_that_a_narrow_terminal_has_no_room_for_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.stderr, "width", 34)
    result = evaluate("pred", "gt")
    assert " ".join(rows(result)["images"]).split() == ["mIoU↑", "covering↑", "PRI↑"]
    left_out = "left out: VoI↓, segments, ignored (a wider terminal shows them, --json has all)"
    assert left_out in result.stderr.splitlines()


def test_log_has_every_column_and_number_whole(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.stderr, "_width", None)
    name = "a_long_name_of_an_image_" * 5
    save_labels(here / f"pred/{name}.png", HALVES)
    save_labels(here / f"gt/{name}.png", HALVES)
    save_labels(here / "pred/b.png", HALVES)
    save_labels(here / "gt/b.png", HALVES)
    result = evaluate("pred", "gt", "--protocol", "bsds500")
    found = rows(result)
    assert found["images"] == ["All↑", "Fine↑", "Coarse↑", "Mean↑", "covering↑", "PRI↑", "VoI↓", "segments", "ignored"]
    assert found[name] == [*["1.000"] * 6, "0.00", "2", "0.000"]
    assert "…" not in result.stderr
    assert "left out" not in result.stderr


@pytest.fixture
def hierarchies(here: Path) -> None:
    """Twelve images of 4 x 1 pixels, which fall into halves and then quarters; the ground truth of one is quarters."""
    for number in range(12):
        save_labels(
            here / f"out/hierarchy/{number:02}.png", np.array([[0, 20_000, 0, 60_000, 0, 20_000, 0]], np.uint16)
        )
        save_labels(here / f"gt/{number:02}.mat", [[0, 1, 2, 3]] if number == 7 else [[0, 0, 1, 1]])


@pytest.mark.usefixtures("hierarchies")
def test_hierarchies_have_a_table_of_their_readings_beside_the_usual_one() -> None:
    result = evaluate("out", "gt", "--use", "hierarchy")
    assert (result.exit_code, result.stdout) == (0, "")
    table = rows(result)
    assert " ".join(table["images"]) == "All↑ Fine↑ Coarse↑ Mean↑ covering↑ PRI↑ VoI↓ segments ignored"
    assert " ".join(table["all 12"]).split()[4:] == ["0.958", "0.972", "0.08", "2", "0.000"]
    assert list(table)[2:4] == ["the 10 worst:", "07"]
    assert {name: numbers for name, numbers in rows(result, "hierarchies").items() if name} == {
        "hierarchies": ["ODS", "granularity", "OIS", "best"],
        "covering↑": ["0.958", "0.09", "1.000", "1.000"],
        "PRI↑": ["0.972", "0.09", "1.000"],
        "VoI↓": ["0.083", "0.09", "0.000"],
    }
    assert max(map(len, result.stderr.splitlines()[1:])) <= 80


@pytest.mark.usefixtures("hierarchies")
def test_readings_of_hierarchies_are_on_stdout_and_of_each_image_in_the_file(here: Path) -> None:
    (here / "out/hierarchy/03.png").write_bytes(b"damaged")
    result = evaluate("out", "gt", "--use", "hierarchy", "-q", "--json", "--per-image", "scores.csv")
    assert (result.exit_code, result.stderr) == (1, "failed: out/hierarchy/03.png: damaged, or not a PNG file\n")
    document = summary(result)
    assert (document["images"], document["hierarchy"]["granularity"]["covering"]) == (11, 0.09)
    assert len(document["hierarchy"]["curve"]) == 101
    with (here / "scores.csv").open(newline="") as stream:
        lines = {line.pop("image"): line for line in csv.DictReader(stream)}
    assert list(lines["00"]) == [*document["metrics"], "labels", "truth_labels", "ignored_fraction"]
    assert (lines["00"]["labels"], lines["00"]["truth_labels"], lines["07"]["truth_labels"]) == ("2", "2", "4")
    for name in ("pri_ods", "pri_ois", "voi_ods", "voi_ois", "segments", "granularity"):
        mean = np.mean([float(line[name]) for line in lines.values()])
        assert document["metrics"][name] == pytest.approx(mean)
    assert (lines["07"]["covering"], lines["07"]["covering_ois"], lines["07"]["granularity"]) == ("0.5", "1.0", "0.09")


def test_share_of_ignored_pixels_is_in_the_table_the_document_and_the_file(here: Path) -> None:
    save_all(here / "pred", a=HALVES, b=HALVES)
    save_all(here / "gt", a=[[3, 3, 255, 255]] * 2, b=[[0, 0, 255, 255]] * 2)
    result = evaluate("pred", "gt", "--json", "--per-image", "scores.csv")
    assert "255 is ignored in 1 of 2 ground-truth maps, 25.0% of all pixels" in result.stderr
    assert "255 is counted in 1 of 2 ground-truth maps" in result.stderr
    assert {name: numbers[-1] for name, numbers in rows(result).items() if numbers} == {
        "images": "ignored",
        "all 2": "0.250",
        "a": "0.500",
        "b": "0.000",
    }
    assert summary(result)["ignored_fraction"] == 0.25
    with (here / "scores.csv").open(newline="") as stream:
        assert [line["ignored_fraction"] for line in csv.DictReader(stream)] == ["0.5", "0"]


@pytest.mark.parametrize("value", [("--ignore-index", "-1"), ("--ignore-index=-1",)], ids=" ".join)
def test_negative_value_can_be_ignored(here: Path, value: tuple[str, ...]) -> None:
    save_all(here / "pred", a=HALVES)
    save_labels(here / "gt/a.tif", np.array([[-1, -1, 1, 1]] * 2, np.int32))
    assert summary(evaluate("pred", "gt", "--json", *value))["ignored_fraction"] == 0.5


def test_classes_are_shown_by_name(here: Path) -> None:
    save_all(here / "pred", a=HALVES)
    save_all(here / "gt", a=[[0, 0, 105, 105]] * 2)
    assert rows(evaluate("pred", "gt", "--protocol", "coco-stuff27"), "class") == {
        "class": ["mIoU↑"],
        "person-things": ["1.000"],
        "sky-stuff": ["1.000"],
    }


def test_both_assignments_of_classes_are_shown_and_written(here: Path) -> None:
    save_all(here / "pred", a=[[5, 5, 6, 7]])
    save_all(here / "gt", a=[[0, 0, 0, 1]])
    result = evaluate("pred", "gt", "--protocol", "classes", "--json", "--per-image", "scores.csv")
    assert list(rows(result, "assignment").items())[:3] == [
        ("assignment", ["mIoU↑", "accuracy↑"]),
        ("one-to-one", ["0.833", "0.750"]),
        ("many-to-one", ["1.000", "1.000"]),
    ]
    names = ("miou", "pixel_accuracy", "miou_many_to_one", "pixel_accuracy_many_to_one")
    expected = pytest.approx([5 / 6, 3 / 4, 1, 1])
    assert [summary(result)["metrics"][name] for name in names] == expected
    with (here / "scores.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert [float(line[name]) for name in names] == expected


def test_labels_of_one_image_each_are_said_to_be_no_classes(pairs: Path) -> None:
    (pairs / "pred/run.json").write_text('{"options": {}}')
    result = evaluate("pred", "gt", "--protocol", "classes", "--json")
    assert "The figures of classes mean nothing here" in result.stderr
    assert "mean nothing here" in summary(result)["notes"][0]


# Each image's metrics in a file


@pytest.mark.parametrize("arguments", [("--protocol", "bsds500"), (), ("--protocol", "classes")], ids=" ".join)
def test_each_image_is_a_line_of_the_file(pairs: Path, arguments: tuple[str, ...]) -> None:
    (pairs / "pred/a.png").write_bytes(b"")
    result = evaluate("pred", "gt", "--per-image", "scores.csv", "--json", *arguments)
    assert result.exit_code == 1
    with (pairs / "scores.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert list(lines[0]) == ["image", *summary(result)["metrics"], "labels", "truth_labels", "ignored_fraction"]
    assert [line.pop("ignored_fraction") for line in lines] == ["0", "0"]
    counted = [(float(line.pop("labels")), float(line.pop("truth_labels"))) for line in lines]
    assert counted == [(1, 2), (1, 1)]
    assert [line.pop("image") for line in lines] == ["b", "sub/c"]
    config = EvaluateConfig(protocol=summary(result)["protocol"])
    evaluation = Evaluation(Path("pred"), Path("gt"), config)
    list(evaluation.run())
    for line, (_, row) in zip(lines, evaluation.per_image(), strict=True):
        assert {name: float(text) if text else None for name, text in line.items()} == row


def test_any_name_comes_back_from_the_file(here: Path) -> None:
    names = sorted(["two\nlines", "re\rturn", "日本 語", 'a,"b"', " =1+1", "caf\udce9", "[red]x", "\x1b[31m"])
    for name in names:
        save_labels(here / "pred" / f"{name}.png", HALVES)
        save_labels(here / "gt" / f"{name}.png", HALVES)
    result = evaluate("pred", "gt", "--per-image", "scores.csv")
    assert result.exit_code == 0
    with (here / "scores.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        assert [line["image"] for line in csv.DictReader(stream)] == names
    assert set(result.stderr) & set("\x1b\r\udce9") == set()
    assert r"two\nlines" in result.stderr
    assert "[red]x" in result.stderr


def test_older_file_is_replaced_and_nothing_left_beside_it(pairs: Path) -> None:
    assert evaluate("pred", "gt", "--protocol", "bsds500", "--per-image", "scores.csv").exit_code == 0
    before = set(files_below(pairs))
    assert evaluate("pred", "gt", "--per-image", "scores.csv").exit_code == 0
    assert set(files_below(pairs)) == before
    assert (pairs / "scores.csv").read_text().startswith("image,miou,")


@pytest.mark.parametrize("option", ["--per-image", "--plot"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone/scores.png", "there is no folder gone"),
        ("taken.png", "taken.png exists, and is not a regular file"),
        ("null.png", "null.png exists, and is not a regular file"),
        ("gt/a.png/scores.png", "cannot be written: Not a directory"),
        ("x" * 300 + ".png", "cannot be written: File name too long"),
    ],
    ids=lambda text: text[:20],
)
def test_file_that_cannot_be_written_is_refused_before_any_work(
    pairs: Path, option: str, path: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("work was done")

    (pairs / "taken.png").mkdir()
    (pairs / "null.png").symlink_to("/dev/null")
    monkeypatch.setattr(Evaluation, "__init__", fail)
    assert said in refused(evaluate("pred", "gt", "-q", option, path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused_before_any_work(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("work was done")

    (pairs / "locked").mkdir(mode=0o500)
    monkeypatch.setattr(Evaluation, "__init__", fail)
    assert "locked does not allow it" in refused(evaluate("pred", "gt", "--per-image", "locked/scores.csv"))


def test_full_disk_is_said_and_leaves_the_older_file(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert evaluate("pred", "gt", "-q", "--protocol", "bsds500", "--per-image", "scores.csv").exit_code == 0
    before = files_below(pairs)
    monkeypatch.setattr(os, "fsync", fail)
    result = evaluate("pred", "gt", "-q", "--per-image", "scores.csv")
    assert result.exit_code != 0
    assert result.stderr == "error: scores.csv cannot be written: No space left on device\n"
    assert files_below(pairs) == before


@pytest.mark.parametrize("option", ["--per-image", "--plot"])
@pytest.mark.parametrize("suffix", [".csv", ".png", ".svg", ".pdf"])
def test_file_of_the_users_is_never_replaced(
    pairs: Path, option: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("work was done")

    if option == "--plot" and suffix == ".csv":
        pytest.skip("no picture")
    theirs = {
        ".csv": b"image,label\na.png,cat\n",
        ".png": (pairs / "gt/a.png").read_bytes(),
        ".svg": b"<?xml version='1.0'?><svg><title>dynaseg</title></svg>",
        ".pdf": b"%PDF-1.4 /Creator (Word)",
    }
    (pairs / f"mine{suffix}").write_bytes(theirs[suffix])
    before = files_below(pairs)
    monkeypatch.setattr(Evaluation, "__init__", fail)
    said = refused(evaluate("pred", "gt", option, f"mine{suffix}"))
    assert said == f"{option} mine{suffix} exists and was not written by dynaseg; choose another name"
    assert files_below(pairs) == before


@pytest.mark.parametrize("path", ["pred/a.png", "gt/sub/c.png", "link.png"])
def test_map_that_is_scored_is_never_replaced(pairs: Path, path: str) -> None:
    (pairs / "link.png").symlink_to("gt/a.png")
    before = files_below(pairs)
    for option in ("--per-image", "--plot"):
        assert "was not written by dynaseg" in refused(evaluate("pred", "gt", option, path))
    assert files_below(pairs) == before


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_older_picture_and_empty_file_are_replaced(pairs: Path, suffix: str) -> None:
    picture = pairs / f"scores{suffix}"
    picture.touch()
    made = []
    for _ in range(2):
        assert evaluate("pred", "gt", "-q", "--plot", picture).exit_code == 0
        made.append(picture.read_bytes())
    assert made[0] == made[1] != b""


def test_one_file_for_two_reports_is_refused(pairs: Path) -> None:
    said = refused(evaluate("pred", "gt", "--per-image", "scores.png", "--plot", "./gt/../scores.png"))
    assert said == "--per-image and --plot both name gt/../scores.png; name two files"
    assert not (pairs / "scores.png").exists()


# A picture of them


@pytest.mark.parametrize(
    ("arguments", "suffix", "starts"),
    [
        (("--protocol", "bsds500"), ".png", b"\x89PNG"),
        ((), ".svg", b"<?xml"),
        (("--protocol", "classes"), ".PDF", b"%PDF"),
    ],
    ids=str,
)
def test_picture_is_of_the_format_of_its_suffix(
    pairs: Path, arguments: tuple[str, ...], suffix: str, starts: bytes
) -> None:
    result = evaluate("pred", "gt", "--json", "-q", "--plot", f"scores{suffix}", *arguments)
    assert (result.exit_code, result.stderr, summary(result)["images"]) == (0, "", 3)
    assert (pairs / f"scores{suffix}").read_bytes().startswith(starts)


@pytest.mark.usefixtures("pairs")
def test_picture_on_a_screen_is_a_slide() -> None:
    assert evaluate("pred", "gt", "-q", "--plot", "scores.png").exit_code == 0
    assert read_pixels(Path("scores.png")).shape[:2] == (1500, 2000)


def test_picture_is_of_what_could_be_scored(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        plot_scores,
        "picture",
        lambda evaluation: drawn.append([name for name, _ in evaluation.per_image()]) or Figure(),
    )
    (pairs / "pred/b.png").write_bytes(b"")
    assert evaluate("pred", "gt", "-q", "--plot", "scores.svg").exit_code == 1
    assert drawn == [["a", "sub/c"]]


def test_nothing_scored_is_no_picture(pairs: Path) -> None:
    for path in (pairs / "pred").rglob("*.png"):
        path.write_bytes(b"")
    result = evaluate("pred", "gt", "--plot", "scores.png")
    assert result.exit_code == 1
    assert result.stderr.endswith("--plot: no image was scored, so scores.png is not drawn\n")
    assert not (pairs / "scores.png").exists()


def test_picture_that_cannot_be_drawn_is_refused_before_any_work(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(Evaluation, "__init__", fail)
    said = refused(evaluate("pred", "gt", "--plot", "scores.jpg"))
    assert said == "--plot scores.jpg: a picture's name ends in .png, .svg or .pdf"
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    said = refused(evaluate("pred", "gt", "--plot", "scores.png"))
    assert said == "--plot needs matplotlib: pip install 'dynaseg[plot]'"
    assert not (pairs / "scores.png").exists()


def test_full_disk_is_said_and_leaves_the_older_picture(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (pairs / "scores.pdf").write_bytes(b"%PDF-1.4 /Creator (dynaseg)")
    before = files_below(pairs)
    monkeypatch.setattr(os, "fsync", fail)
    result = evaluate("pred", "gt", "-q", "--plot", "scores.pdf")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: scores.pdf cannot be written: No space left on device\n",
    )
    assert files_below(pairs) == before


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pred", "gone"), "gone does not exist"),
        (("gone", "gt"), "gone does not exist"),
        (("x" * 300, "gt"), "File name too long"),
        (("pred", "gt/a.png"), "gt/a.png is a file and the other a folder"),
        (("pred/sub", "gt"), "no file of pred/sub has the name of one of gt"),
        (("empty", "gt"), "no label files in empty"),
        (
            ("segmented", "gt", "--use", "regions"),
            "segmented has no regions/, which segment writes with --save labels,",
        ),
        (("segmented", "gt", "--use", "hierarchy"), "segmented has no hierarchy/, which segment writes with --save "),
        (
            ("pred", "gt", "--use", "hierarchy", "--protocol", "classes"),
            "--use hierarchy: its regions belong to no clas",
        ),
        (("pred", "gt", "--use", "hierarchy", "--no-connected"), "--no-connected has no meaning with --use hierarchy"),
        (("pred", "gt", "--num-things", "-1"), "--num-things must be at least 0"),
        (("pred", "gt", "--num-things", "1", "--protocol", "regions"), "--num-things belongs to --protocol classes"),
        (("pred", "gt", "--center-crop", "-1"), "--center-crop must be at least 0"),
        (("pred", "gt", "--max-pixels", "0"), "--max-pixels must be at least 1"),
        (("pred", "gt", "--image-list", "gone.txt"), "--image-list gone.txt: No such file or directory"),
        (("pred", "gt", "--image-list", "gt"), "--image-list gt: Is a directory"),
        (("pred", "gt", "--image-list", "nothing.txt"), "--image-list nothing.txt names no image"),
        (("pred", "gt", "--image-list", "unknown.txt"), "1 images of the list have no ground truth, the first is z"),
        (
            ("pred/a.png", "gt/a.png", "--image-list", "unknown.txt"),
            "--image-list chooses among the files of two folders",
        ),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_that_names_it(pairs: Path, arguments: tuple[str, ...], said: str) -> None:
    (pairs / "empty").mkdir()
    save_all(pairs / "segmented/labels", a=HALVES)
    (pairs / "nothing.txt").write_text("\n \r\n")
    (pairs / "unknown.txt").write_text("z\n")
    before = files_below(pairs)
    assert said in refused(evaluate(*arguments))
    assert files_below(pairs) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pred", "gt", "--protocl", "regions"), "--protocl"),
        (("pred", "gt", "--nope"), "--nope"),
        (("pred", "gt", "--protocol", "voc"), "--protocol"),
        (("pred", "gt", "--use", "colors"), "--use"),
        (("pred", "gt", "--ignore-index", "many"), "--ignore-index must be auto, none or a whole number, not 'many'"),
        (("pred", "gt", "--ignore-index", "1.5"), "--ignore-index must be auto, none or a whole number, not '1.5'"),
        (("pred", "gt", "--ignore-index"), "--ignore-index"),
        (("pred", "gt", "--center-crop", "wide"), "--center-crop"),
        (("pred", "gt", "more"), "more"),
        (("pred",), "GT"),
        ((), "PRED"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("pairs")
def test_what_cannot_be_understood_is_named(arguments: tuple[str, ...], said: str) -> None:
    result = evaluate(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ignore-index", "0x" + "f" * 9000), "--ignore-index: no label map has a value of more than 64 bits"),
        (("--ignore-index", str(-(2**63) - 1)), "--ignore-index: no label map has a value of more than 64 bits"),
        (("--center-crop", "15000"), "--center-crop 15000: a square of that side has more pixels than --max-pixels"),
        (("--center-crop", "5", "--max-pixels", "24"), "--center-crop 5: a square of that side has more pixels than"),
    ],
    ids=["beyond 64 bits", "below 64 bits", "crop", "crop and limit"],
)
@pytest.mark.usefixtures("pairs")
def test_numbers_beyond_all_sense_are_refused(arguments: tuple[str, ...], said: str) -> None:
    assert refused(evaluate("pred", "gt", *arguments)).startswith(said)


def test_long_thin_map_is_not_resized_without_limit(here: Path) -> None:
    save_labels(here / "pred/a.png", np.zeros((1, 100_000), np.uint8))
    save_labels(here / "gt/a.png", np.zeros((1, 100_000), np.uint8))
    result = evaluate("pred", "gt", "--center-crop", "200", "-q")
    assert result.exit_code == 1
    assert "100000 x 1 pixels cannot be resized to a shorter side of 200 (--center-crop)" in result.stderr


STRANGE = (
    *("[]", "7", "NaN", "no JSON", "\0", "[" * 100_000, '{"a":' * 100_000, "1" + "0" * 6000, '{"options": [1]}'),
    *('{"options": {"fit": [1], "refine": 1e999}}', '{"versions": 7}', '{"versions": ["dynaseg"]}', '{"fit": []}'),
    *('{"fit": {"silhouette": {"k": 1e999}}}', '{"fit": {"silhouette": {"k": NaN}}}', '{"fit": {"silhouette": 3}}'),
)


@pytest.mark.parametrize("content", [*STRANGE, None], ids=lambda content: str(content)[:20])
def test_whatever_lies_beside_the_maps_is_no_error(
    pairs: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is a pipe, which is not waited for. The picture is made, and its file, which takes longest, left out."""
    monkeypatch.setattr("dynaseg_cli.plots.style.save_picture", lambda *_: None)
    (pairs / "pred").rename(pairs / "labels")
    (pairs / "stats").mkdir()
    for name in ("run.json", "outcomes.jsonl", "stats/a.json"):
        if content is None:
            os.mkfifo(pairs / name)
        else:
            (pairs / name).write_text(content)
    for arguments in (("labels", "gt", "--protocol", "classes"), ("labels", "gt", "--plot", "scores.svg")):
        result = evaluate(*arguments)
        assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(("prediction", "truth"), [("gt", "out"), ("out", "out")])
def test_refusal_ends_with_the_command_to_copy(pairs: Path, prediction: str, truth: str) -> None:
    (pairs / "pred").rename(pairs / "labels")
    (pairs / "out").mkdir()
    (pairs / "labels").rename(pairs / "out/labels")
    (pairs / "out/.dynaseg").touch()
    said = refused(evaluate(prediction, truth))
    command = said.partition(": dynaseg ")[2].split()
    result = CliRunner().invoke(app, [*command, "--json"])
    assert (result.exit_code, summary(result)["images"]) == (0, 3)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_only_the_images_of_a_list_are_scored(pairs: Path, ending: bytes) -> None:
    (pairs / "list.txt").write_bytes(ending.join([b"a", b"", b"images/c.jpg"]))
    document = summary(evaluate("pred", "gt", "--image-list", "list.txt", "--json"))
    assert (document["images"], document["metrics"]["miou"]) == (2, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupt_and_mistakes_of_ours_are_one_line(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise error("ours")

    assert pairs.is_dir()
    monkeypatch.setattr(Evaluation, "metrics", fail)
    result = evaluate("pred", "gt", "-q", "--json")
    if error is KeyboardInterrupt:
        assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")
    else:
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "error: unexpected RuntimeError: ours (-v shows where)\n"
        assert "Traceback" in evaluate("pred", "gt", "-q", "--json", "-v").stderr


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("arguments", [[], ["--plot", "scores.svg"]], ids=str)
def test_command_as_a_process_of_its_own_needs_no_torch_and_matplotlib_to_draw_alone(arguments: list[str]) -> None:
    code = (
        "import sys; from dynaseg_cli.cli import main\n"
        f"sys.argv = ['dynaseg', 'evaluate', 'pred', 'gt', '-q', '--json', *{arguments}]\n"
        "try:\n    main()\n"
        "finally:\n"
        "    names = {'torch', 'sklearn', 'matplotlib', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "    print(sorted(names), file=sys.stderr)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "['matplotlib']\n" if arguments else "[]\n")
    assert json.loads(process.stdout)["images"] == 3

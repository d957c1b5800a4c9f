"""What a user has is not replaced, and what dynaseg wrote is not input: the command as it is typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from samples import files_below, photo_folder, save_photo
from typer.testing import CliRunner, Result

from dynaseg_cli.cli import app

QUICK = (
    *("--iterations", "2", "--max-size", "16", "--min-labels", "3", "--precision", "float32", "--device", "cpu"),
    *("--workers", "0"),
)


def segment(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *QUICK])


def counts(result: Result) -> tuple[int, int, dict[str, int]]:
    """Exit code, images and what was passed over, as ``--json`` prints it."""
    document: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, document["images"], document["passed_over"]


@pytest.fixture
def photos(here: Path) -> Path:
    photo_folder(here / "photos", "a.png", "b.bmp", "sub/c.png")
    return Path("photos")


# Results never land on a user's files


@pytest.mark.parametrize("product", ["labels", "color", "overlay", "regions", "hierarchy", "Color", "LABELS"])
@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--dry-run",), ("--save", "stats")], ids=str)
def test_photos_in_a_folder_called_as_a_product_stay_as_they_are(
    here: Path, product: str, more: tuple[str, ...]
) -> None:
    photo_folder(here / "ds" / product, "a.png", "sub/b.png")
    before = files_below(here)
    said = refused(segment(f"ds/{product}", "-o", "ds", *more))
    assert f"ds/{product}/a.png exists and was not written by dynaseg" in said
    assert files_below(here) == before
    assert not (here / "ds/.dynaseg").exists()


@pytest.mark.parametrize("is_link", [False, True])
def test_photos_in_a_folder_called_raw_are_read_again_and_stay_as_they_are(here: Path, is_link: bool) -> None:
    if is_link:
        photo_folder(here / "elsewhere", "a.png", "sub/b.jpg")
        (here / "ds").mkdir()
        (here / "ds/raw").symlink_to(here / "elsewhere")
    else:
        photo_folder(here / "ds/raw", "a.png", "sub/b.jpg")
    before = files_below(here / "ds/raw")
    for cut in ("2", "raw"):
        result = segment("ds/raw", "-o", "ds", "--regions", cut)
        assert result.exit_code == 0, result.stderr
    assert "2 written from earlier labels" in result.stderr
    assert files_below(here / "ds/raw") == before
    said = refused(segment("ds/raw", "-o", "ds", "--save", "stats,raw"))
    assert "ds/raw " in said
    assert files_below(here / "ds/raw") == before


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--dry-run",)], ids=str)
def test_labels_made_by_hand_stay_as_they_are(here: Path, more: tuple[str, ...]) -> None:
    photo_folder(here / "data/images", "a.png", "b.png")
    photo_folder(here / "data/labels", "b.png")
    before = files_below(here)
    assert "data/labels/b.png exists and was not written by dynaseg" in refused(
        segment("data/images", "-o", "data", *more)
    )
    assert files_below(here) == before


def test_labels_made_by_hand_stay_for_good_where_others_were_written_beside_them(here: Path) -> None:
    photo_folder(here / "data/images", "a.png")
    photo_folder(here / "data/labels", "b.png")
    by_hand = (here / "data/labels/b.png").read_bytes()
    assert segment("data/images", "-o", "data").exit_code == 0
    assert segment("data/images", "-o", "data").exit_code == 0, "the photos below OUT are still the user's"
    save_photo(here / "data/images/b.png", seed=5)
    for more in ((), ("--overwrite",)):
        assert "data/labels/b.png exists and was not written by dynaseg" in refused(
            segment("data/images", "-o", "data", *more)
        )
    assert (here / "data/labels/b.png").read_bytes() == by_hand


@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        ("run.json", ()),
        ("outcomes.jsonl", ()),
        ("report.html", ("--report",)),
        ("report/mine.js", ("--report",)),
        ("export/coco-rle.json", ("--export", "coco-rle")),
        ("export/voc/SegmentationClass/old.png", ("--export", "voc")),
        ("recording/a.webp", ("--record",)),
        ("model.safetensors", ("--fit", "folder", "--epochs", "1")),
        ("clusters.json", ("--fit", "folder", "--epochs", "1")),
        ("regions/a.tif", ("--regions", "auto")),
    ],
)
def test_other_files_of_a_user_are_not_replaced_either(
    photos: Path, here: Path, theirs: str, options: tuple[str, ...]
) -> None:
    (here / "out" / theirs).parent.mkdir(parents=True)
    (here / "out" / theirs).write_text("mine")
    before = files_below(here)
    options = tuple(option for option in options if option != "--min-labels")
    result = CliRunner().invoke(app, ["segment", str(photos), "-o", "out", "--device", "cpu", *options, "--overwrite"])
    assert "was not written by dynaseg" in refused(result)
    assert files_below(here) == before


def test_files_that_are_in_nobody_s_way_stay(photos: Path, here: Path) -> None:
    (here / "out/report").mkdir(parents=True)
    (here / "out/report/mine.txt").write_text("mine")
    (here / "out/notes.txt").write_text("mine")
    assert segment(photos, "-o", "out").exit_code == 0
    assert segment(photos, "-o", "out", "--overwrite").exit_code == 0
    assert (here / "out/report/mine.txt").read_text() == (here / "out/notes.txt").read_text() == "mine"


def test_folder_of_photos_is_not_written_through_a_link(photos: Path, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out/color").symlink_to(here / "photos")
    before = files_below(here)
    assert "out/color is a link to" in refused(segment(photos, "-o", "out"))
    assert files_below(here) == before


def test_out_of_an_earlier_version_goes_on(photos: Path, here: Path) -> None:
    """It has no mark and no raw labels, and its statistics lack whatever is younger."""
    segment(photos, "-o", "out", "--regions", "raw")
    labels = files_below(here / "out/labels")
    (here / "out/.dynaseg").unlink()
    shutil.rmtree(here / "out/.raw")
    for path in (here / "out/stats").rglob("*.json"):
        stats = json.loads(path.read_text())
        for option in ("refine", "model", "freeze_backbone", "weights"):
            del stats["options"][option]
        for entry in ("raw_labels", "cut", "regions"):
            del stats[entry]
        path.write_text(json.dumps({**stats, "schema_version": 1}))
    result = segment(photos, "-o", "out")
    assert "0 segmented, 3 written from earlier labels" in result.stderr
    assert (here / "out/.dynaseg").exists()
    assert files_below(here / "out/.raw") == labels
    assert "3 complete already" in segment(photos, "-o", "out").stderr


# Results, hidden files and sidecars are never input


def test_results_within_the_input_are_not_segmented_again(photos: Path, here: Path) -> None:
    assert counts(segment(photos, "-o", "photos/scf", "--json")) == (0, 3, {})
    assert counts(segment(photos, "-o", "photos/fsf", "--mode", "fsf", "--json")) == (0, 3, {"results": 1})
    assert counts(segment(photos, "-o", "photos/scf", "--json")) == (0, 3, {"results": 2})


def test_current_folder_can_be_segmented_twice(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert counts(segment(".", "--json")) == (0, 3, {})
    second = segment(".", "--json")
    assert counts(second) == (0, 3, {"results": 1})
    assert json.loads(second.stdout)["skipped"] == 3


def test_folder_from_a_mac_is_segmented_without_a_failure(photos: Path, here: Path) -> None:
    for name in ("._a.png", "sub/._c.png", "__MACOSX/a.png", ".thumbs/a.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"\0\5\26\7 not an image")
    (photos / "d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (photos / "e.nef").write_bytes(b"raw")
    result = segment(photos, "--json")
    passed_over = {"camera raw": 1, "hidden": 1, "sidecar": 2, "system folder": 1}
    assert counts(result) in ((0, 3, passed_over | {"HEIC": 1}), (1, 4, passed_over)), "HEIC is read with an extra"
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("passed over: ")]
    assert "1 hidden file or folder (photos/.thumbs), 2 sidecars (photos/._a.png first), 1 system folder" in line
    assert "1 camera raw file (photos/e.nef)" in line
    assert (
        json.loads((here / "photos-dynaseg/run.json").read_text())["passed_over"]
        == json.loads(result.stdout)["passed_over"]
    )


def test_overlapping_inputs_do_a_file_once(photos: Path, here: Path) -> None:
    (here / "list.txt").write_text("photos/a.png\n./photos/sub/c.png\n")
    assert counts(segment(photos, "photos/sub", "--json")) == (0, 3, {"duplicate": 1})
    assert counts(segment(photos, "--files-from", "list.txt", "-o", "out", "--json")) == (0, 3, {"duplicate": 2})


# Words of help


def test_folder_of_results_given_as_input_is_told_of(photos: Path, here: Path) -> None:
    segment(photos, "-o", "results")
    result = segment(photos, "results")
    assert result.exit_code == 0
    assert (
        "results is a folder of results and was not read; to write results there, use --output results" in result.stderr
    )
    assert "2 inputs; results go to dynaseg-out (-o names another folder)\n" in result.stderr
    (here / "empty").mkdir()
    assert (
        "no images in empty; results go to dynaseg-out. To write them to empty, use --output empty"
        in segment(photos, "empty").stderr
    )


def test_glob_that_matches_nothing_is_told_of(photos: Path) -> None:
    result = segment(photos, "--exclude", "sup", "--include", "*.PNG", "--json")
    assert counts(result) == (0, 2, {})
    assert "--exclude sup matched nothing\n" in result.stderr


def test_refusal_of_other_options_says_which_options_go_on(photos: Path) -> None:
    def written(*options: str) -> Result:
        return CliRunner().invoke(app, ["segment", str(photos), "-o", "out", "--device", "cpu", *options])

    assert segment(photos, "-o", "out").exit_code == 0
    said = refused(written())
    assert "iterations was 2, now 1000" in said
    go_on = said.partition("); ")[2].partition(" continues with it")[0]
    assert go_on == "--iterations 2 --max-size 16 --min-labels 3 --precision float32"
    result = written(*go_on.split(), "--workers", "0", "--json")
    assert (result.exit_code, json.loads(result.stdout)["skipped"]) == (0, 3)


# The benchmark


def test_benchmark_replaces_no_file_of_a_user(photos: Path, here: Path) -> None:
    def benchmark(*arguments: str) -> Result:
        command = ["benchmark", str(photos), "--methods", "kmeans", "-o", "out", "--no-stream", "--device", "cpu"]
        return CliRunner().invoke(app, [*command, *arguments])

    photo_folder(here / "out/kmeans/labels", "b.png")
    before = files_below(here)
    assert "out/kmeans/labels/b.png exists and was not written by dynaseg" in refused(benchmark())
    assert files_below(here) == before
    (here / "out/kmeans/labels/b.png").unlink()
    assert benchmark("-q").exit_code == 0
    assert benchmark("-q").exit_code == 0, "what it wrote itself it writes again"
    assert counts(segment(".", "--json"))[2] == {"results": 1}

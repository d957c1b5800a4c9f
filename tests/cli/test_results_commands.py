"""`report` and `export`: what a finished folder can give without its options, its network, or a new segmentation."""

from __future__ import annotations

import json
import shutil
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusal import refused
from samples import files_below, photo_folder, save_photo
from test_segment import dynaseg, segment

from dynaseg_cli.cli import progress
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.report.page import ENTRY_FILES

OUT = Path("photos-dynaseg")


@pytest.fixture
def photos(here: Path) -> Path:
    photo_folder(here / "photos", "a.png", "b.bmp", "sub/c.png")
    return Path("photos")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "segment", lambda *_: pytest.fail("an image is segmented"))
    monkeypatch.setattr(Engine, "__init__", lambda *_, **__: pytest.fail("a network is made"))


def contents(*left_out: str) -> dict[str, bytes]:
    return {name: (OUT / name).read_bytes() for name in files_below(OUT) if not name.startswith(left_out)}


# report


def rows(page: Path = OUT / "report.html") -> list[str]:
    """Names of the images on the page."""
    data = json.loads(page.read_text().partition('id="rows">')[2].partition("</script>")[0])
    return [row[data["fields"].index("name")] for row in data["rows"]]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--regions", "4"),
        ("--regions", "raw"),
        ("--granularity", "0.7", "--colors", "mean", "--save", "stats,hierarchy,raw"),
        ("--seed", "7", "--mode", "fsf", "--keep-extension"),
        ("--fit", "folder", "--classes", "5", "--epochs", "1"),
    ],
    ids=" ".join,
)
def test_report_is_the_one_that_segment_would_have_made(
    photos: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert segment(photos, *options, "--report").exit_code == 0
    expected = contents("outcomes.jsonl")
    shutil.rmtree(OUT / "report")
    (OUT / "report.html").unlink()
    request.getfixturevalue("no_network")
    result = dynaseg("report", OUT)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr.splitlines()[-1] == f"reported in {OUT / 'report.html'}"
    found = contents("outcomes.jsonl")
    assert found.keys() == expected.keys()
    different = {name for name, content in found.items() if content != expected[name]}
    assert different <= {"report.html"}
    assert len(rows()) == 3


def test_entries_that_exist_need_no_photo(photos: Path) -> None:
    segment(photos, "--report")
    before = contents("outcomes.jsonl", "report.html")
    shutil.rmtree(photos)
    (OUT / "report.html").unlink()
    result = dynaseg("report", OUT, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "output": str(OUT),
        "report": str(OUT / "report.html"),
        "images": 3,
        "failures": [],
    }
    assert contents("outcomes.jsonl", "report.html") == before
    assert len(rows()) == 3


def test_photos_that_are_gone_or_have_changed_are_named_and_the_others_shown(photos: Path) -> None:
    segment(photos)
    (photos / "a.png").unlink()
    save_photo(photos / "b.bmp", seed=99)
    result = dynaseg("report", OUT, "--json")
    assert result.exit_code == 1
    failures = {entry["path"]: entry["reason"] for entry in json.loads(result.stdout)["failures"]}
    assert failures == {
        "photos/a.png": "the photo is not there: run this from the folder in which it was segmented",
        "photos/b.bmp": "the photo has changed since it was segmented; segment it again",
    }
    assert "failed: photos/a.png: the photo is not there" in result.stderr
    assert rows() == ["sub/c.png"]
    assert "the photo has changed" in (OUT / "report.html").read_text(), "the page names them, too"


def test_labels_drawn_stay_what_they_are(photos: Path, here: Path) -> None:
    from PIL import Image  # noqa: PLC0415 - only here

    strokes = np.full((20, 24), 255, dtype=np.uint8)
    strokes[2, 2:9], strokes[15, 4:20] = 1, 0
    (here / "drawn").mkdir()
    Image.fromarray(strokes).save(here / "drawn" / "a.png")
    assert segment(photos, "--scribbles", "drawn", "--report").exit_code == 0
    before = contents("outcomes.jsonl", "report.html")
    shutil.rmtree(OUT / "report")
    assert dynaseg("report", OUT).exit_code == 0
    assert contents("outcomes.jsonl", "report.html") == before
    shutil.rmtree(OUT / "report")
    strokes[:] = 0
    Image.fromarray(strokes).save(here / "drawn" / "a.png")
    result = dynaseg("report", OUT)
    assert result.exit_code == 1
    assert "drawn/a.png has changed since the photo was segmented" in result.stderr


def test_results_of_a_version_with_fewer_options_are_reported(photos: Path) -> None:
    segment(photos)
    for path in (OUT / "stats").rglob("*.json"):
        stats = json.loads(path.read_text())
        del stats["options"]["refine"], stats["options"]["weights"]
        path.write_text(json.dumps(stats))
    assert dynaseg("report", OUT).exit_code == 0
    assert len(rows()) == 3


def test_report_without_the_summary_of_a_run(photos: Path) -> None:
    segment(photos)
    for content in (None, "[]", "{", '{"failures": 3}'):
        (OUT / "run.json").unlink()
        if content is not None:
            (OUT / "run.json").write_text(content)
        else:
            (OUT / "run.json").touch()
        assert dynaseg("report", OUT).exit_code == 0
        assert len(rows()) == 3


def test_page_opens_in_the_browser(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert segment(photos, "--open").exit_code == 0
    page = (Path.cwd() / OUT / "report.html").as_uri()
    assert opened == [page]
    assert dynaseg("report", OUT).exit_code == 0
    assert opened == [page]
    assert dynaseg("report", OUT, "--open", "-q").exit_code == 0
    assert opened == [page, page]


def test_without_a_browser_the_command_that_shows_the_page_is_named(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(photos)
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    result = dynaseg("report", OUT, "--open")
    assert result.exit_code == 0
    assert "no browser was found here; look at it with: " in result.stderr
    assert "report.html" in result.stderr.splitlines()[-1]


# export


@pytest.mark.parametrize(
    "options", [(), ("--regions", "4"), ("--fit", "folder", "--classes", "5", "--epochs", "1")], ids=" ".join
)
def test_exports_are_those_of_segment(photos: Path, options: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    formats = "voc,coco-rle,coco-panoptic,cvat"
    assert segment(photos, *options, "--export", formats).exit_code == 0
    expected = {name: content for name, content in contents().items() if name.startswith("export/")}
    assert len(expected) > 6
    shutil.rmtree(OUT / "export")
    shutil.rmtree(photos)
    request.getfixturevalue("no_network")
    result = dynaseg("export", OUT, "--format", formats)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert f"exported as voc, coco-rle, coco-panoptic, cvat to {OUT / 'export'}" in result.stderr
    assert {name: content for name, content in contents().items() if name.startswith("export/")} == expected


def test_export_as_json(photos: Path) -> None:
    segment(photos)
    document: dict[str, Any] = json.loads(dynaseg("export", OUT, "--format", "voc", "--json").stdout)
    assert document == {"output": str(OUT), "export": str(OUT / "export"), "images": 3, "formats": ["voc"]}


# What is refused


@pytest.mark.parametrize("command", [("report",), ("export", "--format", "voc")], ids=" ".join)
def test_folders_that_hold_no_results_are_refused(photos: Path, command: tuple[str, ...]) -> None:
    assert "nowhere is not a folder; name one that segment wrote" in refused(dynaseg(*command, "nowhere"))
    assert "photos was not written by dynaseg; name a folder that segment wrote" in refused(dynaseg(*command, photos))
    segment(photos, "--save", "labels")
    assert "no image in photos-dynaseg is finished" in refused(dynaseg(*command, OUT))
    assert "OUT is empty" in refused(dynaseg(*command, ""))


def test_export_needs_a_format_and_labels(photos: Path) -> None:
    segment(photos, "--save", "stats,color")
    assert "give --format, one or more of voc, coco-rle, coco-panoptic, cvat" in refused(dynaseg("export", OUT))
    assert "--format must be one or more of voc" in refused(dynaseg("export", OUT, "--format", "doc"))
    assert "exports are made of labels, which not all images in" in refused(dynaseg("export", OUT, "--format", "voc"))


def test_results_of_an_unknown_version_are_refused(photos: Path) -> None:
    segment(photos)
    for path in (OUT / "stats").rglob("*.json"):
        stats = json.loads(path.read_text())
        stats["options"]["telepathy"] = True
        path.write_text(json.dumps(stats))
    assert "was made by another version of dynaseg: " in refused(dynaseg("report", OUT))


def test_entry_files_are_those_of_the_report(photos: Path) -> None:
    segment(photos)
    dynaseg("report", OUT)
    assert sum(name.startswith("report/") for name in files_below(OUT)) == 3 * len(ENTRY_FILES)


# Two folders side by side


def compared(page: Path) -> dict[str, dict[str, Any]]:
    """The rows of a comparison by name."""
    data = json.loads(page.read_text().partition('id="rows">')[2].partition("</script>")[0])
    found = [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]]
    return {row["name"]: row for row in found}


@pytest.fixture
def two(photos: Path, here: Path) -> tuple[Path, Path]:
    """The photos segmented twice, the second time somewhere else and into fewer regions; one photo is new there."""
    segment(photos, "-o", "one", "--report")
    (photos / "a.png").unlink()
    save_photo(photos / "d.png", seed=5)
    segment(photos, "-o", "far/off/two", "--regions", "2")
    return Path("one"), Path("far/off/two")


def test_two_folders_are_compared_by_the_photos_that_both_have(two: tuple[Path, Path], no_network: None) -> None:
    one, other = two
    result = dynaseg("report", one, other)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr.splitlines()[-1] == "reported in one/comparison.html"
    found = compared(one / "comparison.html")
    assert sorted(found) == ["b.bmp", "sub/c.png"]
    for row in found.values():
        stats = [json.loads((out / "stats" / row["name"]).with_suffix(".json").read_text()) for out in two]
        files, labels, regions = row["other"]
        assert (row["regions"], regions) == tuple(len(each["regions"]) for each in stats)
        assert (row["labels"], labels) == tuple(each["num_labels"] for each in stats)
        assert all((one / f"{prefix}{end}").is_file() for prefix in (row["files"], files) for end in ENTRY_FILES)
        assert files.startswith("../far/off/two/report/")
    assert '"compared":{"with":"far/off/two","unpaired":2}' in (one / "comparison.html").read_text()
    assert not (other / "report.html").exists()
    assert rows(one / "report.html") == ["a.png", "b.bmp", "sub/c.png"], "its own report stays as it is"


def test_photos_of_another_size_are_no_partners(photos: Path) -> None:
    segment(photos, "-o", "one")
    save_photo(photos / "a.png", 3, 31, 17)
    segment(photos, "-o", "two")
    assert dynaseg("report", "two", "one", "--json").exit_code == 1, "the photo has changed since"
    assert sorted(compared(Path("two/comparison.html"))) == ["b.bmp", "sub/c.png"]


def test_progress_of_a_comparison_counts_the_images_of_both(
    two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    lines = dynaseg("report", *two).stderr.splitlines()
    assert [line.split(" ")[0] for line in lines[:-1]] == [f"{done}/6" for done in range(1, 7)]


def test_comparison_opens_in_the_browser(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    assert dynaseg("report", *two, "--open").exit_code == 0
    assert opened == [(Path.cwd() / "one/comparison.html").as_uri()]
    assert dynaseg("report", *two).exit_code == 0, "an earlier comparison may be replaced"


def test_comparison_is_of_two_folders(two: tuple[Path, Path]) -> None:
    one, other = two
    assert "one folder, or two side by side, not 3" in refused(dynaseg("report", one, other, one))
    assert "one is named twice" in refused(dynaseg("report", one, one))
    assert "nowhere is not a folder" in refused(dynaseg("report", one, "nowhere"))


def test_files_of_the_user_are_not_replaced(photos: Path) -> None:
    for name in ("report.html", "export/notes.txt"):
        (OUT / name).parent.mkdir(parents=True, exist_ok=True)
        (OUT / name).write_text("mine")
    segment(photos)
    segment(photos, "-o", "other")
    assert "report.html exists and was not written by dynaseg" in refused(dynaseg("report", OUT))
    assert "was not written by dynaseg" in refused(dynaseg("export", OUT, "--format", "voc"))
    Path("other/comparison.html").write_text("mine")
    for first in (OUT, Path("other")):
        second = Path("other") if first == OUT else OUT
        assert "was not written by dynaseg" in refused(dynaseg("report", first, second))
    assert {(OUT / name).read_text() for name in ("report.html", "export/notes.txt")} == {"mine"}
    assert Path("other/comparison.html").read_text() == "mine"

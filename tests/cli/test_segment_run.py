"""The results of a run for people and for other tools: pictures, the report page, recordings and exports."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import shutil
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusal import refused
from samples import files_below, photo_folder, read_pixels
from scenes import scene_folder
from typer.testing import CliRunner, Result

from dynaseg_cli import run as module
from dynaseg_cli.batch import exports, report_files
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.batch.summary import RunSummary
from dynaseg_cli.cli import app
from dynaseg_cli.cli import segment_run as command
from dynaseg_cli.cli.console import stderr
from dynaseg_cli.cli.run_summary import look_command, show_summary
from dynaseg_cli.cli.segment_run import MOST_NAMED
from dynaseg_cli.config import WorkersConfig
from dynaseg_cli.export.exporting import ExportFailure
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.run import Event, run

QUICK = (
    "--iterations", "2", "--max-size", "16", "--min-labels", "3", "--precision", "float32", "--device", "cpu",
    "--workers", "0",
)  # fmt: skip
OUT = Path("photos-dynaseg")


@pytest.fixture
def photos(here: Path) -> Path:
    """Three small scenes, named as from the current folder."""
    scene_folder(here / "photos", "a.png", "b.bmp", "sub/c.png")
    return Path("photos")


def segment(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *QUICK])


def stats(name: str) -> dict[str, Any]:
    return dict(json.loads((OUT / f"stats/{name}.json").read_text()))


# Pictures


def test_overlay_is_the_photo_with_something_over_it(photos: Path) -> None:
    assert segment(photos, "--save", "labels,stats,overlay", "--regions", "4").exit_code == 0
    assert {path.name for path in OUT.iterdir() if path.is_dir()} == {"labels", "stats", "overlay", ".raw"}
    assert segment(photos, "--save", "overlay", "--regions", "4").stderr.endswith("overlay is in photos-dynaseg\n")
    for name, source in (("a", "a.png"), ("sub/c", "sub/c.png")):
        laid = read_pixels(OUT / f"overlay/{name}.jpg")
        assert laid.shape == (24, 30, 3)
        assert (laid > 240).all(2).any(), "boundaries"
        assert (laid != read_pixels(photos / source, "RGB")).any(2).mean() > 0.5
        assert len(stats(name)["regions"]) <= 4


def test_mean_colours_are_those_of_the_photo_under_each_label(photos: Path) -> None:
    assert segment(photos, "--colors", "mean").exit_code == 0
    labels, photo = read_pixels(OUT / "labels/a.png"), read_pixels(photos / "a.png", "RGB").astype(float)
    painted = read_pixels(OUT / "color/a.png", "RGB")
    for label in np.unique(labels):
        mean = photo[labels == label].mean(0, keepdims=True)
        np.testing.assert_allclose(painted[labels == label], mean.repeat((labels == label).sum(), axis=0), atol=0.51)
    result = segment(photos)
    assert "3 written from earlier labels" in result.stderr
    assert (read_pixels(OUT / "color/a.png", "RGB") != painted).any()
    assert json.loads((OUT / "run.json").read_text())["colors"] == "calm"


def test_unknown_colours_are_refused(photos: Path) -> None:
    result = segment(photos, "--colors", "rainbow")
    assert result.exit_code == 2
    assert "--colors must be one of calm, palette, mean, not 'rainbow'" in result.stderr


# Recordings


def test_recording_is_an_animation_of_the_iterations(photos: Path) -> None:
    result = segment(photos, "--record")
    assert result.exit_code == 0
    assert "labels, color, stats, overlay, recording are in photos-dynaseg" in result.stderr
    for name in ("a", "b", "sub/c"):
        with Image.open(OUT / f"recording/{name}.webp") as animation:
            assert (animation.format, animation.n_frames) == ("WEBP", stats(name)["fit"]["iterations"] + 1)
    assert "3 complete already" in segment(photos, "--record").stderr


def test_recording_of_a_network_that_does_not_iterate_is_refused(photos: Path) -> None:
    assert "--record shows the iterations on each image" in refused(segment(photos, "--record", "--fit", "folder"))


def test_refined_network_is_recorded(photos: Path) -> None:
    folder = ("--fit", "folder", "--classes", "4", "--epochs", "1", "--features", "8")
    shared = ("--max-size", "16", "--precision", "float32", "--device", "cpu", "--workers", "0")
    assert CliRunner().invoke(app, ["segment", str(photos), *folder, *shared, "-o", "first"]).exit_code == 0
    model = ("--load-model", "first/model.safetensors", "--refine", "3")
    result = CliRunner().invoke(app, ["segment", str(photos), *model, "--record", "--device", "cpu", "--workers", "0"])
    assert result.exit_code == 0, result.stderr
    assert (OUT / "recording/a.webp").is_file()


# What a run says


def test_verbose_run_has_a_line_for_each_image(photos: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    first = segment(photos, "-v")
    assert re.search(
        rf"^done: photos/a\.png: {stats('a')['num_labels']} labels, [0-9.]+ s$", first.stderr, re.MULTILINE
    )
    assert first.stderr.count("done: ") == 2
    assert first.stderr.count("photos/b.bmp") == 1, "failed, as without -v"
    again = segment(photos, "-v", "--granularity", "0.4", "--save", "labels,color,stats,overlay")
    assert re.search(r"^done: photos/sub/c\.png: \d+ labels, from earlier labels$", again.stderr, re.MULTILINE)
    last = segment(photos, "-v", "--granularity", "0.4", "--save", "labels,color,stats,overlay")
    assert "skipped: photos/a.png: complete already\n" in last.stderr
    for silent in (segment(photos), segment(photos, "-v", "-q")):
        assert "done: " not in silent.stderr
        assert "skipped: " not in silent.stderr


def test_every_file_of_the_run_is_named(photos: Path) -> None:
    first = segment(photos, "--report", "--export", "voc").stderr
    assert re.search(r"^files +run\.json, outcomes\.jsonl *$", first, re.MULTILINE)
    assert "reported in photos-dynaseg/report.html" in first
    assert "to photos-dynaseg/export" in first
    again = segment(photos).stderr
    assert re.search(r"^files +run\.json *$", again, re.MULTILINE), "nothing was logged"


def test_summary_of_a_terminal_shows_the_run_in_a_bar_and_the_labels_in_another(
    monkeypatch: pytest.MonkeyPatch, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_batch([photos], OUT)
    run = RunSummary(dataclasses.replace(plan, jobs=plan.jobs * 4), done=8, skipped=2, labels=[3, 3, 3, 3, 4, 4, 5, 9])
    run.failures.append(Outcome("photos/a.png", "failed", "it is so"))
    monkeypatch.setattr(stderr, "width", 80)
    show_summary(run, [OUT / "run.json", Path("kept.safetensors")])
    in_a_log = capsys.readouterr().err
    monkeypatch.setattr(type(stderr), "is_live", True)
    show_summary(run, [OUT / "run.json", Path("kept.safetensors")])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "━" * 40 + " 10/12"
    assert "labels per image  3.5 in the median, 3 to 9  █▄▂   ▂" in [line.rstrip() for line in lines]
    assert "files             run.json, kept.safetensors, outcomes.jsonl" in [line.rstrip() for line in lines]
    assert "━" not in in_a_log
    assert "█" not in in_a_log
    assert max(map(len, lines)) <= 80


def test_summary_loses_nothing_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunSummary(plan_batch([photos], OUT), done=1, reused=1, skipped=1, labels=[1234])
    monkeypatch.setattr(type(stderr), "is_live", True)
    monkeypatch.setattr(stderr, "width", 40)
    show_summary(run, [OUT / "run.json"])
    shown = capsys.readouterr().err
    table = [line for line in shown.splitlines() if " are in " not in line]
    assert max(map(len, table)) <= 40
    assert "…" not in shown
    text = " ".join(shown.split())
    for part in ("labels per image", "0 segmented", "1 written from", "1 complete", "1 not started", "1234 to"):
        assert part in text


# The report


def test_report_is_written_of_all_images_and_failures(photos: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    result = segment(photos, "--report")
    assert result.exit_code == 1
    assert "reported in photos-dynaseg/report.html\n" in result.stderr
    page = (OUT / "report.html").read_text()
    for text in ("a.png", "sub/c.png", "photos/b.bmp", "the file is empty"):
        assert text in page
    folders = {path.name for path in OUT.iterdir() if path.is_dir()}
    assert folders == {"labels", "color", "stats", "overlay", "report", ".raw"}
    assert len(list((OUT / "report").rglob("*.js"))) == 2
    assert json.loads((OUT / "run.json").read_text())["cut"] == {"regions": "auto", "granularity": None}


def test_report_can_be_had_later_of_what_is_there(photos: Path) -> None:
    segment(photos)
    result = segment(photos, "--report", "--granularity", "0.4", "--save", "labels,color,stats")
    assert "0 segmented, 3 written from earlier labels" in result.stderr
    assert "c.png" in (OUT / "report.html").read_text()
    assert stats("a")["cut"] == {"regions": "auto", "granularity": 0.4}


def test_report_is_there_when_everything_failed(photos: Path) -> None:
    for path in ("a.png", "b.bmp", "sub/c.png"):
        (photos / path).write_bytes(b"")
    assert segment(photos, "--report").exit_code == 1
    assert "the file is empty" in (OUT / "report.html").read_text()


def test_report_that_cannot_be_written_is_named_and_counts(photos: Path) -> None:
    (OUT / "report.html").mkdir(parents=True)
    result = segment(photos, "--report")
    assert "error: photos-dynaseg/report.html cannot be written" in result.stderr
    assert result.exit_code == 1
    assert len(list((OUT / "labels").rglob("*.png"))) == 3


def test_where_the_folder_does_not_answer_nothing_else_is_tried(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(output: Path, document: dict[str, Any]) -> None:
        raise OSError(errno.ETIMEDOUT, "the folder does not answer")

    monkeypatch.setattr(module, "_write_run", hang)
    result = segment(photos, "--report", "--export", "voc")
    assert result.exit_code == 1
    for name in ("run.json", "report.html", "export"):
        assert f"{name} cannot be written: the folder does not answer" in result.stderr
    assert not (OUT / "report.html").exists()
    assert not (OUT / "export").exists()
    assert segment(photos).exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--report", "--save", "labels,color"), "--report is made of stats: add stats to --save"),
        (("--export", "voc", "--save", "color"), "--export is made of labels and stats: add labels and stats to"),
        (("--export", "coco"), "--export must be one or more of voc, coco-rle, coco-panoptic, cvat"),
        (("--export", ","), "--export must be one or more of voc, coco-rle, coco-panoptic, cvat"),
    ],
)
def test_what_cannot_be_made_is_refused(photos: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refused(segment(photos, *options))


def test_report_of_shards_has_the_images_and_failures_of_all(photos: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    for shard in ("2/3", "1/3", "3/3"):
        segment(photos, "--report", "--shard", shard)
    page = (OUT / "report.html").read_text()
    for text in ("a.png", "sub/c.png", "photos/b.bmp", "the file is empty"):
        assert text in page
    (photos / "b.bmp").write_bytes((photos / "a.png").read_bytes())
    segment(photos, "--report", "--shard", "2/3")
    segment(photos, "--report", "--shard", "3/3")
    assert "the file is empty" not in (OUT / "report.html").read_text()


def test_report_goes_without_an_image_whose_regions_are_being_cut_otherwise(photos: Path) -> None:
    segment(photos, "--report")
    unfinished = {name: entry for name, entry in stats("a").items() if name not in ("levels", "cut", "regions")}
    (OUT / "stats/a.json").write_text(json.dumps(unfinished))
    result = segment(photos, "--report", "--shard", "2/3")
    assert result.exit_code == 0, result.stderr
    page = (OUT / "report.html").read_text()
    assert "c.png" in page
    assert "a.png" not in page


def test_report_is_not_written_through_a_link(photos: Path, here: Path) -> None:
    (here / "elsewhere").mkdir()
    OutputFolder(OUT).mark()
    (OUT / "report").symlink_to(here / "elsewhere")
    result = segment(photos, "--report")
    assert result.exit_code == 1
    assert result.stderr.count("leads out of the output folder") == 3
    assert not list((here / "elsewhere").iterdir())
    assert not (OUT / "labels").exists(), "found out before the work"
    assert segment(photos).exit_code == 0, "it is in the way of the report alone"


def test_a_log_that_a_killed_run_left_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "outcomes.jsonl"
    log.write_bytes(
        b'{"path": "a", "status": "failed"}\n{"path": "a", "status": "done"}\n[1]\n\xff\n{"path": "b", "sta'
    )
    assert report_files.last_outcomes(log) == {"a": {"path": "a", "status": "done"}}
    assert report_files.last_outcomes(tmp_path / "none") == {}


# Exports


def test_exports_are_written_of_labels_or_of_regions_where_they_are_saved(photos: Path) -> None:
    everything = "voc,coco-rle,coco-panoptic,cvat"
    result = segment(photos, "--export", everything)
    assert result.exit_code == 0
    assert "exported as voc, coco-rle, coco-panoptic, cvat to photos-dynaseg/export" in result.stderr
    images = json.loads((OUT / "export/coco-rle.json").read_text())
    assert [image["file_name"] for image in images["images"]] == ["a.png", "b.bmp", "sub/c.png"]
    count = {name: stats(name)["num_labels"] for name in ("a", "b", "sub/c")}
    assert len(images["annotations"]) == sum(count.values())
    with zipfile.ZipFile(OUT / "export/cvat.zip") as archive:
        assert "SegmentationClass/sub/c.png" in archive.namelist()
    assert segment(photos, "--export", everything, "--regions", "3").exit_code == 0
    regions = json.loads((OUT / "export/coco-rle.json").read_text())["annotations"]
    assert len(regions) == sum(len(stats(name)["regions"]) for name in count)
    of_a = [entry["label"] + 1 for entry in stats("a")["regions"]]
    assert [entry["category_id"] for entry in regions[: len(of_a)]] == of_a


def test_exports_leave_out_what_failed(photos: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    assert segment(photos, "--export", "coco-rle").exit_code == 1
    images = json.loads((OUT / "export/coco-rle.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.png", "sub/c.png"]


@pytest.mark.parametrize("damage", ["labels", "regions", "stats"])
def test_image_whose_files_are_damaged_is_named_and_the_others_are_exported(photos: Path, damage: str) -> None:
    save = ("--save", "labels,stats,regions" if damage == "regions" else "labels,stats")
    segment(photos, *save)
    if damage == "stats":  # between the two looks at it

        def gone(job: Job, folder: OutputFolder, *, regions: bool) -> Any:
            (OUT / "stats/a.json").unlink(missing_ok=True)
            return exports_segments(job, folder, regions=regions)

        exports_segments = exports._segments
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exports, "_segments", gone)
            result = segment(photos, *save, "--export", "coco-rle")
    else:
        content = (OUT / damage / "b.png").read_bytes()
        (OUT / damage / "a.png").write_bytes(content if damage == "regions" else content[:50])
        result = segment(photos, *save, "--export", "coco-rle")
    assert result.exit_code == 1
    assert "not exported as coco-rle: a: " in result.stderr
    images = json.loads((OUT / "export/coco-rle.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["b.bmp", "sub/c.png"]


def test_many_images_that_cannot_be_exported_are_counted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [ExportFailure(f"image {number}", "voc", "it is so") for number in range(MOST_NAMED + 3)]
    monkeypatch.setattr(module, "export_folder", lambda plan: (failure for failure in failures))
    result = segment(photos, "--export", "voc")
    assert result.stderr.count("it is so") == MOST_NAMED
    assert "and 3 more were not exported" in result.stderr
    assert result.exit_code == 1


def test_exports_that_cannot_be_written_are_named_and_count(photos: Path) -> None:
    OutputFolder(OUT).mark()
    (OUT / "export").write_text("mine")
    result = segment(photos, "--export", "coco-rle")
    assert "error: photos-dynaseg/export cannot be written" in result.stderr
    assert result.exit_code == 1
    assert (OUT / "export").read_text() == "mine"


@pytest.mark.parametrize(
    "link", ["export", "export/voc", "export/voc/ImageSets", "export/voc/SegmentationObject", "export/coco-panoptic"]
)
def test_exports_are_not_written_through_a_link(photos: Path, here: Path, link: str) -> None:
    theirs = here / "theirs/Segmentation/default.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    OutputFolder(OUT).mark()
    (OUT / link).parent.mkdir(parents=True, exist_ok=True)
    (OUT / link).symlink_to(here / "theirs")
    result = segment(photos, "--export", "coco-rle,voc,coco-panoptic,cvat")
    assert result.exit_code == 1
    assert re.search(f"error: photos-dynaseg/{link}[/A-Za-z]* leads out of the output folder", result.stderr)
    assert "3 segmented" in result.stderr
    assert files_below(here / "theirs") == {"Segmentation/default.txt": b"mine"}
    assert not list((OUT / "export").glob("*.json")), "none of several that belong together"


def test_export_takes_over_what_a_killed_one_left(photos: Path) -> None:
    everything = ("--export", "voc,coco-rle,coco-panoptic,cvat")
    segment(photos, *everything)
    before = set(files_below(OUT / "export"))

    # As `kill -9` does, before any file has its name, and without an end to what is open.
    with OutputFolder(OUT) as folder:
        for path in [folder.export / name for name in before]:
            path.with_name(str(folder._temporary(path))).write_bytes(b"half")
    assert segment(photos, *everything).exit_code == 0
    assert set(files_below(OUT / "export")) == before


def test_file_of_an_export_that_cannot_be_written_is_named(photos: Path) -> None:
    (OUT / "export/coco-rle.json").mkdir(parents=True)
    result = segment(photos, "--export", "coco-rle")
    assert "error: photos-dynaseg/export/coco-rle.json cannot be written: Is a directory" in result.stderr
    assert result.exit_code == 1


def test_result_is_read_back_as_input_by_nobody(here: Path) -> None:
    photo_folder(here / "photos", "a.png")
    options = ("--record", "--report", "--export", "voc,cvat", "--save", "labels,color,stats,overlay")
    assert segment(Path("photos"), *options, "-o", Path("photos/out")).exit_code == 0
    before = set(files_below(here / "photos/out"))
    result = segment(Path("photos"), *options, "-o", Path("photos/out"))
    assert "1 complete already" in result.stderr
    assert set(files_below(here / "photos/out")) == before


# The command to look at the results


def test_on_a_terminal_the_last_line_is_the_command_to_look(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for options, what in (
        ((), "photos-dynaseg/overlay"),
        (("--save", "labels,color,stats"), "photos-dynaseg/color"),
        (("--save", "labels,stats"), "photos-dynaseg"),
        (("--save", "labels,stats", "--report"), "photos-dynaseg/report.html"),
    ):
        assert "look at" not in segment(photos, *options).stderr
        with monkeypatch.context() as patch:
            patch.setattr(type(stderr), "is_live", True)
            lines = segment(photos, *options).stderr.splitlines()
        assert f"open {what}" in lines[-1]


def test_on_a_terminal_the_command_to_look_names_nothing_that_is_not_there(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(type(stderr), "is_live", True)
    (photos / "bad.png").write_bytes(b"")
    result = segment(photos / "bad.png", "-o", OUT)
    assert result.exit_code == 1
    assert "open photos-dynaseg" in result.stderr.splitlines()[-1]
    assert "photos-dynaseg/overlay" not in result.stderr


def test_nothing_is_suggested_after_an_interrupt_with_nothing_done(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(stderr), "is_live", True)

    def interrupted(plan: Plan, workers: WorkersConfig, stop: threading.Event) -> Iterator[Event]:
        signal.raise_signal(signal.SIGINT)
        return (event for event in run(plan, workers, stop))

    monkeypatch.setattr(command, "run", interrupted)
    assert segment(photos / "sub").exit_code == 130
    result = segment(photos, "-o", "out")
    assert result.exit_code == 130
    assert "3 not started" in result.stderr
    assert "look at" not in result.stderr
    assert result.stderr.endswith("interrupted; the same command continues\n")


def test_address_of_a_server_has_a_line_of_its_own(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(type(stderr), "is_live", True)
    lines = segment(photos / "sub").stderr.splitlines()
    assert lines[-2:] == [
        "look at them with: python3 -m http.server -b 127.0.0.1 -d sub-dynaseg",
        "in a browser: http://127.0.0.1:8000/overlay",
    ]


@pytest.mark.parametrize(
    ("platform", "environment", "command"),
    [
        ("darwin", {}, "open 'my photos-dynaseg/report.html'"),
        ("linux", {"DISPLAY": ":0"}, "xdg-open 'my photos-dynaseg/report.html'"),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, "xdg-open 'my photos-dynaseg/report.html'"),
        (
            "linux",
            {},
            "python3 -m http.server -b 127.0.0.1 -d 'my photos-dynaseg'  # http://127.0.0.1:8000/report.html",
        ),
    ],
)
def test_command_to_look_is_one_that_this_machine_has(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], command: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    output = Path("my photos-dynaseg")
    assert look_command(output, output / "report.html", environment) == command

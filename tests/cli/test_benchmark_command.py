from __future__ import annotations

import errno
import io
import itertools
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from refusal import refused
from rich.console import Console
from samples import files_below, photo_folder, read_pixels, stand_in_for_python
from typer.testing import CliRunner, Result

from dynaseg_cli.baselines.folder.picie import Picie
from dynaseg_cli.benchmark import region_curve
from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.region_curve import FELZENSZWALB_CURVE
from dynaseg_cli.benchmark.variants import FOLDER_METHODS, METHODS, Variant, parse_variants
from dynaseg_cli.cli import app, progress
from dynaseg_cli.cli.progress import CountProgress
from dynaseg_cli.cli.tables import ARROWS, metrics_table
from dynaseg_cli.errors import DivergedError
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.plots import benchmark as plot
from dynaseg_cli.plots import style as figures

OWN = "scf:iterations=2:min_labels=3:max_size=16:features=8:clusters=8"
QUICK = "felzenszwalb:scale=50,kmeans:clusters=3:window=3"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    photo_folder(tmp_path / "truth", "a.png", "b.png")
    for path in (tmp_path / "truth").iterdir():
        Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) // 12, (20, 1))).save(path)
    return photo_folder(tmp_path / "photos", "a.png", "b.png")


def benchmark(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments), "--device", "cpu"])


def test_table_on_stderr_and_nothing_on_stdout_or_disk(tmp_path: Path) -> None:
    before = files_below(tmp_path)
    result = benchmark("photos", "--methods", QUICK, "--ground-truth", "truth")
    assert (result.exit_code, result.stdout) == (0, "")
    lines = result.stderr.splitlines()[1:]  # the first one says which protocol
    assert lines[0].split() == ["method", "s/image↓"]
    assert lines[3].split()[:4] == ["method", "decode", "fit", "write"]
    assert lines[6].split() == ["method", "s/image↓", "mIoU↑", "covering↑", "PRI↑", "VoI↓", "segments", "ignored"]
    assert all(lines[number].startswith("felzenszwalb") for number in (1, 4, 7))
    assert "2 images" in result.stderr
    assert f"torch {torch.__version__.partition('+')[0]}" in result.stderr
    assert files_below(tmp_path) == before


def test_classes_are_told_apart_and_ignored_as_evaluate_does() -> None:
    """Half of each ground truth is class 0, the only one that is left."""
    scoring = ("--protocol", "classes", "--num-things", "1", "--ignore-index", "1")
    result = benchmark("photos", "--methods", "kmeans:window=3", "--ground-truth", "truth", *scoring, "--json")
    assert result.exit_code == 0
    quality, many_to_one = (line.split() for line in result.stderr.splitlines() if "mIoU" in line)
    assert quality[:6] == ["method", "s/image↓", "mIoU↑", "accuracy↑", "things↑", "covering↑"]
    assert many_to_one == ["method", "many-to-one", "mIoU↑", "many-to-one", "accuracy↑"]
    (method,) = json.loads(result.stdout)["methods"]
    assert method["ignored_fraction"] == 0.5
    metrics = method["metrics"]
    assert (metrics["miou_many_to_one"], metrics["pixel_accuracy_many_to_one"]) == (1, 1)
    assert 0 < metrics["miou_things"] == metrics["miou"] < 1
    assert metrics["miou_stuff"] is None


def test_one_json_document_on_stdout_and_the_same_in_a_file(tmp_path: Path) -> None:
    result = benchmark("photos", "--methods", QUICK, "--json", "--save", "figures.json", "--markdown", "table.md", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert json.loads((tmp_path / "figures.json").read_text()) == document
    assert [method["name"] for method in document["methods"]] == QUICK.split(",")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == QUICK.split(",")


REPORTS = ("--save", "figures.json", "--markdown", "table.md", "--plot", "figures.png")


def test_older_reports_are_replaced(tmp_path: Path) -> None:
    for methods in (QUICK, "felzenszwalb"):
        assert benchmark("photos", "--methods", methods, "-q", *REPORTS).exit_code == 0
    assert len(json.loads((tmp_path / "figures.json").read_text())["methods"]) == 1
    assert len((tmp_path / "table.md").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("option", "name", "content"),
    [
        ("--save", "run.json", '{"versions": {"dynaseg": "1"}, "images": 3}'),
        ("--save", "list.json", "[1, 2]"),
        ("--save", "deep.json", '{"a":' * 100_000),
        ("--save", "photos/a.png", None),
        ("--markdown", "README.md", "# Mine\n"),
        ("--markdown", "mine.md", "| method | s/image |\n| --- | ---: |\n| `scf` | 1 |\n\nScf is good.\n"),
        ("--plot", "truth/a.png", None),
    ],
)
def test_file_of_the_users_is_never_replaced(tmp_path: Path, option: str, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    before = files_below(tmp_path)
    said = refused(benchmark("photos", "--methods", QUICK, option, name))
    assert said == f"{option} {name} exists and was not written by dynaseg; choose another name"
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(("option", "name"), [("--save", "figures.json"), ("--markdown", "table.md")])
def test_full_disk_is_said_and_the_document_is_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = Benchmark.document
    monkeypatch.setattr(Benchmark, "document", lambda work: monkeypatch.setattr("os.fsync", fail) or run(work))
    result = benchmark("photos", "--methods", QUICK, option, name, "--json", "-q")
    assert (result.exit_code, result.stderr) == (1, f"error: {name} cannot be written: No space left on device\n")
    assert len(json.loads(result.stdout)["methods"]) == 2
    assert not (tmp_path / name).exists()


def test_without_input_images_are_made_and_not_kept(tmp_path: Path) -> None:
    before = files_below(tmp_path)
    result = benchmark("--methods", QUICK, "--size", "40X30", "--repeats", "2", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["images"], document["repeats"], document["interrupted"]) == (2, 2, False)
    assert files_below(tmp_path) == before
    result = benchmark("--methods", "kmeans", "--size", "40x30", "--max-images", "1", "-o", "kept", "-q")
    assert result.exit_code == 0
    assert read_pixels(tmp_path / "kept/kmeans/labels/40x30-000.png").shape == (30, 40)


@pytest.mark.parametrize(("suffix", "starts"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_plot_is_a_picture_of_the_format_of_its_suffix(tmp_path: Path, suffix: str, starts: bytes) -> None:
    result = benchmark("--methods", QUICK, "--size", "40x30,20x20", "--plot", f"figures{suffix}", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / f"figures{suffix}").read_bytes().startswith(starts)


def test_plot_is_as_wide_as_a_slide(tmp_path: Path) -> None:
    assert benchmark("--methods", QUICK, "--size", "40x30", "--plot", "figures.png", "-q").exit_code == 0
    height, width, _ = read_pixels(tmp_path / "figures.png").shape
    assert (width, height > 300) == (2000, True)


def test_title_says_what_was_compared_and_on_what(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(plot, "picture", lambda reports, title, hierarchies: titles.append(title) or Figure())
    arguments = ("photos", "--methods", QUICK, "--plot", "figures.png", "-q")
    assert benchmark(*arguments).exit_code == 0
    assert benchmark(*arguments, "--ground-truth", "truth", "--max-images", "1").exit_code == 0
    assert titles[0].startswith("2 images, cpu")
    assert titles[1].startswith("1 image against truth, cpu")


def test_nothing_labelled_is_no_picture(photos: Path, tmp_path: Path) -> None:
    for photo in photos.iterdir():
        photo.write_bytes(b"nothing")
    result = benchmark("photos", "--methods", QUICK, "--plot", "figures.png", "-q")
    assert result.exit_code == 1
    assert result.stderr.endswith("--plot: no image was labelled, so figures.png is not drawn\n")
    assert not (tmp_path / "figures.png").exists()


OLD_PICTURE = b"\x89PNG\r\n\x1a\n tEXtSoftware\0dynaseg"


def test_full_disk_is_said_and_leaves_the_older_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "figures.png").write_bytes(OLD_PICTURE)
    monkeypatch.setattr(figures, "write_atomically", fail)
    result = benchmark("photos", "--methods", QUICK, "--plot", "figures.png", "-q")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: figures.png cannot be written: No space left on device\n",
    )
    assert (tmp_path / "figures.png").read_bytes() == OLD_PICTURE


def test_plot_with_ground_truth_has_curves_over_the_number_of_segments(tmp_path: Path) -> None:
    methods = f"{OWN},{QUICK}"
    arguments = ("photos", "--methods", methods, "--ground-truth", "truth", "--no-stream", "--json")
    result = benchmark(*arguments, "--plot", "figures.png")
    assert result.exit_code == 0, result.stderr
    own, felzenszwalb, kmeans = (method["region_curve"] for method in json.loads(result.stdout)["methods"])
    assert own[0]["setting"] == {"granularity": 0}
    assert set(felzenszwalb[0]["setting"]) == {"scale", "sigma", "min_size"}
    assert set(own[0]) == set(felzenszwalb[0]) == {"setting", "miou", "covering", "pri", "voi", "segments"}
    assert (len(own), len(felzenszwalb), kmeans) == (101, len(FELZENSZWALB_CURVE), [])
    note = f"Images in the curves over the number of segments: {OWN} 2, felzenszwalb:scale=50 2."
    assert note in " ".join(result.stderr.split())
    assert read_pixels(tmp_path / "figures.png").shape[0] > 1100  # two rows of panels


def test_hierarchies_of_another_method_are_scored_and_drawn(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    halves = np.zeros((39, 47), np.uint16)
    halves[:, 23] = 40000
    Image.fromarray(halves).save(theirs / "a.png")
    Image.fromarray(halves[:1]).save(theirs / "b.png")
    arguments = ("--methods", QUICK, "--ground-truth", "truth", "--hierarchies", "theirs", "--plot", "figures.png")
    result = benchmark("photos", *arguments, "--json")
    assert result.exit_code == 1
    assert "theirs/b.png" in result.stderr
    assert "theirs, 1 hierarchies: covering ODS 1.000, OIS 1.000, best 1.000." in " ".join(result.stderr.split())
    found = json.loads(result.stdout)["hierarchies"]
    assert (found["path"], found["images"], len(found["failures"])) == ("theirs", 1, 1)
    assert (found["metrics"]["covering"], found["metrics"]["segments"]) == (1, 2)
    assert {point["segments"] for point in found["region_curve"]} == {1, 2}
    assert (tmp_path / "figures.png").exists()


@pytest.mark.parametrize("arguments", [("--plot", "figures.png"), ("--ground-truth", "truth")])
def test_no_curves_without_plot_or_ground_truth(arguments: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_curve, "segment_by_felzenszwalb", None)  # to call it would fail
    result = benchmark("photos", "--methods", QUICK, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    assert [method["region_curve"] for method in json.loads(result.stdout)["methods"]] == [[], []]
    assert "curves" not in result.stderr


def test_curves_count_in_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    result = benchmark("photos", "--methods", QUICK, "--ground-truth", "truth", "--plot", "figures.png")
    lines = re.findall(r"^(\d+)/(\d+) steps", result.stderr, re.MULTILINE)
    total = 2 * 2 + 2 * len(FELZENSZWALB_CURVE)
    assert lines == [(str(done), str(total)) for done in range(1, total + 1)]


def test_time_left_is_that_of_the_work_and_not_of_the_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(Benchmark, "seconds_left", 75.4)
    result = benchmark("photos", "--methods", QUICK)
    lines = [line for line in result.stderr.splitlines() if re.match(r"\d/4 steps", line)]
    assert [", 1 min 15 s left, last " in line for line in lines] == [True] * 4


def test_files_that_were_written_are_named(tmp_path: Path) -> None:
    result = benchmark("photos", "--methods", "felzenszwalb", *REPORTS, "-o", "kept")
    assert result.exit_code == 0
    assert "wrote figures.json, table.md, figures.png\n" in result.stderr
    assert "label maps are in kept, in labels and color of each method\n" in result.stderr
    assert "wrote" not in benchmark("photos", "--methods", "felzenszwalb").stderr


def test_interrupted_curves_are_of_the_images_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    segment, calls = region_curve.segment_by_felzenszwalb, itertools.count(1)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == len(FELZENSZWALB_CURVE) + 3:
            raise KeyboardInterrupt
        return segment(*arguments, **options)

    monkeypatch.setattr(region_curve, "segment_by_felzenszwalb", interrupted)
    result = benchmark("photos", "--methods", QUICK, "--ground-truth", "truth", "--plot", "figures.png", "--json")
    assert result.exit_code == 130
    document = json.loads(result.stdout)
    assert document["notes"][-1].endswith(": felzenszwalb:scale=50 1.")
    assert len(document["methods"][0]["region_curve"]) == len(FELZENSZWALB_CURVE)


def test_plot_without_matplotlib_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    result = benchmark("--methods", QUICK, "--plot", "figures.png")
    assert result.exit_code == 2
    assert result.stderr == "error: --plot needs matplotlib: pip install 'dynaseg[plot]'\n"


def test_label_maps_are_kept_where_asked_for(tmp_path: Path) -> None:
    assert benchmark("photos", "--methods", QUICK, "-o", "kept", "-q").exit_code == 0
    assert "kept/kmeans:clusters=3:window=3/labels/a.png" in files_below(tmp_path)


def test_failed_image_is_named_and_the_exit_code_tells(photos: Path) -> None:
    (photos / "a.png").write_bytes(b"nothing")
    result = benchmark("photos", "--methods", QUICK, "-q")
    assert result.exit_code == 1
    assert len(re.findall(r"^failed: photos/a.png, [^\n]+", result.stderr, re.MULTILINE)) == 2


def test_interrupted_benchmark_keeps_the_figures_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Benchmark.run

    def interrupted(work: Benchmark) -> Iterator[tuple[Job, Variant, str | None]]:
        yield from itertools.islice(run(work), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Benchmark, "run", interrupted)
    result = benchmark("photos", "--methods", QUICK, "--ground-truth", "truth", "--save", "figures.json", "--json")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("interrupted: the figures are of what was done so far")
    document = json.loads(result.stdout)
    assert document["interrupted"]
    assert json.loads((tmp_path / "figures.json").read_text()) == document
    assert [(method["images"], method["metrics"]["miou"] > 0) for method in document["methods"]] == [(1, True)] * 2


def test_own_methods_are_timed_as_segment_runs_them(tmp_path: Path) -> None:
    before = files_below(tmp_path)
    result = benchmark("photos", "--methods", f"{OWN},kmeans", "--json", "-o", "kept")
    assert result.exit_code == 0, result.stderr
    own, kmeans = json.loads(result.stdout)["methods"]
    assert own["stream"]["images"] == 8
    assert own["stream"]["images_per_second"] == own["images_per_second"] > 0
    assert own["stream"]["first_image_seconds"] > own["seconds"]["least"]
    assert (kmeans["stream"], kmeans["images_per_second"]) == (None, None)
    header = next(line for line in result.stderr.splitlines() if line.startswith("method"))
    assert header.split("  ")[-2:] == ["images/s↑", "first image s↓"]
    assert {name.split("/")[1] for name in set(files_below(tmp_path)) - set(before)} == {OWN, "kmeans"}
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {OWN, "kmeans"}


def test_stream_is_left_out_where_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_python(monkeypatch, tmp_path, "exit 1")
    result = benchmark("photos", "--methods", OWN, "--no-stream", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["methods"][0]["stream"] is None
    assert "images/s" not in result.stderr


def test_stream_that_breaks_is_named_and_the_other_figures_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_python(monkeypatch, tmp_path, "echo 'RuntimeError: a mistake' >&2; exit 1")
    result = benchmark("photos", "--methods", OWN, "--json", "-q")
    reason = "as a stream: the process ended early, exit code 1: RuntimeError: a mistake"
    assert result.exit_code == 1
    assert result.stderr == f"failed: photos/a.png, {OWN}: {reason}\n"
    (method,) = json.loads(result.stdout)["methods"]
    assert method["failures"] == [{"path": "photos/a.png", "reason": reason}]
    assert method["images_per_second"] is None
    assert method["seconds"]["median"] > 0


def test_images_that_fail_are_not_streamed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_python(monkeypatch, tmp_path, "exit 1")
    for photo in photos.iterdir():
        photo.write_bytes(b"nothing")
    result = benchmark("photos", "--methods", OWN, "-q")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 2
    assert "as a stream" not in result.stderr


def test_interrupted_stream_ends_its_process_and_keeps_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = {"finished": time.monotonic() + 5, "reason": None, "host_bytes": 1, "device_bytes": None}
    script = f"echo $$ > pid; echo '{json.dumps(line)}'; kill -INT $PPID; exec sleep 60"
    stand_in_for_python(monkeypatch, tmp_path, script)
    # A shell may have made this process ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = benchmark("photos", "--methods", OWN, "--json")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("interrupted: the figures are of what was done so far")
    document = json.loads(result.stdout)
    assert document["interrupted"]
    assert document["methods"][0]["images"] == 2
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_tables_fit_a_hundred_columns_with_every_figure_there_can_be(photos: Path, tmp_path: Path) -> None:
    work = Benchmark([photos], parse_variants("superpixel-cnn,reference,scf"), tmp_path / "out")
    metrics = ("miou_all", "miou_fine", "miou_coarse", "miou_mean", "covering", "pri", "voi", "segments")
    for report in work.results:
        report.metrics = dict.fromkeys(metrics, 1234.5)
    speed, costs, quality = work.tables()
    stages = ("decode_seconds", "silhouette_seconds", "fit_seconds", "label_seconds", "write_seconds")
    full_speed = [(name, dict.fromkeys(row, 1234.5)) for name, row in speed]
    full_costs = [(name, dict.fromkeys((*stages, *row), 1234.5)) for name, row in costs]
    for table in (full_speed, full_costs, quality):
        screen = Console(width=100, file=io.StringIO())
        drawn, left_out = metrics_table("method", table, 100, ARROWS)
        assert left_out == []
        screen.print(drawn)
        lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(lines) == 1 + 3, "a line was folded"
        assert max(len(line) for line in lines) <= 100
        assert "…" not in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere does not exist"),
        (("photos", "--methods", "unet"), "there is no unet"),
        (("photos", "--max-images", "-1"), "--max-images must be at least 0"),
        (("photos", "--repeats", "0"), "--repeats must be at least 1"),
        (("--size", "481"), "--size must be a width and a height such as 481x321, not '481'"),
        (("--size", "0x20"), "--size must be sides of 1 to 32768 and at most 200000000 pixels, not 0x20"),
        (("--ground-truth", "truth"), "--ground-truth needs INPUT"),
        (("photos", "--fit-on", "photos"), "--fit-on needs --fit folder"),
        (("photos", "--classes", "4"), "--classes needs --fit folder"),
        (("photos", "--backbone", "cnn"), "--backbone needs --fit folder"),
        (("photos", "--epochs", "4"), "--epochs needs --fit folder"),
        (("photos", "--fit", "folder", "--iterations", "4"), "--iterations belongs to --fit image"),
        (("photos", "--fit", "folder", "--classes", "1"), "--classes must be at least 2, not 1"),
        (("photos", "--fit", "folder", "--fit-on", "nowhere"), "nowhere does not exist"),
        (("photos", "--fit", "folder", "--methods", "kmeans"), "kmeans is for --fit image; with --fit folder choose"),
        (("photos", "--methods", "picie"), "picie is for --fit folder; with --fit image choose from scf"),
        (("photos", "--hierarchies", "maps"), "--hierarchies needs --ground-truth"),
        (("photos", "--protocol", "classes"), "--protocol needs --ground-truth"),
        (("photos", "--num-things", "1"), "--num-things needs --ground-truth"),
        (("photos", "--ignore-index", "11"), "--ignore-index needs --ground-truth"),
        (
            ("photos", "--ground-truth", "truth", "--ignore-index", "void"),
            "--ignore-index must be auto, none or a whole number, not 'void'",
        ),
        (("photos", "--ground-truth", "truth", "--hierarchies", "maps"), "maps"),
        (("photos", "--size", "40x30"), "--size is of the images that are made without INPUT"),
        (("photos", "--methods", QUICK, "--ground-truth", "photos/a.png"), "photos/a.png"),
        (
            ("photos", "--methods", QUICK, "--save", "nowhere/x.json"),
            "--save nowhere/x.json: there is no folder nowhere",
        ),
        (("photos", "--methods", QUICK, "--markdown", "photos"), "--markdown photos exists, and is not a regular file"),
        (
            ("photos", "--methods", QUICK, "--plot", "x.jpg"),
            "--plot x.jpg: a picture's name ends in .png, .svg or .pdf",
        ),
        (("photos", "--methods", QUICK, "--plot", "gone/x.png"), "--plot gone/x.png: there is no folder gone"),
    ],
)
def test_unusable_input_is_one_line_and_nothing_is_started(arguments: tuple[str, ...], message: str) -> None:
    result = benchmark(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


FOLDER = ("--fit", "folder", "--no-stream")
KMEANS = "kmeans-features:clusters=2"
PICIE = "picie:epochs=1:features=8:clusters=2:size=64"


def test_methods_of_one_label_space_are_fitted_scored_and_reported(tmp_path: Path) -> None:
    scoring = ("--ground-truth", "truth", "--protocol", "classes")
    result = benchmark("photos", *FOLDER, "--methods", f"{KMEANS},{PICIE}", *scoring, "--json", *REPORTS)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["fit_on"] is None
    for method in document["methods"]:
        assert method["folder_fit"]["images"] == method["images"] == 2
        assert 0 < method["metrics"]["pixel_accuracy"] <= 1
    header = next(line for line in result.stderr.splitlines() if line.startswith("method"))
    assert header.split()[1:] == ["fit", "s↓", "photos/s↑", "s/image↓"]
    assert "No curves" not in result.stderr
    assert (tmp_path / "figures.png").exists()


def test_summary_and_title_name_the_folder_that_was_fitted_on(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(plot, "picture", lambda reports, title, hierarchies: titles.append(title) or Figure())
    photo_folder(photos.parent / "other", "x.png")
    result = benchmark("photos", *FOLDER, "--methods", KMEANS, "--fit-on", "other", "--plot", "figures.png", "--json")
    assert result.exit_code == 0, result.stderr
    assert "2 images, fitted on other; seconds" in result.stderr
    assert titles[0].startswith("2 images, fitted on other, cpu")
    document = json.loads(result.stdout)
    assert (document["fit_on"], document["methods"][0]["folder_fit"]["images"]) == ("other", 1)


def test_method_that_cannot_be_fitted_is_named_and_the_others_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object) -> None:
        raise DivergedError("the loss became nan")

    monkeypatch.setattr(Picie, "_fit", diverge)
    result = benchmark("photos", *FOLDER, "--methods", f"{PICIE},{KMEANS}", "--json", "-q")
    assert (result.exit_code, result.stderr) == (
        1,
        f"failed: {PICIE}: it could not be fitted: the loss became nan\n",
    )
    assert [method["images"] for method in json.loads(result.stdout)["methods"]] == [0, 2]


def test_interrupted_fit_keeps_the_figures_so_far_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(progress: CountProgress, name: str, **_: object) -> None:
        if "scf" in name:
            raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(progress.CountProgress, "advance", interrupt)
    before = threading.active_count()
    own = OWN.replace("iterations", "epochs=300:iterations")
    result = benchmark("photos", *FOLDER, "--methods", f"{KMEANS},{own}", "--json")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted: the figures are of what was done so far; no image was labelled\n")
    document = json.loads(result.stdout)
    kmeans, scf = document["methods"]
    assert (document["interrupted"], kmeans["folder_fit"]["images"], scf["folder_fit"]) == (True, 2, None)
    assert next(line for line in result.stderr.splitlines() if line.startswith("method")).split() == [
        "method",
        "fit",
        "s↓",
    ]
    assert threading.active_count() == before
    assert not list(tmp_path.glob("dynaseg-*"))


def test_help_names_every_method() -> None:
    text = " ".join(CliRunner().invoke(app, ["benchmark", "--help"]).output.replace("│", " ").split())
    for method in (*METHODS, *FOLDER_METHODS):
        assert method in text.replace("- ", "-")

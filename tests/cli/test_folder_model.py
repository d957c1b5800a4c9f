from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from refusal import refused
from samples import files_below, pictures_of, read_pixels, save_photo
from scenes import scene_folder
from typer.testing import CliRunner, Result

from dynaseg_cli.cli import app, progress
from dynaseg_cli.files.weights import read_model

SMALL = ("--max-size", "16", "--features", "8", "--precision", "float32")
HERE = ("--device", "cpu", "--workers", "0")
FOLDER = ("--fit", "folder", "--classes", "8", "--epochs", "2", "--iterations", "2", *SMALL)
MODEL = Path("out/model.safetensors")


@pytest.fixture
def photos(here: Path) -> Path:
    """Three small scenes, named as from the current folder."""
    scene_folder(here / "photos", "a.png", "b.png", "sub/c.png")
    return Path("photos")


@pytest.fixture
def model(photos: Path) -> Path:
    """A model of them, in a folder of another run."""
    assert segment(photos, *FOLDER, "-o", "earlier").exit_code == 0
    return Path("earlier/model.safetensors")


def segment(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *HERE])


def warnings(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("warning")]


# What is written, said and printed


def test_folder_gets_a_model_one_label_space_and_its_statistics(photos: Path, here: Path) -> None:
    result = segment(photos, *FOLDER, "-o", "out")
    assert (result.exit_code, result.stdout) == (0, "")
    assert set(files_below(here / "out")) == {
        *("model.safetensors", "clusters.json", "run.json", "outcomes.jsonl"),
        *pictures_of("a", "b", "sub/c"),
        *(f"stats/{name}.json" for name in ("a", "b", "sub/c")),
    }
    document = json.loads(Path("out/clusters.json").read_text())
    raw, areas = (
        sum(np.bincount(read_pixels(path).reshape(-1), minlength=8) for path in Path("out", folder).rglob("*.png"))
        for folder in (".raw", "labels")
    )
    assert isinstance(raw, np.ndarray)
    assert isinstance(areas, np.ndarray)
    assert (np.diff(raw) <= 0).all()
    assert [cluster["pixels"] for cluster in document["clusters"]] == areas[areas > 0].tolist()
    assert {example["path"] for cluster in document["clusters"] for example in cluster["examples"]} <= {
        "photos/a.png",
        "photos/b.png",
        "photos/sub/c.png",
    }


def test_same_label_has_the_same_colour_in_every_image(photos: Path) -> None:
    assert segment(photos, *FOLDER, "-o", "out").exit_code == 0
    colors: dict[int, set[tuple[int, ...]]] = {}
    for path in Path("out/labels").rglob("*.png"):
        painted = read_pixels(Path("out/color") / path.relative_to("out/labels"), "RGB")
        for label, color in zip(read_pixels(path).flat, painted.reshape(-1, 3).tolist(), strict=True):
            colors.setdefault(int(label), set()).add(tuple(color))
    assert all(len(found) == 1 for found in colors.values())
    assert len(set.union(*colors.values())) == len(colors)


def test_json_names_the_options_and_the_model(photos: Path) -> None:
    document = json.loads(segment(photos, *FOLDER, "-o", "out", "--json").stdout)
    assert document["done"] == 3
    options = document["options"]
    assert (options["fit"], options["clusters"], options["epochs"], options["iterations"]) == ("folder", 8, 2, 2)
    found = read_model(MODEL).model
    assert found is not None
    assert options["model"] == found.fingerprint


def test_second_run_skips_what_is_complete_and_says_whose_network_it_is(photos: Path) -> None:
    first = segment(photos, *FOLDER, "-o", "out")
    again = segment(photos, *FOLDER, "-o", "out", "--json")
    assert "applying the network" not in first.stderr
    assert f"applying the network of {MODEL.absolute()}" in again.stderr
    assert json.loads(again.stdout)["skipped"] == 3


def test_quiet_run_says_nothing(photos: Path) -> None:
    for _ in range(2):
        assert segment(photos, *FOLDER, "-o", "out", "-q").stderr == ""


def test_progress_of_a_log_is_plain_lines(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    lines = segment(photos, *FOLDER, "-o", "out").stderr.splitlines()
    said = [line for line in lines if "epoch" in line or "statistics" in line or "areas" in line]
    pattern = r"\d+/12 images, .* left, (epoch [12] of 2, [1-8] labels|statistics|areas)"
    assert all(re.fullmatch(pattern, line) for line in said)
    assert [int(line.split("/")[0]) for line in said] == [3, 6, 9, 10, 11, 12]
    assert "\x1b" not in "".join(lines)


def test_without_statistics_of_images_there_are_none_of_the_folder(photos: Path, here: Path) -> None:
    assert segment(photos, *FOLDER, "-o", "out", "--save", "labels").exit_code == 0
    assert not (here / "out/clusters.json").exists()


def test_statistics_that_cannot_be_written_lose_no_image(photos: Path) -> None:
    Path("out/clusters.json").mkdir(parents=True)
    result = segment(photos, *FOLDER, "-o", "out")
    assert result.exit_code == 0
    assert "error: out/clusters.json cannot be written: Is a directory\n" in result.stderr


def test_dry_run_fits_and_writes_nothing(photos: Path, here: Path) -> None:
    result = segment(photos, *FOLDER, "-o", "out", "--save-model", "kept.safetensors", "--dry-run")
    assert result.exit_code == 0
    assert "3 images; nothing was written" in result.stderr
    assert {path.name for path in here.iterdir()} == {"photos"}


def test_image_that_cannot_be_read_is_named_once_and_the_rest_is_done(photos: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    result = segment(photos, *FOLDER, "-o", "out")
    assert result.exit_code == 1
    assert result.stderr.count("photos/b.png") == 1
    assert json.loads(Path("out/clusters.json").read_text())["images"] == 2


def test_folder_without_a_readable_image_is_unusable(here: Path) -> None:
    save_photo(here / "photos/a.png").write_bytes(b"no image")
    result = segment("photos", *FOLDER, "-o", "out")
    assert re.match("no image can be read, so that no network can be fitted: photos/a.png: not an im", refused(result))


def test_preset_of_the_paper_is_fitted_to_a_folder(photos: Path) -> None:
    arguments = ("--preset", "paper", "--fit", "folder", "--epochs", "1", "--iterations", "2", "--features", "8")
    document = json.loads(segment(photos, *arguments, "--max-size", "16", "-o", "out", "--json").stdout)
    assert document["done"] == 3
    options = document["options"]
    assert (options["literal"], options["clusters"], options["precision"]) == (True, 27, "float32")


# A model that is kept, and one that is loaded


def test_saved_model_is_that_of_the_output_folder_and_gives_the_same_labels(photos: Path, here: Path) -> None:
    first = segment(photos, *FOLDER, "-o", "out", "--save-model", "kept.safetensors")
    assert first.exit_code == 0
    assert Path("kept.safetensors").read_bytes() == MODEL.read_bytes()
    again = segment(photos, "--load-model", "kept.safetensors", "-o", "again")
    assert again.exit_code == 0
    assert files_below(here / "again/labels") == files_below(here / "out/labels")
    assert files_below(here / "again/color") == files_below(here / "out/color")
    assert json.loads(Path("again/clusters.json").read_text()) == json.loads(Path("out/clusters.json").read_text())


def test_model_can_be_kept_by_a_later_run_and_again_by_the_next(photos: Path) -> None:
    assert segment(photos, *FOLDER, "-o", "out").exit_code == 0
    for _ in range(2):
        assert segment(photos, *FOLDER, "-o", "out", "--save-model", "kept.safetensors").exit_code == 0
        assert Path("kept.safetensors").read_bytes() == MODEL.read_bytes()


def test_model_may_move_between_runs(photos: Path, model: Path) -> None:
    assert segment(photos, "--load-model", model, "-o", "out").exit_code == 0
    model.rename("moved")
    again = segment(photos, "--load-model", "moved", "-o", "out", "--json")
    assert json.loads(again.stdout)["skipped"] == 3


def test_results_of_another_model_are_left_alone(photos: Path, model: Path) -> None:
    assert segment(photos, "--load-model", model, "-o", "out").exit_code == 0
    assert segment(photos, *FOLDER, "--seed", "1", "-o", "second").exit_code == 0
    said = refused(segment(photos, "--load-model", "second/model.safetensors", "-o", "out"))
    assert re.search("was made with other options .model was [0-9a-f]{8}, now [0-9a-f]{8}; seed was 0, now 1", said)


def test_options_that_the_model_was_fitted_with_may_be_repeated(photos: Path, model: Path) -> None:
    repeated = ("--fit", "folder", "--classes", "8", "--epochs", "2", "--mode", "scf", "--alpha", "50", *SMALL)
    assert segment(photos, "--load-model", model, *repeated, "-o", "out").exit_code == 0


def test_refined_images_are_fitted_on_and_say_so(photos: Path, model: Path) -> None:
    result = segment(photos, "--load-model", model, "--refine", "3", "-o", "out")
    assert result.exit_code == 0
    fits = [json.loads(path.read_text()) for path in Path("out/stats").rglob("*.json")]
    assert [fit["options"]["refine"] for fit in fits] == [3, 3, 3]
    assert max(fit["fit"]["iterations"] for fit in fits) == 3


def test_small_regions_are_merged_as_the_run_has_it(photos: Path, model: Path) -> None:
    for name, least in (("plain", "0"), ("merged", "40")):
        assert segment(photos, "--load-model", model, "--min-region", least, "-o", name).exit_code == 0
    parts = {
        name: sum(cluster["regions"] for cluster in json.loads(Path(name, "clusters.json").read_text())["clusters"])
        for name in ("plain", "merged")
    }
    assert parts["merged"] < parts["plain"]


# What is refused before anything is started

NOT_WITH_FOLDER = [
    (("--classes", "9", "--fit", "image"), "--classes belongs to --fit folder"),
    (("--classes", "9", "--clusters", "9", "--fit", "folder"), "--clusters belongs to --fit image, --classes to"),
    (("--fit", "folder", "--classes", "1"), "--classes must be at least 2, not 1"),
    (("--epochs", "3"), "--epochs belongs to --fit folder"),
    (("--fit", "folder", "--epochs", "0"), "--epochs must be at least 1, not 0"),
    (("--fit", "folder", "--iterations", "1"), "--iterations must be at least 2 with --fit folder, not 1"),
    (("--fit", "folder", "--patience", "5"), "--patience belongs to --fit image"),
    (("--fit", "folder", "--levels", "2"), "--levels belongs to --fit image"),
    (("--fit", "folder", "--min-labels", "auto"), "--min-labels auto asks one image; with --fit folder give a number"),
    (("--fit", "folder", "--scribbles", "photos"), "--scribbles draw labels of one image"),
    (("--fit", "folder", "--overwrite", "--shard", "1/2"), "so would each shard"),
    (("--refine", "3"), "give it with --load-model"),
    (("--fit", "folder", "--refine", "3"), "give it with --load-model"),
    (("--save-model", "kept.safetensors"), "--save-model keeps the network of a folder: it goes with --fit folder"),
    (("--fit", "folder", "--save-model", "no/where"), "--save-model no/where: there is no folder no"),
    (("--fit", "folder", "--save-model", "photos"), "--save-model photos exists, and is not a regular file"),
    (
        ("--fit", "folder", "--save-model", "photos/a.png"),
        "--save-model photos/a.png exists and was not written by dynaseg; choose another name",
    ),
    (
        ("--fit", "folder", "--save-model", "photos/a.png", "--overwrite"),
        "exists and was not written by dynaseg; choose another name",
    ),
    (("--load-model", "missing"), "--load-model missing: No such file or directory"),
    (("--load-model", "photos"), "--load-model photos: Is a directory"),
    (("--load-model", "photos/a.png"), "--load-model photos/a.png: not a safetensors file, as --save-model writes it"),
]


@pytest.mark.parametrize(
    ("arguments", "said"), NOT_WITH_FOLDER, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_contradiction_is_refused(arguments: tuple[str, ...], said: str, photos: Path, here: Path) -> None:
    before = files_below(here)
    assert said in refused(segment(photos, *arguments, "-o", "out"))
    assert files_below(here) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mode", "fsf"), "--mode fsf: the model {} was fitted with scf; leave the option out"),
        (("--classes", "9"), "--classes 9: the model {} was fitted with 8; leave the option out"),
        (("--fit", "image"), "--fit image: the model {} was fitted with folder; leave the option out"),
        (("--max-size", "32"), "--max-size 32: the model {} was fitted with 16; leave the option out"),
        (("--epochs", "3"), "--epochs 3: the model {} was fitted with 2; leave the option out"),
        (
            ("--backbone", "resnet18-fpn"),
            "--backbone resnet18-fpn: the model {} was fitted with cnn; leave the option out",
        ),
        (("--weights", "random"), "--weights: the model {} has all weights inside; leave the option out"),
        (("--weights", "photos/a.png"), "--weights: the model {} has all weights inside; leave the option out"),
        (("--preset", "paper"), "--preset paper: the model {} has its own options; leave the option out"),
        (("--refine", "-1"), "--refine must be 0 for none, or at least 2, not -1"),
        (("--refine", "1"), "--refine must be 0 for none, or at least 2, not 1"),
        (("--scribbles", "photos"), "--scribbles draw labels of one image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_option_that_contradicts_the_model_is_refused(
    arguments: tuple[str, ...], said: str, photos: Path, model: Path
) -> None:
    assert said.format(model) in refused(segment(photos, "--load-model", model, *arguments, "-o", "out"))
    assert not Path("out").exists()


def test_truncated_model_is_refused(photos: Path, model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-10])
    assert "not a safetensors file" in refused(segment(photos, "--load-model", model, "-o", "out"))


def test_another_model_is_not_replaced_unless_asked_for(photos: Path, model: Path) -> None:
    before = model.read_bytes()
    arguments = (photos, *FOLDER, "--seed", "1", "-o", "out", "--save-model", model)
    assert "is another model; --overwrite replaces it" in refused(segment(*arguments))
    assert model.read_bytes() == before
    assert not Path("out").exists()
    assert segment(*arguments, "--overwrite").exit_code == 0
    assert model.read_bytes() == MODEL.read_bytes() != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_model_that_cannot_be_kept_is_refused_before_the_fit(photos: Path, here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refused(segment(photos, *FOLDER, "-o", "out", "--save-model", "locked/kept"))
    assert not Path("out").exists()


def test_disk_that_is_full_after_the_fit_is_said_in_a_line(photos: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * (63 << 10))
    result = segment(photos, *FOLDER, "-o", "out", "--save-model", small_disk / "kept.safetensors")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        f"error: --save-model {small_disk}/kept.safetensors cannot be written: No space left on device\n"
    )
    assert MODEL.exists(), "the fit is not lost"
    assert json.loads(Path("out/run.json").read_bytes())["interrupted"] is True


# Interrupted


@pytest.mark.slow
def test_interrupted_fit_is_continued_by_the_same_command(photos: Path, here: Path) -> None:
    """Each mosaic takes a second until then: time for the signal, which continuing need not take.

    `test_faults.py` sends the other signals.
    """
    (here / "sitecustomize.py").write_text(
        "import time\n"
        "from dynaseg_cli.engine.folder_fitting import FolderFitter\n"
        "improve = FolderFitter.improve\n"
        "FolderFitter.improve = lambda *arguments: (time.sleep(1), improve(*arguments))[1]\n"
    )
    arguments = ["segment", "photos", *FOLDER, "--epochs", "60", "-o", "out", *HERE]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "dynaseg_cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])},
        )
    finally:
        signal.signal(signal.SIGINT, before)
    checkpoint = here / "out/model-unfinished.safetensors"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout) == (143, "")
    assert stderr.endswith("interrupted; the same command continues\n")
    assert "3 not started" in stderr
    assert json.loads((here / "out/run.json").read_text())["interrupted"]
    assert set(files_below(here / "out")) == {"outcomes.jsonl", "run.json", checkpoint.name}
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0
    assert not any("is not continued" in warning for warning in warnings(again))
    assert not checkpoint.exists()
    assert MODEL.exists()

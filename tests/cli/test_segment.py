from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from refusal import refused
from samples import encoded, files_below, noise, photo_folder, pictures_of, read_pixels, save_photo
from typer.testing import CliRunner, Result

from dynaseg_cli import Engine, __version__
from dynaseg_cli.cli import app
from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.device import available_devices
from dynaseg_cli.files.output_folder import OutputFolder
from dynaseg_cli.method.resnet import ResNetFpnNetwork

FIT = ("--iterations", "2", "--max-size", "16", "--min-labels", "3", "--precision", "float32", "--device", "cpu")
QUICK = (*FIT, "--workers", "0")
"""In this process: starting another takes seconds."""
RUN_KEYS = {"output", "images", "done", "skipped", "failed", "seconds", "failures", "options", "versions", "device"}


@pytest.fixture
def photos(here: Path) -> Path:
    """Three images, named as from the current folder."""
    photo_folder(here / "photos", "a.png", "b.bmp", "sub/c.png")
    return Path("photos")


def dynaseg(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def segment(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return dynaseg("segment", *arguments, *QUICK, stdin=stdin)


def summary(result: Result) -> dict[str, Any]:
    """The one JSON document on stdout."""
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


# What a run prints, writes and exits with


def test_folder_is_segmented_with_nothing_on_stdout(photos: Path, here: Path) -> None:
    result = segment(photos)
    assert (result.exit_code, result.stdout) == (0, "")
    assert set(files_below(here / "photos-dynaseg")) == {
        "run.json",
        "outcomes.jsonl",
        *pictures_of("a", "b", "sub/c"),
        *(f"stats/{name}.json" for name in ("a", "b", "sub/c")),
    }
    assert read_pixels(here / "photos-dynaseg/labels/a.png").shape == (20, 24)


def test_last_line_says_where_the_results_are(photos: Path) -> None:
    assert segment(photos).stderr.splitlines()[-1].endswith("photos-dynaseg")


def test_json_is_one_document_with_the_promised_keys(photos: Path, here: Path) -> None:
    (photos / "b.bmp").write_bytes(b"no image")
    result = segment(photos, "--json", "-o", "out")
    document = summary(result)
    assert result.exit_code == 1
    assert set(document) >= RUN_KEYS
    assert [document[key] for key in ("output", "images", "done", "skipped", "failed")] == ["out", 3, 2, 0, 1]
    assert document["failures"] == [
        {"path": "photos/b.bmp", "reason": "not an image of a known format, or damaged at its start"}
    ]
    assert document["options"]["iterations"] == 2
    assert document["versions"]["dynaseg"] == __version__
    assert document["device"].startswith("cpu")
    written = json.loads((here / "out/run.json").read_text())
    assert {**written, "seconds": 0} == {**document, "seconds": 0}


def test_failed_image_among_good_ones_is_named_with_its_reason(photos: Path, here: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    result = segment(photos)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "failed: photos/b.bmp: the file is empty\n" in result.stderr
    assert (here / "photos-dynaseg/stats/sub/c.json").exists()


def test_a_person_is_warned_of_what_is_left_out_and_of_what_is_one_grey(here: Path) -> None:
    for index in range(7):
        values = np.full((20, 24), 9 + index, np.uint16)
        (here / f"{index}.png").write_bytes(encoded(values, "PNG"))
    result = segment(*(f"{index}.png" for index in range(7)), "-o", "out", "--json")
    assert result.exit_code == 0
    assert [f"warning: {index}.png: all its numbers are {9 + index}\n" in result.stderr for index in range(7)] == [
        *[True] * 5,
        *[False] * 2,
    ]
    assert "and 2 more warnings; out/run.json has all\n" in result.stderr
    assert summary(result)["warnings"][6] == {"path": "6.png", "warning": "all its numbers are 15"}
    lines = [json.loads(line) for line in (here / "out/outcomes.jsonl").read_text().splitlines()]
    assert [line["warnings"] for line in lines] == [[f"all its numbers are {9 + index}"] for index in range(7)]


@pytest.mark.parametrize("range_", ["none", "1", "1,2,3", "2,1", "1,nan"])
def test_range_that_is_none_is_refused(photos: Path, here: Path, range_: str) -> None:
    result = segment(photos, "--range", range_)
    assert result.exit_code == 2
    assert "--range must be" in result.stderr
    assert not (here / "photos-dynaseg").exists()


def test_another_range_is_not_mixed_with_the_one_before(here: Path) -> None:
    (here / "a.png").write_bytes(encoded(noise()[..., 0].astype(np.uint16) + 500, "PNG"))
    assert segment("a.png", "-o", "out").exit_code == 0
    result = segment("a.png", "-o", "out", "--range", "500,600")
    assert result.exit_code == 2
    assert "range was auto, now 500,600" in result.stderr
    assert segment("a.png", "-o", "out", "--range", "500,600", "--overwrite").exit_code == 0
    stats = json.loads((here / "out/stats/a.json").read_text())
    assert stats["source"]["range"] == {"option": "500,600", "low": 500, "high": 600}


def test_re_run_skips_what_is_complete(photos: Path) -> None:
    segment(photos)
    result = segment(photos, "--json")
    assert result.exit_code == 0
    assert (summary(result)["done"], summary(result)["skipped"]) == (0, 3)


def test_overwriting_redoes_everything(photos: Path) -> None:
    segment(photos)
    assert summary(segment(photos, "--json", "--overwrite"))["done"] == 3


def test_quiet_run_says_nothing(photos: Path) -> None:
    result = segment(photos, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_quiet_run_still_names_what_failed(photos: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    result = segment(photos, "-q")
    assert (result.exit_code, result.stderr) == (1, "failed: photos/b.bmp: the file is empty\n")


def test_first_failure_ends_a_run_that_is_to_fail_fast(photos: Path, here: Path) -> None:
    (photos / "a.png").write_bytes(b"")
    result = segment(photos, "--fail-fast", "--json")
    assert result.exit_code == 1
    assert (summary(result)["images"], summary(result)["done"], summary(result)["failed"]) == (3, 0, 1)
    assert not (here / "photos-dynaseg/labels").exists()


@pytest.mark.parametrize("save", ["labels", "stats", "color,stats", " labels , color,labels"])
def test_only_what_is_asked_for_is_saved(photos: Path, here: Path, save: str) -> None:
    assert segment(photos, "--save", save).exit_code == 0
    folders = {path.name for path in (here / "photos-dynaseg").iterdir() if path.is_dir()}
    assert folders - {".raw"} == {name.strip() for name in save.split(",")}
    assert (".raw" in folders) == ("stats" in save)


def test_preset_is_the_start_and_written_options_count(photos: Path, here: Path) -> None:
    default = SegmentConfig()
    result = segment(photos, "--preset", "paper", "--patience", "7", "--json")
    assert result.exit_code == 0
    options = json.loads((here / "photos-dynaseg/run.json").read_text())["options"]
    assert options == summary(result)["options"]
    assert (options["iterations"], options["max_size"], options["min_labels"]) == (2, 16, 3)
    assert options["patience"] == 7
    assert (options["precision"], options["features"], options["mode"], options["alpha"]) == ("float32", 100, "scf", 50)
    assert default.features != 100
    assert options["levels"] == 1
    assert summary(result)["cut"] == {"regions": "raw", "granularity": None}
    assert files_below(here / "photos-dynaseg/labels") == files_below(here / "photos-dynaseg/.raw")


@pytest.mark.parametrize(("cut", "value"), [("regions", "fine"), ("granularity", "0.3")])
def test_cut_that_was_written_counts_with_a_preset(photos: Path, cut: str, value: str) -> None:
    document = summary(segment(photos, "--preset", "paper", f"--{cut}", value, "--json"))
    assert str(document["cut"][cut]) == value


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--mode", "fsf"), {"mode": "fsf", "alpha": 15, "mu": None}),
        (("--mode", "fixed", "--mu", "2.5"), {"mode": "fixed", "alpha": None, "mu": 2.5}),
        (("--alpha", "7", "--seed", "3"), {"mode": "scf", "alpha": 7, "seed": 3}),
        (("--min-region", "4", "--levels", "1"), {"min_region": 4, "levels": 1}),
    ],
    ids=str,
)
def test_options_reach_the_method(here: Path, arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    options = summary(segment(save_photo(here / "a.png"), "--json", *arguments))["options"]
    assert {name: options[name] for name in expected} == expected


def test_warning_is_given_once(photos: Path, here: Path) -> None:
    """Also in one process, where worker and pool share a log."""
    OutputFolder(here / "out").mark()
    (here / "out/outcomes.jsonl").symlink_to(here / "elsewhere")
    result = segment(photos, "-o", "out")
    assert result.exit_code == 0
    assert result.stderr.count(f"outcomes.jsonl lacks {photos / 'b.bmp'}") == 1


# Where input comes from and output goes


def test_output_of_one_file_is_named_after_it(here: Path) -> None:
    save_photo(here / "elsewhere/cat.png")
    assert segment("elsewhere/cat.png").exit_code == 0
    assert (here / "cat-dynaseg/labels/cat.png").exists()


@pytest.mark.parametrize("name", [".", "photos/.", "photos/../photos/"])
def test_output_of_a_folder_has_its_real_name(
    photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == ".":
        monkeypatch.chdir(photos)
    assert segment(name).exit_code == 0
    assert Path("photos-dynaseg/labels/a.png").exists()
    assert segment(name).exit_code == 0, "the output, now below the input, is not read back"


def test_output_of_several_inputs_has_a_name_of_its_own(photos: Path, here: Path) -> None:
    save_photo(here / "d.png")
    assert segment(photos, "d.png").exit_code == 0
    assert {path.name for path in (here / "dynaseg-out/labels").iterdir()} == {"a.png", "b.png", "sub", "d.png"}


def test_list_names_more_files_and_keeps_their_paths(photos: Path, here: Path) -> None:
    (here / "list.txt").write_bytes(b"photos/a.png\r\n\nphotos/sub/c.png")
    result = segment("--files-from", "list.txt", "--json")
    assert (summary(result)["done"], summary(result)["output"]) == (2, "dynaseg-out")
    assert (here / "dynaseg-out/labels/photos/sub/c.png").exists()


def test_list_is_read_from_stdin(photos: Path, here: Path) -> None:
    assert photos.is_dir()
    assert segment("--files-from", "-", stdin=b"photos/a.png\n").exit_code == 0
    assert (here / "dynaseg-out/labels/photos/a.png").exists()


def test_list_separated_by_nul_may_name_any_file(here: Path) -> None:
    names = [b"two\nlines.png", b"caf\xe9.png", b"trailing .png"]
    for seed, name in enumerate(names):
        save_photo(here / os.fsdecode(name), seed)
    assert segment("--files-from", "-", "-0", "-o", "out", stdin=b"\0".join(names) + b"\0").exit_code == 0
    assert {os.fsencode(path.name) for path in (here / "out/labels").iterdir()} == set(names)


def test_folders_below_globs_and_extensions_are_as_asked_for(photos: Path) -> None:
    save_photo(photos / "a.bmp")

    def found(*arguments: str) -> list[str]:
        document = summary(segment(photos, "--dry-run", "--json", "--save", "labels", *arguments))
        return sorted(result.partition("labels/")[2] for job in document["jobs"] for result in job["results"])

    assert found("--no-recursive", "--include", "*.bmp") == ["a.png", "b.png"]
    assert found("--exclude", "sub/*", "--exclude", "a.bmp") == ["a.png", "b.png"]
    assert found("--keep-extension") == ["a.bmp.png", "a.png.png", "b.bmp.png", "sub/c.png.png"]


def test_links_out_of_the_input_are_followed_only_when_asked(photos: Path, here: Path) -> None:
    save_photo(here / "elsewhere/d.png")
    (photos / "link").symlink_to(here / "elsewhere")
    result = segment(photos, "--json")
    assert summary(result)["images"] == 3
    assert "passed over: 1 link out of the input (photos/link); --follow-symlinks follows links\n" in result.stderr
    assert summary(segment(photos, "--json", "--follow-symlinks"))["images"] == 4


def test_too_large_an_image_is_refused_by_name(photos: Path) -> None:
    save_photo(photos / "large.png", 0, 30, 20)
    result = segment(photos, "--max-pixels", "500")
    assert result.exit_code == 1
    assert "failed: photos/large.png: 30 x 20 pixels are more than --max-pixels 500 allows" in result.stderr


def test_dry_run_names_each_result_and_writes_nothing(photos: Path, here: Path) -> None:
    before = files_below(here)
    result = segment(photos, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "photos/sub/c.png -> photos-dynaseg/labels/sub/c.png, photos-dynaseg/color/sub/c.png" in result.stderr
    assert "3 images; nothing was written" in result.stderr
    document = summary(segment(photos, "--dry-run", "--json"))
    assert (document["output"], document["images"], len(document["jobs"])) == ("photos-dynaseg", 3, 3)
    assert files_below(here) == before
    assert not (here / "photos-dynaseg").exists()


# A part of a folder


def part(photos: Path, shard: str) -> list[str]:
    """The images of a shard."""
    result = segment(photos, "--dry-run", "--json", "--shard", shard)
    assert result.exit_code == 0
    assert summary(result)["images"] == len(summary(result)["jobs"])
    return [job["path"] for job in summary(result)["jobs"]]


def test_shards_of_a_folder_are_its_images(photos: Path) -> None:
    assert part(photos, "1/1") == ["photos/a.png", "photos/b.bmp", "photos/sub/c.png"]
    assert part(photos, "1/2") == ["photos/a.png", "photos/sub/c.png"]
    assert part(photos, "2/2") == ["photos/b.bmp"]
    assert part(photos, "4/4") == []


def test_task_of_a_slurm_array_takes_its_shard(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": 14, "MIN": 10, "MAX": 14, "STEP": 2, "COUNT": 3}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert part(photos, "auto") == part(photos, "3/3") == ["photos/sub/c.png"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    assert "without gaps" in refused(segment(photos, "--shard", "auto"))
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert "SLURM_ARRAY_TASK_ID" in refused(segment(photos, "--shard", "auto"))


def test_shards_written_one_by_one_are_the_whole(photos: Path, here: Path) -> None:
    segment(photos, "-o", "whole")
    shards = [summary(segment(photos, "-o", "shards", "--json", "--shard", f"{index}/2")) for index in (1, 2)]
    assert [(shard["images"], shard["done"]) for shard in shards] == [(2, 2), (1, 1)]
    for product in ("labels", "color", "overlay"):
        assert files_below(here / "shards" / product) == files_below(here / "whole" / product)
    assert summary(segment(photos, "-o", "shards", "--json"))["skipped"] == 3


def test_empty_shard_is_done_at_once(photos: Path) -> None:
    result = segment(photos, "--shard", "4/4", "--json")
    assert result.exit_code == 0
    assert (summary(result)["images"], summary(result)["done"], summary(result)["failed"]) == (0, 0, 0)


# The ResNet and its weights

RESNET = ("--backbone", "resnet18-fpn", "--features", "8", "--clusters", "8")


@pytest.fixture(scope="module")
def made_weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with weights that are none of ImageNet's."""
    network = ResNetFpnNetwork(1, 2)
    network.initialise(5)
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save(network.trunk.state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def offline(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the ImageNet weights are looked for: there are none, and no network."""

    def refuse(*arguments: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(here / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    return here / "torch/hub/checkpoints/resnet18-f37072fd.pth"


def test_without_weights_and_network_nothing_is_started_and_the_error_says_what_to_do(
    photos: Path, here: Path, offline: Path
) -> None:
    result = segment(photos, *RESNET, "-q")
    assert refused(result) == (
        "--backbone resnet18-fpn: its ImageNet weights cannot be downloaded (Name or service not known);"
        " fetch https://download.pytorch.org/models/resnet18-f37072fd.pth elsewhere"
        f" and put it at {offline}, or name it with --weights PATH"
    )
    assert not (here / "photos-dynaseg").exists()


def test_download_is_announced(photos: Path, offline: Path) -> None:
    result = segment(photos, *RESNET)
    assert result.exit_code == 2
    assert result.stderr.startswith("downloading https://download.pytorch.org/models/resnet18-f37072fd.pth to ")


def test_dry_run_downloads_nothing(photos: Path, offline: Path) -> None:
    result = segment(photos, *RESNET, "--dry-run")
    assert result.exit_code == 0
    assert not offline.parent.exists()


def test_file_of_weights_is_taken_and_recorded_and_needs_no_network(
    photos: Path, here: Path, offline: Path, made_weights: bytes
) -> None:
    (here / "made.pth").write_bytes(made_weights)
    result = segment(photos, *RESNET, "--weights", "made.pth", "--freeze-backbone", "--json")
    assert result.exit_code == 0
    options = summary(result)["options"]
    assert options["weights"] == hashlib.sha256(made_weights).hexdigest()[:8]
    assert (options["backbone"], options["freeze_backbone"]) == ("resnet18-fpn", True)
    assert "learned nothing" not in result.stderr.lower()
    (here / "made.pth").rename(here / "moved.pth")
    again = segment(photos, *RESNET, "--weights", "moved.pth", "--freeze-backbone", "--json")
    assert summary(again)["skipped"] == 3


def test_other_weights_under_the_same_name_are_other_options(photos: Path, here: Path, made_weights: bytes) -> None:
    (here / "made.pth").write_bytes(made_weights)
    assert segment(photos, *RESNET, "--weights", "made.pth").exit_code == 0
    (here / "made.pth").write_bytes(made_weights + b"\0")
    assert "(weights was " in refused(segment(photos, *RESNET, "--weights", "made.pth"))


def test_file_that_is_none_of_a_resnet_is_refused_before_an_image_is(photos: Path, here: Path) -> None:
    (here / "made.pth").write_bytes(b"GIF89a")
    result = segment(photos, *RESNET, "--weights", "made.pth")
    assert refused(result).startswith(f"--weights {here}/made.pth: neither a state dict")
    assert not (here / "photos-dynaseg").exists()


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_random_weights_are_said_aloud_whatever_was_asked_for(photos: Path, quiet: tuple[str, ...]) -> None:
    result = segment(photos, *RESNET, "--weights", "random", *quiet)
    assert result.exit_code == 0
    assert result.stderr.count("warning: --weights random: THE BACKBONE HAS LEARNED NOTHING") == 1


def test_workers_of_their_own_take_the_file_and_warn_once(photos: Path, here: Path, made_weights: bytes) -> None:
    (here / "made.pth").write_bytes(made_weights)
    by_this = segment(photos, *RESNET, "--weights", "made.pth", "-o", "one")
    by_worker = dynaseg("segment", photos, *FIT, *RESNET, "--weights", "made.pth", "-o", "two", "--workers", "1")
    assert (by_this.exit_code, by_worker.exit_code) == (0, 0)
    assert files_below(here / "one/labels") == files_below(here / "two/labels")
    random = dynaseg("segment", photos, *FIT, *RESNET, "--weights", "random", "-o", "three", "--workers", "2")
    assert random.stderr.count("THE BACKBONE HAS LEARNED NOTHING") == 1


# Networks of timm

TIMM = ("--backbone", "timm:test_resnet", "--features", "8", "--clusters", "8")


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What is asked for of timm's hub, which does not answer."""
    asked: list[tuple[object, ...]] = []

    def refuse(*wanted: object, **_: object) -> None:
        asked.append(wanted)
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    return asked


@pytest.fixture
def timm_weights(here: Path) -> Path:
    """A file in the current folder."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(timm.create_model("test_resnet").state_dict(), here / "timm.pth")
    return Path("timm.pth")


def test_without_timms_weights_and_network_nothing_is_started_and_the_error_says_what_to_do(
    photos: Path, here: Path, no_hub: list[tuple[object, ...]]
) -> None:
    result = segment(photos, "--backbone", "timm:resnet10t", "-q")
    assert refused(result) == (
        "--backbone timm:resnet10t: its weights cannot be downloaded (Name or service not known); fetch"
        " model.safetensors of timm/resnet10t.c3_in1k elsewhere and name the file with --weights PATH"
    )
    assert no_hub == [("timm/resnet10t.c3_in1k", "model.safetensors")]
    assert not (here / "photos-dynaseg").exists()


def test_without_timm_it_is_said_what_to_install(photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for backbone in ("timm:resnet10t", "efficientnet-lite0"):
        result = segment(photos, "--backbone", backbone, "-q")
        assert "needs timm: pip install 'dynaseg[pretrained]'" in refused(result)
    assert not (here / "photos-dynaseg").exists()


def test_dry_run_asks_timms_hub_for_nothing(photos: Path, no_hub: list[tuple[object, ...]]) -> None:
    result = segment(photos, *TIMM, "--dry-run")
    assert result.exit_code == 0
    assert no_hub == []


def test_file_with_timms_weights_is_taken_and_recorded_and_needs_no_network(
    photos: Path, here: Path, no_hub: list[tuple[object, ...]], timm_weights: Path
) -> None:
    result = segment(photos, *TIMM, "--weights", timm_weights, "--json")
    assert result.exit_code == 0
    options = summary(result)["options"]
    assert options["weights"] == hashlib.sha256((here / timm_weights).read_bytes()).hexdigest()[:8]
    assert options["backbone"] == "timm:test_resnet"
    assert no_hub == []
    (here / timm_weights).rename(here / "moved.pth")
    again = segment(photos, *TIMM, "--weights", "moved.pth", "--json")
    assert summary(again)["skipped"] == 3


def test_file_of_another_network_is_refused_before_an_image_is_read(
    photos: Path, here: Path, timm_weights: Path
) -> None:
    result = segment(photos, "--backbone", "timm:test_efficientnet", "--weights", timm_weights)
    assert refused(result).startswith(f"--weights {here}/timm.pth: not the weights of timm's test_efficientnet: ")
    assert not (here / "photos-dynaseg").exists()


def test_another_backbone_is_not_mixed_with_the_one_before(photos: Path, timm_weights: Path) -> None:
    assert segment(photos).exit_code == 0
    result = segment(photos, "--backbone", "timm:test_resnet", "--weights", timm_weights)
    assert "backbone was cnn, now timm:test_resnet" in refused(result)


def test_model_on_a_frozen_backbone_is_applied_and_not_refined(photos: Path, here: Path, timm_weights: Path) -> None:
    folder = ("--fit", "folder", "--epochs", "1", "--iterations", "2", "--classes", "4", "--max-size", "16")
    quick = ("--device", "cpu", "--workers", "0", "--precision", "float32")
    backbone = ("--backbone", "timm:test_resnet", "--weights", timm_weights)
    fitted = dynaseg("segment", photos, *folder, *quick, *backbone, "-o", "one")
    assert fitted.exit_code == 0, fitted.stderr
    (here / timm_weights).unlink()
    model = ("--load-model", "one/model.safetensors")
    applied = dynaseg("segment", photos, *model, "--device", "cpu", "--workers", "0", "-o", "two")
    assert applied.exit_code == 0, applied.stderr
    assert files_below(here / "two/labels") == files_below(here / "one/labels")
    refined = dynaseg("segment", photos, *model, "--refine", "3", "--device", "cpu", "-o", "three")
    assert "--refine trains features further, and those of --backbone timm:test_resnet stay" in refused(refined)


# What is refused before anything is started


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--alpha", "0"), "--alpha must be above 0, not 0"),
        (("--alpha", "nan"), "--alpha must be above 0, not nan"),
        (("--mu", "1"), "--mu belongs to --mode fixed"),
        (("--mode", "fixed", "--alpha", "1"), "--alpha belongs to --mode scf and fsf"),
        (("--weights", "random"), "--weights belong to a pretrained --backbone; the cnn is"),
        (("--freeze-backbone",), "--freeze-backbone belongs to --backbone resnet18-fpn"),
        (("--backbone", "resnet18-fpn", "--weights", "no.pth"), "--weights no.pth: No such file or directory; name a"),
        (("--backbone", "resnet18-fpn", "--weights", "."), "--weights .: Is a directory"),
        (
            ("--backbone", "vgg"),
            "--backbone must be one of cnn, resnet18-fpn, efficientnet-lite0 or timm:NAME, not 'vgg'",
        ),
        (("--backbone", "timm:"), "--backbone must be one of cnn, resnet18-fpn, efficientnet-lite0 or timm:NAME, not"),
        (("--backbone", "timm:nothing"), "--backbone timm:nothing: timm "),
        (("--backbone", "timm:resnet10"), "knows no such network; did you mean resnet10t, "),
        (("--backbone", "timm:test_resnet.nothing"), "--backbone timm:test_resnet.nothing: "),
        (("--backbone", "efficientnet-lite0", "--freeze-backbone"), "--freeze-backbone belongs to --backbone resnet18"),
        (
            ("--backbone", "timm:test_resnet", "--weights", "no.pth"),
            "--weights no.pth: No such file or directory; name",
        ),
        (("--iterations", "0"), "--iterations must be at least 1"),
        (("--min-labels", "0"), "--min-labels must be at least 1"),
        (("--patience", "-1"), "--patience must be at least 0"),
        (("--max-size", "15"), "--max-size must be 0 for full resolution, or at least 16"),
        (("--levels", "0"), "--levels must be at least 1"),
        (("--min-region", "-1"), "--min-region must be at least 0"),
        (("--seed", "-1"), "--seed must be at least 0"),
        (("--seed", "4294967296"), "--seed must be at most 4294967295"),
        (("--max-pixels", "0"), "--max-pixels must be at least 1"),
        (("--save", "labels,movie"), "--save must be one or more of labels, color, stats"),
        (("--save", ","), "--save must be one or more of labels, color, stats"),
        (("--shard", "8"), "--shard must be I/N, such as 2/8, or auto, not 8"),
        (("--shard", "9/8"), "--shard must be I/N with 1 <= I <= N, not 9/8"),
        (("--shard", "0/8"), "--shard must be I/N with 1 <= I <= N, not 0/8"),
        (("--files-from", "missing.txt"), "--files-from missing.txt: No such file"),
        (("--files-from", "photos"), "--files-from photos: Is a directory"),
        (("missing.jpg",), "missing.jpg does not exist"),
        (("x" * 300,), "x" * 300),
        (("-o", "photos"), "photos is both input and output"),
        (("-o", "photos/a.png"), "photos/a.png cannot be a folder: photos/a.png is a file"),
        (("-o", "photos/a.png/below"), "photos/a.png/below cannot be a folder: photos/a.png is a file"),
        (("--include", "*.tif"), "no images in photos"),
        (("elsewhere",), "would both be written as"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_that_names_it(photos: Path, here: Path, arguments: tuple[str, ...], said: str) -> None:
    save_photo(here / "elsewhere/a.jpg", seed=9)
    before = files_below(here)
    assert said in refused(dynaseg("segment", photos, "--device", "cpu", *arguments))
    assert files_below(here) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--nope",), "--nope"),
        (("--mode", "average"), "--mode"),
        (("--iterations", "many"), "--iterations"),
        (("--min-labels", "few"), "--min-labels"),
        (("--preset", "best"), "--preset"),
        (("--precision", "float16"), "--precision"),
        (("--alpha",), "--alpha"),
    ],
    ids=str,
)
def test_option_that_cannot_be_understood_is_named(
    photos: Path, here: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = dynaseg("segment", photos, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not (here / "photos-dynaseg").exists()


def test_no_input_at_all_is_refused() -> None:
    assert "name image files or folders" in refused(dynaseg("segment"))


def test_folder_without_images_is_refused(here: Path) -> None:
    (here / "empty").mkdir()
    assert "no images in empty" in refused(segment("empty"))


def test_device_that_is_not_there_is_refused_naming_those_that_are(photos: Path, here: Path) -> None:
    said = refused(dynaseg("segment", photos, "--device", "cuda:99"))
    assert "--device cuda:99" in said
    assert all(name in said for name in available_devices())
    assert not (here / "photos-dynaseg").exists()


def test_two_images_of_one_result_are_refused_naming_both(photos: Path) -> None:
    save_photo(photos / "a.jpg")
    said = refused(segment(photos))
    assert "photos/a.jpg and photos/a.png" in said
    assert "--keep-extension" in said


def test_other_options_on_a_re_run_are_refused_by_name(photos: Path, here: Path) -> None:
    segment(photos)
    before = files_below(here)
    said = refused(segment(photos, "--seed", "1"))
    assert "seed was 0, now 1" in said
    assert "--overwrite" in said
    assert files_below(here) == before


def test_current_folder_that_is_gone_is_refused(photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "gone").mkdir()
    monkeypatch.chdir("gone")
    (here / "gone").rmdir()
    assert "the current folder is gone" in refused(segment(here / photos, "-o", here / "out"))


def test_worker_that_cannot_be_started_is_no_surprise(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    result = dynaseg("segment", photos, *FIT)
    assert result.exit_code == 1
    assert "error: a worker cannot be started: /no/such/python: No such file or directory" in result.stderr


# What a person sees


def test_control_characters_of_names_are_never_printed_raw(here: Path) -> None:
    name = "bad\n\x1b[31mred\a\x7f\u202e.png"
    save_photo(here / "photos/good.png")
    (here / "photos" / name).write_bytes(b"")
    escaped = r"bad\n\x1b[31mred\x07\x7f\u202e.png"
    result = segment("photos", "--json")
    assert summary(result)["failures"] == [{"path": f"photos/{name}", "reason": "the file is empty"}]
    shown = result.stderr
    assert f"failed: photos/{escaped}: the file is empty\n" in shown
    shown += segment("photos", "--dry-run").stderr
    shown += refused(segment(f"missing {name}")) + refused(segment("photos", "-o", f"photos/{name}"))
    assert shown.count(escaped) >= 4
    assert set(shown) & set("\x1b\a\x7f\u202e\r") == set()


def test_name_with_markup_is_printed_as_it_is(here: Path) -> None:
    (here / "[bold]a[red].png").write_bytes(b"")
    assert "failed: [bold]a[red].png: the file is empty" in segment("[bold]a[red].png").stderr


def test_mistake_of_ours_is_one_line_and_a_traceback_only_when_asked(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Engine, "segment", fail)
    result = segment(photos, "-q")
    assert result.exit_code not in {0, 2}
    assert result.stderr == "error: unexpected RuntimeError: a mistake of ours (-v shows where)\n"
    assert "Traceback" in segment(photos, "-q", "-v").stderr


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")]
)
def test_signal_while_images_are_looked_for(
    photos: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, said: str
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("dynaseg_cli.batch.planning.discover", lambda *_: signal.raise_signal(number))
    try:
        result = segment(photos)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", said)


def test_summary_that_cannot_be_written_is_said(photos: Path, here: Path) -> None:
    (here / "photos-dynaseg/run.json").mkdir(parents=True)
    result = segment(photos)
    assert "photos-dynaseg/run.json cannot be written" in result.stderr
    assert (here / "photos-dynaseg/stats/a.json").exists()


def test_version_is_shown() -> None:
    result = dynaseg("--version")
    assert (result.exit_code, result.stdout) == (0, f"dynaseg {__version__}\n")


# As a process of its own


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


QUICKLY_ANSWERED = [
    "--help",
    "--version",
    "segment --help",
    "segment --help-all",
    "report --help",
    "export --help",
    "evaluate --help",
    "benchmark --help",
    "segment --nope",
]
HEAVY_AFTER = """
import sys
from dynaseg_cli.cli import main
for line in sys.argv[1:]:
    sys.argv = ["dynaseg", *line.split()]
    try:
        main()
    except SystemExit:
        print(line, sorted({"torch", "numpy", "scipy", "sklearn", "PIL"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_loads_nothing_heavy() -> None:
    said = python("-c", HEAVY_AFTER, *QUICKLY_ANSWERED).stderr.splitlines()
    assert [line for line in said if line.endswith("]")] == [f"{line} []" for line in QUICKLY_ANSWERED]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, dynaseg_cli; print(sorted({'torch', 'numpy', 'PIL', 'tqdm', 'typer'} & set(sys.modules)))"
    assert python("-c", code).stdout == "[]\n"


def test_module_runs_as_the_command_does() -> None:
    result = python("-m", "dynaseg_cli", "--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"dynaseg {__version__}\n", "")


def test_damaged_images_leave_stderr_to_dynaseg(here: Path) -> None:
    """Neither warnings nor log lines of the libraries behind it."""
    beyond = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\x88\x13\0\0\x0f\x27\0\0\0\0\0\0"
    (here / "photos").mkdir()
    (here / "photos/damaged exif.jpg").write_bytes(encoded(noise(), "JPEG", exif=beyond))
    (here / "photos/half.tif").write_bytes(encoded(noise(), "TIFF")[:-100])
    result = python("-m", "dynaseg_cli", "segment", "photos", "--json", "-q", *QUICK)
    assert result.returncode == 1
    assert json.loads(result.stdout)["done"] == 1
    assert re.fullmatch(r"failed: photos/half\.tif: [^\n]+\n", result.stderr)


def test_interrupt_keeps_what_is_finished_and_a_re_run_continues(
    photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # b takes far longer than the test waits; a shell may have made this process, and so its children, ignore SIGINT
    save_photo(photos / "b.bmp", 1, 240, 180)
    options = ("--iterations", "100", "--max-size", "0", "--patience", "0", "--mode", "fixed", "--mu", "0.001")
    command = ["segment", "photos", "-o", "out", "--json", *QUICK, *options, "--min-labels", "1"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "dynaseg_cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    while not (here / "out/stats/a.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr

    run = json.loads((here / "out/run.json").read_text())
    assert json.loads(stdout) | {"seconds": 0} == run | {"seconds": 0}
    assert (run["interrupted"], run["images"], run["done"], run["failed"]) == (True, 3, 1, 0)
    assert set(files_below(here / "out")) == {
        "run.json",
        "outcomes.jsonl",
        *pictures_of("a"),
        "stats/a.json",
    }

    save_photo(photos / "b.bmp", 1)
    result = dynaseg(*command)
    assert result.exit_code == 0, result.stderr
    assert (summary(result)["interrupted"], summary(result)["done"], summary(result)["skipped"]) == (False, 2, 1)


@pytest.mark.parametrize(
    ("cut", "more"), [("7", {"regions"}), ("coarse", {"regions"}), ("auto", {"regions"}), ("raw", set())]
)
def test_regions_are_saved_where_it_is_said_how_they_are_cut(photos: Path, cut: str, more: set[str]) -> None:
    result = segment(photos, "--regions", cut, "--json")
    assert summary(result)["cut"] == {"regions": 7 if cut == "7" else cut, "granularity": None}
    folders = {path.name for path in Path("photos-dynaseg").iterdir() if path.is_dir()}
    assert folders == {"labels", "color", "stats", "overlay", ".raw", *more}
    if cut == "7":
        assert read_pixels(Path("photos-dynaseg/regions/a.png")).max() == 6


def test_raw_labels_are_saved_where_they_are_asked_for(photos: Path, here: Path) -> None:
    assert segment(photos, "--save", "labels,stats,raw", "--regions", "2").exit_code == 0
    assert {path.name for path in (here / "photos-dynaseg").iterdir() if path.is_dir()} == {"labels", "stats", "raw"}
    assert segment(photos, "--regions", "raw", "-o", "other").exit_code == 0
    assert files_below(here / "photos-dynaseg/raw") == files_below(here / "other/labels")


def test_a_cut_needs_no_map_of_regions(photos: Path) -> None:
    assert segment(photos, "--regions", "1", "--save", "labels,stats").exit_code == 0
    assert read_pixels(Path("photos-dynaseg/labels/a.png")).max() == 0


def test_another_cut_is_made_of_the_labels_and_says_so(photos: Path) -> None:
    everything = "labels,color,stats,regions,hierarchy"
    assert segment(photos, "--save", everything).exit_code == 0
    raw = Path("photos-dynaseg/.raw/a.png").stat().st_mtime_ns
    result = segment(photos, "--save", everything, "--granularity", "0", "--json")
    assert result.exit_code == 0
    assert summary(result)["done"] == 3
    assert summary(result)["cut"] == {"regions": "auto", "granularity": 0.0}
    assert "0 segmented, 3 written from earlier labels" in result.stderr
    assert Path("photos-dynaseg/.raw/a.png").stat().st_mtime_ns == raw
    assert read_pixels(Path("photos-dynaseg/regions/a.png")).max() == 0
    assert "3 complete already" in segment(photos, "--save", everything, "--granularity", "0").stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--regions", "5", "--granularity", "0.5"), "--regions and --granularity are two ways"),
        (("--regions", "0"), "--regions must be at least 1, not 0"),
        (("--granularity", "2"), "--granularity must be at most 1, not 2"),
        (("--regions", "raw", "--granularity", "0.5"), "--regions and --granularity are two ways"),
    ],
)
def test_cuts_that_make_no_sense_are_refused(photos: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refused(segment(photos, *options))
    assert not Path("photos-dynaseg").exists()


def test_number_of_regions_that_is_none_is_refused(photos: Path) -> None:
    result = segment(photos, "--regions", "many")
    assert result.exit_code == 2
    assert "--regions must be auto, coarse, fine, raw or a whole number, not 'many'" in result.stderr


# Scribbles


@pytest.fixture
def drawn(here: Path) -> Path:
    """A stroke of label 5 on one of the photos."""
    scribbles = np.full((20, 24), 255, dtype=np.uint8)
    scribbles[10, 2:20] = 5
    (here / "drawn/sub").mkdir(parents=True)
    (here / "drawn/sub/c.png").write_bytes(encoded(scribbles, "PNG"))
    return Path("drawn")


def test_scribbles_guide_their_image_and_are_recorded(photos: Path, drawn: Path, here: Path) -> None:
    result = segment(photos, "--scribbles", drawn, "-o", "out", "--json")
    assert (result.exit_code, summary(result)["done"], summary(result)["scribbles"]) == (0, 3, "drawn")
    source = json.loads((here / "out/stats/sub/c.json").read_text())["source"]
    assert source["scribbles"]["path"] == "drawn/sub/c.png"
    result = segment(photos, "--scribbles", drawn, "-o", "out", "--json")
    assert (result.exit_code, summary(result)["skipped"]) == (0, 3)


def test_forgetting_the_scribbles_of_an_earlier_run_is_refused(photos: Path, drawn: Path) -> None:
    segment(photos, "--scribbles", drawn, "-o", "out")
    assert "(scribbles was drawn/sub/c.png, now none); --overwrite" in refused(segment(photos, "-o", "out"))


@pytest.mark.parametrize(
    ("scribbles", "reason"),
    [
        (np.full((24, 20), 5, np.uint8), "20 x 24 pixels, but the photo has 24 x 20, turned upright as EXIF says"),
        (np.full((20, 24), 200, np.uint8), "label 200 is above 63, the most that --clusters 64 allows"),
        (np.zeros((20, 24, 3), np.uint8), "its pixels are colours, and labels are numbers"),
    ],
    ids=["size", "value", "colours"],
)
def test_wrong_scribbles_fail_their_image_with_a_reason(
    photos: Path, drawn: Path, scribbles: NDArray[np.uint8], reason: str
) -> None:
    (drawn / "sub/c.png").write_bytes(encoded(scribbles, "PNG"))
    result = segment(photos, "--scribbles", drawn)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"failed: photos/sub/c.png: drawn/sub/c.png: {reason}" in " ".join(result.stderr.split())


def test_folder_of_scribbles_that_cannot_be_meant_is_refused(photos: Path, here: Path) -> None:
    assert "--scribbles nowhere is not a folder" in refused(segment(photos, "--scribbles", "nowhere"))
    (here / "empty").mkdir()
    assert "for photos/a.png it would be empty/a.png" in refused(segment(photos, "--scribbles", "empty"))
    assert not (here / "photos-dynaseg").exists()


# Masks


@pytest.fixture
def masks(here: Path) -> Path:
    """One photo counts in part."""
    mask = np.zeros((20, 24), dtype=np.uint8)
    mask[4:16, 3:20] = 255
    (here / "masks/sub").mkdir(parents=True)
    (here / "masks/sub/c.png").write_bytes(encoded(mask, "PNG"))
    return Path("masks")


def test_masks_leave_out_what_does_not_count_and_are_recorded(photos: Path, masks: Path, here: Path) -> None:
    result = segment(photos, "--mask", masks, "-o", "out", "--json")
    assert (result.exit_code, summary(result)["done"]) == (0, 3)
    assert (summary(result)["mask"], summary(result)["outside"]) == ("masks", "255")
    mask = json.loads((here / "out/stats/sub/c.json").read_text())["source"]["mask"]
    assert (mask["path"], mask["outside"], mask["pixels"]) == ("masks/sub/c.png", "255", 12 * 17)
    assert read_pixels(here / "out/labels/sub/c.png")[0, 0] == 255
    result = segment(photos, "--mask", masks, "--outside", "background", "-o", "out", "--json")
    assert (result.exit_code, summary(result)["done"], summary(result)["skipped"]) == (0, 1, 2)
    assert read_pixels(here / "out/labels/sub/c.png")[0, 0] == 0
    assert "(mask was masks/sub/c.png, now none); --overwrite" in refused(segment(photos, "-o", "out"))


def test_masks_that_cannot_be_meant_are_refused(photos: Path, masks: Path, here: Path) -> None:
    assert "--mask nowhere is not a folder" in refused(segment(photos, "--mask", "nowhere"))
    assert "--outside background is for what --mask leaves out" in refused(segment(photos, "--outside", "background"))
    assert "--outside must be one of 255, background" in refused(segment(photos, "--mask", masks, "--outside", "0"))
    assert "--mask is empty (an unset shell variable?)" in refused(segment(photos, "--mask", ""))
    assert not (here / "photos-dynaseg").exists()
    (here / "masks/sub/c.png").write_bytes(encoded(np.zeros((20, 24), np.uint8), "PNG"))
    (here / "masks/other.png").touch()
    result = segment(photos, "--mask", masks)
    assert result.exit_code == 1
    assert "failed: photos/sub/c.png: masks/sub/c.png: it is 0 everywhere" in " ".join(result.stderr.split())
    assert "masks that belong to no image, by their names: 1, first masks/other.png" in result.stderr


def test_scribbles_of_no_image_are_named(photos: Path, drawn: Path, here: Path) -> None:
    (here / "drawn/c.png").write_bytes((drawn / "sub/c.png").read_bytes())
    result = segment(photos, "--scribbles", drawn)
    assert result.exit_code == 0
    assert "scribbles that belong to no image, by their names: 1, first drawn/c.png" in result.stderr

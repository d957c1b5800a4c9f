from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from samples import TINY, photo_folder, save_photo

from dynaseg_cli import FOLDER_FIT, BatchConfig, SegmentConfig, WorkersConfig, segment_folder
from dynaseg_cli.batch.outcome import Outcome
from dynaseg_cli.errors import UsageError

HERE = WorkersConfig(device="cpu", workers=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.bmp", "sub/c.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_unusable_input_is_refused_at_the_call(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        segment_folder(tmp_path / "missing", out)
    assert not out.exists()


def test_weights_that_cannot_be_had_are_refused_at_the_call(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(out.parent))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(UsageError, match="ImageNet weights cannot be downloaded"):
        segment_folder(photos, out, SegmentConfig(backbone="resnet18-fpn"))
    assert not out.exists()


def test_missing_ray_is_found_before_a_folder_is_fitted(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "dynaseg_cli.batch.ray_crew", raising=False)
    with pytest.raises(UsageError, match="--executor ray needs Ray"):
        segment_folder(photos, out, SegmentConfig(**FOLDER_FIT), workers=WorkersConfig(executor="ray"))
    assert not out.exists()


def test_folder_and_file_are_segmented_from_python(photos: Path, out: Path) -> None:
    inputs = [str(photos), str(save_photo(out.parent / "d.png"))]
    outcomes = list(segment_folder(inputs, str(out), TINY, workers=HERE))
    assert [(Path(outcome.path).name, outcome.status) for outcome in outcomes] == [
        ("a.png", "done"),
        ("b.bmp", "done"),
        ("d.png", "done"),
        ("c.png", "done"),
    ]
    assert (out / "labels/sub/c.png").exists()


def test_report_and_exports_are_written_from_python(photos: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_photo(photos / " d.png", 7)  # a name that VOC's list cannot hold
    batch = BatchConfig(report=True, export=("voc", "coco-rle"))
    outcomes = segment_folder(photos, out, TINY, batch, HERE)
    assert next(outcomes).status == "done"
    assert not (out / "report.html").exists()
    assert len(list(outcomes)) == 3
    assert b"sub/c.png" in (out / "report.html").read_bytes()
    assert len(json.loads((out / "export/coco-rle.json").read_bytes())["images"]) == 4
    (told,) = caplog.messages
    assert told.startswith("not exported as voc:  d: a line of the list of images cannot hold")


def test_run_is_told_of_as_the_command_tells_of_it(photos: Path, out: Path) -> None:
    save_photo(photos / ".hidden.png")
    (photos / "b.bmp").write_bytes(b"")
    list(segment_folder(photos, out, TINY, workers=HERE))
    run = json.loads((out / "run.json").read_text())
    assert [run[key] for key in ("output", "images", "done", "skipped", "failed")] == [str(out), 3, 2, 0, 1]
    assert (run["interrupted"], run["passed_over"]) == (False, {"hidden": 1})
    assert run["options"] == TINY.as_options()
    assert run["device"].startswith("cpu")


def test_run_that_is_closed_midway_is_told_of_as_interrupted(photos: Path, out: Path) -> None:
    outcomes = segment_folder(photos, out, TINY, workers=HERE)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    run = json.loads((out / "run.json").read_text())
    assert (run["interrupted"], run["done"], run["images"]) == (True, 1, 3)


def test_run_that_cannot_begin_writes_nothing(photos: Path, out: Path) -> None:
    with pytest.raises(UsageError):
        list(segment_folder(photos, out, TINY, workers=WorkersConfig("cuda:99", workers=0)))
    assert not out.exists()


def test_labels_of_a_folder_are_told_of_from_python_too(photos: Path, out: Path) -> None:
    """So that `evaluate` knows what they mean."""
    fit = replace(TINY, **{**FOLDER_FIT, "epochs": 1, "iterations": 2, "clusters": 8})
    list(segment_folder(photos, out, fit, workers=WorkersConfig("cpu", workers=1, threads=1)))
    clusters = json.loads((out / "clusters.json").read_text())
    assert clusters["images"] == 3
    run = json.loads((out / "run.json").read_text())
    assert run["options"]["model"] == clusters["options"]["model"] is not None


def test_other_options_are_refused_until_they_are_to_overwrite(photos: Path, out: Path) -> None:
    list(segment_folder(photos, out, TINY, workers=HERE))
    other = TINY.__class__(**{**vars(TINY), "seed": 5})
    with pytest.raises(UsageError, match="seed was 0, now 5"):
        segment_folder(photos, out, other, workers=HERE)
    redone = segment_folder(photos, out, other, BatchConfig(overwrite=True), HERE)
    assert {outcome.status for outcome in redone} == {"done"}


def test_runs_in_several_threads_do_not_meet(photos: Path, tmp_path: Path) -> None:
    found: dict[str, list[Outcome]] = {}

    def run(name: str) -> None:
        found[name] = list(segment_folder(photos, tmp_path / name, TINY, workers=HERE))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([outcome.status for outcome in found[name]] == ["done"] * 3 for name in ("one", "two", "three"))


def test_no_thread_is_left(photos: Path, out: Path) -> None:
    before = set(threading.enumerate())
    outcomes = segment_folder(photos, out, TINY, workers=HERE)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


SCRIPT = """
import sys
from dynaseg_cli import SegmentConfig, WorkersConfig, segment_folder
config = SegmentConfig(iterations=2, min_labels=3, max_size=16, precision="float32", features=8, clusters=8)
for outcome in segment_folder(sys.argv[1], sys.argv[2], config, workers=WorkersConfig(device="cpu", workers=2)):
    print(outcome.status)
print("torch" in sys.modules)
"""


def test_script_needs_no_guard_and_does_not_load_torch(photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", photos, out]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("done\ndone\ndone\nFalse\n", "")

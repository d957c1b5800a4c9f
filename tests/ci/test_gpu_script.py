"""What surrounds a run on a GPU: the script with a stand-in for Python, and the figures that are made of its files."""

from __future__ import annotations

import sys
from pathlib import Path

import gpu_prepare
import pytest
from samples import photo_folder

# --- What is prepared ------------------------------------------------------------------------------------------------


def prepare(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_prepare.py", "--no-wheels", *map(str, arguments)])
    return gpu_prepare.main()


def test_val_is_chosen_before_train(tmp_path: Path) -> None:
    photo_folder(tmp_path / "images", "train/1.jpg", "train/2.jpg", "val/3.jpg", "val/4.jpg")
    chosen = gpu_prepare.choose_photos(tmp_path, 3)
    assert [path.relative_to(tmp_path).as_posix() for path in chosen] == [
        "images/val/3.jpg",
        "images/val/4.jpg",
        "images/train/1.jpg",
    ]


def test_photos_are_copied_with_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_folder(tmp_path / "bsds" / "images", "train/1.jpg", "val/3.jpg")
    monkeypatch.setenv("DYNASEG_BSDS500", str(tmp_path / "bsds"))
    assert prepare(monkeypatch, "--folder", tmp_path / "gpu") == 0
    photos = tmp_path / "gpu" / "photos"
    assert sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")) == ["train/1.jpg", "val/3.jpg"]


def test_what_was_prepared_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_folder(tmp_path / "photos", "mine.png")
    with pytest.raises(SystemExit):
        prepare(monkeypatch, "--folder", tmp_path, "--size", "24x16", "--photos", "1")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["mine.png"]


def test_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_prepare, "MOST_BYTES", 100)
    assert prepare(monkeypatch, "--folder", tmp_path, "--size", "24x16", "--photos", "1") == 1
    assert "bash .ci/gpu" not in capsys.readouterr().out

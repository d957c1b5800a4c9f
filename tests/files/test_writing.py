from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from samples import files_below, read_pixels

from dynaseg_cli.files.encoding import JPEG_SIDE, jpeg, json_text, palette_png, png, wide_tiff
from dynaseg_cli.files.writing import FileBatch, write_atomically

LABEL_MAPS = st.one_of(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12))),
)


def full_disk(*_: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_content_is_complete_in_a_folder_made_for_it(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    write_atomically(tmp_path / "sub/deeper/file.bin", content)
    assert files_below(tmp_path) == {"sub/deeper/file.bin": content}


def test_older_file_is_replaced(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    write_atomically(tmp_path / "file", b"new")
    assert files_below(tmp_path) == {"file": b"new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_writer_that_raises_leaves_the_older_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    def write_half(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    write_atomically(tmp_path / "file", b"old")
    with pytest.raises(error):
        write_atomically(tmp_path / "file", write_half)
    with pytest.raises(error):
        write_atomically(tmp_path / "absent", write_half)
    assert files_below(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_disk_that_fails_leaves_the_older_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(call, full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", b"new")
    assert files_below(tmp_path) == {"file": b"old"}


def test_content_is_on_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named_at_sync: list[bool] = []
    monkeypatch.setattr("os.fsync", lambda _: named_at_sync.append((tmp_path / "file").exists()))
    write_atomically(tmp_path / "file", b"old")
    assert named_at_sync == [False]


def test_files_of_a_batch_are_synced_at_the_same_time_and_then_named_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, named = threading.Barrier(3, timeout=120), []
    replace = Path.replace

    def sync(_: int) -> None:
        together.wait()
        assert list(tmp_path.glob("file*")) == [tmp_path / "file-old"]

    def note(path: Path, target: Path) -> Path:
        assert together.n_waiting == 0
        named.append(target.name)
        return replace(path, target)

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr(Path, "replace", note)
    (tmp_path / "file-old").touch()
    with FileBatch() as files:
        for name in ("file1", "file2"):
            files.write(tmp_path / name, name.encode())
        files.remove(tmp_path / "file-old")
        files.open(tmp_path / "file0").write(b"unflushed")
        assert (tmp_path / "file-old").exists()
    assert named == ["file1", "file2", "file0"]
    assert files_below(tmp_path) == {"file0": b"unflushed", "file1": b"file1", "file2": b"file2"}


@pytest.mark.parametrize("failing", ["write", "sync", "the block"])
def test_batch_that_fails_leaves_the_older_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail_at_last(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 4:
            full_disk()

    write_atomically(tmp_path / "first", b"old")
    write_atomically(tmp_path / "last", b"old")
    if failing == "sync":
        monkeypatch.setattr("os.fsync", fail_at_last)
    with pytest.raises(OSError, match="No space left"), FileBatch() as files:
        files.write(tmp_path / "first", b"new")
        files.remove(tmp_path / "last")
        files.write(tmp_path / "last", full_disk if failing == "write" else b"newer"[:4])
        if failing == "the block":
            full_disk()
    assert files_below(tmp_path) == {"first": b"old", "last": b"old"}


def test_batch_that_cannot_name_a_file_leaves_no_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with pytest.raises(IsADirectoryError), FileBatch() as files:
        for name in ("first", "second", "third"):
            files.write(tmp_path / name, b"new")
    assert files_below(tmp_path) == {"first": b"new"}


def test_batch_without_files_does_nothing(tmp_path: Path) -> None:
    with FileBatch() as files:
        files.remove(tmp_path / "absent")
    assert files_below(tmp_path) == {}


def test_longest_name_can_be_written(tmp_path: Path) -> None:
    name = "x" * 251 + ".png"
    write_atomically(tmp_path / name, b"old")
    assert files_below(tmp_path) == {name: b"old"}


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, expected: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"old")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


@given(labels=LABEL_MAPS)
def test_labels_come_back_from_their_file(
    tmp_path_factory: pytest.TempPathFactory, labels: NDArray[np.uint8] | NDArray[np.uint16]
) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.png"
    write_atomically(path, png(labels))
    with Image.open(path) as image:
        assert image.mode == {1: "L", 2: "I;16"}[labels.itemsize]
        np.testing.assert_array_equal(np.asarray(image), labels)


def test_more_regions_than_16_bits_number_come_back_from_their_file(tmp_path: Path) -> None:
    regions = np.arange(260 * 260, dtype=np.int32).reshape(260, 260)
    write_atomically(tmp_path / "regions.tif", wide_tiff(regions))
    np.testing.assert_array_equal(read_pixels(tmp_path / "regions.tif"), regions)


def test_lines_and_flat_colours_stay_clean_in_a_jpeg(tmp_path: Path) -> None:
    picture = np.full((40, 60, 3), (200, 40, 40), dtype=np.uint8)
    picture[:, 30:] = (20, 60, 220)
    picture[:, 29:31] = 255
    write_atomically(tmp_path / "overlay.jpg", jpeg(picture))
    found = read_pixels(tmp_path / "overlay.jpg").astype(int)
    assert abs(found - picture).mean() < 3
    assert abs(found[:, 29:31] - 255).mean() < 12


@pytest.mark.parametrize("shape", [(1, JPEG_SIDE), (JPEG_SIDE, 1)])
def test_largest_jpeg_can_be_written(tmp_path: Path, shape: tuple[int, int]) -> None:
    write_atomically(tmp_path / "overlay.jpg", jpeg(np.zeros((*shape, 3), dtype=np.uint8)))
    assert read_pixels(tmp_path / "overlay.jpg").shape == (*shape, 3)


def test_300_labels_come_back_from_their_file(tmp_path: Path) -> None:
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    write_atomically(tmp_path / "labels.png", png(labels))
    np.testing.assert_array_equal(read_pixels(tmp_path / "labels.png"), labels)


@given(labels=LABEL_MAPS)
def test_colours_are_those_of_the_labels(
    tmp_path_factory: pytest.TempPathFactory, labels: NDArray[np.uint8] | NDArray[np.uint16]
) -> None:
    path = tmp_path_factory.getbasetemp() / "color.png"
    colors = np.random.default_rng(0).integers(0, 256, (int(labels.max()) + 1, 3), dtype=np.uint8)
    write_atomically(path, palette_png(labels, colors))
    np.testing.assert_array_equal(read_pixels(path, "RGB"), colors[labels])
    if labels.dtype == np.uint8:
        np.testing.assert_array_equal(read_pixels(path, "P"), labels)


def test_json_is_a_line_of_ascii_that_comes_back() -> None:
    document = {"path": "größe \udce9.jpg", "values": [0.1, None, True]}
    content = json_text(document)
    assert content.isascii()
    assert content.endswith(b"}\n")
    assert content.count(b"\n") == 1
    assert json.loads(content) == json.loads(json_text(document, indent=2)) == document


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_without_a_number_for_it_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"loss": value})


WRITE_TOO_MUCH = """
import pathlib, resource, sys
from dynaseg_cli.files.writing import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(pathlib.Path(sys.argv[1]), bytes(5000))
except OSError:
    sys.exit(7)
"""


def test_file_over_the_size_limit_leaves_the_older_one_alone(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    result = subprocess.run([sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path / "file")], check=False)
    assert result.returncode == 7
    assert files_below(tmp_path) == {"file": b"old"}


def test_full_disk_leaves_the_older_file_alone(small_disk: Path) -> None:
    write_atomically(small_disk / "file", b"old")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(small_disk / "file", bytes(200_000))
    assert files_below(small_disk) == {"file": b"old"}
    write_atomically(small_disk / "file", bytes(30_000))
    assert len(files_below(small_disk)["file"]) == 30_000

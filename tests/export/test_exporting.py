"""All formats at once: one reading, failures by image and format, files that are complete or absent."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from export_samples import FORMATS, LABELS, export, export_folder, image, no_photo, pycocotools_data, unreadable

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.errors import DecodeError
from dynaseg_cli.export.exporting import Exported, write_exports
from dynaseg_cli.export.source import ExportImage, Segments, labels_as_segments

ALL_FILES = [
    "coco-panoptic.json",
    "coco-panoptic/cat.png",
    "coco-rle.json",
    "cvat-labels.json",
    "cvat.zip",
    "voc/ImageSets/Segmentation/default.txt",
    "voc/SegmentationClass/cat.png",
    "voc/SegmentationObject/cat.png",
    "voc/labelmap.txt",
]


def files(folder: Path) -> dict[str, bytes]:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: paths[name].read_bytes() for name in sorted(paths)}


def test_all_formats_are_written_from_one_reading(tmp_path: Path) -> None:
    read: list[str] = []

    def counted(name: str) -> ExportImage:
        def look() -> Segments:
            read.append(name)
            return labels_as_segments(LABELS)

        return ExportImage(name, f"{name}.jpg", look, no_photo)

    images = [counted("cat")]
    events = write_exports([*FORMATS, "voc"], images, 5, export_folder(tmp_path), ExportConfig(), regions=False)
    assert list(events) == [Exported("cat")]
    assert read == ["cat"]
    assert list(files(tmp_path)) == ALL_FILES


@pytest.mark.parametrize("format_", FORMATS)
def test_one_format_writes_the_files_that_all_together_write(tmp_path: Path, format_: str) -> None:
    export(tmp_path / "all", image("cat", LABELS))
    export(tmp_path / "one", image("cat", LABELS), formats=[format_])  # type: ignore[list-item]
    one, together = files(tmp_path / "one"), files(tmp_path / "all")
    assert one.items() <= together.items()
    assert list(one) == [name for name in ALL_FILES if name.startswith((f"{format_}.", f"{format_}-l", f"{format_}/"))]


def test_a_second_export_is_equal(tmp_path: Path) -> None:
    export(tmp_path, image("cat", LABELS))
    before = files(tmp_path)
    export(tmp_path, image("cat", LABELS))
    assert files(tmp_path) == before


def test_an_image_that_cannot_be_read_fails_in_every_format_and_alone(tmp_path: Path) -> None:
    failures = export(
        tmp_path,
        unreadable("broken", DecodeError("labels/broken.png is not an image")),
        unreadable("gone", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "labels/gone.png")),
        unreadable("large", MemoryError()),
        image("cat", LABELS),
    )
    assert [(failure.name, failure.format) for failure in failures] == [
        (name, format_) for name in ("broken", "gone", "large") for format_ in FORMATS
    ]
    assert {failure.reason for failure in failures} == {
        "labels/broken.png is not an image",
        "labels/gone.png: No such file or directory",
        "out of memory",
    }
    assert list(files(tmp_path)) == ALL_FILES
    # The number of an image is its place among all: it does not depend on which of the others failed.
    assert pycocotools_data(tmp_path / "coco-rle.json").getImgIds() == [4]


def test_a_mistake_in_the_program_is_no_failure_of_an_image(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        export(tmp_path, unreadable("cat", ZeroDivisionError()))


def test_an_image_fails_in_the_formats_that_it_does_not_fit(tmp_path: Path) -> None:
    fragments = Segments(np.arange(300).reshape(15, 20), np.zeros(300, np.int64))
    failures = export(tmp_path, image("fragments", fragments), image("cat", LABELS))
    assert [(failure.name, failure.format) for failure in failures] == [("fragments", "voc"), ("fragments", "cvat")]
    assert len(pycocotools_data(tmp_path / "coco-rle.json").getAnnIds()) == 304


@pytest.mark.parametrize(
    ("name", "failing"),
    [("a\nb", ["voc", "cvat"]), ("#a", ["voc", "cvat"]), ("a\udc80b", FORMATS), ("a'\"\\ b", []), (".", [])],
)
def test_a_hostile_name_damages_no_other_image(tmp_path: Path, name: str, failing: list[str]) -> None:
    failures = export(tmp_path, image(name, LABELS), image("cat", LABELS))
    assert [failure.format for failure in failures] == failing
    assert [file for file in files(tmp_path) if file in ALL_FILES] == ALL_FILES
    found = [entry["file_name"] for entry in json.loads((tmp_path / "coco-rle.json").read_text())["images"]]
    assert found == ([] if "coco-rle" in failing else [f"{name}.jpg"]) + ["cat.jpg"]


def test_a_name_that_is_too_long_for_a_file_fails_where_there_is_a_file(tmp_path: Path) -> None:
    failures = export(tmp_path, image("a" * 253, LABELS), image("cat", LABELS))
    assert [failure.format for failure in failures] == ["voc", "coco-panoptic"]
    assert failures[0].reason.endswith(": File name too long")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "export").touch()
    with pytest.raises(OSError):
        export(tmp_path / "export", image("cat", LABELS))


@pytest.mark.parametrize("format_", ["coco-rle", "cvat"])
def test_a_file_that_cannot_be_finished_leaves_the_earlier_one(tmp_path: Path, format_: str) -> None:
    export(tmp_path, image("cat", LABELS))
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, image("dog", LABELS), _interrupting(), formats=[format_])  # type: ignore[list-item]
    assert files(tmp_path) == before


def _interrupting() -> ExportImage:
    def read() -> Segments:
        raise KeyboardInterrupt

    return ExportImage("later", "later.jpg", read, no_photo)


def test_a_full_disk_is_an_error_and_no_half_file(small_disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 5, (300, 300)).astype(np.uint8)
    for format_, file in (("coco-rle", "coco-rle.json"), ("cvat", "cvat.zip")):
        with pytest.raises(OSError, match="No space left"):
            export(small_disk, image("cat", noise), formats=[format_])  # type: ignore[list-item]
        assert file not in files(small_disk)


def test_uint16_labels_beyond_8_bits_are_exported_where_they_fit(tmp_path: Path) -> None:
    labels = np.array([[0, 300], [1000, 300]], np.uint16)
    failures = export(tmp_path, image("cat", labels), labels=1001)
    assert [failure.format for failure in failures] == ["voc", "cvat"]
    assert "label 1000, and a mask of 8 bits holds labels up to 253" in failures[0].reason
    coco = pycocotools_data(tmp_path / "coco-rle.json")
    assert [annotation["category_id"] for annotation in coco.loadAnns(coco.getAnnIds())] == [1, 301, 1001]


def test_a_data_set_of_no_image_is_complete(tmp_path: Path) -> None:
    assert export(tmp_path) == []
    assert list(files(tmp_path)) == [name for name in ALL_FILES if not name.endswith(".png")]
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        assert sorted(archive.namelist()) == ["ImageSets/Segmentation/default.txt", "labelmap.txt"]

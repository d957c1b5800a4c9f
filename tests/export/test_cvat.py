"""CVAT's "Segmentation mask 1.1", read back by Datumaro, the library that CVAT's importer reads it with."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import pytest
from export_samples import LABELS, REGIONS, datumaro_masks, expected_masks, export, image

from dynaseg_cli.export.source import Segments, labels_as_segments


def unzip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "cvat.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(folder / "unzipped")
    return folder / "unzipped"


@pytest.mark.parametrize("segments", [labels_as_segments(LABELS), REGIONS], ids=["labels", "regions"])
def test_datumaro_reads_the_masks_of_all_segments(tmp_path: Path, segments: Segments) -> None:
    assert export(tmp_path, image("a b", segments), image("sub/ü", LABELS.T), formats=["cvat"]) == []
    assert datumaro_masks(unzip(tmp_path), "voc_segmentation") == {
        "a b": expected_masks(segments),
        "sub/ü": expected_masks(labels_as_segments(LABELS.T)),
    }


def test_the_zip_holds_what_the_importer_looks_for_and_no_more(tmp_path: Path) -> None:
    export(tmp_path, image("sub/cat", LABELS), formats=["cvat"])
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        assert sorted(archive.namelist()) == [
            "ImageSets/Segmentation/default.txt",
            "SegmentationClass/sub/cat.png",
            "SegmentationObject/sub/cat.png",
            "labelmap.txt",
        ]
        assert archive.read("ImageSets/Segmentation/default.txt") == b"sub/cat\n"


def test_the_parts_of_a_label_are_one_object(tmp_path: Path) -> None:
    """So that they stay grouped where CVAT turns masks into polygons."""
    dm = pytest.importorskip("datumaro", reason="no Datumaro here: its formats are not read back")
    export(tmp_path, image("cat", LABELS), formats=["cvat"])
    (item,) = dm.Dataset.import_from(str(unzip(tmp_path)), "voc_segmentation")
    assert sorted((mask.label, mask.group) for mask in item.annotations) == [(1, 1), (2, 2), (3, 3), (5, 4)]


def test_the_file_is_the_same_at_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path / "1", image("cat", LABELS), formats=["cvat"])
    monkeypatch.setattr(time, "time", lambda: 2e9)
    export(tmp_path / "2", image("cat", LABELS), formats=["cvat"])
    assert (tmp_path / "1/cvat.zip").read_bytes() == (tmp_path / "2/cvat.zip").read_bytes()


def test_the_labels_are_those_of_the_label_map(tmp_path: Path) -> None:
    """As CVAT's editor checks what is pasted: a list of labels with names, none twice, and lists of attributes."""
    assert len(export(tmp_path, image("cat", LABELS), formats=["cvat"], labels=3)) == 1  # it has a label 4
    assert json.loads((tmp_path / "cvat-labels.json").read_text()) == [
        {"name": "label 0", "color": "#800000", "type": "any", "attributes": []},
        {"name": "label 1", "color": "#008000", "type": "any", "attributes": []},
        {"name": "label 2", "color": "#808000", "type": "any", "attributes": []},
    ]
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        lines = archive.read("labelmap.txt").decode().splitlines()
    assert lines[1:] == ["background:0,0,0::", "label 0:128,0,0::", "label 1:0,128,0::", "label 2:128,128,0::"]


def test_a_photo_of_any_extension_has_the_name_of_its_frame(tmp_path: Path) -> None:
    """CVAT knows a frame by its file's name without extension, also where results keep the extension."""
    kept = image("cat.jpg", LABELS, suffix="")
    twin = image("cat.png", LABELS, suffix="")
    (failure,) = export(tmp_path, kept, twin, formats=["cvat"])
    assert (failure.name, failure.format) == ("cat.png", "cvat")
    assert "another one is cat, too" in failure.reason
    assert datumaro_masks(unzip(tmp_path), "voc_segmentation").keys() == {"cat"}


def test_no_images_are_an_empty_data_set(tmp_path: Path) -> None:
    assert export(tmp_path, formats=["cvat"]) == []
    assert datumaro_masks(unzip(tmp_path), "voc_segmentation") == {}

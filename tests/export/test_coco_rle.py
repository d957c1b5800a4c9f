"""COCO's instances, read back by pycocotools, Datumaro and hotcoco."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export_samples import (
    LABELS,
    REGIONS,
    as_coco_folder,
    datumaro_masks,
    expected_masks,
    export,
    image,
    masks,
    pycocotools_data,
)

import dynaseg_cli
from dynaseg_cli.export.source import Segments, labels_as_segments

# pycocotools' own, when it decodes a mask with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

BOTH = pytest.mark.parametrize("segments", [labels_as_segments(LABELS), REGIONS], ids=["labels", "regions"])


@BOTH
def test_pycocotools_reads_the_masks_of_all_segments(tmp_path: Path, segments: Segments) -> None:
    one = labels_as_segments(np.zeros((1, 1), np.uint8))
    export(tmp_path, image("sub/cat", segments), image('"ü"\n', one), formats=["coco-rle"])
    coco = pycocotools_data(tmp_path / "coco-rle.json")
    assert coco.dataset["info"]["version"] == dynaseg_cli.__version__
    assert [(entry["id"], entry["file_name"], entry["height"], entry["width"]) for entry in coco.loadImgs([1, 2])] == [
        (1, "sub/cat.jpg", 3, 5),
        (2, '"ü"\n.jpg', 1, 1),
    ]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == [f"label {n}" for n in range(5)]
    found = 0
    for number, expected in ((1, segments), (2, one)):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        for annotation, (label, mask) in zip(annotations, masks(expected).values(), strict=True):
            found += 1
            assert (annotation["id"], annotation["category_id"], annotation["iscrowd"]) == (found, label + 1, 0)
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@BOTH
def test_datumaro_reads_the_masks_of_all_segments(tmp_path: Path, segments: Segments) -> None:
    export(tmp_path, image("a b", segments), formats=["coco-rle"])
    folder = as_coco_folder(tmp_path, tmp_path / "set", "instances")
    assert datumaro_masks(folder, "coco_instances") == {"a b": expected_masks(segments)}


def test_hotcoco_reads_the_masks_of_all_segments(tmp_path: Path) -> None:
    hotcoco = pytest.importorskip("hotcoco", reason="no hotcoco here: COCO is not read back by it")
    export(tmp_path, image("cat", REGIONS), formats=["coco-rle"])
    coco = hotcoco.COCO(str(tmp_path / "coco-rle.json"))
    found = coco.loadAnns(coco.getAnnIds())
    expected = masks(REGIONS).values()
    assert [annotation["category_id"] for annotation in found] == [label + 1 for label, _ in expected]
    for annotation, (_, mask) in zip(found, expected, strict=True):
        assert np.array_equal(coco.annToMask(annotation), mask)


def test_more_regions_than_16_bits_number_are_an_annotation_each(tmp_path: Path) -> None:
    regions = np.arange(66_000, dtype=np.int32).reshape(220, 300)
    export(tmp_path, image("a", Segments(regions, np.arange(66_000) % 5)), formats=["coco-rle"])
    annotations = json.loads((tmp_path / "coco-rle.json").read_text())["annotations"]
    assert len(annotations) == 66_000
    assert annotations[-1]["bbox"] == [299, 219, 1, 1]


def test_a_name_that_is_no_text_fails_its_image_alone(tmp_path: Path) -> None:
    """Python would read it; other readers of JSON refuse the whole document."""
    (failure,) = export(tmp_path, image("caf\udce9", LABELS), image("cat", LABELS), formats=["coco-rle"])
    assert failure.name == "caf\udce9"
    assert "is not UTF-8: rename the photo" in failure.reason
    coco = pycocotools_data(tmp_path / "coco-rle.json")
    assert [entry["file_name"] for entry in coco.loadImgs(coco.getImgIds())] == ["cat.jpg"]
    assert coco.getAnnIds() == [1, 2, 3, 4]


def test_no_images_are_an_empty_data_set(tmp_path: Path) -> None:
    export(tmp_path, formats=["coco-rle"], labels=0)
    coco = pycocotools_data(tmp_path / "coco-rle.json")
    assert (coco.getImgIds(), coco.getAnnIds(), coco.getCatIds()) == ([], [], [])

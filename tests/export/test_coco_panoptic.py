"""COCO's panoptic format, read back by Datumaro and hotcoco."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    no_photo,
    pixels,
)

from dynaseg_cli.export.coco import segment_colors
from dynaseg_cli.export.source import ExportImage, Segments, labels_as_segments

BOTH = pytest.mark.parametrize("segments", [labels_as_segments(LABELS), REGIONS], ids=["labels", "regions"])


def document(folder: Path) -> Any:
    return json.loads((folder / "coco-panoptic.json").read_text())


@BOTH
def test_datumaro_reads_the_masks_of_all_segments(tmp_path: Path, segments: Segments) -> None:
    one = labels_as_segments(np.zeros((1, 1), np.uint8))
    export(tmp_path, image("a b", segments), image("sub/ü", one), formats=["coco-panoptic"])
    folder = as_coco_folder(tmp_path, tmp_path / "set", "panoptic")
    assert datumaro_masks(folder, "coco_panoptic") == {"a b": expected_masks(segments), "sub/ü": expected_masks(one)}


@pytest.mark.parametrize(("regions", "kind"), [(False, "Stuff"), (True, "Things")])
def test_hotcoco_finds_a_data_set_equal_to_itself(tmp_path: Path, regions: bool, kind: str) -> None:
    """As panopticapi, it compares the segments of the document with the pictures: none may lack in either."""
    hotcoco = pytest.importorskip("hotcoco.panoptic", reason="no hotcoco here: panoptic files are not read back by it")
    export(tmp_path, image("cat", REGIONS), image("sub/dog", REGIONS), formats=["coco-panoptic"], regions=regions)
    file = str(tmp_path / "coco-panoptic.json")
    found = hotcoco.pq_compute(file, file)
    assert found["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 4}
    assert found[kind]["n"] == 4


@BOTH
def test_the_document_says_what_is_in_the_pictures(tmp_path: Path, segments: Segments) -> None:
    export(tmp_path, image("sub/cat", segments), formats=["coco-panoptic"])
    found = document(tmp_path)
    (annotation,) = found["annotations"]
    assert found["images"] == [{"id": 1, "file_name": "sub/cat.jpg", "width": 5, "height": 3}]
    assert (annotation["image_id"], annotation["file_name"]) == (1, "sub/cat.png")
    colors = pixels(tmp_path / "coco-panoptic/sub/cat.png").astype(int)
    numbers = colors @ [1, 256, 65536]
    assert numbers.tolist() == (segments.of_pixel + 1).tolist()
    for entry, (label, mask) in zip(annotation["segments_info"], masks(segments).values(), strict=True):
        assert np.array_equal(numbers == entry["id"], mask)
        assert (entry["category_id"], entry["area"], entry["iscrowd"]) == (label + 1, mask.sum(), 0)
        rows, columns = np.nonzero(mask)
        x, y, width, height = entry["bbox"]
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_labels_are_stuff_and_regions_are_things(tmp_path: Path) -> None:
    for folder, regions in ((tmp_path / "labels", False), (tmp_path / "regions", True)):
        export(folder, image("cat", REGIONS), formats=["coco-panoptic"], regions=regions)
        categories = document(folder)["categories"]
        assert [category["isthing"] for category in categories] == [int(regions)] * 5
        assert [category["id"] for category in categories] == [1, 2, 3, 4, 5]
        assert categories[0]["color"] == [153, 170, 187]


def test_numbers_of_24_bits_are_colours() -> None:
    numbers = np.array([[0, 254, 255], [256, 65535, (1 << 24) - 2]], np.int32)
    assert segment_colors(numbers).tolist() == [
        [[1, 0, 0], [255, 0, 0], [0, 1, 0]],
        [[1, 1, 0], [0, 0, 1], [255, 255, 255]],
    ]
    assert segment_colors(np.array([[255]], np.uint8)).tolist() == [[[0, 1, 0]]]
    assert segment_colors(np.array([[65535]], np.uint16)).tolist() == [[[0, 0, 1]]]


def test_more_segments_than_a_colour_numbers_are_refused(tmp_path: Path) -> None:
    segments = Segments(np.array([[(1 << 24) - 1]]), np.zeros(1 << 24, np.uint8))
    (failure,) = export(tmp_path, image("a", segments), formats=["coco-panoptic"])
    assert failure.reason == "has segment 16777215, and a colour of 24 bits numbers them up to 16777214"


def test_another_export_leaves_no_picture_of_the_one_before(tmp_path: Path) -> None:
    export(tmp_path, image("gone", LABELS), image("sub/gone", LABELS), image("cat", LABELS), formats=["coco-panoptic"])
    (tmp_path / "coco-panoptic/notes.txt").write_text("mine")
    export(tmp_path, image("cat", LABELS.T), formats=["coco-panoptic"])
    assert sorted(path.name for path in (tmp_path / "coco-panoptic").rglob("*")) == ["cat.png", "notes.txt"]
    assert [entry["file_name"] for entry in document(tmp_path)["annotations"]] == ["cat.png"]


def test_an_export_that_is_broken_off_leaves_no_document(tmp_path: Path) -> None:
    """Pictures are replaced one by one: until they are, no document says what is in them."""

    def read() -> Segments:
        assert not (tmp_path / "coco-panoptic.json").exists()
        raise KeyboardInterrupt

    export(tmp_path, image("cat", LABELS), formats=["coco-panoptic"])
    with pytest.raises(KeyboardInterrupt):
        export(
            tmp_path, image("cat", LABELS.T), ExportImage("dog", "dog.jpg", read, no_photo), formats=["coco-panoptic"]
        )
    assert not (tmp_path / "coco-panoptic.json").exists()


def test_no_images_are_an_empty_data_set(tmp_path: Path) -> None:
    export(tmp_path, formats=["coco-panoptic"])
    folder = as_coco_folder(tmp_path, tmp_path / "set", "panoptic")
    assert datumaro_masks(folder, "coco_panoptic") == {}

"""YOLO's polygons, read back by supervision."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from export_samples import export, image
from outline_samples import NESTED, NESTED_REGIONS, inside
from PIL import Image

from dynaseg_cli.config import ExportConfig

pytest.importorskip("shapely", reason="no shapely here: there are no polygons")

EXACT = ExportConfig(tolerance=0)


def test_each_line_is_a_label_and_the_outline_of_a_part(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED_REGIONS), formats=["yolo-seg"], labels=6, config=EXACT, regions=True)
    lines = (tmp_path / "yolo-seg/labels/cat.txt").read_text().splitlines()
    assert len(lines) == 9
    for number, line in enumerate(lines):
        label, *shares = line.split()
        assert int(label) == NESTED_REGIONS.labels[number]
        ring = np.array(shares, dtype=float).reshape(-1, 2)
        assert 0 <= ring.min() <= ring.max() <= 1
        mask = inside(ring * (9, 6), NESTED.shape)
        assert np.array_equal(mask, NESTED_REGIONS.of_pixel == number)


def test_supervision_reads_labels_and_masks(tmp_path: Path) -> None:
    """It fills polygons with their edges, so that each mask is a pixel wider, to the right and below."""
    supervision = pytest.importorskip("supervision", reason="no supervision here: YOLO is not read back")
    scaled = NESTED.repeat(20, axis=0).repeat(20, axis=1)
    export(tmp_path, image("cat", scaled), formats=["yolo-seg"], labels=6, config=EXACT)
    folder = tmp_path / "yolo-seg"
    (folder / "images").mkdir()
    Image.new("RGB", scaled.shape[::-1]).save(folder / "images/cat.jpg")
    found = supervision.DetectionDataset.from_yolo(
        str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"), force_masks=True
    )
    assert found.classes == [f"label {label}" for label in range(6)]
    ((_, _, detections),) = found
    assert sorted(detections.class_id.tolist()) == [0, 1, 2, 2, 2, 2, 3, 4, 5]
    for label in range(6):
        mask = np.any(detections.mask[detections.class_id == label], axis=0)
        assert mask[scaled == label].all()
        assert mask.sum() < 1.35 * (scaled == label).sum()


def test_the_data_set_names_its_photos_and_labels(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), image("sub/a b", NESTED, ".PNG"), formats=["yolo-seg"], labels=6)
    folder = tmp_path / "yolo-seg"
    assert (folder / "images.txt").read_text() == "./images/cat.jpg\n./images/sub/a b.PNG\n"
    data = (folder / "data.yaml").read_text().splitlines()
    assert data[2:4] == ["train: images.txt", "val: images.txt"]
    assert data[4] == 'names: ["label 0", "label 1", "label 2", "label 3", "label 4", "label 5"]'


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), image("sub/a b", NESTED), formats=["yolo-seg"], labels=6)
    lines = (tmp_path / "yolo-seg/labels.sha256").read_text().splitlines()
    for line, name in zip(lines, ["labels/cat.txt", "labels/sub/a b.txt"], strict=True):
        assert line == f"{hashlib.sha256((tmp_path / 'yolo-seg' / name).read_bytes()).hexdigest()}  {name}"


def test_a_damaged_list_of_checksums_is_as_none(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), image("dog", NESTED), formats=["yolo-seg"], labels=6)
    folder = tmp_path / "yolo-seg"
    (folder / "labels.sha256").write_bytes(b"\xff\xfe nonsense\n")
    assert export(tmp_path, image("cat", NESTED), formats=["yolo-seg"], labels=6) == []
    assert (folder / "labels/dog.txt").is_file()
    assert (folder / "labels.sha256").read_text().endswith("  labels/cat.txt\n")


def test_there_is_no_data_set_while_labels_are_replaced(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), formats=["yolo-seg"], labels=6)

    def read() -> None:
        assert not (tmp_path / "yolo-seg/data.yaml").exists()
        raise KeyboardInterrupt

    late = image("dog", NESTED)
    object.__setattr__(late, "read", read)
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, image("cat", NESTED), late, formats=["yolo-seg"], labels=6)
    assert not (tmp_path / "yolo-seg/data.yaml").exists()


@pytest.mark.parametrize("name", ["a\u2028b", "images/a", "sub/images/a"])
def test_a_photo_that_yolo_would_not_find_is_refused(tmp_path: Path, name: str) -> None:
    (failure,) = export(tmp_path, image(name, NESTED), image("cat", NESTED), formats=["yolo-seg"], labels=6)
    assert "rename the" in failure.reason
    assert (tmp_path / "yolo-seg/images.txt").read_text() == "./images/cat.jpg\n"

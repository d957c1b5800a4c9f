"""labelme's JSON: read by labelme itself where it is installed, and else looked at member by member."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_samples import export, image, no_photo
from outline_samples import NESTED, NESTED_REGIONS, inside
from PIL import Image

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.export.source import ExportImage, labels_as_segments

pytest.importorskip("shapely", reason="no shapely here: there are no polygons")

EXACT = ExportConfig(tolerance=0)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def with_photo(photo: Path, name: str = "sub/cat") -> ExportImage:
    return ExportImage(name, f"{name}.png", lambda: labels_as_segments(NESTED), no_photo, path=photo)


def test_shapes_are_the_parts_of_all_segments(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED_REGIONS), formats=["labelme"], labels=6, config=EXACT, regions=True)
    document = read(tmp_path / "labelme/cat.json")
    assert (document["imageHeight"], document["imageWidth"], document["imageData"]) == (6, 9, None)
    assert document["imagePath"] == "cat.jpg"
    for number, shape in enumerate(document["shapes"]):
        assert shape["shape_type"] == "polygon"
        assert shape["label"] == f"label {NESTED_REGIONS.labels[number]}"
        mask = inside(np.array(shape["points"]), NESTED.shape)
        assert np.array_equal(mask, NESTED_REGIONS.of_pixel == number)


def test_the_parts_of_a_label_are_a_group(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), formats=["labelme"], labels=6)
    shapes = read(tmp_path / "labelme/cat.json")["shapes"]
    assert [shape["group_id"] for shape in shapes] == [0, 1, 2, 2, 2, 2, 3, 4, 5]


def test_the_photo_is_found_from_the_file(tmp_path: Path) -> None:
    photo = tmp_path / "photos/sub/cat.png"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (9, 6)).save(photo)
    export(tmp_path / "out/export", with_photo(photo), formats=["labelme"], labels=6)
    file = tmp_path / "out/export/labelme/sub/cat.json"
    found = read(file)["imagePath"]
    assert found == "../../../../photos/sub/cat.png"
    assert (file.parent / found).samefile(photo)


def test_a_photo_that_is_gone_is_taken_to_lie_beside_the_file(tmp_path: Path) -> None:
    export(tmp_path, with_photo(tmp_path / "gone/cat.png"), formats=["labelme"], labels=6)
    assert read(tmp_path / "labelme/sub/cat.json")["imagePath"] == "cat.png"


def test_labelme_loads_the_shapes_and_the_photo(tmp_path: Path) -> None:
    loader = pytest.importorskip("labelme._label_file", reason="no labelme here: its files are not read back by it")
    photo = tmp_path / "cat.png"
    Image.new("RGB", (9, 6), (1, 2, 3)).save(photo)
    export(tmp_path / "out", with_photo(photo), formats=["labelme"], labels=6, config=EXACT)
    found = loader.LabelFile(str(tmp_path / "out/labelme/sub/cat.json"))
    assert found.image_data == photo.read_bytes()
    assert [shape["label"] for shape in found.shapes] == [f"label {label}" for label in (0, 1, 2, 2, 2, 2, 3, 4, 5)]

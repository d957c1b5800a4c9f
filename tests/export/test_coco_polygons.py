"""COCO's instances with polygons, read back by pycocotools and hotcoco."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_samples import export, image, pycocotools_data
from outline_samples import NESTED, NESTED_REGIONS

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.export.source import Segments, labels_as_segments

pytest.importorskip("shapely", reason="no shapely here: there are no polygons")
# pycocotools' own, when it decodes a mask with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

EXACT = ExportConfig(tolerance=0)
BOTH = pytest.mark.parametrize("segments", [labels_as_segments(NESTED), NESTED_REGIONS], ids=["labels", "regions"])


@BOTH
def test_pycocotools_reads_the_masks_of_all_segments(tmp_path: Path, segments: Segments) -> None:
    export(tmp_path, image("sub/cat", segments), formats=["coco-polygons"], labels=6, config=EXACT)
    coco = pycocotools_data(tmp_path / "coco-polygons.json")
    annotations = coco.loadAnns(coco.getAnnIds())
    for number, annotation in zip(np.unique(segments.of_pixel), annotations, strict=True):
        mask = segments.of_pixel == number
        assert annotation["category_id"] == segments.labels[number] + 1
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()
        assert (annotation["iscrowd"], annotation["image_id"]) == (0, 1)


def test_hotcoco_reads_the_masks_of_all_segments(tmp_path: Path) -> None:
    hotcoco = pytest.importorskip("hotcoco", reason="no hotcoco here: COCO is not read back by it")
    export(tmp_path, image("cat", NESTED_REGIONS), formats=["coco-polygons"], labels=6, config=EXACT)
    coco = hotcoco.COCO(str(tmp_path / "coco-polygons.json"))
    for number, annotation in enumerate(coco.loadAnns(coco.getAnnIds())):
        assert np.array_equal(coco.annToMask(annotation), NESTED_REGIONS.of_pixel == number)


def test_areas_and_boxes_are_those_of_the_pixels(tmp_path: Path) -> None:
    """As in coco-rle.json: a simplified outline encloses a little more or less."""
    coarse = ExportConfig(tolerance=50)
    export(tmp_path, image("cat", NESTED), formats=["coco-polygons", "coco-rle"], labels=6, config=coarse)
    polygons, masks = (pycocotools_data(tmp_path / f"coco-{name}.json").dataset for name in ("polygons", "rle"))
    assert polygons["images"] == masks["images"]
    for one, other in zip(polygons["annotations"], masks["annotations"], strict=True):
        assert {**one, "segmentation": None} == {**other, "segmentation": None}
        assert all(len(polygon) >= 6 for polygon in one["segmentation"])

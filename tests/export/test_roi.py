"""ROIs of ImageJ, read back by roifile."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_samples import export, image
from numpy.typing import NDArray
from outline_samples import NESTED, NESTED_REGIONS, inside

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.export.source import Segments
from dynaseg_cli.pictures.palette import label_color

pytest.importorskip("shapely", reason="no shapely here: there are no polygons")
roifile = pytest.importorskip("roifile", reason="no roifile here: there are no ROIs")

EXACT = ExportConfig(tolerance=0)


def mask_of(roi: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of a ROI; of a composite one, by the even-odd rule."""
    rings = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
    found = np.zeros(shape, dtype=bool)
    for ring in rings:
        found ^= inside(ring, shape)
    return found


def test_roifile_reads_the_mask_of_each_region(tmp_path: Path) -> None:
    export(tmp_path, image("sub/cat", NESTED_REGIONS), formats=["roi"], labels=6, config=EXACT, regions=True)
    found = roifile.roiread(tmp_path / "roi/sub/cat.zip")
    for number, roi in enumerate(found):
        label = int(NESTED_REGIONS.labels[number])
        assert roi.name == f"{label}-{number}"
        assert np.array_equal(mask_of(roi, NESTED.shape), NESTED_REGIONS.of_pixel == number)
        assert roi.stroke_color == bytes((255, *label_color(label)))
        assert roi.composite == (number in (0, 2))
        assert roi.roitype == (roifile.ROI_TYPE.RECT if roi.composite else roifile.ROI_TYPE.POLYGON)
    assert len(found) == 9


def test_parts_of_a_label_are_numbered(tmp_path: Path) -> None:
    export(tmp_path, image("cat", NESTED), formats=["roi"], labels=6, config=EXACT)
    found = roifile.roiread(tmp_path / "roi/cat.zip")
    assert [roi.name for roi in found] == ["0-0", "1-0", "2-0", "2-1", "2-2", "2-3", "3-0", "4-0", "5-0"]
    covered = np.zeros(NESTED.shape, dtype=int)
    for roi in found:
        covered += mask_of(roi, NESTED.shape) * (int(roi.name.split("-")[0]) + 1)
    assert np.array_equal(covered, NESTED + 1)


def test_parts_of_one_region_have_names_of_their_own(tmp_path: Path) -> None:
    split = Segments(np.array([[3, 0, 3]]), np.array([7, 0, 0, 2]))
    export(tmp_path, image("cat", split), formats=["roi"], labels=8, regions=True)
    with zipfile.ZipFile(tmp_path / "roi/cat.zip") as archive:
        assert archive.namelist() == ["7-0.roi", "2-3-0.roi", "2-3-1.roi"]
        assert archive.comment.startswith(b"dynaseg ")


def test_coordinates_beyond_16_bits_are_read_again(tmp_path: Path) -> None:
    wide = np.zeros((2, 70_000), np.uint8)
    wide[:, 66_000:] = 1
    export(tmp_path, image("wide", wide), formats=["roi"])
    _, right = roifile.roiread(tmp_path / "roi/wide.zip")
    assert sorted(map(tuple, right.coordinates().tolist())) == [(66000, 0), (66000, 2), (70000, 0), (70000, 2)]

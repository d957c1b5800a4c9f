"""Measurements as a person asks for them: from photos with sizes in their metadata to rows of a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from refusal import refused
from samples import save_photo
from test_segment import dynaseg, segment

from dynaseg_cli.engine.engine import Engine

TABLE = Path("photos-dynaseg/export/measurements.csv")
HEIGHT, WIDTH = 20, 24
VALUES = np.random.default_rng(0).integers(0, 1 << 16, (HEIGHT, WIDTH), dtype=np.uint16)


@pytest.fixture
def photos(here: Path) -> Path:
    """One photo that tells no size, one with tags of its resolution, and one in OME-TIFF."""
    (here / "photos/sub").mkdir(parents=True)
    save_photo(here / "photos/cat.png", 0, WIDTH, HEIGHT)
    tifffile.imwrite(here / "photos/cells.tif", VALUES, resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.7, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(here / "photos/sub/stack.ome.tif", VALUES, ome=True, metadata={"axes": "YX", **sizes})
    return Path("photos")


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def test_regions_are_measured_in_the_numbers_and_units_of_their_files(photos: Path) -> None:
    result = segment(photos, "--save", "labels,stats,regions", "--export", "csv,parquet")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "exported as csv, parquet to photos-dynaseg/export" in result.stderr
    found = rows()
    sizes = {row["file"]: (row["unit"], row["pixel_size-0"], row["pixel_size-1"]) for row in found}
    assert sizes == {
        "cat.png": ("", "", ""),
        "cells.tif": ("um", "0.5", "0.5"),
        "sub/stack.ome.tif": ("nm", "0.7", "0.5"),
    }
    regions = np.asarray(Image.open("photos-dynaseg/regions/cells.png"))
    of_cells = [row for row in found if row["file"] == "cells.tif"]
    assert [int(row["region"]) for row in of_cells] == list(range(regions.max() + 1))
    told = json.loads(Path("photos-dynaseg/stats/cells.json").read_text())["regions"]
    for row, region in zip(of_cells, told, strict=True):
        values = VALUES[regions == int(row["region"])].astype(np.float64)
        assert float(row["intensity_mean-0"]) == pytest.approx(values.mean())
        assert float(row["intensity_std-0"]) == pytest.approx(values.std(), abs=1e-9)
        assert float(row["physical_area"]) == len(values) / 4
        assert (row["label"], row["area"]) == (str(region["label"]), str(region["pixels"]))
        assert row["neighbors"] == " ".join(map(str, region["neighbours"]))
        # The statistics have x first.
        assert [float(row["centroid-1"]), float(row["centroid-0"])] == pytest.approx(region["centroid"], abs=1e-3)


def test_a_finished_folder_is_measured_in_another_unit(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert segment(photos).exit_code == 0
    monkeypatch.setattr(Engine, "__init__", lambda *_, **__: pytest.fail("a network is made"))
    result = dynaseg("export", "photos-dynaseg", "--format", "csv", "--pixel-size", "10,20m")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    found = rows()
    assert {row["region"] for row in found} == {""}  # they are not saved
    assert {(row["unit"], row["pixel_size-0"], row["pixel_size-1"]) for row in found} == {("m", "20.0", "10.0")}
    assert sum(float(row["physical_area"]) for row in found) == 3 * HEIGHT * WIDTH * 200


def test_a_photo_that_is_gone_or_changed_is_named_and_left_out(photos: Path) -> None:
    segment(photos)
    (photos / "cat.png").unlink()
    save_photo(photos / "cells.tif", 5, WIDTH, HEIGHT)
    result = dynaseg("export", "photos-dynaseg", "--format", "voc,csv")
    assert result.exit_code == 1
    assert "cat" in result.stderr
    assert "the photo is not there" in result.stderr
    assert "the photo has changed since it was segmented" in result.stderr
    assert {row["file"] for row in rows()} == {"sub/stack.ome.tif"}


@pytest.mark.parametrize("size", ["5", "0um", "1um,2um", "3furlong", "um"])
def test_a_size_that_is_none_is_refused_before_any_work(photos: Path, size: str) -> None:
    message = refused(segment(photos, "--export", "csv", "--pixel-size", size))
    assert "--pixel-size must be a positive number and a unit" in message
    assert not Path("photos-dynaseg").exists()

"""GeoJSON of georeferenced photos, drawn again by GDAL through rasterio."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from export_samples import export, image
from map_samples import CONTROL_POINTS, MAPS, NOT_ON_A_MAP, rasterio
from numpy.typing import NDArray

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.errors import ImageError

features = pytest.importorskip("rasterio.features")
shapely = pytest.importorskip("shapely", reason="no shapely here: there are no polygons")
EXACT = ExportConfig(tolerance=0)


def code_of(photo: bytes) -> int | None:
    with rasterio.MemoryFile(photo) as file, file.open() as dataset:
        return None if dataset.crs is None else dataset.crs.to_epsg()


WITH_CODE = [name for name, photo in MAPS.items() if name != "heights" and code_of(photo) is not None]
"""Maps of which GDAL knows the EPSG code, too. That of one with heights is of both systems together."""


def labels_for(photo: bytes) -> NDArray[np.uint8]:
    with tifffile.TiffFile(io.BytesIO(photo)) as file:
        size = file.pages.first.imagelength, file.pages.first.imagewidth
    return np.kron(np.random.default_rng(1).integers(0, 5, (5, 5)), np.ones((size[0] // 5 + 1, size[1] // 5 + 1)))[
        : size[0], : size[1]
    ].astype(np.uint8)


def written(folder: Path, photo: bytes, labels: NDArray[np.uint8]) -> Any:
    failures = export(folder, image("tile", labels, ".tif", lambda: photo), formats=["geojson"], config=EXACT)
    assert failures == []
    return json.loads((folder / "geojson/tile.geojson").read_text())


@pytest.mark.parametrize("name", WITH_CODE)
def test_gdal_draws_the_labels_again_from_the_shapes_on_the_map(tmp_path: Path, name: str) -> None:
    labels, code = labels_for(MAPS[name]), code_of(MAPS[name])
    document = written(tmp_path, MAPS[name], labels)
    with rasterio.MemoryFile(MAPS[name]) as file, file.open() as photo:
        pairs = [(feature["geometry"], feature["properties"]["label"]) for feature in document["features"]]
        drawn = features.rasterize(pairs, labels.shape, fill=255, transform=photo.transform)
    np.testing.assert_array_equal(drawn, labels)
    said = document["crs"]["properties"]["name"]
    assert said == {4326: "urn:ogc:def:crs:OGC:1.3:CRS84"}.get(code, f"urn:ogc:def:crs:EPSG::{code}")
    shapes = shapely.from_geojson(json.dumps(document)).geoms
    rings = [part.exterior for shape in shapes for part in getattr(shape, "geoms", [shape])]
    assert all(ring.is_ccw for ring in rings), "RFC 7946, 3.1.6"


def test_degrees_are_longitude_and_latitude(tmp_path: Path) -> None:
    document = written(tmp_path, MAPS["degrees"], labels_for(MAPS["degrees"]))
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:OGC:1.3:CRS84"
    west, south, east, north = shapely.from_geojson(json.dumps(document)).bounds
    assert (west, north) == (8.9, 49.1)
    assert west < east and south < north


@pytest.mark.parametrize("name", NOT_ON_A_MAP)
def test_other_photos_keep_the_coordinates_of_the_image(tmp_path: Path, name: str) -> None:
    labels = labels_for(NOT_ON_A_MAP[name])
    document = written(tmp_path, NOT_ON_A_MAP[name], labels)
    assert "crs" not in document
    assert shapely.from_geojson(json.dumps(document)).bounds == (0, 0, *labels.shape[::-1])


@pytest.mark.parametrize(
    ("photo", "why"),
    [
        (CONTROL_POINTS, "by control points alone"),
        (MAPS["a system of its own"], "without an EPSG code"),
        (MAPS["no system"], "without an EPSG code"),
    ],
    ids=["control points", "own system", "no system"],
)
def test_what_geojson_cannot_say_is_named_and_left_out(tmp_path: Path, photo: bytes, why: str) -> None:
    failures = export(
        tmp_path, image("tile", labels_for(photo), ".tif", lambda: photo), formats=["geojson"], config=EXACT
    )
    assert why in failures[0].reason
    assert "gdalwarp" in failures[0].reason
    assert not (tmp_path / "geojson/tile.geojson").exists()


def test_a_tiff_that_is_gone_is_named_and_other_formats_do_not_need_it(tmp_path: Path) -> None:
    def gone() -> bytes:
        raise ImageError("the photo is not there")

    labels = np.zeros((4, 5), np.uint8)
    failures = export(tmp_path, image("tile", labels, ".tif", gone), formats=["geojson", "svg"], config=EXACT)
    assert [(failure.format, failure.reason) for failure in failures] == [("geojson", "the photo is not there")]

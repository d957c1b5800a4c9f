"""Georeferenced photos of many kinds, written by GDAL through rasterio."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

rasterio = pytest.importorskip("rasterio", reason="no rasterio here: maps are not compared with GDAL")
shutil = pytest.importorskip("rasterio.shutil")

WIDTH, HEIGHT = 40, 30
CORNER = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def north_up(size: float, x: float, y: float) -> tuple[float, ...]:
    """A transform of square pixels, whose upper left corner is x, y."""
    return (size, 0.0, x, 0.0, -size, y)


TILTED = (0.1, 0.05, 3e5, 0.04, -0.12, 8.1e6)


def map_photo(
    crs: str | None,
    transform: tuple[float, ...] | None,
    *,
    bands: int = 3,
    dtype: str = "uint8",
    point: bool = False,
    pixels: NDArray[Any] | None = None,
    **options: Any,
) -> bytes:
    """A GeoTIFF of noise, or of (bands, H, W) `pixels`."""
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 200, (bands, HEIGHT, WIDTH)).astype(dtype)
    bands, height, width = pixels.shape
    profile: dict[str, Any] = {"driver": "GTiff", "width": width, "height": height, "count": bands, "crs": crs}
    profile |= {"dtype": pixels.dtype, "transform": rasterio.Affine(*transform) if transform else None, **options}
    with warnings.catch_warnings(), rasterio.MemoryFile() as file:
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with file.open(**profile) as dataset:
            dataset.write(pixels)
            if point:
                dataset.update_tags(AREA_OR_POINT="Point")
        return bytes(file.read())


def _cloud_optimised() -> bytes:
    content = map_photo("EPSG:32632", north_up(0.5, 4e5, 5.3e6), pixels=np.zeros((3, 1100, 900), np.uint8))
    with rasterio.MemoryFile(content) as file, rasterio.MemoryFile() as copy, file.open() as dataset:
        shutil.copy(dataset, copy.name, driver="COG", blocksize=256)
        return bytes(copy.read())


def with_tags(*tags: tuple[int, tuple[float, ...]], orientation: int = 1, **options: Any) -> bytes:
    """A plain TIFF of a few pixels, all different, with tags of 64-bit floating point numbers."""
    stream = io.BytesIO()
    extra = [(code, "d", len(values), values, True) for code, values in tags]
    turned = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(stream, PIXELS, photometric="minisblack", extratags=extra + turned, metadata=None, **options)
    return stream.getvalue()


PIXELS = (20 * np.arange(12, dtype=np.uint8)).reshape(3, 4)
SCALE, TIE_POINT = (33550, (0.5, 0.25, 0.0)), (33922, (1.0, 2.0, 0.0, 100.0, 200.0, 0.0))
MATRIX = (34264, (3.0, 1.0, 0.0, 7.0, 2.0, -5.0, 0.0, 9.0, *[0.0] * 7, 1.0))

MAPS: dict[str, bytes] = {
    "UTM north": map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6)),
    "UTM south": map_photo("EPSG:32733", north_up(10.0, 3e5, 8e6)),
    "degrees": map_photo("EPSG:4326", (1e-4, 0.0, 8.9, 0.0, -2e-4, 49.1)),
    "feet": map_photo("EPSG:2222", north_up(0.5, 7e5, 1e6)),
    "US survey feet": map_photo("EPSG:2263", north_up(0.5, 9e5, 2e5)),
    "tilted": map_photo("EPSG:32733", TILTED),
    "south up": map_photo("EPSG:3857", (2.0, 0.0, 10.0, 0.0, 2.0, 20.0)),
    "pixels are points": map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), point=True),
    "tilted points": map_photo("EPSG:25832", TILTED, point=True),
    "big-endian": map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), ENDIANNESS="BIG"),
    "BigTIFF": map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), BIGTIFF="YES"),
    "big-endian BigTIFF": map_photo("EPSG:4326", TILTED, BIGTIFF="YES", ENDIANNESS="BIG"),
    "tiled LZW": map_photo(
        "EPSG:3857", north_up(1.0, 1e6, 6e6), tiled=True, blockxsize=16, blockysize=16, compress="lzw"
    ),
    "four deep bands": map_photo("EPSG:32632", north_up(10.0, 4e5, 5.3e6), bands=4, dtype="uint16", nodata=0),
    "floats with no data": map_photo("EPSG:32632", north_up(10.0, 4e5, 5.3e6), bands=1, dtype="float32", nodata=-9999),
    "a system of its own": map_photo("+proj=laea +lat_0=10 +lon_0=20 +units=m", north_up(1.0, 10.0, 20.0)),
    "heights": map_photo("EPSG:25832+5783", north_up(1.0, 5e5, 5e6)),
    "GeoTIFF 1.1": map_photo("EPSG:2263", north_up(0.5, 9e5, 2e5), GEOTIFF_VERSION="1.1"),
    "degrees of GeoTIFF 1.1": map_photo("EPSG:4326", north_up(1e-4, 8.9, 49.1), GEOTIFF_VERSION="1.1"),
    "as ESRI writes": map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), GEOTIFF_KEYS_FLAVOR="ESRI_PE"),
    "no system": map_photo(None, north_up(1.0, 10.0, 20.0)),
    "cloud-optimised": _cloud_optimised(),
    "a scale below 0": with_tags((33550, (0.5, -0.25, 0.0)), TIE_POINT),
    "several tie points": with_tags(SCALE, (33922, TIE_POINT[1] * 2)),
    "scale and matrix": with_tags(SCALE, TIE_POINT, MATRIX),
    "tie point and matrix": with_tags(TIE_POINT, MATRIX),
}
"""Files with a transform."""

CONTROL_POINTS = map_photo(
    "EPSG:4326",
    None,
    gcps=[
        rasterio.control.GroundControlPoint(row, column, 9 + column / 100, 49 - row / 90)
        for row, column in ((0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH))
    ],
)
NOT_ON_A_MAP: dict[str, bytes] = {
    "plain": with_tags(),
    "scale alone": with_tags(SCALE),
    "system alone": map_photo("EPSG:25832", None),
}
DAMAGED: dict[str, bytes] = {
    "not finite": with_tags(SCALE, (33922, (0.0, 0.0, 0.0, np.nan, 1.0, 0.0))),
    "a tie point in part": with_tags(SCALE, (33922, (0.0, 0.0, 0.0, 1.0))),
    "a matrix in part": with_tags((34264, MATRIX[1][:12])),
    "one line": with_tags((34264, (1.0, 2.0, 0.0, 0.0, 2.0, 4.0, *[0.0] * 9, 1.0))),
    "a scale of one number": with_tags((33550, (1.0,)), TIE_POINT),
}

"""The size of a pixel, as it is given, and as files of tifffile, Pillow and rasterio tell it."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.config import ExportConfig, PixelSize
from dynaseg_cli.errors import UsageError
from dynaseg_cli.images.pixel_size import PRINT_DENSITIES, read_pixel_size

PROJECTED, GEOGRAPHIC = 1, 2


def tiff(**options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((20, 30), np.uint16), **options)
    return stream.getvalue()


def ome(**sizes: Any) -> bytes:
    return tiff(ome=True, metadata={"axes": "YX", **sizes})


def geotiff(scale: tuple[float, ...], model: int, unit: int, *more: Any, **options: Any) -> bytes:
    keys = (1, 1, 0, 2, 1024, 0, 1, model, 3076, 0, 1, unit)
    place = (0.0, 0.0, 0.0, 5e5, 5e6, 0.0)
    tags = [(33550, "d", len(scale), scale, True), (33922, "d", 6, place, True), (34735, "H", len(keys), keys, True)]
    return tiff(extratags=[*tags, *more], metadata=None, **options)


def size_of(content: bytes) -> tuple[float, float, str] | None:
    """Height, width and unit, rounded to what a rational of a tag can hold."""
    found = read_pixel_size(content)
    return None if found is None else (float(f"{found.height:.6g}"), float(f"{found.width:.6g}"), found.unit)


# As it is given


@pytest.mark.parametrize(
    ("text", "height", "width", "unit"),
    [
        ("0.5um", 0.5, 0.5, "um"),
        ("10m", 10, 10, "m"),
        ("0.5,0.7um", 0.7, 0.5, "um"),
        (" 0.5 , .7 µm ", 0.7, 0.5, "um"),
        ("1e3NM", 1000, 1000, "nm"),
        ("1.5e-2in", 0.015, 0.015, "in"),
        ("2 microns", 2, 2, "um"),
    ],
)
def test_a_size_is_a_number_or_two_and_a_unit(text: str, height: float, width: float, unit: str) -> None:
    ExportConfig(pixel_size=text)
    assert PixelSize.parse(text) == PixelSize(height=height, width=width, unit=unit)


@pytest.mark.parametrize(
    "text",
    ["", "5", "um", "0um", "-1um", "0,5um", "1,2,3um", "0.5um,0.7um", "3furlong", "nan", "infm", "1e400m", "1e10m"],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"`pixel_size` must be a positive number and a unit .* such as 0.5um or 10m"):
        ExportConfig(pixel_size=text)


# TIFF


@pytest.mark.parametrize(
    ("per_unit", "unit", "expected"),
    [
        ((20_000, 20_000), "CENTIMETER", (0.5, 0.5, "um")),
        ((20_000, 10_000), "CENTIMETER", (1, 0.5, "um")),
        ((25_400, 25_400), "INCH", (1, 1, "um")),
        ((100, 100), "CENTIMETER", (100, 100, "um")),
        ((1200, 1200), "INCH", (21.1667, 21.1667, "um")),
        ((20_000, 20_000), "NONE", None),
        ((1, 1), "CENTIMETER", None),
        ((1, 1), "INCH", None),
        ((0, 0), "CENTIMETER", None),
    ],
)
def test_resolution_is_pixels_across_and_down_a_unit(
    per_unit: tuple[int, int], unit: str, expected: tuple[float, float, str] | None
) -> None:
    assert size_of(tiff(resolution=per_unit, resolutionunit=unit, metadata=None)) == expected


@pytest.mark.parametrize("dots", PRINT_DENSITIES)
def test_a_density_for_print_is_no_size(dots: int) -> None:
    assert size_of(tiff(resolution=(dots, dots), resolutionunit="INCH", metadata=None)) is None
    rounded = round(dots / 2.54)
    assert size_of(tiff(resolution=(rounded, rounded), resolutionunit="CENTIMETER", metadata=None)) is None


def test_a_resolution_without_a_unit_is_no_size() -> None:
    content = bytearray(tiff(resolution=(20_000, 20_000), resolutionunit="CENTIMETER", metadata=None))
    place = content.index(struct.pack("<HHI", 296, 3, 1))
    content[place : place + 2] = struct.pack("<H", 297)  # another tag
    assert size_of(bytes(content)) is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sides_are_those_of_the_photo_as_it_is_turned(orientation: int) -> None:
    turned = (274, "H", 1, orientation, True)
    found = size_of(tiff(resolution=(20_000, 10_000), resolutionunit=3, metadata=None, extratags=[turned]))
    assert found == ((0.5, 1, "um") if orientation > 4 else (1, 0.5, "um"))


def test_pillows_resolution_is_read() -> None:
    assert size_of(encoded(noise(), "TIFF", dpi=(50_800, 50_800))) == (0.5, 0.5, "um")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP"])
def test_other_formats_tell_no_size(file_format: str) -> None:
    assert read_pixel_size(encoded(noise(), file_format, dpi=(50_800, 50_800))) is None


# ImageJ


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("um", (0.25, 0.5, "um")),
        ("micron", (0.25, 0.5, "um")),
        ("\\u00B5m", (0.25, 0.5, "um")),
        ("nm", (0.25, 0.5, "nm")),
        ("cm", (0.25, 0.5, "cm")),
        ("pixel", None),
        ("furlong", None),
        ("", None),
    ],
)
def test_imagej_names_the_unit(unit: str, expected: tuple[float, float, str] | None) -> None:
    assert size_of(tiff(imagej=True, resolution=(2, 4), metadata={"unit": unit})) == expected


def test_imagej_with_a_pixel_of_one_unit() -> None:
    assert size_of(tiff(imagej=True, resolution=(1, 1), metadata={"unit": "um"})) == (1, 1, "um")


def test_imagej_hands_on_a_density_for_print() -> None:
    assert size_of(tiff(imagej=True, resolution=(72, 72), metadata={"unit": "inch"})) is None


def test_imagej_with_other_units_down_than_across() -> None:
    assert size_of(tiff(imagej=True, resolution=(2, 4), metadata={"unit": "um", "yunit": "mm"})) is None


# OME


def test_ome_has_physical_sizes() -> None:
    both = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.7}
    assert size_of(ome(**both)) == (0.7, 0.5, "um")  # its default unit
    for name, unit in (("nm", "nm"), ("µm", "um"), ("mm", "mm")):
        assert size_of(ome(**both, PhysicalSizeXUnit=name, PhysicalSizeYUnit=name)) == (0.7, 0.5, unit)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"PhysicalSizeX": 0.5},
        {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "mm"},
        {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "pixel", "PhysicalSizeYUnit": "pixel"},
    ],
)
def test_ome_without_a_size_of_one_unit(sizes: dict[str, Any]) -> None:
    assert size_of(ome(**sizes)) is None


def test_ome_counts_more_than_the_resolution() -> None:
    content = tiff(
        ome=True,
        resolution=(10_000, 10_000),
        resolutionunit="CENTIMETER",
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    assert size_of(content) == (0.5, 0.5, "um")
    assert size_of(content.replace(b'PhysicalSizeX="0.5"', b'PhysicalSizeX="-.5"')) == (1, 1, "um")


def test_ome_that_defines_entities_is_not_read() -> None:
    """They could grow to gigabytes."""
    sizes = '<OME><Image><Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.7"/></Image></OME>'
    for prolog, expected in (("", (0.7, 0.5, "um")), ('<!DOCTYPE OME [<!ENTITY a "aaaa">]>', None)):
        assert size_of(tiff(description=f'<?xml version="1.0"?>{prolog}{sizes}', metadata=None)) == expected


# GeoTIFF


@pytest.mark.parametrize(("code", "unit"), [(9001, "m"), (9002, "ft"), (9003, "US survey ft")])
def test_a_projected_map_has_a_pixel_scale(code: int, unit: str) -> None:
    assert size_of(geotiff((10.0, 20.0, 0.0), PROJECTED, code)) == (20, 10, unit)


def test_a_map_counts_more_than_the_resolution_and_is_turned_as_the_photo() -> None:
    turned = (274, "H", 1, 6, True)
    content = geotiff((10.0, 20.0, 0.0), PROJECTED, 9001, turned, resolution=(20_000, 20_000), resolutionunit=3)
    assert size_of(content) == (10, 20, "m")
    degrees = geotiff((0.1, 0.1, 0.0), GEOGRAPHIC, 9102, resolution=(20_000, 20_000), resolutionunit=3)
    assert size_of(degrees) == (0.5, 0.5, "um")


def test_a_height_below_0_is_a_height() -> None:
    assert size_of(geotiff((10.0, -20.0, 0.0), PROJECTED, 9001)) == (20, 10, "m")


@pytest.mark.parametrize(
    ("model", "unit"), [(GEOGRAPHIC, 9001), (PROJECTED, 9102), (PROJECTED, 32767)], ids=["degrees", "angle", "own unit"]
)
def test_a_pixel_of_a_map_without_a_unit_of_length_has_no_size(model: int, unit: int) -> None:
    assert size_of(geotiff((0.1, 0.1, 0.0), model, unit)) is None


def test_rasterio_writes_what_is_read() -> None:
    rasterio = pytest.importorskip("rasterio", reason="no rasterio here: its GeoTIFF is not read back")
    for crs, expected in (("EPSG:32633", (20, 10, "m")), ("EPSG:2263", (20, 10, "US survey ft")), ("EPSG:4326", None)):
        with rasterio.MemoryFile() as file:
            place = rasterio.Affine(10, 0, 5e5, 0, -20, 5e6)
            shape = {"width": 30, "height": 20, "count": 1, "dtype": "uint16"}
            with file.open(driver="GTiff", crs=crs, transform=place, **shape) as data:
                data.write(np.zeros((1, 20, 30), np.uint16))
            assert size_of(file.read()) == expected


# Damage


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"no image"])
def test_what_is_no_tiff_tells_no_size(content: bytes) -> None:
    assert read_pixel_size(content) is None


@pytest.mark.parametrize("scale", [(10.0,), (0.0, 0.0, 0.0), (math.nan, math.nan, 0.0), (1e300, 1e300, 0.0)])
def test_a_damaged_scale_is_none(scale: tuple[float, ...]) -> None:
    assert size_of(geotiff(scale, PROJECTED, 9001)) is None


@pytest.mark.parametrize(
    "content",
    [
        ome(PhysicalSizeX=0.5, PhysicalSizeY=0.7),
        tiff(imagej=True, resolution=(2, 4), metadata={"unit": "um"}),
        geotiff((10.0, 20.0, 0.0), PROJECTED, 9001),
    ],
    ids=["OME", "ImageJ", "GeoTIFF"],
)
def test_flipped_bytes_tell_a_size_or_none(content: bytes) -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        damaged = np.frombuffer(content, np.uint8).copy()
        places = random.integers(0, len(damaged), 10)
        damaged[places] = random.integers(0, 256, 10)
        found = read_pixel_size(damaged.tobytes())
        assert found is None or (found.height > 0 and found.width > 0)


def test_a_photo_in_exif_orientation_keeps_its_own_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert size_of(encoded(noise(), "TIFF", exif=exif, dpi=(25_400, 50_800))) == (1, 0.5, "um")

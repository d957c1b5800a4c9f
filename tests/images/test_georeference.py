"""Where photos lie on maps, compared with GDAL."""

from __future__ import annotations

import contextlib
import struct
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from map_samples import (
    CONTROL_POINTS,
    DAMAGED,
    MAPS,
    MATRIX,
    NOT_ON_A_MAP,
    PIXELS,
    SCALE,
    TIE_POINT,
    map_photo,
    rasterio,
    with_tags,
)
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.images.georeference import Georeference, _unit_of, read_georeference

UNITS = {"metre": "m", "foot": "ft", "US survey foot": "US survey ft", "degree": "degree"}

HORIZONTAL = {"heights": 25832}
"""Codes of maps in a system with heights, which together have none."""


def found(content: bytes) -> Georeference:
    georeference = read_georeference(content)
    assert georeference is not None
    return georeference


def by_gdal(content: bytes) -> Any:
    with rasterio.MemoryFile(content) as file, file.open() as dataset:
        return dataset.transform, dataset.crs


@pytest.mark.parametrize("name", MAPS)
def test_transform_system_and_unit_are_those_of_gdal(name: str) -> None:
    transform, crs = by_gdal(MAPS[name])
    georeference = found(MAPS[name])
    np.testing.assert_allclose(georeference.transform, transform[:6], rtol=1e-15)
    assert georeference.epsg == HORIZONTAL.get(name, None if crs is None else crs.to_epsg())
    assert georeference.unit == (None if crs is None else UNITS[crs.units_factor[0]])
    assert georeference.control_points == 0


@given(st.lists(st.floats(-1e7, 1e7, width=32), min_size=6, max_size=6), st.booleans())
def test_any_transform_is_that_of_gdal(numbers: list[float], point: bool) -> None:
    a, b, c, d, e, f = numbers
    assume(abs(a * e - b * d) > 1e-3 * (abs(a * e) + abs(b * d)) + 1e-30)  # or all pixels lie on one line
    content = map_photo("EPSG:3857", (a, b, c, d, e, f), pixels=np.zeros((1, 2, 3), np.uint8), point=point)
    size = max(map(abs, numbers))
    np.testing.assert_allclose(found(content).transform, by_gdal(content)[0][:6], rtol=1e-12, atol=1e-15 * size)


def test_the_name_of_the_system_is_that_of_the_file() -> None:
    assert found(MAPS["UTM north"]).citation == "ETRS89 / UTM zone 32N"
    assert found(MAPS["degrees"]).citation == "WGS 84"
    assert found(MAPS["no system"]).citation is None


def test_a_unit_that_only_the_code_gives_is_not_known_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyproj", None)
    _unit_of.cache_clear()
    assert found(MAPS["GeoTIFF 1.1"]).pixel_size is None
    assert found(MAPS["US survey feet"]).pixel_size == (0.5, 0.5, "US survey ft")
    _unit_of.cache_clear()


@pytest.mark.parametrize(("code", "unit"), [(4807, None), (5880, "m"), (9999, None)])
def test_units_of_codes(code: int, unit: str | None) -> None:
    """Grads; metres of a system not of UTM; a code that there is not."""
    assert _unit_of(code) == unit


def test_the_size_of_pixels_goes_along_their_sides() -> None:
    assert found(with_tags(SCALE, TIE_POINT)).pixel_size is None  # without a unit
    assert found(MAPS["degrees"]).pixel_size == (2e-4, 1e-4, "degree")
    # A step to the right goes 3 east and 4 north, and one down 12 east and 5 south.
    tilted = found(map_photo("EPSG:2263", (3.0, 12.0, 0.0, 4.0, -5.0, 0.0)))
    assert tilted.pixel_size == (13.0, 5.0, "US survey ft")
    assert found(CONTROL_POINTS).pixel_size is None


def test_control_points_are_no_transform() -> None:
    georeference = found(CONTROL_POINTS)
    assert (georeference.transform, georeference.control_points) == (None, 4)
    assert (georeference.epsg, georeference.unit) == (4326, "degree")
    assert found(with_tags(TIE_POINT)).control_points == 1


@pytest.mark.parametrize("name", NOT_ON_A_MAP)
def test_a_tiff_that_does_not_say_where_it_lies_has_no_georeference(name: str) -> None:
    assert read_georeference(NOT_ON_A_MAP[name]) is None


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no image", encoded(noise(), "PNG"), encoded(noise(), "JPEG")])
def test_what_is_no_tiff_has_no_georeference(content: bytes) -> None:
    assert read_georeference(content) is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("tags", [(SCALE, TIE_POINT), (MATRIX,)], ids=["scale", "matrix"])
def test_a_photo_that_is_turned_lies_where_its_pixels_lie(tags: Any, orientation: int) -> None:
    content = with_tags(*tags, orientation=orientation)
    georeference, turned = found(content), decode(content, 100)[..., 0]
    assert np.array_equal(georeference.as_stored(turned), PIXELS)
    for (row, column), value in np.ndenumerate(turned):
        ((row_stored, column_stored),) = np.argwhere(value == PIXELS)
        here = centre(georeference.transform, row, column)
        assert here == centre(by_gdal(content)[0], row_stored, column_stored)


def centre(transform: Any, row: int, column: int) -> tuple[float, float]:
    """Where the middle of a pixel lies on the map."""
    a, b, c, d, e, f = transform[:6]
    return a * (column + 0.5) + b * (row + 0.5) + c, d * (column + 0.5) + e * (row + 0.5) + f


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error_for_those_who_ask_and_for_nobody_else(name: str) -> None:
    with pytest.raises(DecodeError, match="what its tags say of its place on a map is damaged"):
        read_georeference(DAMAGED[name])
    assert np.array_equal(decode(DAMAGED[name], 100)[..., 0], PIXELS)


def test_damaged_names_of_the_system_are_an_error() -> None:
    content = MAPS["UTM north"]
    (place,) = (at for at in range(len(content)) if content.startswith(struct.pack("<4H", 1, 1, 0, 7), at))
    with pytest.raises(DecodeError, match=r"its GeoKeys.* are damaged"):
        read_georeference(content[:place] + b"\7" + content[place + 1 :])


def test_tags_beyond_the_end_of_the_file_are_an_error() -> None:
    content = with_tags(SCALE, TIE_POINT)
    entry = content.index(struct.pack("<HHI", 33922, 12, 6))
    beyond = content[: entry + 8] + struct.pack("<I", 1 << 20) + content[entry + 12 :]
    with pytest.raises(DecodeError, match="beyond its end"):
        read_georeference(beyond)
    assert np.array_equal(decode(beyond, 100)[..., 0], PIXELS)


def test_no_tag_makes_a_reader_fail_in_another_way() -> None:
    """Bytes of the tags at random: an error that is named, or none."""
    content, draw = MAPS["tilted points"], np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(300):
            damaged = bytearray(content)
            for at in draw.integers(8, 700, 3):
                damaged[at] = draw.integers(256)
            with contextlib.suppress(DecodeError):
                read_georeference(bytes(damaged))

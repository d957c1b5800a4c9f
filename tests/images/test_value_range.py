from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from samples import encoded

from dynaseg_cli.config import ValueRange
from dynaseg_cli.images import value_range
from dynaseg_cli.images.decoding import Photo, decode_photo, is_deep
from dynaseg_cli.images.deep import StoredImage
from dynaseg_cli.images.value_range import SENTINELS, to_8_bits

ROWS, COLUMNS = np.mgrid[:60, :90]
DISCS = ((COLUMNS - 25) ** 2 + (ROWS - 25) ** 2 < 200) | ((COLUMNS - 65) ** 2 + (ROWS - 35) ** 2 < 100)
LIMIT = 1_000_000


def discs(ground: float, height: float, dtype: Any) -> NDArray[Any]:
    return np.where(DISCS, height, ground).astype(dtype)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    """Written by a library of its own."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def with_values(values: NDArray[Any], places: Any, number: float) -> NDArray[Any]:
    changed = values.copy()
    changed[places] = number
    return changed


FLOATS = discs(1.0, 2.5, np.float32)
COLORS = np.stack([discs(10, 60, np.uint16), discs(40, 300, np.uint16), discs(70, 20, np.uint16)], axis=-1)
FILES: dict[str, bytes] = {
    "16-bit JPEG 2000": encoded(discs(100, 30, np.uint16), "JPEG2000"),
    "16-bit grey PNG": encoded(discs(100, 30, np.uint16), "PNG"),
    "16-bit grey TIFF": tiff(discs(100, 30, np.uint16)),
    "16-bit PGM": b"P5 90 60 65535\n" + discs(100, 30, ">u2").tobytes(),
    "CT": tiff(discs(-700, 60, np.int16)),
    "32-bit integers": tiff(discs(100_000, 200_000, np.uint32)),
    "signed 32-bit integers": tiff(discs(-100_000, 200_000, np.int32)),
    "64-bit integers": tiff(discs(-1e12, 1e12, np.int64)),
    "signed bytes": tiff(discs(-5, 100, np.int8)),
    "12 bits in 16": tiff(discs(200, 3000, np.uint16)),
    "one nodata": tiff(with_values(FLOATS, (0, 5), -3.4e38)),
    "much nodata": tiff(with_values(FLOATS, slice(0, 5), -9999)),
    "declared nodata": tiff(with_values(FLOATS, slice(0, 5), 77), extratags=[(42113, 2, 0, "77", True)]),
    "NaN": tiff(with_values(FLOATS, slice(0, 5), np.nan)),
    "infinities": tiff(with_values(FLOATS, slice(0, 5), np.inf)),
    "least of its type": tiff(with_values(discs(-700, 60, np.int16), slice(0, 5), -32768)),
    "double precision": tiff(discs(1e9 + 1, 1e9 + 2, np.float64)),
    "half precision": tiff(discs(0.1, 0.9, np.float16)),
    "big-endian": tiff(discs(100, 30, ">u2"), byteorder=">"),
    "big-endian floats": tiff(discs(1, 2, ">f8"), byteorder=">"),
    "BigTIFF": tiff(discs(100, 30, np.uint16), bigtiff=True),
    "first of two bands": tiff(
        np.dstack([discs(3, 9, np.uint16), COLORS[..., 0]]), photometric="minisblack", planarconfig="contig"
    ),
    "16-bit colour TIFF": tiff(COLORS, photometric="rgb"),
    "in planes": tiff(COLORS.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
    "five bands": tiff(np.dstack([COLORS, COLORS[..., :2]]), photometric="minisblack", planarconfig="contig"),
    "inks": tiff(np.dstack([COLORS, COLORS[..., 0]]), photometric="separated"),
    "white is zero": tiff(discs(100, 30, np.uint16), photometric="miniswhite"),
}


@pytest.mark.parametrize("name", FILES)
def test_discs_of_any_kind_of_numbers_are_seen(name: str) -> None:
    photo = decode_photo(FILES[name], LIMIT)
    inside, outside = (photo.pixels[5:][places[5:]] for places in (DISCS, ~DISCS))
    assert len(np.unique(inside, axis=0)) == len(np.unique(outside, axis=0)) == 1
    assert abs(inside[0].astype(int) - outside[0]).max() >= 128
    assert photo.range is not None
    assert photo.range.option == "auto"
    assert is_deep(FILES[name])


@pytest.mark.parametrize("value_range", ["auto", "full", (0.0, 5.0)])
def test_8_bits_are_left_as_they_are(value_range: ValueRange) -> None:
    values = discs(3, 9, np.uint8)
    for content in (encoded(values, "PNG"), tiff(values), tiff(np.dstack([values] * 5), planarconfig="contig")):
        photo = decode_photo(content, LIMIT, value_range)
        np.testing.assert_array_equal(photo.pixels[..., 0], values)
        assert photo.range is None
        assert not is_deep(content)


def grey(values: NDArray[Any], option: ValueRange = "auto", **known: Any) -> list[int]:
    full = None if values.dtype.kind == "f" else (np.iinfo(values.dtype).min, np.iinfo(values.dtype).max)
    return to_8_bits(StoredImage(values, full, **known), option)[0][..., 0].reshape(-1).tolist()


@pytest.mark.parametrize(
    ("values", "option", "expected"),
    [
        (np.array([[0, 32768, 65535]], np.uint16), "full", [0, 128, 255]),
        (np.array([[-32767, 0, 32767]], np.int16), "full", [0, 128, 255]),
        (np.array([[0, 2**31, 2**32 - 1]], np.uint32), "full", [0, 128, 255]),
        (np.array([[-3, 0, 1]], np.float32), "full", [0, 191, 255]),
        (np.array([[-9e29, 0, 9e29]], np.float32), "auto", [0, 128, 255]),
        (np.array([[1e307, 2e307, 3e307]], np.float64), "auto", [0, 128, 255]),
        (np.array([[-5, 0, 50, 100, 200]], np.int32), (0, 100), [0, 0, 128, 255, 255]),
        (np.array([[7, 7]], np.uint16), "auto", [128, 128]),
        (np.array([[np.nan, 7.5]], np.float32), "auto", [0, 128]),
        (np.array([[np.nan, np.inf]], np.float32), "auto", [0, 0]),
    ],
)
def test_ends_are_black_and_white_and_greys_between_are_linear(
    values: NDArray[Any], option: ValueRange, expected: list[int]
) -> None:
    assert grey(values, option) == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32, np.float64])
def test_a_thousandth_at_each_end_does_not_count(dtype: Any) -> None:
    values = np.full(10_000, 500, dtype)
    values[:5000] = 1000
    values[::1001] = 30_000  # ten hot pixels
    values[1::2001] = 0  # and five dead ones
    _, used, warning = to_8_bits(StoredImage(values.reshape(100, 100), (0, 65535)), "auto")
    assert (used.low, used.high, warning) == (500, 1000, None)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_percentiles_are_those_of_all_numbers(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_range, "CHUNK", 1000)
    values = np.random.default_rng(0).permutation(50_001).astype(dtype).reshape(3, -1)
    used = to_8_bits(StoredImage(values, (0, 65535)), "auto")[1]
    assert (used.low, used.high) == (50, 49_950)


def test_a_sample_of_a_large_image_meets_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_range, "SAMPLED", 2000)
    values = np.tile(np.arange(100, dtype=np.float32), (100, 1))
    used = to_8_bits(StoredImage(values, None), "auto")[1]
    assert (used.low, used.high) == (0, 99)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_small_bright_thing_on_a_constant_ground_is_seen(dtype: Any) -> None:
    values = np.full((200, 200), 100, dtype)
    values[50:54, 50:54] = 120
    rgb, used, warning = to_8_bits(StoredImage(values, (0, 65535)), "auto")
    assert (used.low, used.high) == (100, 120)
    assert rgb[52, 52].tolist() == [255] * 3
    assert rgb[0, 0].tolist() == [0] * 3
    assert warning is not None
    assert "nearly all of it is of one grey" in warning


@pytest.mark.parametrize("sentinel", SENTINELS)
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_sentinel_counts_as_no_data_only_where_nothing_is_lower(dtype: Any, sentinel: float) -> None:
    values = np.array([[sentinel, 100, 200]], dtype)
    _, used, _ = to_8_bits(StoredImage(values, (-(2**31), 2**31 - 1)), "auto")
    assert (used.low, used.high, used.nodata) == (100, 200, sentinel)
    lower = np.array([[sentinel, 100, 200, sentinel - 1]], dtype)
    _, used, _ = to_8_bits(StoredImage(lower, (-(2**31), 2**31 - 1)), "auto")
    assert (used.low, used.nodata) == (sentinel - 1, None)


def test_declared_no_data_is_black_wherever_it_lies() -> None:
    values = np.array([[150, 100, 200]], np.uint16)
    assert grey(values, nodata=150) == [0, 0, 255]
    assert grey(values, "full", nodata=200)[2] == 0
    assert grey(values, nodata=1e9) == [128, 0, 255]  # not of this type


def test_transparent_pixels_do_not_count() -> None:
    alpha = np.array([[255, 255, 0]], np.uint8)
    _, used, _ = to_8_bits(StoredImage(np.array([[1, 2, 60_000]], np.uint16), (0, 65535), alpha), "auto")
    assert (used.low, used.high) == (1, 2)


def test_hues_are_kept() -> None:
    values = np.array([[[10, 20, 30], [30, 20, 10]]], np.uint16)
    assert to_8_bits(StoredImage(values, (0, 65535)), "auto")[0].tolist() == [[[0, 128, 255], [255, 128, 0]]]


def warnings_of(photo: Photo) -> str:
    return "; ".join(photo.warnings)


@pytest.mark.parametrize(
    ("values", "option", "warning"),
    [
        (np.full((9, 9), 7, np.uint16), "auto", "all its numbers are 7"),
        (discs(30, 100, np.uint16), "full", "one grey with range full: its numbers lie in 30..100"),
        (discs(30, 100, np.uint16), (500, 900), "one grey with range 500,900"),
        (np.full((9, 9), np.nan, np.float32), "auto", "it has no data"),
        (discs(30, 100, np.uint16), "auto", ""),
    ],
)
def test_one_warns_of_an_image_of_one_grey(values: NDArray[Any], option: ValueRange, warning: str) -> None:
    found = warnings_of(decode_photo(tiff(values), LIMIT, option))
    assert warning in found
    assert bool(warning) == bool(found)


def test_bands_that_are_not_shown_are_counted() -> None:
    assert warnings_of(decode_photo(FILES["five bands"], LIMIT)) == "first 3 of 5 bands"
    assert warnings_of(decode_photo(FILES["first of two bands"], LIMIT)) == "first of 2 bands"

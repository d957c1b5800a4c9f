"""The numbers of image files as they are measured: not mapped to 8 bits, not composited, "no data" left out."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from samples import encoded

from dynaseg_cli.images.decoding import decode, read_stored
from dynaseg_cli.images.deep import StoredImage
from dynaseg_cli.images.value_range import data_mask

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
LIMIT = 1_000_000


def tiff(values: NDArray[Any], nodata: str | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    tags = [] if nodata is None else [(42113, 2, 0, nodata, True)]
    tifffile.imwrite(stream, values, extratags=tags, **options)
    return stream.getvalue()


def stored(content: bytes) -> StoredImage:
    return read_stored(content, LIMIT)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_grey_of_8_bits_has_one_channel(file_format: str) -> None:
    assert np.array_equal(stored(encoded(GREY, file_format)).values, GREY)


def test_bilevel_is_0_and_255() -> None:
    content = encoded(Image.fromarray(GREY > 100), "PNG")
    assert np.array_equal(stored(content).values, np.where(GREY > 100, 255, 0))


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray(GREY // 20 % 2, "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = stored(encoded(image, "PNG")).values
    assert found[0, :2].tolist() == [[10, 20, 30], [40, 50, 60]]


@pytest.mark.parametrize(
    ("mode", "file_format"), [("LA", "PNG"), ("LA", "TIFF"), ("RGBA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP")]
)
def test_colours_below_an_opacity_are_as_stored(mode: str, file_format: str) -> None:
    image = Image.merge(mode, [Image.fromarray(GREY)] * (len(mode) - 1) + [Image.fromarray(GREY + 1)])
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    content = encoded(image, file_format, **options)
    found = stored(content)
    assert np.array_equal(found.values if mode == "LA" else found.values[..., 1], GREY)
    assert found.alpha is not None
    assert np.array_equal(found.alpha, GREY + 1)
    on_white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    assert np.array_equal(decode(content, LIMIT), np.asarray(on_white))


def test_wholly_transparent_pixels_are_no_data() -> None:
    opacity = np.full_like(GREY, 255)
    opacity[0, :3] = 0, 1, 254
    image = Image.merge("RGBA", [Image.fromarray(one) for one in (GREY, GREY, GREY, opacity)])
    assert np.array_equal(data_mask(stored(encoded(image, "PNG"))), np.repeat((opacity > 0)[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_value_that_a_geotiff_declares_is_no_data(dtype: type) -> None:
    content = tiff(GREY.astype(dtype), "40")
    assert np.array_equal(data_mask(stored(content)), GREY != 40)


@pytest.mark.parametrize("nodata", ["300", "-1", "nan", "40.5", "none"])
def test_a_declared_value_that_8_bits_cannot_hold_changes_nothing(nodata: str) -> None:
    assert data_mask(stored(tiff(GREY, nodata))).all()


def test_in_colour_a_declared_value_is_no_data_in_its_channel() -> None:
    colours = np.stack([GREY, GREY + 1, GREY], axis=-1)
    mask = data_mask(stored(tiff(colours, "40", photometric="rgb")))
    assert np.array_equal(mask, colours != 40)


@pytest.mark.parametrize("photometric", ["miniswhite", "palette"])
def test_a_declared_value_is_not_taken_for_one_that_was_converted(photometric: str) -> None:
    options = {"colormap": np.full((3, 256), 40 * 257, np.uint16)} if photometric == "palette" else {}
    assert data_mask(stored(tiff(GREY, "40", photometric=photometric, **options))).all()


def test_non_finite_and_absurd_numbers_are_no_data() -> None:
    values = GREY.astype(np.float32)
    values[0] = np.nan, np.inf, -np.inf, -3.4e38
    assert np.array_equal(data_mask(stored(tiff(values))), np.repeat([[False], [True], [True]], 4, axis=1))


def test_a_large_image_is_looked_at_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynaseg_cli.images.value_range.CHUNK", 4)
    assert np.array_equal(data_mask(stored(tiff(GREY, "40"))), GREY != 40)


def test_numbers_are_turned_as_the_labels_are() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = stored(encoded(Image.fromarray(GREY), "PNG", exif=exif))
    assert np.array_equal(found.values, np.rot90(GREY, -1))
    assert found.orientation == 1

"""HEIC, which phones write, as the extra `heif` reads it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from samples import encoded

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.decoding import decode, decode_photo

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")

HALVES = np.full((40, 60, 3), [200, 40, 40], np.uint8)
HALVES[:, 30:] = [30, 60, 200]


@pytest.fixture(scope="module")
def photo() -> bytes:
    """Red on the left and blue on the right, 60 x 40 pixels."""
    pillow_heif.register_heif_opener()
    return encoded(HALVES, "HEIF", quality=90)


def test_heic_is_read_whatever_its_name(photo: bytes) -> None:
    read = decode_photo(photo, 10_000)
    assert (read.pixels.shape, read.range, read.frames, read.warnings) == ((40, 60, 3), None, 1, ())
    assert np.abs(read.pixels.astype(int) - HALVES)[:, :25].max() < 12
    assert np.abs(read.pixels.astype(int) - HALVES)[:, 35:].max() < 12


def test_heic_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise bring it upright
    pillow_heif.register_heif_opener()
    turned = decode(encoded(HALVES, "HEIF", quality=90, exif=exif.tobytes()), 10_000)
    assert turned.shape == (60, 40, 3)
    top, bottom = turned[10, 20].astype(int), turned[50, 20].astype(int)
    assert (top[0] > top[2], bottom[0] < bottom[2]) == (True, True), "the left is on top"


def test_heic_of_too_many_pixels_is_refused_from_its_header(photo: bytes) -> None:
    with pytest.raises(DecodeError, match="60 x 40 pixels are more than `max_pixels=2000` allows"):
        decode(photo, 2000)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_heic_that_is_cut_off_is_refused(photo: bytes, kept: float) -> None:
    with pytest.raises(DecodeError):
        decode(photo[: int(kept * len(photo))], 10_000)

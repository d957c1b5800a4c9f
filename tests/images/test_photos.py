"""Photos from files, Pillow images and arrays: one rule for all three."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.images.photos import file_of, read_photo

RGB = noise(1, 7, 5)
RGBA = np.dstack([RGB, noise(2, 7, 5)[..., 0]])
DEEP = np.random.default_rng(3).integers(300, 5000, (5, 7)).astype(np.uint16)


def rotated(mode: str) -> Image.Image:
    """A Pillow image opened from a file whose EXIF says that it lies on its side."""
    image = Image.fromarray(RGB).convert(mode)
    exif = image.getexif()
    exif[0x0112] = 6
    return Image.open(io.BytesIO(encoded(image, "PNG", exif=exif)))


PICTURES = {
    "rgb": Image.fromarray(RGB),
    "grey": Image.fromarray(RGB[..., 0]),
    "grey and alpha": Image.fromarray(RGBA[..., 2:]),
    "rgba": Image.fromarray(RGBA),
    "bits": Image.fromarray(RGB[..., 0] > 90),
    "palette": Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=9),
    "16 bits": Image.fromarray(DEEP),
    "32 bits": Image.fromarray(DEEP.astype(np.int32)),
    "floats": Image.fromarray(DEEP.astype(np.float32) / 7),
    "cmyk": Image.fromarray(RGB).convert("CMYK"),
    "on its side": rotated("RGB"),
    "grey, on its side": rotated("L"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_read_as_its_file_is(name: str, tmp_path: Path) -> None:
    image = PICTURES[name]
    path = tmp_path / "a.tif"
    image.save(path, exif=image.getexif())
    of_file = read_photo(path)
    np.testing.assert_array_equal(read_photo(image).pixels, of_file.pixels)
    np.testing.assert_array_equal(read_photo(str(path)).pixels, decode(path.read_bytes(), 35))
    assert of_file.pixels.shape == ((7, 5, 3) if "side" in name else (5, 7, 3))


@pytest.mark.parametrize(
    ("array", "file"),
    [
        (RGB, RGB),
        (RGB[:, ::-1], np.ascontiguousarray(RGB[:, ::-1])),
        (RGBA, RGBA),
        (RGB[..., 0], RGB[..., 0]),
        (RGB[..., :1], RGB[..., 0]),
        (RGB[..., 0] > 90, RGB[..., 0] > 90),
        (DEEP, DEEP),
        (DEEP.astype(">u2"), DEEP),
        (DEEP.astype(np.int64), DEEP),
        (DEEP / 5000, DEEP.astype(np.float32) / 5000),
        ((DEEP / 5000).astype(np.float16), (DEEP / 5000).astype(np.float16).astype(np.float32)),
    ],
    ids=["rgb", "strided", "rgba", "grey", "one", "bool", "uint16", "big-endian", "int64", "float64", "float16"],
)
def test_array_is_read_as_its_file_is(array: NDArray[Any], file: NDArray[Any]) -> None:
    before = array.copy()
    found = read_photo(array).pixels
    np.testing.assert_array_equal(found, decode(encoded(file, "TIFF"), 35))
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(array, before)


def test_deep_opacity_is_composited_on_white() -> None:
    deep = np.full((1, 3, 4), 65535, dtype=np.uint16)
    deep[0, :2, :3] = 0
    deep[0, :, 3] = [65535, 0, 0]
    assert read_photo(deep, "full").pixels[0, :, 0].tolist() == [0, 255, 255]


def test_pixels_that_are_ready_are_not_copied() -> None:
    assert np.shares_memory(read_photo(RGB).pixels, RGB)


def test_range_and_what_was_used_of_it_are_told() -> None:
    photo = read_photo(np.array([[-1000, 0, 1000]], dtype=np.int16), (-1000, 1000))
    assert photo.pixels[0, :, 0].tolist() == [0, 128, 255]
    assert photo.range is not None
    assert (photo.range.low, photo.range.high) == (-1000, 1000)
    (warning,) = read_photo(np.full((2, 2), 7, dtype=np.uint16)).warnings
    assert warning == "all its numbers are 7"


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((3, 8, 9), np.uint8), "not \\(3, 8, 9\\) uint8; move its channels last"),
        (np.zeros((8, 9, 2), np.uint8), "not \\(8, 9, 2\\) uint8$"),
        (np.zeros((1, 8, 8, 3), np.uint8), "not \\(1, 8, 8, 3\\)"),
        (np.zeros((8, 0, 3), np.uint8), "not \\(8, 0, 3\\)"),
        (np.zeros((8, 8), np.complex64), "complex64"),
        (None, "object"),
        (np.zeros((8, 8, 4), np.float32), "the opacity in `image` must be uint8 or uint16, not float32"),
    ],
)
def test_array_that_is_no_image_is_refused(array: NDArray[Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        read_photo(array)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(b"")
    with pytest.raises(DecodeError, match=r"cut\.png: the file is empty"):
        read_photo(path)
    Image.fromarray(RGB).save(path)
    with pytest.raises(DecodeError, match=r"cut\.png: 7 x 5 pixels are more than `max_pixels=34` allows"):
        read_photo(path, max_pixels=34)
    with pytest.raises(DecodeError, match="is a folder; segment_folder takes all images of one"):
        read_photo(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_photo(tmp_path / "none.png")


def test_picture_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(noise(0, 99, 99), "PNG")[:-900])
    with Image.open(path) as image, pytest.raises(DecodeError, match="truncated"):
        read_photo(image)
    with pytest.raises(DecodeError, match="no pixels"):
        read_photo(Image.new("RGB", (0, 3)))


def test_file_of_an_image_is_known_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save("a.png")
    with Image.open("a.png") as image:
        assert file_of(image) == file_of("a.png") == file_of(Path("a.png")) == tmp_path / "a.png"
    assert (file_of(RGB), file_of(Image.fromarray(RGB))) == (None, None)

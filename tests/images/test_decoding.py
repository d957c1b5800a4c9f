from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile
from samples import encoded, noise

from dynaseg_cli.config import ValueRange
from dynaseg_cli.errors import DecodeError
from dynaseg_cli.files import reading as images
from dynaseg_cli.images import decoding
from dynaseg_cli.images.decoding import decode, read_source
from dynaseg_cli.images.jpeg import MOST_SCANS

Pixels = NDArray[np.uint8]

LIMIT = 1_000_000
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {},
    "BMP": {},
    "WEBP": {"lossless": True},
    "PPM": {},
    "JPEG2000": {},
}
Image.init()
AVIF = [name for name in ("AVIF",) if name in Image.SAVE]  # since Pillow 11.3
ORIENTATIONS = range(1, 9)


def rgb(content: bytes) -> Pixels:
    return decode(content, LIMIT)


def grey(content: bytes, value_range: ValueRange = "auto") -> list[int]:
    """The first row of a grey image, after checking that it is grey."""
    pixels = decode(content, LIMIT, value_range)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def smooth(height: int = 16, width: int = 24) -> Pixels:
    """An image that JPEG keeps within a few levels."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 8, 128 + 0 * rows], axis=-1).astype(np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color_type: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff_directory(content: bytes) -> Iterator[int]:
    """Offsets of the entries of a little-endian TIFF's first directory."""
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    return (start + 2 + 12 * index for index in range(count))


def tiff_with(content: bytes, tag: int, value: int) -> bytes:
    """A TIFF with the value of one tag replaced."""
    changed = bytearray(content)
    (entry,) = (entry for entry in tiff_directory(content) if struct.unpack_from("<H", content, entry) == (tag,))
    struct.pack_into("<I", changed, entry + 8, value)
    return bytes(changed)


@pytest.mark.parametrize("file_format", LOSSLESS)
def test_lossless_formats_give_the_pixels_that_were_written(file_format: str) -> None:
    image = noise()
    pixels = rgb(encoded(image, file_format, **LOSSLESS[file_format]))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, image)


@pytest.mark.parametrize("file_format", ["JPEG", "MPO", "WEBP", *AVIF])
def test_lossy_formats_give_nearly_the_pixels_that_were_written(file_format: str) -> None:
    pixels = rgb(encoded(smooth(), file_format, quality=95)).astype(int)
    assert abs(pixels - smooth()).max() <= 12


def test_gif_gives_the_colours_of_its_palette() -> None:
    image = Image.fromarray(noise()).quantize(16)
    np.testing.assert_array_equal(rgb(encoded(image, "GIF")), np.asarray(image.convert("RGB")))


def test_result_is_the_callers_own() -> None:
    assert rgb(encoded(noise(), "PNG")).flags.writeable


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "GIF"])
def test_grey_is_repeated_in_three_channels(file_format: str) -> None:
    assert grey(encoded(np.array([[0, 1, 128, 255]], np.uint8), file_format)) == [0, 1, 128, 255]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
def test_bilevel_is_black_and_white(file_format: str) -> None:
    assert grey(encoded(np.array([[True, False, True]]), file_format)) == [255, 0, 255]


def palette_image() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette_is_looked_up(file_format: str) -> None:
    assert rgb(encoded(palette_image(), file_format)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_transparent_entry_of_a_palette_is_white(file_format: str) -> None:
    pixels = rgb(encoded(palette_image(), file_format, transparency=1))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_palette_with_an_opacity_for_each_entry_is_composited_on_white() -> None:
    pixels = rgb(encoded(palette_image(), "PNG", transparency=bytes([255, 0, 128])))
    assert pixels[0, :2].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert pixels[0, 2] == pytest.approx(255 + (np.array([70, 80, 90]) - 255) * 128 / 255, abs=1)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_composited_on_white(file_format: str) -> None:
    image = np.array([[[0, 40, 200, 0], [0, 40, 200, 51], [0, 40, 200, 255]]], np.uint8)
    pixels = rgb(encoded(image, file_format, **LOSSLESS[file_format]))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1] == pytest.approx([204, 212, 244], abs=1)
    assert pixels[0, 2].tolist() == [0, 40, 200]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_transparent_grey_is_composited_on_white(file_format: str) -> None:
    image = Image.fromarray(np.array([[[10, 0], [10, 102], [10, 255]]], np.uint8), "LA")
    assert grey(encoded(image, file_format)) == [255, 157, 10]


@pytest.mark.parametrize(
    ("image", "transparent"),
    [
        (np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8), (1, 2, 3)),
        (np.array([[5, 9]], np.uint8), 5),
        (np.array([[5 * 257, 9 * 257]], np.uint16), 5 * 257),
    ],
    ids=["colour", "grey", "16-bit grey"],
)
def test_colour_declared_transparent_is_white(image: NDArray[Any], transparent: object) -> None:
    assert decode(encoded(image, "PNG", transparency=transparent), LIMIT, "full").tolist() == [[[255] * 3, [9] * 3]]


def test_cmyk_is_converted() -> None:
    inks = bytes([0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255])
    image = Image.frombytes("CMYK", (5, 1), inks)
    expected = [[[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]]
    assert rgb(encoded(image, "TIFF")).tolist() == expected


@pytest.mark.parametrize(("ink", "colour"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((0, 0, 0, 100), 155)])
def test_cmyk_jpeg_is_not_inverted(ink: tuple[int, ...], colour: int) -> None:
    pixels = rgb(encoded(Image.new("CMYK", (8, 8), ink), "JPEG", quality=95))
    assert abs(pixels.astype(int) - colour).max() <= 3


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow reads uncompressed YCbCr since 13")
def test_ycbcr_tiff_is_converted() -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50)).convert("YCbCr")
    assert abs(rgb(encoded(image, "TIFF")).astype(int) - [200, 100, 50]).max() <= 2


@pytest.mark.parametrize(("lab", "colour"), [((255, 128, 128), 255), ((0, 128, 128), 0), ((137, 128, 128), 128)])
def test_lab_tiff_is_converted(lab: tuple[int, ...], colour: int) -> None:
    assert abs(rgb(encoded(Image.new("LAB", (4, 4), lab), "TIFF")).astype(int) - colour).max() <= 2


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_full_range_of_16_bits_is_a_257th(file_format: str) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65406, 65407, 65535]], np.uint16)
    assert grey(encoded(values, file_format), "full") == [0, 0, 1, 1, 128, 254, 255, 255]


def test_16_bit_grey_is_read_in_either_byte_order() -> None:
    values = np.array([[0, 257, 65535]], ">u2")
    assert grey(encoded(Image.frombytes("I;16B", (3, 1), values.tobytes()), "TIFF")) == [0, 1, 255]


def test_floating_point_is_stretched_over_its_finite_values() -> None:
    values = np.array([[1, 2, 3, np.nan, np.inf, -np.inf]], np.float32)
    assert grey(encoded(values, "TIFF")) == [0, 128, 255, 0, 0, 0]


@pytest.mark.parametrize(
    ("file_format", "pixels"),
    [
        ("PNG", noise()),
        ("PNG", np.dstack([noise(), noise(1)[..., 0]])),
        ("PNG", noise()[..., 0].astype(np.uint16) * 257),
        ("TIFF", np.where(noise()[..., 1] < 99, np.nan, noise()[..., 0]).astype(np.float32)),
        ("GIF", noise()[..., 0]),
    ],
    ids=["RGB", "RGBA", "16-bit grey", "floating point", "palette"],
)
@pytest.mark.parametrize("tile_pixels", [1, 7, 24, 25, 100])
def test_tiles_do_not_show(
    file_format: str, pixels: NDArray[Any], tile_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(pixels, file_format)
    whole = rgb(content)
    monkeypatch.setattr(decoding, "TILE_PIXELS", tile_pixels)
    np.testing.assert_array_equal(rgb(content), whole)


def stored_as(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The pixels as a camera stores them: row 0 and column 0 of the file are the sides that EXIF 2.3 names."""
    sides = {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.swapaxes(0, 1),  # left, top
        6: upright[:, ::-1].swapaxes(0, 1),  # right, top
        7: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: upright[::-1].swapaxes(0, 1),  # left, bottom
    }
    return np.ascontiguousarray(sides[orientation])


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_image_is_turned_as_exif_says(file_format: str, orientation: int) -> None:
    content = encoded(stored_as(noise(), orientation), file_format, exif=turned(orientation), **LOSSLESS[file_format])
    np.testing.assert_array_equal(rgb(content), noise())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_jpeg_is_turned_as_exif_says(orientation: int) -> None:
    content = encoded(stored_as(smooth(), orientation), "JPEG", quality=95, exif=turned(orientation))
    assert abs(rgb(content).astype(int) - smooth()).max() <= 12


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_16_bit_grey_is_turned_as_exif_says(orientation: int) -> None:
    upright = np.arange(12, dtype=np.uint16).reshape(3, 4)
    content = encoded(stored_as(upright * 257, orientation), "PNG", exif=turned(orientation))
    np.testing.assert_array_equal(decode(content, LIMIT, "full")[..., 0], upright)


DAMAGED_EXIF = {
    "garbage": b"Exif\0\0" + bytes(range(200)),
    "cut off": b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12",
    "beyond the end": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "data beyond the end": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x010E, 2, 5000, 9999) + bytes(4),
    "orientation 99": turned(99).tobytes(),
    "orientation 0": turned(0).tobytes(),
}


@pytest.fixture
def recorded() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings as in a real run: recorded, where the test configuration would make them errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@pytest.mark.parametrize("damage", DAMAGED_EXIF)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.usefixtures("recorded")
def test_damaged_exif_leaves_sound_pixels_as_they_are_stored(file_format: str, damage: str) -> None:
    content = encoded(smooth(), file_format, exif=DAMAGED_EXIF[damage])
    np.testing.assert_array_equal(rgb(content), rgb(encoded(smooth(), file_format)))


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("GIF", {"save_all": True}), ("WEBP", {"save_all": True, "lossless": True}), ("PNG", {"save_all": True})],
)
def test_animation_gives_its_first_frame(file_format: str, options: dict[str, Any]) -> None:
    frames = [Image.fromarray(noise(seed)).quantize(16).convert("RGB") for seed in range(3)]
    content = encoded(frames[0], file_format, append_images=frames[1:], duration=50, **options)
    np.testing.assert_array_equal(rgb(content), np.asarray(frames[0]))


def test_tiff_of_many_pages_gives_its_first() -> None:
    pages = [Image.fromarray(noise(seed)) for seed in range(2)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(rgb(content), noise(0))


def test_empty_file_is_refused() -> None:
    with pytest.raises(DecodeError, match="the file is empty"):
        rgb(b"")


@pytest.mark.parametrize(
    "content",
    [b"\0" * 500, b"\x89PNG"],
    ids=["zeros", "four bytes"],
)
def test_what_is_no_image_is_refused_as_such(content: bytes) -> None:
    with pytest.raises(DecodeError, match="not an image of a known format"):
        rgb(content)


@pytest.mark.parametrize("file_format", ["EPS", "PDF"])
def test_document_that_an_interpreter_would_run_is_refused(file_format: str) -> None:
    with pytest.raises(DecodeError, match=r"it is a (PostScript|PDF) document, which is not read: draw it as PNG"):
        rgb(encoded(noise(), file_format))


def test_format_without_a_mark_of_its_own_is_refused() -> None:
    """TGA has none: any bytes would do."""
    with pytest.raises(DecodeError, match="not an image of a known format"):
        rgb(encoded(noise(), "TGA"))


@pytest.mark.parametrize("size", ["0 4", "4 0"])
def test_image_without_pixels_is_refused(size: str) -> None:
    with pytest.raises(DecodeError):
        rgb(f"P6 {size} 255\n".encode())


def test_exhausted_memory_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", exhaust)
    with pytest.raises(MemoryError):
        rgb(encoded(noise(), "BMP"))


def test_exhausted_memory_does_not_leave_an_image_unturned(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "getexif", exhaust)
    with pytest.raises(MemoryError):
        rgb(encoded(noise(), "PNG", exif=turned(6)))


def scans(number: int, in_front: bytes = b"", behind: bytes = b"") -> bytes:
    """A progressive JPEG of so many scans, each but the first few the last one again."""
    content = encoded(smooth(), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    more = last * (number - content.count(b"\xff\xda"))
    return content[:2] + in_front + content[2:-2] + more + content[-2:] + behind


def test_jpeg_of_more_scans_than_any_encoder_writes_is_refused() -> None:
    assert rgb(scans(MOST_SCANS)).shape == (16, 24, 3)
    with pytest.raises(DecodeError, match=f"more than {MOST_SCANS} scans"):
        rgb(scans(MOST_SCANS + 1))


@pytest.mark.parametrize("place", ["in_front", "behind"])
def test_scans_of_other_images_in_a_jpeg_are_not_counted(place: str) -> None:
    other = scans(MOST_SCANS + 1)
    thumbnail = b"\xff\xe5" + struct.pack(">H", 2 + len(other)) + other
    content = scans(MOST_SCANS, **{place: thumbnail if place == "in_front" else other})
    np.testing.assert_array_equal(rgb(content), rgb(scans(MOST_SCANS)))


FILES = {
    **{name: encoded(noise(), name, **options) for name, options in LOSSLESS.items()},
    "JPEG": encoded(noise(), "JPEG", exif=turned(6)),
    "progressive JPEG": encoded(noise(), "JPEG", progressive=True),
    "lossy WEBP": encoded(noise(), "WEBP", exif=turned(6)),
    "TIFF with EXIF": encoded(noise(), "TIFF", exif=turned(6)),
    "LZW TIFF": encoded(noise(), "TIFF", compression="tiff_lzw"),
    "ZIP TIFF": encoded(noise(), "TIFF", compression="tiff_adobe_deflate"),
    "JPEG TIFF": encoded(noise(), "TIFF", compression="jpeg"),
    "palette PNG": encoded(Image.fromarray(noise()).quantize(16), "PNG", transparency=3),
    "APNG": encoded(noise(), "PNG", save_all=True, append_images=[Image.fromarray(noise(1))]),
    "GIF": encoded(Image.fromarray(noise()).quantize(16), "GIF"),
    **{name: encoded(noise(), name) for name in AVIF},
}


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"JPEG2000"}))  # OpenJPEG paints what is missing
def test_truncated_file_is_refused_or_complete(name: str) -> None:
    content = FILES[name]
    whole = rgb(content)
    refused = 0
    for end in {*range(0, len(content), 13), *range(len(content) - 30, len(content))}:
        try:
            np.testing.assert_array_equal(rgb(content[:end]), whole)
        except DecodeError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("name", FILES)
def test_file_with_flipped_bytes_is_an_image_or_refused(name: str) -> None:
    for seed in range(200):
        random = np.random.default_rng(seed)
        content = bytearray(FILES[name])
        reach = len(content) if seed % 2 else min(len(content), 120)  # half of them in the headers
        for _ in range(random.integers(1, 5)):
            content[random.integers(reach)] ^= int(random.integers(1, 256))
        try:
            pixels = decode(bytes(content), 50_000)
        except DecodeError as error:
            assert str(error)
        else:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            assert 0 < pixels.shape[0] * pixels.shape[1] <= 50_000


@pytest.mark.parametrize(
    "damaged",
    [
        *(encoded(smooth(), "JPEG", exif=exif) for exif in DAMAGED_EXIF.values()),
        *(FILES["TIFF"][:end] for end in (10, 100, -100)),
        FILES["APNG"].replace(b"acTL\0\0\0\2", b"acTL\0\0\0\0"),
        tiff_with(FILES["TIFF"], 277, 2048),
    ],
    ids=[*DAMAGED_EXIF, "TIFF of 10 bytes", "TIFF of 100 bytes", "TIFF cut off", "APNG of no frames", "2048 samples"],
)
def test_pillow_neither_warns_nor_logs_about_a_damaged_file(
    damaged: bytes, recorded: list[warnings.WarningMessage], caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.suppress(DecodeError):
        rgb(damaged)
    assert [str(warning.message) for warning in recorded] == []
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


HUGE = {
    "PNG": png(60_000, 60_000, 8, 2, b"\0" * 100),
    "BMP": FILES["BMP"][:18] + struct.pack("<ii", 60_000, 60_000) + FILES["BMP"][26:],
    "PPM": b"P6 60000 60000 255\n" + bytes(100),
    "GIF": FILES["GIF"][:6] + struct.pack("<HH", 60_000, 60_000) + FILES["GIF"][10:],
    "TIFF": tiff_with(tiff_with(FILES["TIFF"], 256, 60_000), 257, 60_000),
}


@pytest.mark.parametrize("file_format", HUGE)
def test_image_of_too_many_pixels_is_refused_from_its_header(file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Image.core, "fill", fail)
    monkeypatch.setattr(Image.core, "new", fail)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    size = "more pixels than" if file_format == "GIF" else "60000 x 60000 pixels are more than"
    with pytest.raises(DecodeError, match=f"{size} `max_pixels=200000000` allows"):
        decode(HUGE[file_format], 200_000_000)


def test_gif_of_some_pixels_too_many_is_refused_by_its_size() -> None:
    content = FILES["GIF"]
    with pytest.raises(DecodeError, match="24 x 20 pixels are more than `max_pixels=479` allows"):
        decode(content, 479)


def test_pixel_limit_is_exact() -> None:
    content = encoded(noise(), "PNG")
    assert decode(content, 24 * 20).shape == (20, 24, 3)
    with pytest.raises(DecodeError, match="24 x 20 pixels"):
        decode(content, 24 * 20 - 1)


@pytest.mark.parametrize("name", FILES)
def test_max_pixels_alone_limits_the_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit would refuse what --max-pixels allows."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert rgb(FILES[name]).shape in {(20, 24, 3), (24, 20, 3)}


@pytest.mark.parametrize("content", [FILES["PNG"], b"no image", HUGE["PNG"]], ids=["sound", "damaged", "huge"])
def test_pillow_limit_is_left_as_it_was(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12_345)
    with contextlib.suppress(DecodeError):
        rgb(content)
    assert Image.MAX_IMAGE_PIXELS == 12_345


@pytest.mark.parametrize("name", ["PNG", "JPEG", "LZW TIFF"])
def test_part_of_an_image_is_refused_whatever_pillow_was_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = FILES[name]
    with pytest.raises(DecodeError):
        rgb(content[: len(content) * 2 // 3])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise(), "PNG"))
    content, sha256 = read_source(path, LIMIT)
    np.testing.assert_array_equal(rgb(content), noise())
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def alarm() -> Iterator[None]:
    """An end to a test that blocks."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photo.png")
    with pytest.raises(DecodeError, match="not a regular file"):
        read_source(tmp_path / "photo.png", LIMIT)


@pytest.mark.usefixtures("alarm")
def test_device_in_place_of_a_file_is_refused() -> None:
    with pytest.raises(DecodeError, match="not a regular file"):
        read_source(Path("/dev/zero"), LIMIT)


def test_file_larger_than_any_image_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    path.touch()
    os.truncate(path, 1 << 42)
    with pytest.raises(DecodeError, match=f"its {1 << 42} bytes are more than `max_pixels={LIMIT}` allows"):
        read_source(path, LIMIT)


def test_limit_of_a_files_size_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_METADATA_BYTES", 100)
    path = tmp_path / "any.png"
    path.write_bytes(bytes(16 * 10 + 100))
    assert read_source(path, 10)[0] == bytes(260)
    with pytest.raises(DecodeError, match="its 260 bytes are more than `max_pixels=9` allows"):
        read_source(path, 9)

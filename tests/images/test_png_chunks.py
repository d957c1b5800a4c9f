from __future__ import annotations

import io
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from samples import encoded, noise, packed_zeros

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.decoding import decode, decode_photo
from dynaseg_cli.images.png import without_metadata

LIMIT = 100_000
MARK = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_chunk(png: bytes, kind: bytes, data: bytes, checksum: int | None = None, *, behind: bool = False) -> bytes:
    """A PNG with one chunk more, in front of its pixels or behind."""
    place = len(png) - 12 if behind else 33
    return png[:place] + chunk(kind, data, checksum) + png[place:]


PLAIN = encoded(noise(), "PNG")
METADATA = {
    "long text": (b"tEXt", b"Comment\0" + b"words " * 1_000_000),
    "long packed text": (b"zTXt", b"Comment\0\0" + packed_zeros(100)),
    "long international text": (b"iTXt", b"Comment\0\1\0\0\0" + packed_zeros(100)),
    "long XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x> " * 1_000_000),
    "long packed XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed_zeros(100)),
    "long profile of a camera": (b"zTXt", b"Raw profile type exif\0\0" + packed_zeros(100)),
    "damaged packed XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + b"no zlib"),
    "large colour profile": (b"iCCP", b"icc\0\0" + packed_zeros(100)),
    "unknown": (b"abCd", bytes(100)),
    "gamma of no length": (b"gAMA", b""),
    "physical size of no length": (b"pHYs", b""),
}


def test_packed_zeros_are_zeros() -> None:
    assert zlib.decompress(packed_zeros(3)) == bytes(3 << 20)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", METADATA)
def test_metadata_does_not_decide_about_pixels(name: str, behind: bool) -> None:
    np.testing.assert_array_equal(decode(with_chunk(PLAIN, *METADATA[name], behind=behind), LIMIT), noise())


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"eXIf", b"tRNS", b"tIME"])
def test_damaged_extra_does_not_refuse_sound_pixels(kind: bytes) -> None:
    np.testing.assert_array_equal(decode(with_chunk(PLAIN, kind, b"k\0\0words", 1), LIMIT), noise())


def test_file_that_is_cut_off_in_a_text_behind_its_pixels_is_read() -> None:
    content = with_chunk(PLAIN, b"tEXt", bytes(1000), behind=True)
    np.testing.assert_array_equal(decode(content[:-500], LIMIT), noise())


def test_file_that_is_cut_off_in_its_pixels_is_refused() -> None:
    content = with_chunk(PLAIN, b"tEXt", bytes(1000))
    with pytest.raises(DecodeError, match="damaged"):
        decode(content[:-500], LIMIT)


def test_damaged_header_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode(PLAIN[:29] + bytes(4) + PLAIN[33:], LIMIT)


def test_plain_file_is_left_as_it_is() -> None:
    assert without_metadata(PLAIN) is PLAIN


@pytest.mark.parametrize("packed", [False, True])
def test_image_is_turned_as_xmp_says(packed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=packed)
    info.add_text("Comment", "words")
    content = encoded(noise(), "PNG", pnginfo=info)
    np.testing.assert_array_equal(decode(content, LIMIT), noise().swapaxes(0, 1)[:, ::-1])


def deep_png(samples: NDArray[np.uint16], kind: int, extra: bytes = b"", *, filtered: bool = False) -> bytes:
    """A PNG of 16 bits; filtered, its rows are stored as differences to the pixel in front of each."""
    height, width = samples.shape[:2]
    raw = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    size = raw.shape[1] // width
    if filtered:
        raw = raw - np.hstack([np.zeros((height, size), np.uint8), raw[:, :-size]])
    rows = b"".join(bytes([filtered]) + row.tobytes() for row in raw)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return MARK + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


FULL = np.random.default_rng(0).integers(0, 1 << 16, (20, 24, 4), dtype=np.uint16)


@pytest.mark.parametrize("filtered", [False, True])
def test_16_bit_colour_keeps_its_low_byte(filtered: bool) -> None:
    values = FULL[..., :3] & 0xFF | 0x1200  # which differ by their low byte alone
    content = deep_png(values, 2, filtered=filtered)
    expected = np.rint((values.astype(float) - values.min()) / (int(values.max()) - int(values.min())) * 255)
    photo = decode_photo(content, LIMIT, (float(values.min()), float(values.max())))
    np.testing.assert_array_equal(photo.pixels, expected)


@pytest.mark.parametrize(("kind", "colors"), [(4, 1), (6, 3)])
def test_16_bit_opacity_is_composited_on_white(kind: int, colors: int) -> None:
    values = FULL[..., : colors + 1]
    found = decode(deep_png(values, kind), LIMIT, "full").astype(float)
    share = values[..., -1:] / 65535
    expected = values[..., :-1] / 257 * share + 255 * (1 - share)
    assert abs(found - expected).max() <= 2


def test_16_bit_colour_declared_transparent_is_white() -> None:
    values = FULL[..., :3].copy()
    values[3, 4] = 1, 2, 3
    found = decode(deep_png(values, 2, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))), LIMIT, "full")
    assert found[3, 4].tolist() == [255] * 3
    assert found[0, 0].tolist() == np.rint(values[0, 0] / 257).tolist()


def test_interlaced_16_bit_colour_is_read() -> None:
    """Each pass of Adam7 is a small image."""
    values = FULL[..., :3]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [values[top::down, left::right].astype(">u2") for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 20, 16, 2, 0, 0, 1))
    content = MARK + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(content, LIMIT, "full"), np.rint(values / 257))


def test_16_bit_colour_is_turned_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    content = deep_png(FULL[..., :3], 2, chunk(b"eXIf", exif.tobytes()[6:]))
    np.testing.assert_array_equal(decode(content, LIMIT, "full"), np.rint(FULL[..., :3] / 257).swapaxes(0, 1)[::-1])


def test_16_bit_colour_that_is_cut_off_is_refused() -> None:
    content = deep_png(FULL[..., :3], 2)
    for end, _ in pairwise(range(40, len(content) - 20, 100)):
        with pytest.raises(DecodeError):
            decode(content[:end], LIMIT)


def test_animation_gives_its_first_frame_and_says_of_how_many() -> None:
    stream = io.BytesIO()
    frames = [Image.fromarray(noise(seed)) for seed in range(3)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    photo = decode_photo(stream.getvalue(), LIMIT)
    np.testing.assert_array_equal(photo.pixels, noise())
    assert photo.frames == 3
    assert photo.warnings == ("first of 3 frames, 2 left out",)

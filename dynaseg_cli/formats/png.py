"""PNG: Pillow gets only the chunks that determine the pixels, and 16-bit colour keeps its low byte."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .deep import DeepImage

MARK = b"\x89PNG\r\n\x1a\n"

_NEEDED = (b"tRNS", b"eXIf")
"""Ancillary chunks that affect how the image looks."""
_TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Keywords of text chunks in which some programs store the orientation."""
_MOST_TEXT = 1 << 19
"""Limit on the bytes of such a text; Pillow allows twice as many."""

_GREY_ALPHA, _RGB, _RGBA = 4, 2, 6
_ROWS = 256


def without_metadata(png: bytes) -> bytes:
    """A PNG without the chunks that do not determine its pixels: text, colour profiles, further frames.

    A large or damaged chunk of these kinds would make Pillow refuse the whole file.
    """
    kept: list[tuple[int, int]] = []
    turned: set[bytes] = set()
    end = len(MARK)
    for start, stop in _chunks(png):
        if _is_kept(png, start, stop, turned):
            kept.append((start, stop))
        end = stop
    # Keep a truncated chunk only if it matters for the pixels, so that Pillow notices what is missing.
    rest = png[end:] if png[end + 4 : end + 8] in (b"IHDR", b"PLTE", b"IDAT", b"tRNS") else b""
    ends = png[end - 8 : end - 4] == b"IEND"
    if sum(stop - start for start, stop in kept) == end - len(MARK) and (ends or len(rest) == len(png) - end):
        return png
    view = memoryview(png)
    return b"".join([MARK, *(view[start:stop] for start, stop in kept), rest])


def _is_kept(png: bytes, start: int, stop: int, turned: set[bytes]) -> bool:
    kind = png[start + 4 : start + 8]
    if not kind[0] & 0x20:  # a capital letter: critical
        return True
    sound = kind in (*_NEEDED, b"tEXt", b"zTXt", b"iTXt") and _is_sound(png, start, stop)
    if kind in _NEEDED or not sound:
        return sound
    data = png[start + 8 : min(stop - 4, start + 8 + _MOST_TEXT)]
    keyword = next((word for word in _TURNING if data.startswith(word)), None)
    if keyword is None or keyword in turned or stop - start > _MOST_TEXT or not _is_short(kind, data):
        return False
    turned.add(keyword)
    return True


def _is_sound(png: bytes, start: int, stop: int) -> bool:
    return zlib.crc32(memoryview(png)[start + 4 : stop - 4]) == int.from_bytes(png[stop - 4 : stop], "big")


def _is_short(kind: bytes, data: bytes) -> bool:
    """Whether a text chunk can be unpacked and is within the limit when it is."""
    _, _, rest = data.partition(b"\0")
    if kind == b"tEXt":
        return True
    if kind == b"zTXt":
        packed = rest[1:]
    elif rest[:1] == b"\1":
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        return True
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _MOST_TEXT)
    except zlib.error:
        return False
    return unpacker.eof


def _chunks(png: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each complete chunk, up to the end of the image."""
    start = len(MARK)
    while start + 12 <= len(png):
        stop = start + 12 + int.from_bytes(png[start : start + 4], "big")
        if stop > len(png):
            return
        yield start, stop
        if png[start + 4 : start + 8] == b"IEND":
            return
        start = stop


def frames(png: bytes) -> Iterator[None]:
    """Yields once for each frame of an animation."""
    for start, _ in _chunks(png):
        if png[start + 4 : start + 8] == b"fcTL":
            yield


def is_deep(png: bytes) -> bool:
    """Whether its samples have 16 bits."""
    return png.startswith(MARK) and png[24:25] == b"\x10"


def read_deep_color(image: Image.Image, png: bytes) -> DeepImage | None:
    """The pixels of a PNG with 16-bit samples and several channels, opened as `image`; None for other files.

    Pillow keeps only the high byte of each sample. So the file is decoded twice: once as it is, for the high bytes, and
    once with the byte order reversed, for the low bytes. (torchvision's decoder gives 16 bits, but a damaged file can
    crash it.)
    """
    color_type = png[25]
    if not is_deep(png) or color_type not in (_GREY_ALPHA, _RGB, _RGBA):
        return None
    size = image.height, image.width
    alpha: NDArray[np.uint8] | None = None
    if color_type == _GREY_ALPHA:
        # Two 16-bit samples have the layout of four 8-bit samples.
        values = np.empty(size, np.uint16)
        alpha = np.empty(size, np.uint8)
        for rows, raw in _unpacked(png, "RGBA", "RGBA"):
            values[rows] = raw[..., 0].astype(np.uint16) << 8 | raw[..., 1]
            alpha[rows] = raw[..., 2]
    else:
        values = np.zeros((*size, 3), np.uint16)
        mode = "RGB" if color_type == _RGB else "RGBA"
        if color_type == _RGBA:
            alpha = np.empty(size, np.uint8)
        for order, shift in (("B", 8), ("L", 0)):
            for rows, raw in _unpacked(png, mode, f"{mode};16{order}"):
                values[rows] |= raw[..., :3].astype(np.uint16) << shift
                if alpha is not None and shift:
                    alpha[rows] = raw[..., 3]
        transparent = image.info.get("transparency")
        if color_type == _RGB and isinstance(transparent, tuple):
            alpha = np.empty(size, np.uint8)
            for top in range(0, size[0], _ROWS):
                seen = (values[top : top + _ROWS] != np.array(transparent, np.uint16)).any(axis=2)
                alpha[top : top + _ROWS] = seen * np.uint8(255)
    return DeepImage(values, (0, 65535), alpha)


def _unpacked(png: bytes, mode: str, raw_mode: str) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Bands of rows of a PNG, decoded as if it had another mode."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        changed = cast("Any", image)
        changed._mode = mode
        changed.tile = [(codec, extent, offset, raw_mode) for codec, extent, offset, _ in changed.tile]
        image.load()
        for top in range(0, image.height, _ROWS):
            bottom = min(top + _ROWS, image.height)
            yield slice(top, bottom), np.asarray(image.crop((0, top, image.width, bottom)))

"""Chunks of PNG files: only those that determine the pixels are given to Pillow."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MARK = b"\x89PNG\r\n\x1a\n"

_NEEDED = (b"tRNS", b"eXIf")
"""Ancillary chunks that affect how the image looks."""
_TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Keywords of text chunks in which some programs store the orientation."""
_MOST_TEXT = 1 << 19
"""Limit on the bytes of such a text; Pillow allows twice as many."""


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


def is_animated(png: BinaryIO) -> bool:
    """Whether an open PNG says before its pixels that it is an animation; reads nothing but the heads of its chunks."""
    png.seek(len(MARK))
    while len(head := png.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"acTL":
            return True
        png.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False

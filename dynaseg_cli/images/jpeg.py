"""JPEG files crafted to keep a decoder busy, and files whose last bytes are missing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops

from ..errors import DecodeError

MARK = b"\xff\xd8\xff"
MOST_SCANS = 100
"""Limit on scans, the same as libtiff's. Encoders write about ten; decoding each one covers the whole image."""
MOST_MISSING = 0.01
"""Share of an image that may be missing without the file being refused. In a small image, one block may be."""
MOST_MISSING_BLOCK = 0.05
"""Largest share of an image that this one block may be."""
_BLOCK = 18
"""Height of a row of blocks: 16 pixels, plus the reach of chroma upsampling."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd8]")
"""Marker of a segment or of the end. Within a scan, the byte 255 is always followed by one of the excluded bytes."""
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_FRAMES = {bytes([0xFF, kind]) for kind in range(0xC0, 0xD0) if kind not in (0xC4, 0xC8, 0xCC)}
_LOSSLESS = (b"\xff\xc3", b"\xff\xc7", b"\xff\xcb", b"\xff\xcf", b"\xff\xf7")

_OTHER_ENDS = tuple(
    bytes([first << 5]) + np.random.default_rng(first).integers(0, 255, 4096, dtype=np.uint8).tobytes()
    for first in range(8)
)
"""Eight continuations, each with different first bits. None contains the byte 255, which would start a marker."""


def _segments(jpeg: bytes) -> Iterator[tuple[bytes, int]]:
    """Marker of each segment up to the end of the image, with the position of its length field."""
    position = 2
    while (marker := _MARKER.search(jpeg, position)) and marker[0] != _END:
        yield marker[0], marker.end()
        position = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")


def has_too_many_scans(jpeg: bytes) -> bool:
    scans = 0
    for marker, _ in _segments(jpeg):
        scans += marker == _START_OF_SCAN
        if scans > MOST_SCANS:
            return True
    return False


def unusual_kind(jpeg: bytes) -> str | None:
    """Name of a kind of JPEG that ordinary decoders do not support; None for other files."""
    for marker, position in _segments(jpeg):
        if marker in _LOSSLESS:
            return "lossless JPEG"
        if marker in _FRAMES:
            bits = jpeg[position + 2 : position + 3]
            return f"{bits[0]}-bit JPEG" if bits and bits[0] != 8 else None
    return None


def size(jpeg: bytes) -> tuple[int, int] | None:
    """Width and height as the header of a stream says, JPEG-LS among them; None if it lacks one."""
    for marker, position in _segments(jpeg):
        if marker in _FRAMES or marker in _LOSSLESS:
            height, width = jpeg[position + 3 : position + 5], jpeg[position + 5 : position + 7]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
    return None


def with_end(jpeg: bytes) -> tuple[bytes, bool]:
    """Add the missing end marker; also whether a few pixels are missing.

    The file is decoded with its end right away, and with bits of different kinds before it. Where the results differ,
    pixels are missing: behind the last pixel, no bits are part of the image.

    Raises DecodeError if more is missing than `MOST_MISSING`.
    """
    if not _has_all_scans(jpeg):
        raise DecodeError("damaged: the file is cut off, and the finer detail of the image is missing; copy it again")
    jpeg = jpeg.removesuffix(b"\xff")  # half of an end marker, or of an escaped 255
    ended = jpeg + _END
    with Image.open(io.BytesIO(ended), formats=["JPEG"]) as one:
        one.load()
        width, height = one.size
        boxes = []
        for other in _OTHER_ENDS:
            with Image.open(io.BytesIO(jpeg + other + _END), formats=["JPEG"]) as differing:
                differing.load()
                boxes.append(ImageChops.difference(one, differing).getbbox(alpha_only=False))
    found = [box for box in boxes if box is not None]
    if not found:
        return ended, False
    left, top = min(box[0] for box in found), min(box[1] for box in found)
    # Within one row of blocks, the blocks to the right are missing; otherwise everything below is.
    missing = (width - left if height - top <= _BLOCK else width) * (height - top)
    pixels = width * height
    if missing > max(MOST_MISSING * pixels, min(_BLOCK**2, MOST_MISSING_BLOCK * pixels)):
        share = missing / pixels
        raise DecodeError(
            f"damaged: the file is cut off, and the last {share:.0%} of the image is missing; copy it again"
        )
    return ended, True


def _has_all_scans(jpeg: bytes) -> bool:
    """Whether the final scan of every coefficient of every component has at least begun."""
    components: set[int] = set()
    told: set[tuple[int, int]] = set()
    for marker, position in _segments(jpeg):
        if marker in _FRAMES:
            components = {jpeg[position + 8 + 3 * index] for index in range(min(jpeg[position + 7], 4))}
        elif marker == _START_OF_SCAN:
            count = jpeg[position + 2]
            first, last, bits = jpeg[position + 3 + 2 * count : position + 6 + 2 * count]
            if bits & 15 == 0:
                chosen = [jpeg[position + 3 + 2 * index] for index in range(count)]
                told |= {(component, one) for component in chosen for one in range(first, min(last, 63) + 1)}
    return bool(components) and len(told & {(one, k) for one in components for k in range(64)}) == 64 * len(components)

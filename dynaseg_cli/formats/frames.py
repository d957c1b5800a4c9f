"""How many frames or pages a file has, counted without decoding any."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from . import png
from .tiff import is_picture, is_tiff, pages

MOST_COUNTED = 1000
"""Counting stops here, as a file may claim millions."""
_MOST_BLOCKS = 1_000_000
"""Limit on the blocks of a GIF (at most 255 bytes each) that are skipped in search of frames."""


def count_frames(content: bytes) -> tuple[int, str]:
    """The number of frames or pages of a file, at least 1, and the word for them.

    Reduced copies and masks in a TIFF do not count, nor do the previews in a phone's JPEG. A number above
    `MOST_COUNTED` means that counting stopped.
    """
    found: Iterator[object] = iter(())
    word = "frames"
    if content.startswith(b"GIF8"):
        found = _gif_frames(content)
    elif content.startswith(png.MARK):
        found = png.frames(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        found = _webp_frames(content)
    elif is_tiff(content):
        every = islice(pages(content), 4 * MOST_COUNTED)
        found, word = (page for page in every if is_picture(page)), "pages"
    return max(1, sum(1 for _ in islice(found, MOST_COUNTED + 1))), word


def _webp_frames(content: bytes) -> Iterator[None]:
    position = 12
    while position + 8 <= len(content):
        if content[position : position + 4] == b"ANMF":
            yield
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2


def _gif_frames(content: bytes) -> Iterator[None]:
    position = 13 + _palette_bytes(content[10:11])
    blocks = 0
    while position < len(content) and blocks < _MOST_BLOCKS:
        kind = content[position]
        if kind == 0x2C:  # an image
            yield
            position += 10 + _palette_bytes(content[position + 9 : position + 10]) + 1
        elif kind == 0x21:  # an extension
            position += 2
        else:
            return
        while position < len(content) and content[position] and blocks < _MOST_BLOCKS:
            position += 1 + content[position]
            blocks += 1
        position += 1
        blocks += 1


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0

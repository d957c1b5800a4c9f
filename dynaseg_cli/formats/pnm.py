"""PPM and PGM with more than 255 levels, of which Pillow rescales grey and truncates colour to 8 bits."""

from __future__ import annotations

import re

import numpy as np

from ..errors import DecodeError
from .deep import DeepImage

_BLANK = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([56])" + rb"".join(_BLANK + rb"(\d{1,9})" for _ in range(3)) + rb"\s")
_MOST_HEADER = 4096


def is_deep(content: bytes) -> bool:
    """Whether it is a binary PPM or PGM with two bytes per sample."""
    header = _HEADER.match(content[:_MOST_HEADER])
    return header is not None and 255 < int(header[4]) < 1 << 16


def read_deep(content: bytes, max_pixels: int) -> DeepImage:
    """The pixels of a file for which `is_deep` is true.

    Raises
    ------
    DecodeError
        If it is cut off, or has more than `max_pixels` pixels, or none.
    """
    header = _HEADER.match(content[:_MOST_HEADER])
    assert header is not None
    kind, width, height, most = map(int, header.groups())
    channels = 3 if kind == 6 else 1
    if not width * height:
        raise DecodeError("the image has no pixels")
    if width * height > max_pixels:
        raise DecodeError(f"{width} x {height} pixels are more than --max-pixels {max_pixels} allows")
    if len(content) - header.end() < 2 * width * height * channels:
        raise DecodeError("damaged: the file is cut off")
    samples = np.frombuffer(content, ">u2", width * height * channels, header.end())
    shape = (height, width, 3) if channels == 3 else (height, width)
    return DeepImage(samples.reshape(shape).astype(np.uint16), (0, most))

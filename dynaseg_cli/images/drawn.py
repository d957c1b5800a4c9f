"""Images that users draw for photos, each a PNG with the name of its photo: scribbles and masks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import DecodeError, ImageError
from ..files.reading import read_image
from .label_maps import LabelMap, decode_label_image
from .png import MARK as PNG_MARK

_RGB, _RGBA = b"\x02", b"\x06"
"""Colour types in the header of a PNG."""


def read_drawn(path: Path, max_pixels: int) -> tuple[bytes, str] | None:
    """The content of a file and its SHA-256; None if there is none.

    Raises ImageError if it is no regular file, or too large for an image of `max_pixels`. Raises OSError if it cannot
    be read.
    """
    try:
        content = read_image(path, max_pixels)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DecodeError as error:
        raise ImageError(f"{path}: {error}") from None
    return content, hashlib.sha256(content).hexdigest()


def decode_drawn(path: str, content: bytes, size: tuple[int, ...], max_pixels: int, meaning: str) -> LabelMap:
    """The values of a drawing, (H, W).

    Parameters
    ----------
    path : names the file in messages.
    size : height and width of the photo, turned as EXIF says.
    meaning : why it has no colours, to go on after "its pixels are colours, and".

    Raises ImageError if the file is not a PNG of whole numbers, or has another size.
    """
    if content.startswith(PNG_MARK) and content[25:26] in (_RGB, _RGBA):
        raise ImageError(
            f"{path}: its pixels are colours, and {meaning};"
            " save it as 8-bit grey, or with a palette, whose indices count"
        )
    try:
        values = decode_label_image(content, "PNG", max_pixels)
    except DecodeError as error:
        raise ImageError(f"{path}: {error}") from None
    if values.shape != size:
        raise ImageError(
            f"{path}: {values.shape[1]} x {values.shape[0]} pixels, but the photo has {size[1]} x {size[0]},"
            " turned upright as EXIF says; draw on a copy of that size"
        )
    return values

"""Thumbnails of photos and maps, made in bounded memory, whatever the size of the photo."""

from __future__ import annotations

import io
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..resampling import middle_indices, working_size

LONGEST_SIDE = 640
"""In pixels: sharp in a grid, and large enough to look at alone."""
BAND_PIXELS = 1 << 22
"""Pixels that are averaged at a time, to bound the memory."""
QUALITY = 80
"""Quality of lossy WebP: at 640 pixels a photo has no visible faults and 13 to 26 KB."""
EFFORT = 2
"""The "method" of WebP: 4 takes twice as long for 3 % fewer bytes."""

Value = TypeVar("Value", bound=np.integer)


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the thumbnail of an image."""
    return working_size(width, height, LONGEST_SIDE)


def shrunk_photo(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The thumbnail of an (H, W, 3) photo: each pixel is the average of its area."""
    height, width = photo.shape[:2]
    if (width, height) == thumbnail_size(width, height):
        return photo
    if width > height:  # bands along the longer side are thin, however extreme the aspect
        turned: NDArray[np.uint8] = shrunk_photo(photo.swapaxes(0, 1)).swapaxes(0, 1)
        return turned
    small_width, small_height = thumbnail_size(width, height)
    small = np.empty((small_height, small_width, 3), dtype=np.uint8)
    step = max(1, int(BAND_PIXELS / (height / small_height * width)))
    for top in range(0, small_height, step):
        bottom = min(top + step, small_height)
        first, last = top * height / small_height, bottom * height / small_height
        start = int(first)
        band = Image.fromarray(np.ascontiguousarray(photo[start : int(np.ceil(last))]))
        area = (0, first - start, width, min(last - start, band.height))
        small[top:bottom] = np.asarray(band.resize((small_width, bottom - top), Image.Resampling.BOX, box=area))
    return small


def shrunk_map(values: NDArray[Value]) -> NDArray[Value]:
    """The thumbnail of an (H, W) map of labels or regions: each pixel is the one in the middle of its area."""
    height, width = values.shape
    small_width, small_height = thumbnail_size(width, height)
    return values[np.ix_(middle_indices(height, small_height), middle_indices(width, small_width))]


def lossy(picture: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) photo as WebP."""
    return _webp(picture, quality=QUALITY)


def lossless(picture: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) picture of few colours as WebP: smaller than lossy, and sharp."""
    return _webp(picture, lossless=True, quality=50)


def _webp(picture: NDArray[np.uint8], **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "WEBP", method=EFFORT, **options)
    return stream.getvalue()

"""The content of result files: label maps and pictures as PNG, TIFF or JPEG, documents as JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .writing import Content

PNG_LEVEL = 3
"""zlib level: label maps hardly shrink further, and higher levels take several times as long."""
JPEG_QUALITY = 90
"""With colour at full resolution: lines and flat colours have no visible fringes."""
JPEG_SIDE = 65_500
"""Longest side in pixels of the JPEG files that libjpeg writes."""


def png(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Content:
    """A PNG of an (H, W) grey map in its own depth, 8 or 16 bits, or of an (H, W, 3) uint8 RGB picture."""
    return _png(Image.fromarray(image))


def palette_png(labels: NDArray[np.uint8] | NDArray[np.uint16], colors: NDArray[np.uint8]) -> Content:
    """A PNG of an (H, W) label map in (N, 3) `colors` of labels 0..N-1: with a palette, or RGB if it has 16 bits."""
    if labels.dtype != np.uint8:
        return png(colors[labels])
    image = Image.fromarray(labels).convert("P")
    image.putpalette(colors.tobytes())
    return _png(image)


def jpeg(picture: NDArray[np.uint8]) -> Content:
    """A JPEG of an (H, W, 3) uint8 RGB picture, whose sides are at most `JPEG_SIDE`."""
    return partial(Image.fromarray(picture).save, format="JPEG", quality=JPEG_QUALITY, subsampling=0)


def jpeg_step(height: int, width: int) -> int:
    """The least n for which every n-th pixel of a picture fits a JPEG: 1 for all but the longest."""
    return -(-max(height, width) // JPEG_SIDE)


def regions_file(regions: NDArray[np.int32]) -> tuple[str, Content]:
    """Suffix and content of the file of an (H, W) map of regions 0..R-1: of 16 bits, or of 32 if there are too many.

    No region, -1, is the largest value of the type: 65535 or 2147483647.
    """
    few, many = (int(np.iinfo(dtype).max) for dtype in (np.uint16, np.int32))
    most, is_whole = int(regions.max()), regions.min() >= 0
    if most <= few - (not is_whole):
        return ".png", png(regions.astype(np.uint16))
    return ".tif", wide_tiff(regions if is_whole else np.where(regions < 0, np.int32(many), regions))


def wide_tiff(labels: NDArray[np.int32]) -> Content:
    """A grey TIFF of 32-bit integers from an (H, W) map, compressed without loss."""
    return partial(Image.fromarray(labels).save, format="TIFF", compression="tiff_adobe_deflate")


def json_text(document: dict[str, Any], indent: int | None = None) -> bytes:
    """A JSON document in UTF-8, on one line unless indented; NaN and infinity are refused."""
    return (json.dumps(document, indent=indent, allow_nan=False) + "\n").encode()


def _png(image: Image.Image) -> Content:
    return partial(image.save, format="PNG", compress_level=PNG_LEVEL)

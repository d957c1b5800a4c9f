"""Working sizes of images, shrinking, and nearest pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALLEST_LEVEL = 32
"""Longest side in pixels of a level before the last."""


def working_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Width and height with the longest side at most `max_size`, aspect kept, never enlarged, at least 1 pixel."""
    longest = max(width, height)
    if max_size == 0 or longest <= max_size:
        return width, height
    scale = max_size / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def level_sizes(max_size: int, levels: int) -> list[int]:
    """Longest sides of the levels, coarse to fine, each half the next: `max_size` is the last."""
    halvings = range(levels - 1, -1, -1)
    return [max_size >> n for n in halvings if n == 0 or max_size >> n >= SMALLEST_LEVEL]


def shrink(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize an RGB (H, W, 3) image by averaging the area behind each new pixel."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize an RGB (H, W, 3) image, smoothly where it is enlarged."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def nearest_indices(length: int, wanted: int) -> NDArray[np.int32]:
    """Nearest neighbour along one side: for each of `wanted` pixels the index, below `length`, that it takes."""
    # By Pillow itself: halfway between two pixels its rounding errors decide.
    line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    taken: NDArray[np.int32] = np.asarray(line.resize((wanted, 1), Image.Resampling.NEAREST))[0]
    return taken


def middle_indices(length: int, wanted: int) -> NDArray[np.intp]:
    """(wanted,) index of the pixel in the middle of each of `wanted` equal parts of a line of `length` pixels."""
    return ((np.arange(wanted) + 0.5) * (length / wanted)).astype(np.intp)

"""The size at which the network is fitted: cost grows with pixels, quality hardly (the network then labels large)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def working_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Width and height with the longest side at most `max_size`, aspect kept, never enlarged, at least 1 pixel."""
    longest = max(width, height)
    if max_size == 0 or longest <= max_size:
        return width, height
    scale = max_size / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize an RGB (H, W, 3) image by averaging the area behind each new pixel."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))

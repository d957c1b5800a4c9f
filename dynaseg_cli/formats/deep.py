"""Pixels as a file holds them, before they are brought to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DeepImage:
    """An image of other numbers than bytes, or of other channels than Pillow knows."""

    values: NDArray[Any]
    """(H, W) grey or (H, W, 3) red, green and blue: integers of either sign, or floating point."""
    full: tuple[float, float] | None
    """The least and the greatest number that a pixel of the file can hold; None for floating point."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) opacity, 0..255; None where all is opaque."""
    nodata: float | None = None
    """The number that the file itself declares to be no measurement."""
    white_is_zero: bool = False
    orientation: int = 1
    """Of EXIF: how the image is to be turned."""
    bands: int = 0
    """How many the file has, if not all of them are shown."""

    @property
    def is_deep(self) -> bool:
        return self.values.dtype != np.uint8

"""Pixels as stored in a file, before they are mapped to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DeepImage:
    """An image whose samples are not bytes, or whose channels Pillow does not support."""

    values: NDArray[Any]
    """(H, W) grey or (H, W, 3) RGB: signed or unsigned integers, or floating point."""
    full: tuple[float, float] | None
    """The smallest and largest value that a sample of the file can hold; None for floating point."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) opacity, 0..255; None if everything is opaque."""
    nodata: float | None = None
    """The value that the file declares to mean "no data"."""
    white_is_zero: bool = False
    orientation: int = 1
    """EXIF orientation, 1..8."""
    bands: int = 0
    """Number of bands in the file, if some are left out; otherwise 0."""

    @property
    def is_deep(self) -> bool:
        return self.values.dtype != np.uint8

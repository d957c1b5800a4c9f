"""Labels renumbered so that a smaller number always means a larger area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def number_by_area(
    raw: NDArray[np.integer],
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], int]:
    """Renumber the labels of an (H, W) map of small non-negative integers to 0..K-1 by falling area, and give K.

    Of two labels with equal area the smaller comes first. The result is uint8 up to 256 labels, else uint16.
    """
    areas = np.bincount(raw.reshape(-1))
    order = np.argsort(-areas, kind="stable")
    order = order[areas[order] > 0]
    dtype = np.uint8 if len(order) <= 256 else np.uint16
    number = np.zeros(len(areas), dtype=dtype)
    number[order] = np.arange(len(order), dtype=dtype)
    return number[raw], len(order)

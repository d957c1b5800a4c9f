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
    count = int(np.count_nonzero(areas))
    dtype = np.uint8 if count <= 256 else np.uint16
    return numbers_by_area(areas).astype(dtype)[raw], count


def numbers_by_area(areas: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.int32]:
    """(N,) 0..N-1 by falling area, of equal ones the first first: what each of N labels or regions is renumbered to."""
    numbers = np.empty(len(areas), dtype=np.int32)
    numbers[np.argsort(-areas, kind="stable")] = np.arange(len(areas), dtype=np.int32)
    return numbers

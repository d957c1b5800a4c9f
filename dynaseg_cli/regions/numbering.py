"""Labels renumbered so that a smaller number always means a larger area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Numbered:
    """An (H, W) map whose values were renumbered."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """uint8 as long as it holds them."""
    count: int
    """How many labels occur."""
    numbers: NDArray[np.int32]
    """(N,) what each value 0..N-1 of the map became, or would have become."""


def number_by_area(raw: NDArray[np.integer], kept: Sequence[int] = ()) -> Numbered:
    """Renumber the labels of an (H, W) map of small non-negative integers to 0..K-1 by falling area.

    Of two labels with equal area the smaller comes first. Labels that are `kept` stay as they are, whether they occur
    or not, and the others share out the numbers between and above them.
    """
    areas = np.bincount(raw.reshape(-1))
    numbers = _numbers_around(areas, kept) if kept else numbers_by_area(areas)
    dtype = np.uint8 if numbers[areas > 0].max() < 256 else np.uint16
    return Numbered(numbers.astype(dtype)[raw], int(np.count_nonzero(areas)), numbers)


def _numbers_around(areas: NDArray[np.integer], kept: Sequence[int]) -> NDArray[np.int32]:
    """As `numbers_by_area`, but that of each label in `kept` is the label itself."""
    numbers: NDArray[np.int32] = np.arange(len(areas), dtype=np.int32)
    others = np.setdiff1d(numbers, kept)
    free = np.setdiff1d(np.arange(len(areas) + len(kept), dtype=np.int32), kept)
    numbers[others] = free[numbers_by_area(areas[others])]
    return numbers


def numbers_by_area(areas: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.int32]:
    """(N,) 0..N-1 by falling area, of equal ones the first first: what each of N labels or regions is renumbered to."""
    numbers = np.empty(len(areas), dtype=np.int32)
    numbers[np.argsort(-areas, kind="stable")] = np.arange(len(areas), dtype=np.int32)
    return numbers

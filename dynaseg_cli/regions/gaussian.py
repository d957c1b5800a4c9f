"""Gaussian smoothing and derivatives as products with small banded matrices, in half the time of a filter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

TRUNCATE = 4.0
"""Standard deviations at which the Gaussian ends."""
STEP = 16
"""Pixels of a line that one product gives. More of a larger matrix would be zeros."""
ROWS = 96
"""Rows that are worked on at a time, so that they stay in the processor's cache."""


def smoothed(values: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """An (H, W) map smoothed by a Gaussian of a standard deviation in pixels, mirrored at its edges."""
    smooth, _ = _matrices(scale)
    found = np.empty(values.shape, dtype=np.float32)
    for rows, part in _parts(values, scale):
        found[rows] = _across(_rounded(_down(part, smooth)), smooth)
    return found


def slopes(values: NDArray[np.float32], scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The derivatives of `smoothed`, down and across: (H, W) each, exactly 0 where all pixels in reach are equal.

    Sums are taken in 64 bits and then rounded, because the order of a product's sums depends on the place in it: in 32
    bits, equal surroundings would have slopes that differ in the last digit, and level ground would not stay level.
    """
    smooth, steep = _matrices(scale)
    down, across = (np.empty(values.shape, dtype=np.float32) for _ in range(2))
    for rows, part in _parts(values, scale):
        down[rows] = _across(_rounded(_down(np.diff(part, axis=0), steep)), smooth)
        across[rows] = _across(np.diff(_rounded(_down(part, smooth)), axis=1), steep)
    return down, across


def _parts(values: NDArray[np.float32], scale: float) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some rows of a map at a time, and their pixels with those in reach."""
    reach = _reach(scale)
    padded = np.pad(values, reach, mode="symmetric")
    for top in range(0, len(values), ROWS):
        yield slice(top, top + ROWS), padded[top : top + ROWS + 2 * reach].astype(np.float64)


def _reach(scale: float) -> int:
    return int(TRUNCATE * scale + 0.5)


@cache
def _matrices(scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Products of neighbouring pixels with the first are `STEP` smoothed ones; of differences with the other, slopes.

    (`STEP` + 2R, `STEP`) and (`STEP` + 2R - 1, `STEP`), where R is the reach of the Gaussian in pixels.
    """
    places = np.arange(-_reach(scale), _reach(scale) + 1)
    weights = np.exp(-0.5 * (places / scale) ** 2)
    weights /= weights.sum()
    slope = weights * places / scale**2
    # A pixel is the sum of all differences before it, so a difference counts as much as all pixels after it.
    return _banded(weights), _banded(np.cumsum(slope[::-1])[-2::-1])


def _banded(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.zeros((STEP + len(weights) - 1, STEP))
    for column in range(STEP):
        matrix[column : column + len(weights), column] = weights
    return matrix


def _down(values: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H - N + 1, W) the sums of N weighted neighbours below each other."""
    beyond = len(matrix) - STEP
    found = np.empty((len(values) - beyond, values.shape[1]))
    for start in range(0, len(found), STEP):
        into = found[start : start + STEP]
        needed = len(into) + beyond
        np.matmul(matrix[:needed, : len(into)].T, values[start : start + needed], out=into)
    return found


def _across(values: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W - N + 1) the sums of N weighted neighbours beside each other."""
    beyond = len(matrix) - STEP
    found = np.empty((len(values), values.shape[1] - beyond))
    for start in range(0, found.shape[1], STEP):
        into = found[:, start : start + STEP]
        needed = into.shape[1] + beyond
        np.matmul(values[:, start : start + needed], matrix[:needed, : into.shape[1]], out=into)
    return found


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64)

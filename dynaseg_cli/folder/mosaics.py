"""Mosaics: crops of several photos side by side, so that the network sees several photos at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle, islice

import numpy as np
from numpy.typing import NDArray

from ..resampling import shrink, working_size

ROWS, COLUMNS = 2, 4
"""Crops per mosaic."""
CROPS = ROWS * COLUMNS
SMALLEST_SIDE = 16
FULL_SIDE = 256
"""Side in pixels of a crop when photos are fitted at full resolution."""


def crop_side(max_size: int) -> int:
    """Side in pixels of a crop: half the longest side `max_size` of the photos, which is 0 for full resolution."""
    return max(SMALLEST_SIDE, max_size // 2) if max_size else FULL_SIDE


def crop(image: NDArray[np.uint8], max_size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square of an (H, W, 3) RGB photo at its working size, mirrored at the edges if it is too narrow."""
    height, width = image.shape[:2]
    small = shrink(image, *working_size(width, height, max_size))
    side = crop_side(max_size)
    lacking = [(0, max(0, side - length)) for length in small.shape[:2]]
    small = np.pad(small, (*lacking, (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(length - side + 1)) for length in small.shape[:2])
    # A view would keep the whole photo in memory.
    return np.array(small[top : top + side, left : left + side])


def mosaics(crops: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Mosaics of `CROPS` crops of one size each, in order; the first crops are used again to fill the last mosaic."""
    crops = iter(crops)
    first = list(islice(crops, CROPS))
    if not first:
        return
    crops = chain(first, crops)
    while batch := list(islice(crops, CROPS)):
        yield _mosaic(list(islice(chain(batch, cycle(first)), CROPS)))


def _mosaic(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    rows = [np.concatenate(crops[start : start + COLUMNS], axis=1) for start in range(0, CROPS, COLUMNS)]
    return np.concatenate(rows, axis=0)

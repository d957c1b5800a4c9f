"""Mosaics: crops of several photos side by side, so that a network sees several at a time, whatever their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle, islice

import numpy as np
from numpy.typing import NDArray

from ..sizes import shrink, working_size

ROWS, COLUMNS = 2, 4
"""Crops of a mosaic."""
CROPS = ROWS * COLUMNS
SMALLEST_SIDE = 16
FULL_SIDE = 256
"""Side in pixels of a crop where photos are fitted at their own size."""


def crop_side(max_size: int) -> int:
    """Side in pixels of a crop of photos whose longest side is `max_size`: a half of it; 0 is their own size."""
    return max(SMALLEST_SIDE, max_size // 2) if max_size else FULL_SIDE


def crop(image: NDArray[np.uint8], max_size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square of an RGB (H, W, 3) photo at its working size, mirrored outwards where it is too narrow."""
    height, width = image.shape[:2]
    small = shrink(image, *working_size(width, height, max_size))
    side = crop_side(max_size)
    lacking = [(0, max(0, side - length)) for length in small.shape[:2]]
    small = np.pad(small, (*lacking, (0, 0)), mode="symmetric")
    top, left = (int(rng.integers(length - side + 1)) for length in small.shape[:2])
    # A view would keep the whole photo, and eight of them for an epoch.
    return np.array(small[top : top + side, left : left + side])


def mosaics(crops: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Crops of one size, side by side in their order, `CROPS` at a time; the first ones again fill up the last."""
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

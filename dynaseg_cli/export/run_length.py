"""Run-length encoding of all segments of a map at once, as COCO defines it.

A mask library looks at every pixel once for each segment. Here one pass over the pixels finds the runs of all segments,
and everything else is done on runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 5
"""Bits of a count in each character of COCO's compressed string; a sixth bit says that another character follows."""
FIRST_CHARACTER = 48


@dataclass(frozen=True)
class Runs:
    """Runs of equal pixels down the columns of a map, one column after another, sorted by segment, then position."""

    height: int
    width: int
    segments: NDArray[np.int64]
    """(P,) the segments that occur, rising."""
    first: NDArray[np.int64]
    """(P,) the index of the first run of each."""
    starts: NDArray[np.int64]
    """(R,) the first pixel of each run, counted down the columns from 0."""
    lengths: NDArray[np.int64]
    """(R,) pixels of each run, at least 1."""

    def areas(self) -> NDArray[np.int64]:
        """(P,) pixels of each segment."""
        return np.add.reduceat(self.lengths, self.first)

    def boxes(self) -> NDArray[np.int64]:
        """(P, 4) the bounding box of each segment: x, y, width, height in pixels."""
        left, top = np.divmod(self.starts, self.height)
        right, bottom = np.divmod(self.starts + self.lengths - 1, self.height)
        # A run that goes on in the next column touches the lower and the upper edge.
        goes_on = right > left
        top[goes_on], bottom[goes_on] = 0, self.height - 1
        x, y = (np.minimum.reduceat(side, self.first) for side in (left, top))
        x_end, y_end = (np.maximum.reduceat(side, self.first) + 1 for side in (right, bottom))
        return np.stack([x, y, x_end - x, y_end - y], axis=1)

    def only(self, kept: NDArray[np.bool_]) -> Runs:
        """The runs of those segments for which the (P,) `kept` is true; there may be none."""
        counts = np.diff(self.first, append=len(self.starts))
        runs = np.repeat(kept, counts)
        return Runs(
            height=self.height,
            width=self.width,
            segments=self.segments[kept],
            first=np.cumsum(counts[kept]) - counts[kept],
            starts=self.starts[runs],
            lengths=self.lengths[runs],
        )

    def compressed(self) -> list[str]:
        """Each segment's mask as COCO's compressed string: equal to pycocotools.mask.encode, character by character."""
        if not len(self.segments):
            return []
        counts, offsets = self._counts()
        place = np.arange(len(counts)) - np.repeat(offsets, np.diff(offsets, append=len(counts)))
        # From the fourth on, a count is stored as its difference to the last but one.
        stored = counts.copy()
        later = np.flatnonzero(place > 2)
        stored[later] -= counts[later - 2]
        sizes = _characters(stored)
        ends = np.cumsum(sizes)
        text = _encode(stored, sizes, ends - sizes).tobytes().decode("ascii")
        bounds = [*(ends - sizes)[offsets].tolist(), len(text)]
        return [text[begin:end] for begin, end in pairwise(bounds)]

    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of pixels off and on in turn, segment after segment, and (P,) the index of the first count of each.

        A segment begins with pixels off, even if there are none, and ends with pixels off only if there are any.
        """
        ends = self.starts + self.lengths
        gaps = self.starts.copy()
        gaps[1:] -= ends[:-1]
        gaps[self.first] = self.starts[self.first]
        runs = np.diff(self.first, append=len(self.starts))
        rest = self.height * self.width - ends[self.first + runs - 1]
        sizes = 2 * runs + (rest > 0)
        offsets = np.cumsum(sizes) - sizes
        places = np.repeat(offsets - 2 * self.first, runs) + 2 * np.arange(len(self.starts))
        counts = np.empty(int(sizes.sum()), dtype=np.int64)
        counts[places] = gaps
        counts[places + 1] = self.lengths
        counts[(offsets + 2 * runs)[rest > 0]] = rest[rest > 0]
        return counts, offsets


def find_runs(segments: NDArray[np.integer[Any]]) -> Runs:
    """The runs of an (H, W) map of integers."""
    height, width = segments.shape
    down = segments.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(down[1:] != down[:-1]) + 1])
    values = down[starts]
    order = np.argsort(values, kind="stable")
    values = values[order]
    first = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return Runs(
        height=height,
        width=width,
        segments=values[first].astype(np.int64),
        first=first,
        starts=starts[order],
        lengths=np.diff(starts, append=down.size)[order],
    )


def _characters(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of characters that hold each number and its sign."""
    magnitudes = numbers ^ (numbers >> 63)
    characters = np.ones(len(numbers), dtype=np.int64)
    limit = 1 << (BITS - 1)
    while (more := magnitudes >= limit).any():
        characters += more
        limit <<= BITS
    return characters


def _encode(numbers: NDArray[np.int64], sizes: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The characters of all numbers, low bits first."""
    text = np.empty(int(sizes.sum()), dtype=np.uint8)
    left = np.arange(len(numbers))
    for place in range(int(sizes.max())):
        bits = (numbers[left] >> (BITS * place)) & ((1 << BITS) - 1)
        goes_on = sizes[left] > place + 1
        text[offsets[left] + place] = FIRST_CHARACTER + bits + (goes_on << BITS)
        left = left[goes_on]
    return text

"""Sums and records over a set of images, in memory that does not grow with their number."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .contingency import ContingencyTable

Record = TypeVar("Record")


@dataclass
class PooledMean:
    """A mean of values that come in groups, each known by its sum and its (possibly weighted) number."""

    total: float = 0.0
    count: float = 0.0

    def add(self, total: float, count: float = 1.0) -> None:
        self.total += total
        self.count += count

    def include(self, other: PooledMean) -> None:
        self.add(other.total, other.count)

    @property
    def value(self) -> float | None:
        """The mean; None while there is nothing to average."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True)
class LabelCounts:
    """How many labels one image has in its prediction and its ground truth, and how many pixels were ignored."""

    predicted: int
    """Distinct values of the label map as it was given, before labels are split into connected segments."""
    truth: tuple[int, ...]
    """Segments, or classes, of each annotation, without those to be ignored."""
    ignored: int = 0
    """Ignored pixels of the annotations."""
    pixels: int = 0
    """Pixels of the annotations, including ignored ones."""

    @classmethod
    def of(cls, prediction: NDArray[np.integer], tables: Sequence[ContingencyTable]) -> LabelCounts:
        """Count the values of an (H, W) map, and the segments of the annotations that it was compared with."""
        pixels = prediction.size * len(tables)
        return cls(
            predicted=len(np.unique(prediction)),
            truth=tuple(len(one.truth_areas) for one in tables),
            ignored=pixels - sum(one.pixels for one in tables),
            pixels=pixels,
        )

    @property
    def truth_mean(self) -> float:
        return sum(self.truth) / len(self.truth)

    @property
    def ignored_fraction(self) -> float:
        """Share of the annotations' pixels that are ignored, 0..1."""
        return self.ignored / self.pixels if self.pixels else 0.0


class Spool(Generic[Record]):
    """A growing sequence of small records, kept in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the spool lives)
        weakref.finalize(self, self._file.close)
        self._end = 0

    def append(self, record: Record) -> None:
        self._file.seek(self._end)
        pickle.dump(record, self._file)
        self._end = self._file.tell()

    def __iter__(self) -> Iterator[Record]:
        position = 0
        while position < self._end:
            self._file.seek(position)
            record: Record = pickle.load(self._file)
            position = self._file.tell()
            yield record

"""What a set of images is summed up in: memory does not grow with their number."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

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
        """Add all that another one holds."""
        self.add(other.total, other.count)

    @property
    def value(self) -> float | None:
        """None while there is nothing to average."""
        return self.total / self.count if self.count else None


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

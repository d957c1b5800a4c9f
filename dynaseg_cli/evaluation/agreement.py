"""One prediction against one annotation of the same image, as numbers that can be pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .contingency import ContingencyTable, contingency_table
from .metrics import best_overlaps, rand_index, variation_of_information

Row = dict[str, float | None]
"""Metrics by their names in the JSON and the CSV; None where there is nothing to measure."""


@dataclass(frozen=True)
class Agreement:
    """The table of a ground truth and a prediction, and what is read from it."""

    table: ContingencyTable
    overlaps: NDArray[np.float64]
    """(R,) best intersection over union of each ground-truth segment."""
    rand_index: float
    variation_of_information: float

    @classmethod
    def of(cls, table: ContingencyTable) -> Agreement:
        """Read a table of at least one pixel."""
        return cls(table, best_overlaps(table), rand_index(table), variation_of_information(table))

    @property
    def covered(self) -> float:
        """Pixels of the ground truth, each weighted by the best overlap of its segment."""
        return float((self.table.truth_areas * self.overlaps).sum())


def agreement(truth: NDArray[np.integer], segments: NDArray[np.integer], ignore: int | None) -> Agreement:
    """Compare two (H, W) maps, the pixels left out where `truth` is `ignore`.

    Raises
    ------
    ImageError
        If no pixel is left.
    """
    table = contingency_table(truth, segments, ignore)
    if not table.pixels:
        raise ImageError(f"every pixel of the ground truth is to be ignored (value {ignore}): nothing is left to score")
    return Agreement.of(table)

"""The pixels that two label maps of an image share, as one exact table, and the metrics that are read from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError


@dataclass(frozen=True)
class ContingencyTable:
    """Pixels shared by the segments of a ground truth and of a prediction, as a sparse int64 matrix.

    A segment is a distinct value of a map; both maps' segments are numbered from 0 by rising value. Segments without a
    counted pixel do not occur. Entries are sorted by row, then column; every row and column has at least one.
    """

    rows: NDArray[np.int64]
    """(E,) the ground-truth segment of each entry."""
    columns: NDArray[np.int64]
    """(E,) the predicted segment of each entry."""
    counts: NDArray[np.int64]
    """(E,) pixels, all positive."""
    truth_values: NDArray[np.integer]
    """(R,) the value that each ground-truth segment has in its map."""
    prediction_values: NDArray[np.integer]
    """(C,) the value that each predicted segment has in its map."""
    truth_areas: NDArray[np.int64]
    """(R,) pixels."""
    prediction_areas: NDArray[np.int64]
    """(C,) pixels."""

    @property
    def pixels(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def best_overlaps(self) -> NDArray[np.float64]:
        """For each ground-truth segment, (R,), the largest intersection over union with any predicted segment.

        Their mean is the best-overlap mIoU of the DynaSeg paper (its section IV-A); weighted by `truth_areas` it is the
        segmentation covering of Arbelaez et al. 2011, section 2.3.2, doi 10.1109/TPAMI.2010.161.
        """
        union = self.truth_areas[self.rows] + self.prediction_areas[self.columns] - self.counts
        best = np.zeros(len(self.truth_areas))
        np.maximum.at(best, self.rows, self.counts / union)
        return best

    @property
    def covered(self) -> float:
        """Pixels of the ground truth, each weighted by the best overlap of its segment."""
        return float((self.truth_areas * self.best_overlaps).sum())

    @property
    def rand_index(self) -> float:
        """Fraction of the pairs of pixels that both maps join, or both separate (Rand 1971); 1 for a single pixel.

        Averaged over an image's annotations it is the probabilistic Rand index (Unnikrishnan, Pantofaru and Hebert
        2007, doi 10.1109/TPAMI.2007.1046).
        """
        pairs = _pairs(np.array([self.pixels]))
        if pairs == 0:
            return 1.0
        joined_by_both = _pairs(self.counts)
        joined_by_one = _pairs(self.truth_areas) + _pairs(self.prediction_areas) - 2 * joined_by_both
        return 1 - joined_by_one / pairs

    @property
    def variation_of_information(self) -> float:
        """Entropy of each map given the other, summed, in bits (Meila 2005, doi 10.1145/1102351.1102424)."""
        joint = self.counts / self.pixels
        given_truth = self.counts / self.truth_areas[self.rows]
        given_prediction = self.counts / self.prediction_areas[self.columns]
        return float(-(joint * (np.log2(given_truth) + np.log2(given_prediction))).sum()) + 0.0  # never -0.0


def contingency_table(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], ignore: int | None = None
) -> ContingencyTable:
    """Count the pixels of two (H, W) integer maps by their pair of values.

    Pixels where `truth` is `ignore` count nowhere: neither in an overlap nor in a segment's area. ValueError if the
    shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"shapes differ: {truth.shape} and {prediction.shape}")
    truth, prediction = truth.reshape(-1), prediction.reshape(-1)
    if ignore is not None:
        counted = truth != ignore
        if not counted.all():
            truth, prediction = truth[counted], prediction[counted]
    truth_values, rows = np.unique(truth, return_inverse=True)
    prediction_values, columns = np.unique(prediction, return_inverse=True)
    width = max(len(prediction_values), 1)
    pairs, counts = np.unique(rows.astype(np.int64) * width + columns, return_counts=True)
    rows, columns = np.divmod(pairs, width)
    counts = counts.astype(np.int64)
    return ContingencyTable(
        rows=rows,
        columns=columns,
        counts=counts,
        truth_values=truth_values,
        prediction_values=prediction_values,
        truth_areas=_sums(rows, counts, len(truth_values)),
        prediction_areas=_sums(columns, counts, len(prediction_values)),
    )


def compared(truth: NDArray[np.integer], segments: NDArray[np.integer], ignore: int | None) -> ContingencyTable:
    """The table of two (H, W) maps, as `contingency_table` makes it; ImageError if every pixel is to be ignored."""
    table = contingency_table(truth, segments, ignore)
    if not table.pixels:
        raise ImageError(f"every pixel of the ground truth is to be ignored (value {ignore}): nothing is left to score")
    return table


def joined(table: ContingencyTable, values: NDArray[np.integer]) -> ContingencyTable:
    """The table of the prediction with each of its segments set to another value: those of equal value become one.

    Parameters
    ----------
    values : (C,), one for each of `table.prediction_values`.
    """
    prediction_values, column = np.unique(values, return_inverse=True)
    width = max(len(prediction_values), 1)
    pairs, entry = np.unique(table.rows * width + column[table.columns], return_inverse=True)
    rows, columns = np.divmod(pairs, width)
    return ContingencyTable(
        rows=rows,
        columns=columns,
        counts=_sums(entry, table.counts, len(pairs)),
        truth_values=table.truth_values,
        prediction_values=prediction_values,
        truth_areas=table.truth_areas,
        prediction_areas=_sums(column, table.prediction_areas, len(prediction_values)),
    )


def _sums(index: NDArray[np.int64], counts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    # np.bincount would add the weights in floating point.
    sums = np.zeros(length, dtype=np.int64)
    np.add.at(sums, index, counts)
    return sums


def _pairs(areas: NDArray[np.int64]) -> int:
    # Exact: the squares of 3 gigapixels still fit 64 bits.
    return int((areas * (areas - 1) // 2).sum())

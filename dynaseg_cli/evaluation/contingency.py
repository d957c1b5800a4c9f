"""The one exact table that feeds every metric: how many pixels two label maps of an image share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def contingency_table(
    truth: NDArray[np.integer], prediction: NDArray[np.integer], ignore: int | None = None
) -> ContingencyTable:
    """Count the pixels of two (H, W) integer maps by their pair of values.

    Pixels where `truth` is `ignore` count nowhere: neither in an overlap nor in a segment's area.

    Raises
    ------
    ValueError
        If the shapes differ.
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

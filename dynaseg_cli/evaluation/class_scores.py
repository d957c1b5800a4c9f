"""Protocols `classes` and `coco-stuff27`: labels that mean the same in every image, matched to classes once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..errors import UsageError
from ..regions.segments import connected_regions
from .contingency import ContingencyTable, compared
from .headings import Row
from .pooling import LabelCounts, Spool
from .region_scores import RegionTotals

MOST_CLASSES = 5000
"""Most distinct values that count as classes: the assignment of more would take hours, and they are surely regions."""


@dataclass(frozen=True)
class ClassScore:
    """One class of the ground truth under the assignment."""

    value: int
    name: str | None
    iou: float
    pixels: int
    label: int | None
    """The predicted label assigned to this class; None if there was none left."""


class _Confusion(NamedTuple):
    """Pixels by class and label: a dense (classes, labels) matrix of the values that occur, in rising order."""

    classes: NDArray[np.int64]
    labels: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, table: ContingencyTable, label_of: NDArray[np.int64]) -> _Confusion:
        """Add up the columns of a table of segments by the label (C,) that each segment carries."""
        labels, column = np.unique(label_of, return_inverse=True)
        pixels = np.zeros((len(table.truth_values), len(labels)), dtype=np.int64)
        np.add.at(pixels, (table.rows, column[table.columns]), table.counts)
        return cls(table.truth_values.astype(np.int64), labels, pixels)

    def plus(self, other: _Confusion) -> _Confusion:
        """The sum of both matrices over the values of either; UsageError if the values are too many to be classes."""
        classes, labels = np.union1d(self.classes, other.classes), np.union1d(self.labels, other.labels)
        for side, values in (("ground truth", classes), ("prediction", labels)):
            if len(values) > MOST_CLASSES:
                raise UsageError(
                    f"the {side} has more than {MOST_CLASSES} distinct values, which are no classes;"
                    " give `protocol=regions`"
                )
        pixels = np.zeros((len(classes), len(labels)), dtype=np.int64)
        for one in (self, other):
            pixels[np.ix_(np.searchsorted(classes, one.classes), np.searchsorted(labels, one.labels))] += one.pixels
        return _Confusion(classes, labels, pixels)


_NOTHING = _Confusion(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0), np.int64))


class ClassScores:
    """Mean IoU and pixel accuracy under one Hungarian assignment of labels to classes, over all pixels of the set.

    The mean is over the classes that the ground truth has; a class that no label is left for has an IoU of 0. Things
    are the classes below `num_things` and stuff the others: their means are read from the same full confusion matrix.
    Covering, Rand index and variation of information compare the predicted segments with the map of classes.
    """

    def __init__(self, *, connected: bool, num_things: int | None, class_names: Sequence[str] = ()) -> None:
        self._connected = connected
        self._num_things = num_things
        self._names = class_names
        self._total = _NOTHING
        self._regions = RegionTotals()
        self._records: Spool[tuple[str, _Confusion, Row, LabelCounts]] = Spool()
        self._matched: dict[int, int] | None = None
        """The label of each class that has one, until another image is added."""

    def add(
        self,
        name: str,
        prediction: NDArray[np.integer],
        annotations: Sequence[NDArray[np.integer]],
        ignore: int | None = None,
    ) -> None:
        """Count the (H, W) labels of one image against its (H, W) map of classes, less pixels that are `ignore` there.

        ImageError if no pixel is left; UsageError if the values of the set are too many to be classes.
        """
        (truth,) = annotations
        segments = connected_regions(prediction) if self._connected else prediction
        values, first = np.unique(segments, return_index=True)
        table = compared(truth, segments, ignore)
        label_of = prediction.reshape(-1)[first][np.searchsorted(values, table.prediction_values)]
        confusion = _Confusion.of(table, label_of.astype(np.int64))
        self._total = self._total.plus(confusion)
        self._matched = None
        regions = RegionTotals.of([table], len(values))
        self._regions.include(regions)
        row = {**regions.shared, "segments": len(values)}
        self._records.append((name, confusion, row, LabelCounts.of(prediction, [table])))

    def metrics(self) -> Row:
        """The metrics of the set."""
        return {**self._accuracy(self._total), **self._regions.shared}

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """Each image's metrics under the set's assignment, in the order they were added."""
        for name, confusion, regions, _ in self._records:
            yield name, {**self._accuracy(confusion), **regions}

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """How many labels and classes each image has, in the order of `per_image`."""
        return ((name, counts) for name, _, _, counts in self._records)

    def per_class(self) -> list[ClassScore]:
        """Every class of the ground truth, by its value."""
        total, matched = self._total, self._assignment()
        ious = class_ious(total.pixels, self._columns(total))
        return [
            ClassScore(
                value=value,
                name=self._names[value] if 0 <= value < len(self._names) else None,
                iou=float(iou),
                pixels=int(area),
                label=matched.get(value),
            )
            for value, iou, area in zip(total.classes.tolist(), ious, total.pixels.sum(1), strict=True)
        ]

    def _accuracy(self, confusion: _Confusion) -> Row:
        columns = self._columns(confusion)
        ious, pixels = class_ious(confusion.pixels, columns), int(confusion.pixels.sum())
        hits = int(matched_pixels(confusion.pixels, columns).sum())
        things = confusion.classes < (self._num_things or 0)
        split = self._num_things is not None
        return {
            "miou": _mean(ious),
            "pixel_accuracy": hits / pixels if pixels else None,
            "miou_things": _mean(ious[things]) if split else None,
            "miou_stuff": _mean(ious[~things]) if split else None,
        }

    def _columns(self, confusion: _Confusion) -> NDArray[np.int64]:
        """The column of each class's label, or -1 where it does not occur."""
        column = {label: index for index, label in enumerate(confusion.labels.tolist())}
        matched = self._assignment()
        found = [column.get(matched[value], -1) if value in matched else -1 for value in confusion.classes.tolist()]
        return np.array(found, dtype=np.int64)

    def _assignment(self) -> dict[int, int]:
        if self._matched is None:
            columns, labels = match_clusters(self._total.pixels).tolist(), self._total.labels.tolist()
            classes = self._total.classes.tolist()
            self._matched = {value: labels[at] for value, at in zip(classes, columns, strict=True) if at >= 0}
        return self._matched


def match_clusters(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign clusters to classes one to one, so that as many pixels as possible are right (Hungarian method).

    `confusion` is (classes, clusters), pixels; the result is (classes,), the cluster of each class or -1 for none.
    """
    cluster = np.full(confusion.shape[0], -1, dtype=np.int64)
    classes, clusters = linear_sum_assignment(confusion, maximize=True)
    cluster[classes] = clusters
    return cluster


def class_ious(confusion: NDArray[np.int64], cluster: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class with its cluster, (classes,): 0 without one, NaN for an absent class."""
    hits = matched_pixels(confusion, cluster)
    areas = confusion.sum(1)
    union = areas + np.where(cluster >= 0, confusion.sum(0)[cluster], 0) - hits
    return np.where(areas > 0, hits / np.maximum(union, 1), np.nan)


def matched_pixels(confusion: NDArray[np.int64], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of each class, (classes,), that its cluster covers."""
    hits: NDArray[np.int64] = np.where(cluster >= 0, confusion[np.arange(len(cluster)), cluster], 0)
    return hits


def _mean(ious: NDArray[np.float64]) -> float | None:
    """Mean over the classes that are present; NaN marks the others."""
    present = ious[~np.isnan(ious)]
    return float(present.mean()) if len(present) else None

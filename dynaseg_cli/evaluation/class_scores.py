"""Protocols `classes` and `coco-stuff27`: labels that mean the same in every image, matched to classes once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

MANY_TO_ONE = {"miou": "miou_many_to_one", "pixel_accuracy": "pixel_accuracy_many_to_one"}
"""Metrics under the many-to-one assignment, by those that are the same under one-to-one."""


def without_many_to_one(row: Row) -> Row:
    """The other metrics: a table as wide as a terminal has no room for both."""
    return {name: value for name, value in row.items() if name not in MANY_TO_ONE.values()}


@dataclass(frozen=True)
class ClassScore:
    """One class of the ground truth under the one-to-one assignment."""

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

    def relabelled(self, values: Mapping[int, int]) -> _Confusion:
        """The matrix with the value of each label in its place; labels with the same value are added up."""
        renamed = np.array([values[label] for label in self.labels.tolist()], dtype=np.int64)
        labels, column = np.unique(renamed, return_inverse=True)
        pixels = np.zeros((len(self.classes), len(labels)), dtype=np.int64)
        np.add.at(pixels.T, column, self.pixels.T)
        return _Confusion(self.classes, labels, pixels)


_NOTHING = _Confusion(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0), np.int64))


class _Assignments(NamedTuple):
    """Labels and classes of a set, in both readings."""

    label_of: dict[int, int]
    """One to one: the label of each class that has one."""
    class_of: dict[int, int]
    """Many to one: the class of each label."""

    @classmethod
    def of(cls, total: _Confusion) -> _Assignments:
        classes, labels = total.classes.tolist(), total.labels.tolist()
        columns, rows = match_clusters(total.pixels).tolist(), most_frequent_classes(total.pixels).tolist()
        return cls(
            {value: labels[at] for value, at in zip(classes, columns, strict=True) if at >= 0},
            {label: classes[at] for label, at in zip(labels, rows, strict=True)},
        )


class ClassScores:
    """Mean IoU and pixel accuracy under one assignment of labels to classes, made over all pixels of the set.

    The main figures, and those of each class, assign one to one (Hungarian method): labels beyond the number of
    classes belong to none, and their pixels are wrong. The figures `..._many_to_one` give every label to the class
    that most of its pixels have, as is done where there are more labels than classes (Ji et al. 2019,
    arXiv:1807.06653, section 4). The mean is over the classes that the ground truth has; a class without a label has
    an IoU of 0.

    Things are the classes below `num_things` and stuff the others: their means are read from the same full confusion
    matrix. Covering, Rand index and variation of information compare the predicted segments with the map of classes.
    """

    def __init__(self, *, connected: bool, num_things: int | None, class_names: Sequence[str] = ()) -> None:
        self._connected = connected
        self._num_things = num_things
        self._names = class_names
        self._total = _NOTHING
        self._regions = RegionTotals()
        self._records: Spool[tuple[str, _Confusion, Row, LabelCounts]] = Spool()
        self._assigned: _Assignments | None = None
        """Until another image is added."""

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
        self._assigned = None
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
        total, matched = self._total, self._assignments().label_of
        ious = class_ious(total.pixels, _columns(total, matched))
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
        label_of, class_of = self._assignments()
        ious, accuracy = _ious_and_accuracy(confusion, label_of)
        joined = confusion.relabelled(class_of)
        joined_ious, joined_accuracy = _ious_and_accuracy(joined, {value: value for value in joined.classes.tolist()})
        things = confusion.classes < (self._num_things or 0)
        split = self._num_things is not None
        return {
            "miou": _mean(ious),
            "pixel_accuracy": accuracy,
            "miou_things": _mean(ious[things]) if split else None,
            "miou_stuff": _mean(ious[~things]) if split else None,
            MANY_TO_ONE["miou"]: _mean(joined_ious),
            MANY_TO_ONE["pixel_accuracy"]: joined_accuracy,
        }

    def _assignments(self) -> _Assignments:
        if self._assigned is None:
            self._assigned = _Assignments.of(self._total)
        return self._assigned


def _ious_and_accuracy(confusion: _Confusion, label_of: Mapping[int, int]) -> tuple[NDArray[np.float64], float | None]:
    """IoU of each class, (classes,), and the share of pixels whose label is that of their class, 0..1."""
    columns, pixels = _columns(confusion, label_of), int(confusion.pixels.sum())
    hits = int(matched_pixels(confusion.pixels, columns).sum())
    return class_ious(confusion.pixels, columns), hits / pixels if pixels else None


def _columns(confusion: _Confusion, label_of: Mapping[int, int]) -> NDArray[np.int64]:
    """The column of each class's label, (classes,), or -1 where it does not occur."""
    column = {label: index for index, label in enumerate(confusion.labels.tolist())}
    found = [column.get(label_of[value], -1) if value in label_of else -1 for value in confusion.classes.tolist()]
    return np.array(found, dtype=np.int64)


def match_clusters(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign clusters to classes one to one, so that as many pixels as possible are right (Hungarian method).

    `confusion` is (classes, clusters), pixels; the result is (classes,), the cluster of each class or -1 for none.
    """
    cluster = np.full(confusion.shape[0], -1, dtype=np.int64)
    classes, clusters = linear_sum_assignment(confusion, maximize=True)
    cluster[classes] = clusters
    return cluster


def most_frequent_classes(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign every cluster to the class that most of its pixels have, the first of equals (many-to-one).

    `confusion` is (classes, clusters), pixels, with a class if it has a cluster; the result is (clusters,), the row of
    each cluster's class.
    """
    return confusion.argmax(0) if confusion.size else np.zeros(0, dtype=np.int64)


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

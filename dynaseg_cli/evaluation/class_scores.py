"""Protocols `classes` and `coco-stuff27`: labels that mean the same in every image, matched to classes once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..regions.connected import connected_regions
from .agreement import Agreement, Row, agreement
from .label_counts import LabelCounts
from .metrics import class_ious, match_clusters, matched_pixels
from .pooling import PooledMean, Spool

MOST_CLASSES = 5000
"""More distinct values than this are regions, not classes, and their assignment would take hours."""


@dataclass(frozen=True)
class ClassScore:
    """One class of the ground truth under the assignment."""

    value: int
    name: str | None
    iou: float
    pixels: int
    label: int | None
    """The predicted label that is taken for this class; None if there was none left."""


@dataclass(frozen=True)
class _Confusion:
    """Pixels by class and label: a dense (classes, labels) matrix of the values that occur."""

    classes: NDArray[np.int64]
    labels: NDArray[np.int64]
    pixels: NDArray[np.int64]


@dataclass(frozen=True)
class _Record:
    """What is kept of an image until the assignment is known."""

    name: str
    confusion: _Confusion
    regions: Row
    counts: LabelCounts


class ClassScores:
    """Mean IoU and pixel accuracy under one Hungarian assignment of labels to classes, over all pixels of the set.

    The mean is over the classes that the ground truth has; one that no label is left for has an IoU of 0. Things are
    the classes below `num_things` and stuff the others: their means are read from the same full confusion matrix.
    Covering, Rand index and variation of information compare the predicted segments with the map of classes.
    """

    def __init__(self, *, connected: bool, num_things: int | None, class_names: Sequence[str] = ()) -> None:
        self._connected = connected
        self._num_things = num_things
        self._names = class_names
        self._counts: Counter[tuple[int, int]] = Counter()
        self._classes: set[int] = set()
        self._labels: set[int] = set()
        self._covering, self._pri, self._voi, self._segments = (PooledMean() for _ in range(4))
        self._records: Spool[_Record] = Spool()
        self._matched: dict[int, int] | None = None

    def add(
        self,
        name: str,
        prediction: NDArray[np.integer],
        annotations: Sequence[NDArray[np.integer]],
        ignore: int | None = None,
    ) -> None:
        """Count the (H, W) labels of one image against its (H, W) map of classes, less pixels that are `ignore` there.

        Raises
        ------
        ImageError
            If every pixel is to be ignored.
        UsageError
            If the values of the set are too many to be classes.
        """
        (truth,) = annotations
        segments = connected_regions(prediction) if self._connected else prediction
        values, first = np.unique(segments, return_index=True)
        one = agreement(truth, segments, ignore)
        label_of = prediction.reshape(-1)[first][np.searchsorted(values, one.table.prediction_values)]
        confusion = _confusion(one, label_of.astype(np.int64))
        for row, column in zip(*np.nonzero(confusion.pixels), strict=True):
            pair = int(confusion.classes[row]), int(confusion.labels[column])
            self._counts[pair] += int(confusion.pixels[row, column])
        self._classes.update(confusion.classes.tolist())
        self._labels.update(confusion.labels.tolist())
        self._refuse_regions()
        self._covering.add(one.covered, one.table.pixels)
        self._pri.add(one.rand_index)
        self._voi.add(one.variation_of_information)
        self._segments.add(len(values))
        regions: Row = {
            "covering": one.covered / one.table.pixels,
            "pri": one.rand_index,
            "voi": one.variation_of_information,
            "segments": len(values),
        }
        self._records.append(_Record(name, confusion, regions, LabelCounts.of(prediction, [one])))
        self._matched = None

    def metrics(self) -> Row:
        """The set's."""
        return {
            **self._accuracy(self._total()),
            "covering": self._covering.value,
            "pri": self._pri.value,
            "voi": self._voi.value,
            "segments": self._segments.value,
        }

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """Each image's, in the order they were added, under the set's assignment."""
        for record in self._records:
            yield record.name, {**self._accuracy(record.confusion), **record.regions}

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """Each image's labels and classes, in the order they were added."""
        return ((record.name, record.counts) for record in self._records)

    def per_class(self) -> list[ClassScore]:
        """Every class of the ground truth, by its value."""
        total, matched = self._total(), self._assignment()
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

    def _total(self) -> _Confusion:
        classes, labels = sorted(self._classes), sorted(self._labels)
        row = {value: index for index, value in enumerate(classes)}
        column = {value: index for index, value in enumerate(labels)}
        pixels = np.zeros((len(classes), len(labels)), dtype=np.int64)
        for (value, label), count in self._counts.items():
            pixels[row[value], column[label]] = count
        return _Confusion(np.array(classes, dtype=np.int64), np.array(labels, dtype=np.int64), pixels)

    def _refuse_regions(self) -> None:
        for what, values in (("ground truth", self._classes), ("prediction", self._labels)):
            if len(values) > MOST_CLASSES:
                raise UsageError(
                    f"the {what} has more than {MOST_CLASSES} distinct values, which are no classes;"
                    " give --protocol regions"
                )

    def _assignment(self) -> dict[int, int]:
        """The label of each class that has one."""
        if self._matched is None:
            total = self._total()
            columns = match_clusters(total.pixels).tolist()
            labels = total.labels.tolist()
            classes = total.classes.tolist()
            self._matched = {value: labels[at] for value, at in zip(classes, columns, strict=True) if at >= 0}
        return self._matched


def _confusion(one: Agreement, label_of: NDArray[np.int64]) -> _Confusion:
    """Add up the columns of a table of segments by the label (C,) that each segment carries."""
    labels, column = np.unique(label_of, return_inverse=True)
    pixels = np.zeros((len(one.table.truth_values), len(labels)), dtype=np.int64)
    np.add.at(pixels, (one.table.rows, column[one.table.columns]), one.table.counts)
    return _Confusion(one.table.truth_values.astype(np.int64), labels, pixels)


def _mean(ious: NDArray[np.float64]) -> float | None:
    """Mean over the classes that are present; NaN marks the others."""
    present = ious[~np.isnan(ious)]
    return float(present.mean()) if len(present) else None

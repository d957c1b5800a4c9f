"""Protocols `bsds500` and `regions`: every ground-truth segment against the predicted segment that fits it best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..regions.connected import connected_regions
from .agreement import Agreement, Row, agreement
from .label_counts import LabelCounts
from .pooling import PooledMean, Spool


@dataclass
class RegionTotals:
    """Sums over an image, or over a set of images, that its metrics are read from."""

    all: PooledMean = field(default_factory=PooledMean)
    fine: PooledMean = field(default_factory=PooledMean)
    coarse: PooledMean = field(default_factory=PooledMean)
    covering: PooledMean = field(default_factory=PooledMean)
    pri: PooledMean = field(default_factory=PooledMean)
    voi: PooledMean = field(default_factory=PooledMean)
    segments: PooledMean = field(default_factory=PooledMean)

    @classmethod
    def of(cls, annotations: Sequence[Agreement], segments: int) -> RegionTotals:
        """Those of one image, by the agreements of its segments with each of its annotations."""
        totals = cls()
        by_segments = sorted(annotations, key=lambda one: len(one.overlaps))
        chosen = ((totals.all, annotations), (totals.coarse, by_segments[:1]), (totals.fine, by_segments[-1:]))
        for mean, members in chosen:
            for one in members:
                mean.add(float(one.overlaps.sum()), len(one.overlaps))
        for one in annotations:
            totals.covering.add(one.covered, one.table.pixels)
        totals.pri.add(float(np.mean([one.rand_index for one in annotations])))
        totals.voi.add(float(np.mean([one.variation_of_information for one in annotations])))
        totals.segments.add(segments)
        return totals

    def include(self, image: RegionTotals) -> None:
        for name, mean in vars(self).items():
            mean.include(getattr(image, name))

    def row(self, *, annotators: bool) -> Row:
        """The metrics; of several `annotators`, mIoU by the subsets of their annotations."""
        miou = {"all": self.all.value, "fine": self.fine.value, "coarse": self.coarse.value}
        values = [value for value in miou.values() if value is not None]
        named: Row = {f"miou_{subset}": value for subset, value in miou.items()}
        named["miou_mean"] = sum(values) / len(values) if values else None
        return {
            **(named if annotators else {"miou": miou["all"]}),
            "covering": self.covering.value,
            "pri": self.pri.value,
            "voi": self.voi.value,
            "segments": self.segments.value,
        }


def region_totals(
    prediction: NDArray[np.integer], annotations: Sequence[NDArray[np.integer]], *, connected: bool, ignore: int | None
) -> RegionTotals:
    """The sums of one image: its (H, W) labels against its (H, W) annotations."""
    return RegionTotals.of(*_compared(prediction, annotations, connected=connected, ignore=ignore))


def _compared(
    prediction: NDArray[np.integer], annotations: Sequence[NDArray[np.integer]], *, connected: bool, ignore: int | None
) -> tuple[list[Agreement], int]:
    """The agreements of a map's segments with its annotations, and how many segments it has."""
    segments = connected_regions(prediction) if connected else prediction
    return [agreement(truth, segments, ignore) for truth in annotations], len(np.unique(segments))


@dataclass(frozen=True)
class _Record:
    """What is kept of an image."""

    name: str
    row: Row
    counts: LabelCounts


class RegionScores:
    """Best-overlap mIoU, covering, Rand index and variation of information.

    mIoU and covering pool the ground-truth segments of all images. Where an image has several `annotators`, *All* pools
    the segments of every annotation, *Fine* those of the annotation with most segments, *Coarse* those of the one with
    fewest, and *Mean* averages the three. Rand index and variation of information are averaged over an image's
    annotations, then over the images.
    """

    def __init__(self, *, annotators: bool, connected: bool) -> None:
        self._annotators = annotators
        self._connected = connected
        self._set = RegionTotals()
        self._records: Spool[_Record] = Spool()

    def add(
        self,
        name: str,
        prediction: NDArray[np.integer],
        annotations: Sequence[NDArray[np.integer]],
        ignore: int | None = None,
    ) -> None:
        """Score (H, W) labels of one image against its (H, W) annotations, without pixels where these are `ignore`."""
        agreements, segments = _compared(prediction, annotations, connected=self._connected, ignore=ignore)
        image = RegionTotals.of(agreements, segments)
        self._set.include(image)
        counts = LabelCounts.of(prediction, agreements)
        self._records.append(_Record(name, image.row(annotators=self._annotators), counts))

    def metrics(self) -> Row:
        """The set's."""
        return self._set.row(annotators=self._annotators)

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """Each image's, in the order they were added."""
        return ((record.name, record.row) for record in self._records)

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """Each image's, in the order they were added."""
        return ((record.name, record.counts) for record in self._records)

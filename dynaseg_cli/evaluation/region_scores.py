"""Protocols `bsds500` and `regions`: every ground-truth segment against the predicted segment that fits it best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..regions.segments import connected_regions
from .contingency import ContingencyTable, compared
from .headings import Row
from .pooling import LabelCounts, PooledMean, Spool


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
    def of(cls, tables: Sequence[ContingencyTable], segments: int) -> RegionTotals:
        """The sums of one image with so many `segments`, from its table with each annotation."""
        totals = cls()
        by_segments = sorted(tables, key=lambda one: len(one.truth_areas))
        chosen = ((totals.all, tables), (totals.coarse, by_segments[:1]), (totals.fine, by_segments[-1:]))
        for mean, members in chosen:
            for one in members:
                mean.add(float(one.best_overlaps.sum()), len(one.best_overlaps))
        for one in tables:
            totals.covering.add(one.covered, one.pixels)
        totals.pri.add(float(np.mean([one.rand_index for one in tables])))
        totals.voi.add(float(np.mean([one.variation_of_information for one in tables])))
        totals.segments.add(segments)
        return totals

    def include(self, image: RegionTotals) -> None:
        for name, mean in vars(self).items():
            mean.include(getattr(image, name))

    @property
    def shared(self) -> Row:
        """The metrics that every protocol has."""
        return {name: getattr(self, name).value for name in ("covering", "pri", "voi", "segments")}

    def row(self, *, annotators: bool) -> Row:
        """All metrics; with several `annotators`, mIoU by subsets of their annotations."""
        if not annotators:
            return {"miou": self.all.value, **self.shared}
        miou = [self.all.value, self.fine.value, self.coarse.value]
        values = [value for value in miou if value is not None]
        mean = sum(values) / len(values) if values else None
        names = ("miou_all", "miou_fine", "miou_coarse", "miou_mean")
        return {**dict(zip(names, (*miou, mean), strict=True)), **self.shared}


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
        self._records: Spool[tuple[str, Row, LabelCounts]] = Spool()

    def add(
        self,
        name: str,
        prediction: NDArray[np.integer],
        annotations: Sequence[NDArray[np.integer]],
        ignore: int | None = None,
    ) -> None:
        """Score (H, W) labels of one image against its (H, W) annotations, without pixels where these are `ignore`."""
        segments = connected_regions(prediction) if self._connected else prediction
        tables = [compared(truth, segments, ignore) for truth in annotations]
        image = RegionTotals.of(tables, len(np.unique(segments)))
        self._set.include(image)
        row = image.row(annotators=self._annotators)
        self._records.append((name, row, LabelCounts.of(prediction, tables)))

    def metrics(self) -> Row:
        """The metrics of the set."""
        return self._set.row(annotators=self._annotators)

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """Each image's metrics, in the order they were added."""
        return ((name, row) for name, row, _ in self._records)

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """How many labels each image has, in the order of `per_image`."""
        return ((name, counts) for name, _, counts in self._records)

"""Hierarchies under protocols `bsds500` and `regions`: every cut scored, and read as the Berkeley benchmark does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..regions.hierarchy import Hierarchy
from .agreement import Agreement, Row, agreement
from .contingency import joined
from .label_counts import LabelCounts
from .pooling import PooledMean, Spool
from .region_scores import RegionTotals

STEPS = 100
"""Hierarchies are cut at the granularities 0, 1/100, ... 1."""
SIGN = {"covering": 1, "pri": 1, "voi": -1}
"""The metrics that are read at their best, and whether that is the most or the least."""


@dataclass(frozen=True)
class Reading:
    """A metric of a set of hierarchies; None where there is nothing to measure."""

    ods: float | None
    """At the optimal dataset scale: the one granularity for all images that is best."""
    ods_granularity: float | None
    """That granularity; of equally good ones, the coarsest."""
    ois: float | None
    """At the optimal image scale: each image at the granularity that is best for it."""
    best: float | None
    """Each ground-truth segment with the best region of any granularity; of covering alone."""


@dataclass(frozen=True)
class _Record:
    """What is kept of an image until the granularities of the set are known."""

    name: str
    curve: NDArray[np.float64]
    """(STEPS + 1, metrics), the image's at each granularity."""
    own: Row
    counts: LabelCounts
    """Those of the fragments."""


class HierarchyScores:
    """The metrics of `RegionScores` at every granularity, read as by the benchmark of BSDS500.

    That is Arbelaez et al. 2011, section 2.3, doi 10.1109/TPAMI.2010.161, and its evaluation_reg_all.m. The usual
    metrics are all at the one granularity at which the set's covering is best. *OIS* pools as these do, each image
    where it is best by the metric itself: covering by pixels, Rand index and VoI by images. *Best* exists for covering
    alone, which compares one segment after another; the others compare whole segmentations, each of one granularity.
    """

    def __init__(self, *, annotators: bool) -> None:
        self._annotators = annotators
        self._set = [RegionTotals() for _ in range(STEPS + 1)]
        self._own = {name: PooledMean() for name in ("covering_ois", "covering_best", "pri_ois", "voi_ois")}
        self._records: Spool[_Record] = Spool()

    def add(
        self,
        name: str,
        hierarchy: Hierarchy,
        fragments: NDArray[np.integer],
        annotations: Sequence[NDArray[np.integer]],
        ignore: int | None = None,
    ) -> None:
        """Score the cuts of one image against its (H, W) annotations, without the pixels where these are `ignore`.

        Parameters
        ----------
        fragments : (H, W), those of the hierarchy, resized or cropped as the annotations are. A region that falls to
            pieces by that is still one.
        """
        agreements = [agreement(truth, fragments, ignore) for truth in annotations]
        cuts, best = _cuts(hierarchy, np.unique(fragments), agreements)
        own = {f"{metric}_ois": getattr(cuts[_best_step(metric, cuts)], metric) for metric in SIGN}
        own["covering_best"] = best
        for of_set, of_image in zip(self._set, cuts, strict=True):
            of_set.include(of_image)
        for metric, mean in self._own.items():
            mean.include(own[metric])
        curve = np.array([list(cut.row(annotators=self._annotators).values()) for cut in cuts])
        counts = LabelCounts.of(fragments, agreements)
        self._records.append(_Record(name, curve, {metric: own[metric].value for metric in self._own}, counts))

    def metrics(self) -> Row:
        """The set's."""
        rows = {metric: self._set[step].row(annotators=self._annotators) for metric, step in self._steps().items()}
        return _row(rows, {name: mean.value for name, mean in self._own.items()}, self._granularity("covering"))

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """Each image's, in the order they were added: at the granularities of the set, and OIS and Best its own."""
        steps, granularity = self._steps(), self._granularity("covering")
        columns = list(self._set[0].row(annotators=self._annotators))
        for record in self._records:
            rows = {
                metric: dict(zip(columns, record.curve[step].tolist(), strict=True)) for metric, step in steps.items()
            }
            yield record.name, _row(rows, record.own, granularity)

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """Each image's regions at the granularity of the set, in the order they were added."""
        step = self._steps()["covering"]
        column = list(self._set[0].row(annotators=self._annotators)).index("segments")
        for record in self._records:
            yield record.name, replace(record.counts, predicted=int(record.curve[step, column]))

    def readings(self) -> dict[str, Reading]:
        """The set's, by metric."""
        row = self.metrics()
        ods = {"covering": row["covering"], "pri": row["pri_ods"], "voi": row["voi_ods"]}
        return {
            metric: Reading(ods[metric], self._granularity(metric), row[f"{metric}_ois"], row.get(f"{metric}_best"))
            for metric in SIGN
        }

    def curve(self) -> list[Row]:
        """The set's usual metrics at each granularity."""
        return [
            {"granularity": step / STEPS, **totals.row(annotators=self._annotators)}
            for step, totals in enumerate(self._set)
        ]

    def _steps(self) -> dict[str, int]:
        """Which cut of the set is best, by metric."""
        return {metric: _best_step(metric, self._set) for metric in SIGN}

    def _granularity(self, metric: str) -> float | None:
        scored = self._own["covering_best"].value is not None
        return _best_step(metric, self._set) / STEPS if scored else None


def _row(rows: dict[str, Row], own: Row, granularity: float | None) -> Row:
    """Metrics of the set or an image: the rows at the set's best cut by each metric, OIS and Best beside them."""
    return {
        **rows["covering"],
        **own,
        "pri_ods": rows["pri"]["pri"],
        "voi_ods": rows["voi"]["voi"],
        "granularity": granularity,
    }


def _cuts(
    hierarchy: Hierarchy, present: NDArray[np.integer], agreements: Sequence[Agreement]
) -> tuple[list[RegionTotals], PooledMean]:
    """An image's sums at each granularity, the coarsest first, and its best covering.

    Parameters
    ----------
    present : the fragments that the map has.
    agreements : those of the map of fragments with each annotation.
    """
    cuts: list[RegionTotals] = []
    best = [one.overlaps for one in agreements]
    regions = hierarchy.size + 1
    for granularity in reversed([step / STEPS for step in range(STEPS + 1)]):
        if (count := hierarchy.count(granularity)) < regions:
            regions = count
            groups = hierarchy.region_of_fragments(granularity)
            # Named after its first fragment, a region of this cut is found again in the coarser ones.
            _, first, group = np.unique(groups, return_index=True, return_inverse=True)
            name = first[group]
            agreements = [Agreement.of(joined(one.table, name[one.table.prediction_values])) for one in agreements]
            best = [np.maximum(so_far, one.overlaps) for so_far, one in zip(best, agreements, strict=True)]
            totals = RegionTotals.of(agreements, len(np.unique(name[present])))
        cuts.append(totals)
    covering = PooledMean()
    for overlaps, one in zip(best, agreements, strict=True):
        covering.add(float((one.table.truth_areas * overlaps).sum()), one.table.pixels)
    return cuts[::-1], covering


def _best_step(metric: str, cuts: Sequence[RegionTotals]) -> int:
    """Which cut is best in a metric; of equally good ones, the coarsest."""
    values = [getattr(cut, metric).value or 0.0 for cut in cuts]
    return int(np.argmax(SIGN[metric] * np.array(values)))

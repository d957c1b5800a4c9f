"""Hierarchies under protocols `bsds500` and `regions`: every cut scored, and read as the Berkeley benchmark does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..regions.hierarchy import Hierarchy
from .contingency import ContingencyTable, compared, joined
from .headings import Row
from .pooling import LabelCounts, PooledMean, Spool
from .region_scores import RegionTotals

GRANULARITIES = [step / 100 for step in range(101)]
"""The cuts that are scored."""
SIGN = {"covering": 1, "pri": 1, "voi": -1}
"""The metrics that are read at their best: 1 if more is better, -1 if less is."""


class HierarchyScores:
    """The metrics of `RegionScores` at every granularity, read as by the benchmark of BSDS500.

    That is Arbelaez et al. 2011, section 2.3, doi 10.1109/TPAMI.2010.161, and its evaluation_reg_all.m. The usual
    metrics are all at the one granularity at which the set's covering is best. *ODS*, optimal dataset scale, is a
    metric at the one granularity for all images that is best for it. *OIS*, optimal image scale, takes each image where
    it is best, and pools covering by pixels, Rand index and VoI by images. *Best* takes for each ground-truth segment
    the best region of any granularity; covering alone has it, as the other metrics compare whole segmentations.
    """

    def __init__(self, *, annotators: bool) -> None:
        self._annotators = annotators
        self._set = [RegionTotals() for _ in GRANULARITIES]
        self._own = {name: PooledMean() for name in ("covering_ois", "covering_best", "pri_ois", "voi_ois")}
        self._columns = list(RegionTotals().row(annotators=annotators))
        self._records: Spool[tuple[str, NDArray[np.float64], Row, LabelCounts]] = Spool()
        """Each image's curve (granularities, columns), its metrics at its own best, and the counts of its fragments."""

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
        tables = [compared(truth, fragments, ignore) for truth in annotations]
        cuts, best = totals_of_cuts(hierarchy, fragments, tables)
        own = {f"{metric}_ois": getattr(cuts[_best_step(metric, cuts)], metric) for metric in SIGN}
        own["covering_best"] = best
        for of_set, of_image in zip(self._set, cuts, strict=True):
            of_set.include(of_image)
        for metric, mean in self._own.items():
            mean.include(own[metric])
        curve = np.array([list(cut.row(annotators=self._annotators).values()) for cut in cuts])
        at_own_best: Row = {metric: own[metric].value for metric in self._own}
        self._records.append((name, curve, at_own_best, LabelCounts.of(fragments, tables)))

    def metrics(self) -> Row:
        """The metrics of the set."""
        curve = np.array([list(totals.row(annotators=self._annotators).values()) for totals in self._set], object)
        return self._row(curve, {name: mean.value for name, mean in self._own.items()})

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """Each image's metrics, in the order they were added: at the granularities of the set; OIS and Best its own."""
        return ((name, self._row(curve, own)) for name, curve, own, _ in self._records)

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """How many regions each image has at the granularity of the set, in the order of `per_image`."""
        step, column = _best_step("covering", self._set), self._columns.index("segments")
        for name, curve, _, counts in self._records:
            yield name, replace(counts, predicted=int(curve[step, column]))

    def readings(self) -> dict[str, Row]:
        """For each metric the `ods`, its `ods_granularity` (of equally good ones the coarsest), `ois` and `best`."""
        row = self.metrics()
        ods = {"covering": row["covering"], "pri": row["pri_ods"], "voi": row["voi_ods"]}
        return {
            metric: {
                "ods": ods[metric],
                "ods_granularity": self._granularity(metric),
                "ois": row[f"{metric}_ois"],
                "best": row.get(f"{metric}_best"),
            }
            for metric in SIGN
        }

    def curve(self) -> list[Row]:
        """The set's usual metrics at each granularity."""
        return [
            {"granularity": granularity, **totals.row(annotators=self._annotators)}
            for granularity, totals in zip(GRANULARITIES, self._set, strict=True)
        ]

    def _granularity(self, metric: str) -> float | None:
        scored = self._own["covering_best"].value is not None
        return GRANULARITIES[_best_step(metric, self._set)] if scored else None

    def _row(self, curve: NDArray[Any], own: Row) -> Row:
        """Metrics of the set or an image: its `curve` at the set's best cuts, and its `own` OIS and Best."""
        rows = {
            metric: dict(zip(self._columns, curve[_best_step(metric, self._set)].tolist(), strict=True))
            for metric in SIGN
        }
        at_best = {"pri_ods": rows["pri"]["pri"], "voi_ods": rows["voi"]["voi"]}
        return {**rows["covering"], **own, **at_best, "granularity": self._granularity("covering")}


def totals_of_cuts(
    hierarchy: Hierarchy, fragments: NDArray[np.integer], tables: Sequence[ContingencyTable]
) -> tuple[list[RegionTotals], PooledMean]:
    """An image's sums at each of `GRANULARITIES`, and its best covering.

    Parameters
    ----------
    fragments : (H, W), perhaps not all of the hierarchy's.
    tables : of `fragments` with each annotation.
    """
    present = np.unique(fragments)
    cuts: list[RegionTotals] = []
    best = [one.best_overlaps for one in tables]
    regions = hierarchy.size + 1
    for granularity in reversed(GRANULARITIES):
        if (count := hierarchy.count(granularity)) < regions:
            regions = count
            groups = hierarchy.region_of_fragments(granularity)
            # Named after its first fragment, a region of this cut is found again in the coarser ones.
            _, first, group = np.unique(groups, return_index=True, return_inverse=True)
            name = first[group]
            tables = [joined(one, name[one.prediction_values]) for one in tables]
            best = [np.maximum(so_far, one.best_overlaps) for so_far, one in zip(best, tables, strict=True)]
            totals = RegionTotals.of(tables, len(np.unique(name[present])))
        cuts.append(totals)
    covering = PooledMean()
    for overlaps, one in zip(best, tables, strict=True):
        covering.add(float((one.truth_areas * overlaps).sum()), one.pixels)
    return cuts[::-1], covering


def _best_step(metric: str, cuts: Sequence[RegionTotals]) -> int:
    """The index of the cut that is best in a metric; of equally good ones, the coarsest."""
    values = [getattr(cut, metric).value or 0.0 for cut in cuts]
    return int(np.argmax(SIGN[metric] * np.array(values)))

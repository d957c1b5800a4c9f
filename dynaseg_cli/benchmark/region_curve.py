"""Quality against the number of regions: a method scored at settings from few regions to many, on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..baselines.felzenszwalb import segment_by_felzenszwalb
from ..baselines.settings import FelzenszwalbConfig
from ..config import SegmentConfig
from ..errors import ImageError, reason
from ..evaluation.contingency import compared
from ..evaluation.evaluate import Evaluation
from ..evaluation.hierarchy_scores import GRANULARITIES, totals_of_cuts
from ..evaluation.pairing import Pair
from ..evaluation.protocols import PairReader
from ..evaluation.region_scores import RegionTotals
from ..images.label_maps import read_hierarchy, read_label_map
from ..regions.hierarchy import build_hierarchy
from .variants import MethodConfig

PROTOCOLS = ("bsds500", "regions")
"""The protocols that compare regions."""

FELZENSZWALB_CURVE: tuple[FelzenszwalbConfig, ...] = (
    FelzenszwalbConfig(scale=1300, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=800, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=500, sigma=1.2, min_size=400),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=400),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=400),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=200),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=200),
    FelzenszwalbConfig(scale=800, sigma=0.5, min_size=100),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=200),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=100),
    FelzenszwalbConfig(scale=500, sigma=0.5, min_size=100),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=100),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=50),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=100),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=50),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=50),
    FelzenszwalbConfig(scale=500, sigma=0.8, min_size=20),
    FelzenszwalbConfig(scale=300, sigma=1.2, min_size=20),
    FelzenszwalbConfig(scale=300, sigma=0.8, min_size=20),
    FelzenszwalbConfig(scale=200, sigma=0.8, min_size=20),
    FelzenszwalbConfig(scale=100, sigma=0.8, min_size=20),
)
"""From few regions to many: of 73 settings tried on 34 photos of BSDS500 train, the better ones for about as many."""

Point = dict[str, Any]
"""The ``setting``, and the usual metrics of all images there, as a JSON document has them."""


Totals = Callable[[PairReader, Pair, NDArray[np.uint8], Path, Path | None], Iterator[list[RegionTotals]]]
"""The sums of one image, RGB (H, W, 3), at all settings, some at a step; with the files of raw labels and hierarchy."""


class RegionCurve:
    """The curve of one method, over the images added so far.

    Parameters
    ----------
    evaluation : that of the method's labels, which has been run. What it could not score has no part in the curve.
    settings : as the points have them, for each of the sums that `totals` yields.
    """

    def __init__(self, evaluation: Evaluation, settings: Sequence[dict[str, Any]], totals: Totals) -> None:
        failed = {scored.pair.name for scored in evaluation.failures}
        self._pairs = {pair.name: pair for pair in evaluation.pairing.pairs if pair.name not in failed}
        self._reader = evaluation.reader
        self._settings = settings
        self._totals = totals
        self._set = [RegionTotals() for _ in settings]
        self.images = 0

    def takes(self, name: str) -> bool:
        """Whether the image of that name can be added."""
        return name in self._pairs

    def add(
        self, name: str, image: NDArray[np.uint8], raw: Path, hierarchy: Path | None = None
    ) -> Iterator[str | None]:
        """Score one more image, RGB (H, W, 3) uint8, in as many steps as `curve_steps` says.

        Each yields None, or why the image failed: that step is the last then, and the image has no part in the curve.
        `raw` is the file of the image's labels as the network gave them, which methods of this tool have; `hierarchy`
        that of its regions, which there is if a pretrained network had a part in it.
        """
        found: list[RegionTotals] = []
        try:
            for part in self._totals(self._reader, self._pairs[name], image, raw, hierarchy):
                found += part
                if len(found) < len(self._set):
                    yield None
        except (ImageError, MemoryError) as error:
            yield reason(error)
            return
        # All settings or none: every point of the curve is of the same images.
        for of_set, of_image in zip(self._set, found, strict=True):
            of_set.include(of_image)
        self.images += 1
        yield None

    def points(self) -> list[Point]:
        """The points by the number of segments; none before there is an image."""
        if not self.images:
            return []
        annotators = self._reader.protocol == "bsds500"
        points: list[Point] = [
            {"setting": setting, **totals.row(annotators=annotators)}
            for setting, totals in zip(self._settings, self._set, strict=True)
        ]
        return sorted(points, key=_segments)


def points_of_hierarchies(evaluation: Evaluation) -> list[Point]:
    """The curve of hierarchies that were scored, a point at each granularity, by the number of segments."""
    points = [
        {"setting": {"granularity": row["granularity"]}, **{key: row[key] for key in row if key != "granularity"}}
        for row in evaluation.curve()
        if evaluation.images
    ]
    return sorted(points, key=_segments)


def _segments(point: Point) -> float:
    return float(point["segments"])


def curve_steps(config: MethodConfig) -> int:
    """How many steps an image takes; 0 for a method that has no curve."""
    return {SegmentConfig: 1, FelzenszwalbConfig: len(FELZENSZWALB_CURVE)}.get(type(config), 0)


def make_curve(config: MethodConfig, evaluation: Evaluation) -> RegionCurve | None:
    """An empty curve, or None for a method, or a protocol, that has none."""
    if evaluation.protocol not in PROTOCOLS:
        return None
    match config:
        case SegmentConfig():
            cuts = [{"granularity": granularity} for granularity in GRANULARITIES]
            return RegionCurve(evaluation, cuts, _totals_of_hierarchy)
        case FelzenszwalbConfig():
            settings = [dataclasses.asdict(setting) for setting in FELZENSZWALB_CURVE]
            return RegionCurve(evaluation, settings, _totals_of_felzenszwalb)
        case _:
            return None


def _totals_of_hierarchy(
    reader: PairReader, pair: Pair, image: NDArray[np.uint8], raw: Path, written: Path | None
) -> Iterator[list[RegionTotals]]:
    """Every cut of the hierarchy that a method of this tool wrote, or else of the one over its raw labels."""
    most = reader.config.max_pixels
    if written is not None and written.is_file():
        hierarchy = read_hierarchy(written, most)
    else:
        hierarchy = build_hierarchy(read_label_map(raw, most), image)
    truths = reader.truths(pair.truth)
    ignore = reader.ignored_value(truths)
    fragments, truths = reader.sized(pair, hierarchy.fragments, truths)
    yield totals_of_cuts(hierarchy, fragments, [compared(truth, fragments, ignore) for truth in truths])[0]


def _totals_of_felzenszwalb(
    reader: PairReader, pair: Pair, image: NDArray[np.uint8], *_: Path | None
) -> Iterator[list[RegionTotals]]:
    """All of `FELZENSZWALB_CURVE`, whatever setting the labels were made with.

    The regions count as the method gives them. Some hang together by corners alone, and to split these, as `evaluate`
    does, would make many of few: at 40 regions it would be left with half of its best-overlap mIoU.
    """
    truths = reader.truths(pair.truth)
    ignore = reader.ignored_value(truths)
    for setting in FELZENSZWALB_CURVE:
        labels = segment_by_felzenszwalb(image, **dataclasses.asdict(setting))
        segments, annotations = reader.sized(pair, labels, truths)
        tables = [compared(truth, segments, ignore) for truth in annotations]
        yield [RegionTotals.of(tables, len(np.unique(segments)))]

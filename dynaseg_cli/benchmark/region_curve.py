"""Quality against the number of regions: a method scored at settings from few regions to many, on the same images."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..baselines.felzenszwalb import segment_by_felzenszwalb
from ..config import FELZENSZWALB_CURVE, FelzenszwalbConfig, MethodConfig, SegmentConfig
from ..errors import ImageError
from ..evaluation.agreement import Row
from ..evaluation.evaluate import Evaluation
from ..evaluation.hierarchy_scores import HierarchyScores
from ..evaluation.label_files import read_label_map
from ..evaluation.pairing import Pair
from ..evaluation.region_scores import RegionTotals, region_totals
from ..regions.hierarchy import build_hierarchy

PROTOCOLS = ("bsds500", "regions")
"""Those that compare regions."""

Point = dict[str, Any]
"""The ``setting``, and the usual metrics of all images there, as a JSON document has them."""


def curve_steps(config: MethodConfig) -> int:
    """How many steps an image takes; 0 for a method that has no curve."""
    match config:
        case SegmentConfig():
            return 1
        case FelzenszwalbConfig():
            return len(FELZENSZWALB_CURVE)
        case _:
            return 0


class RegionCurve(ABC):
    """One method's, over the images added so far.

    Parameters
    ----------
    evaluation : that of the method's labels, which has been run. What it could not score has no part in the curve.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        failed = {scored.pair.name for scored in evaluation.failures}
        self._pairs = {pair.name: pair for pair in evaluation.pairing.pairs if pair.name not in failed}
        self.images = 0
        self._evaluation = evaluation
        self._annotators = evaluation.protocol == "bsds500"

    def takes(self, name: str) -> bool:
        """Whether the image of that name can be added."""
        return name in self._pairs

    def add(self, name: str, image: NDArray[np.uint8]) -> Iterator[str | None]:
        """Score one more image, RGB (H, W, 3) uint8, in as many steps as `curve_steps` has.

        What is yielded is why it failed: it was the last step then, and the image has no part in the curve.
        """
        try:
            for _ in self._add(self._pairs[name], image):
                yield None
        except ImageError as error:
            yield str(error)
        except MemoryError:
            yield "out of memory"

    @abstractmethod
    def _add(self, pair: Pair, image: NDArray[np.uint8]) -> Iterator[None]:
        """Score an image, step by step; in the last one its sums are added, and it counts."""

    @abstractmethod
    def _rows(self) -> Iterator[tuple[dict[str, Any], Row]]:
        """Each setting, and the metrics there."""

    def points(self) -> list[Point]:
        """By the number of segments; none before there is an image."""
        if not self.images:
            return []
        points: list[Point] = [{"setting": setting, **row} for setting, row in self._rows()]
        return sorted(points, key=lambda point: float(point["segments"]))


def make_curve(config: MethodConfig, evaluation: Evaluation) -> RegionCurve | None:
    """An empty curve, or None for a method, or a protocol, that has none."""
    if evaluation.protocol not in PROTOCOLS:
        return None
    match config:
        case SegmentConfig():
            return HierarchyCurve(evaluation)
        case FelzenszwalbConfig():
            return FelzenszwalbCurve(evaluation)
        case _:
            return None


class HierarchyCurve(RegionCurve):
    """Of a method of this tool: every cut of the hierarchies over the labels that it wrote."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__(evaluation)
        self._scores = HierarchyScores(annotators=self._annotators)

    def _add(self, pair: Pair, image: NDArray[np.uint8]) -> Iterator[None]:
        labels = read_label_map(pair.prediction, self._evaluation.config.max_pixels)
        hierarchy = build_hierarchy(labels, image)
        truths = self._evaluation.read_truths(pair)
        ignore = self._evaluation.ignored_value(truths)
        self._scores.add(pair.name, hierarchy, *self._evaluation.sized(pair, hierarchy.fragments, truths), ignore)
        self.images += 1
        yield

    def _rows(self) -> Iterator[tuple[dict[str, Any], Row]]:
        for row in self._scores.curve():
            granularity = row.pop("granularity")
            yield {"granularity": granularity}, row


class FelzenszwalbCurve(RegionCurve):
    """Of Felzenszwalb's method: the settings of `FELZENSZWALB_CURVE`, whichever its labels were made with.

    Its regions count as it gives them. Some hang together by corners alone, and to split these, as `evaluate` does,
    would make many of few: at 40 regions it would be left with half of its best-overlap mIoU.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__(evaluation)
        self._set = [RegionTotals() for _ in FELZENSZWALB_CURVE]

    def _add(self, pair: Pair, image: NDArray[np.uint8]) -> Iterator[None]:
        truths = self._evaluation.read_truths(pair)
        totals: list[RegionTotals] = []
        for config in FELZENSZWALB_CURVE:
            labels = segment_by_felzenszwalb(image, **dataclasses.asdict(config))
            sized = self._evaluation.sized(pair, labels, truths)
            totals.append(region_totals(*sized, connected=False, ignore=self._evaluation.ignored_value(truths)))
            if len(totals) < len(FELZENSZWALB_CURVE):
                yield
        # All settings or none: every point of the curve is of the same images.
        for of_set, of_image in zip(self._set, totals, strict=True):
            of_set.include(of_image)
        self.images += 1
        yield

    def _rows(self) -> Iterator[tuple[dict[str, Any], Row]]:
        for config, totals in zip(FELZENSZWALB_CURVE, self._set, strict=True):
            yield dataclasses.asdict(config), totals.row(annotators=self._annotators)

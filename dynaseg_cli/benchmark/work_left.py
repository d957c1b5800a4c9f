"""How long the rest of a benchmark takes, from what the steps of each method have taken."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..baselines.folder.settings import TrainedMethodConfig
from ..baselines.settings import FelzenszwalbConfig, KMeansConfig
from ..config import SegmentConfig
from .variants import Variant

Part = Literal["fit", "run", "stream", "curve"]
"""The parts of a benchmark, in their order."""
Kind = tuple[Part, str]
"""The steps of one part and one variant, by its name. They take about equally long."""

UNTESTED_BASELINE, KMEANS, FELZENSZWALB, CURVE = 10.0, 0.5, 0.2, 0.5
"""Cost of a step, in steps of a default fit (about a second); it counts only until such a step was measured."""
LOOK, TRAINED_LOOK, FOLDER_LABELS = 0.2, 1.0, 0.1
"""The same of a look at an image in a fit to a folder, of those that train a network, and of its labels afterwards."""


def expected_cost(part: Part, variant: Variant) -> float:
    """Rough cost of a step, in units of a default fit."""
    if variant.fits_folder:
        look = TRAINED_LOOK if isinstance(variant.config, TrainedMethodConfig) else LOOK
        return look if part == "fit" else FOLDER_LABELS
    if variant.method == "reference":
        assert isinstance(variant.config, SegmentConfig)
        return float(variant.config.iterations)  # an iteration in full resolution is about a whole default fit
    match variant.config:
        case SegmentConfig():
            return CURVE if part == "curve" else 1.0
        case FelzenszwalbConfig():
            return FELZENSZWALB
        case KMeansConfig():
            return KMEANS
        case _:
            return UNTESTED_BASELINE


@dataclass
class _Steps:
    """Steps of one kind."""

    open: int
    cost: float
    measured: int = 0
    measured_first: int = 0
    first: float = 0.0
    others: float = 0.0
    """Seconds of the first measured steps, which may include a start, and of all later ones."""


class WorkLeft:
    """Seconds until all steps are done.

    A kind that was measured takes what its steps took, without the first one if there are others: it may have had
    something to start. One that was not is expected to cost `costs`, at the speed of what was measured; a stream, what
    the same method took in the runs before.
    """

    def __init__(self, steps: Mapping[Kind, int], costs: Mapping[Kind, float]) -> None:
        self._kinds = {kind: _Steps(count, costs[kind]) for kind, count in steps.items()}
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Start the clock of the next step."""
        self._since = time.perf_counter()

    def done(self, kind: Kind, *, failed: bool = False, count: int = 1) -> None:
        """Count a step, or several done at once, and as measured unless it failed. The clock starts again."""
        seconds = time.perf_counter() - self._since
        steps = self._kinds.get(kind)
        if steps is not None:
            steps.open = max(0, steps.open - count)
            if not failed:
                steps.measured += count
                if steps.measured == count:
                    steps.first, steps.measured_first = seconds, count
                else:
                    steps.others += seconds
        self.begin()

    def ended(self, kind: Kind) -> None:
        """No step of this kind is left, however many were expected."""
        if kind in self._kinds:
            self._kinds[kind].open = 0

    @property
    def seconds(self) -> float | None:
        """None before anything was measured."""
        each = {kind: self._measured(steps) for kind, steps in self._kinds.items()}
        known = [(seconds, self._kinds[kind].cost) for kind, seconds in each.items() if seconds is not None]
        if not known:
            return None
        per_cost = sum(seconds for seconds, _ in known) / sum(cost for _, cost in known)
        left = 0.0
        for kind, steps in self._kinds.items():
            seconds = each[kind]
            if kind[0] == "stream" and steps.measured < 2:
                seconds = each.get(("run", kind[1])) or seconds
            left += steps.open * (steps.cost * per_cost if seconds is None else seconds)
        return left

    @staticmethod
    def _measured(steps: _Steps) -> float | None:
        if steps.measured == steps.measured_first:
            return steps.first / steps.measured if steps.measured else None
        return steps.others / (steps.measured - steps.measured_first)

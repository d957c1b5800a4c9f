"""How many labels a prediction has, and how many its ground truth: the paper's figure 6, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .agreement import Agreement


@dataclass(frozen=True)
class LabelCounts:
    """Those of one image."""

    predicted: int
    """Distinct values of the label map as it was given, before labels are split into connected segments."""
    truth: tuple[int, ...]
    """Segments, or classes, of each annotation; what is to be ignored is none."""

    @classmethod
    def of(cls, prediction: NDArray[np.integer], agreements: Sequence[Agreement]) -> LabelCounts:
        """Count the values of an (H, W) map, and the segments of the annotations that it was compared with."""
        return cls(len(np.unique(prediction)), tuple(len(one.overlaps) for one in agreements))

    @property
    def truth_mean(self) -> float:
        """Over the annotations."""
        return sum(self.truth) / len(self.truth)

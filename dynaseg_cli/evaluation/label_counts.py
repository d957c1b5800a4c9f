"""How many labels an image has, in its prediction and in its ground truth, and how many pixels were ignored."""

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
    ignored: int = 0
    """Ignored pixels of the annotations."""
    pixels: int = 0
    """Pixels of the annotations, including ignored ones."""

    @classmethod
    def of(cls, prediction: NDArray[np.integer], agreements: Sequence[Agreement]) -> LabelCounts:
        """Count the values of an (H, W) map, and the segments of the annotations that it was compared with."""
        pixels = prediction.size * len(agreements)
        return cls(
            predicted=len(np.unique(prediction)),
            truth=tuple(len(one.overlaps) for one in agreements),
            ignored=pixels - sum(one.table.pixels for one in agreements),
            pixels=pixels,
        )

    @property
    def truth_mean(self) -> float:
        """Over the annotations."""
        return sum(self.truth) / len(self.truth)

    @property
    def ignored_fraction(self) -> float:
        """Share of the annotations' pixels that are ignored, 0..1."""
        return self.ignored / self.pixels if self.pixels else 0.0

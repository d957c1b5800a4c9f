"""The result for one image: its labels, and the record of how the network was fitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..method.silhouette import Silhouette

StopReason = Literal["converged", "threshold", "iterations", "model"]
PrecisionName = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class FitLevel:
    """One of the image sizes, in pixels, that the network was fitted at, and the number of iterations there."""

    width: int
    height: int
    iterations: int


@dataclass(frozen=True)
class FitRecord:
    """How the network was fitted to one image. Lists other than `levels` have one entry per iteration."""

    threshold: int
    """Stop threshold: k of the silhouette phase, `min_labels`, or the number of labels drawn."""
    precision: PrecisionName
    levels: list[FitLevel] = field(default_factory=list)
    stop_reason: StopReason = "iterations"
    """threshold: few enough labels left; converged: q' reached no new low for `patience` iterations; iterations: T
    reached; model: no fit, a network fitted earlier was applied."""
    silhouette: Silhouette | None = None
    """None if the threshold was given."""
    labels_per_iteration: list[int] = field(default_factory=list)
    """q'."""
    loss: list[float] = field(default_factory=list)
    """L of eq. 7, plus `SCRIBBLE_WEIGHT` times the scribble loss if there are scribbles."""
    similarity_loss: list[float] = field(default_factory=list)
    continuity_loss: list[float] = field(default_factory=list)
    changed_fraction: list[float] = field(default_factory=list)
    """Fraction of pixels whose label differs from the previous iteration's; 1 in the first of each level."""
    fused: bool = False
    """Whether all iterations used the fused CUDA kernels."""
    captured: bool = False
    """Whether all iterations were replayed from a CUDA graph."""
    seconds: float = 0.0
    """Wall time of the optimisation."""

    @property
    def width(self) -> int:
        """Width in pixels at the last level."""
        return self.levels[-1].width

    @property
    def height(self) -> int:
        """Height in pixels at the last level."""
        return self.levels[-1].height

    @property
    def iterations(self) -> int:
        """Iterations over all levels."""
        return len(self.labels_per_iteration)


@dataclass(frozen=True)
class Segmentation:
    """The labels of one image, (H, W) uint8 (uint16 above 256 labels), 0..num_labels-1 by falling area.

    Labels of a folder's network are numbered by their area over the folder, so not all of them need to occur. Labels
    drawn as scribbles keep their numbers, and the others take the smallest numbers left.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    num_labels: int
    """How many labels occur."""
    numbers: NDArray[np.int32]
    """(C,) the label that each of the network's first C channels became; channels that do not occur come last."""
    fit: FitRecord
    seconds: float
    """Wall time in the engine: fit, labelling and merging, and the silhouette phase unless it was done before."""
    features: tuple[NDArray[np.float32], ...] = ()
    """What a pretrained backbone sees: (h, w, C) maps of the whole image, vectors of unit length, from fine to coarse.
    `build_hierarchy` takes them."""
    features_seconds: float = 0.0
    """Wall time in which the backbone looked at the image; a part of `seconds`."""

"""What the engine returns for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..method.silhouette import Silhouette

StopReason = Literal["converged", "threshold", "iterations", "model"]


@dataclass(frozen=True)
class FitLevel:
    """One of the sizes, in pixels, that the network was fitted at, and for how long."""

    width: int
    height: int
    iterations: int


@dataclass(frozen=True)
class FitRecord:
    """How the optimisation of one image went. The lists have one entry an iteration, over all levels."""

    width: int
    """Width and height in pixels of the image that the network was fitted on last."""
    height: int
    levels: list[FitLevel]
    iterations: int
    stop_reason: StopReason
    """threshold: labels down to the stop threshold; converged: q' reached no new low for long; iterations: T.
    model: none was done, a network fitted before was applied."""
    threshold: int
    """The stop threshold in force: k of the silhouette phase, the number asked for, or that of the labels drawn."""
    silhouette: Silhouette | None
    """None where a number was there already and made the phase unnecessary."""
    labels_per_iteration: list[int]
    """q'."""
    loss: list[float]
    """L of eq. 7, and `SCRIBBLE_WEIGHT` times the scribble loss where there are scribbles."""
    similarity_loss: list[float]
    continuity_loss: list[float]
    changed_fraction: list[float]
    """Fraction of pixels whose label differs from the iteration before; 1 in the first of a level."""
    precision: Literal["float32", "bfloat16"]
    fused: bool
    """Whether all iterations ran on dynaseg's fused CUDA kernels."""
    captured: bool
    """Whether all iterations were replayed from a CUDA graph."""
    seconds: float
    """Wall time of the optimisation."""


@dataclass(frozen=True)
class Segmentation:
    """The labels of one image: (H, W) uint8 (uint16 above 256), 0..num_labels-1 by falling area.

    Those of a network that was fitted to a folder are numbered by area over the folder: not all of them need to occur.
    Labels that were drawn on the image stay as they were drawn, and the others take the smallest numbers left.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    num_labels: int
    """How many occur."""
    numbers: NDArray[np.int32]
    """(C,) the label that each of the network's first C channels became; those that do not occur come last."""
    fit: FitRecord
    seconds: float
    """Wall time in the engine: silhouette phase where it was done here, fit, labelling and merging."""

"""What a photo itself says about where regions end: colour, texture and contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..sizes import shrink, working_size
from .lab import to_lab

CUE_SIZE = 512
"""Longest side in pixels at which a photo is looked at: the cues mean the same in larger ones, and cost no more."""
CHROMA_WEIGHT = 1.6
"""By which a* and b* count more than L*: light and shade are seldom where things end."""
SCALES = (1.0, 2.0)
"""Standard deviations in pixels of the Gaussians whose derivatives give contrast and texture."""
TEXTURE_ORIENTATIONS = 4
TEXTURE_BINS = 8
TEXTURE_STEPS = 4
"""Steps from one bin to the next: a response between two bins counts in both, the nearer one more."""
STRONGEST_TEXTURE = 3.5
"""Logarithm of the response from which on all fall into the last bin."""


@dataclass(frozen=True)
class Cues:
    """Per pixel of a photo no larger than `CUE_SIZE`."""

    lab: NDArray[np.float32]
    """(h, w, 3) CIE L*a*b*, a* and b* times `CHROMA_WEIGHT`."""
    contrast: NDArray[np.float32]
    """(h, w) gradient magnitude of L*a*b*, colour difference a pixel, summed over `SCALES`."""
    texture: NDArray[np.uint8]
    """(C, h, w) of each filter's response, in steps from the first bin."""


def photo_cues(image: NDArray[np.uint8]) -> Cues:
    """Look at an RGB (H, W, 3) uint8 photo.

    Texture is the strength of L*'s Gaussian derivatives at `SCALES` in `TEXTURE_ORIENTATIONS` directions, on a
    logarithmic scale.
    """
    height, width = image.shape[:2]
    lab = to_lab(shrink(image, *working_size(width, height, CUE_SIZE)))
    lab[..., 1:] *= CHROMA_WEIGHT
    contrast = np.zeros(lab.shape[:2], dtype=np.float32)
    texture = []
    for scale in SCALES:
        slopes = [_slopes(lab[..., channel], scale) for channel in range(3)]
        contrast += np.sqrt(sum(down**2 + across**2 for down, across in slopes))
        texture += [_texture(*slopes[0], scale, turn) for turn in range(TEXTURE_ORIENTATIONS)]
    return Cues(lab, contrast, np.stack(texture))


def _slopes(channel: NDArray[np.float32], scale: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Derivatives down and across."""
    return gaussian_filter(channel, scale, order=(1, 0)), gaussian_filter(channel, scale, order=(0, 1))


def _texture(down: NDArray[np.float32], across: NDArray[np.float32], scale: float, turn: int) -> NDArray[np.uint8]:
    angle = np.float32(np.pi * turn / TEXTURE_ORIENTATIONS)
    strength = np.abs(np.cos(angle) * across + np.sin(angle) * down) * np.float32(2 * scale)
    last = (TEXTURE_BINS - 1) * TEXTURE_STEPS
    steps = np.log1p(strength) * np.float32(last / STRONGEST_TEXTURE) + np.float32(0.5)
    nearest: NDArray[np.uint8] = np.minimum(steps, last).astype(np.uint8)
    return nearest


def texture_bins(steps: NDArray[np.integer]) -> NDArray[np.float64]:
    """Counts of the steps, (R, (TEXTURE_BINS - 1) * TEXTURE_STEPS + 1), as histograms, (R, TEXTURE_BINS)."""
    position = np.arange(steps.shape[1]) / TEXTURE_STEPS
    shares = np.maximum(1 - np.abs(position[:, None] - np.arange(TEXTURE_BINS)), 0)
    bins: NDArray[np.float64] = steps @ shares
    return bins

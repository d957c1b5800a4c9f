"""Cues in a photo for where regions end: colour, texture and contrast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..resampling import shrink, working_size
from .gaussian import slopes

CUE_SIZE = 512
"""Longest side in pixels of the photo the cues are taken from: they mean the same in every photo, and cost no more."""
CHROMA_WEIGHT = 1.6
"""Factor for a* and b*: objects seldom end where only the light changes."""
SCALES = (1.0, 2.0)
"""Standard deviations in pixels of the Gaussians whose derivatives give contrast and texture."""
BIN_STEPS = 4
"""Steps from one bin of a histogram to the next: a value between two bins counts in both, more in the nearer."""
COLOUR_BINS = 16
COLOUR_RANGES = ((0.0, 100.0), (-60.0, 60.0), (-60.0, 60.0))
"""L*, and a* and b* times `CHROMA_WEIGHT`, of the first and the last bin; colours outside count in these."""
TEXTURE_ORIENTATIONS = 4
TEXTURE_BINS = 8
STRONGEST_TEXTURE = 3.5
"""Logarithm of the response at which the last bin begins."""

_XYZ_FROM_SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE XYZ, both for the white D65 (IEC 61966-2-1)."""


@dataclass(frozen=True)
class Cues:
    """Values at each pixel of a photo shrunk to `CUE_SIZE`."""

    lab: NDArray[np.float32]
    """(h, w, 3) CIE L*a*b*, a* and b* times `CHROMA_WEIGHT`."""
    contrast: NDArray[np.float32]
    """(h, w) gradient magnitude of L*a*b*, in colour difference per pixel, summed over `SCALES`."""
    colour: NDArray[np.uint8]
    """(3, h, w) each channel of `lab`, in steps from the first of `COLOUR_BINS`."""
    texture: NDArray[np.uint8]
    """(C, h, w) response of each filter, in steps from the first of `TEXTURE_BINS`."""


def photo_cues(image: NDArray[np.uint8]) -> Cues:
    """The cues of an RGB (H, W, 3) uint8 photo.

    Texture is the strength of the Gaussian derivatives of L* at `SCALES` in `TEXTURE_ORIENTATIONS` directions, on a
    logarithmic scale.
    """
    height, width = image.shape[:2]
    lab = to_lab(shrink(image, *working_size(width, height, CUE_SIZE)))
    lab[..., 1:] *= CHROMA_WEIGHT
    contrast = np.zeros(lab.shape[:2], dtype=np.float32)
    texture = []
    for scale in SCALES:
        each = [slopes(lab[..., channel], scale) for channel in range(3)]
        contrast += _length(each)
        texture += [_texture(*each[0], scale, turn) for turn in range(TEXTURE_ORIENTATIONS)]
    colour = [
        _to_steps((lab[..., channel] - low) / np.float32(high - low), COLOUR_BINS)
        for channel, (low, high) in enumerate(COLOUR_RANGES)
    ]
    return Cues(lab, contrast, np.stack(colour), np.stack(texture))


def steepness(image: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Gradient magnitude of an (H, W, C) image, smoothed by a Gaussian of a standard deviation in pixels: (H, W)."""
    return _length(slopes(channel, scale) for channel in np.moveaxis(image, 2, 0))


def _length(slopes_of_each: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> NDArray[np.float32]:
    return np.sqrt(sum(down**2 + across**2 for down, across in slopes_of_each))


def _texture(down: NDArray[np.float32], across: NDArray[np.float32], scale: float, turn: int) -> NDArray[np.uint8]:
    angle = np.float32(np.pi * turn / TEXTURE_ORIENTATIONS)
    strength = np.cos(angle) * across
    strength += np.sin(angle) * down
    np.abs(strength, out=strength)
    strength *= np.float32(2 * scale)
    np.log1p(strength, out=strength)
    strength /= np.float32(STRONGEST_TEXTURE)
    return _to_steps(strength, TEXTURE_BINS)


def _to_steps(values: NDArray[np.float32], bins: int) -> NDArray[np.uint8]:
    """Values from 0, the first bin, to 1, the last, as the number of the nearest step."""
    last = (bins - 1) * BIN_STEPS
    nearest: NDArray[np.uint8] = np.clip(values * np.float32(last) + np.float32(0.5), 0, last).astype(np.uint8)
    return nearest


def bins_of_steps(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Counts of the steps, (R, (bins - 1) * `BIN_STEPS` + 1), as histograms, (R, bins)."""
    position = np.arange(counts.shape[1]) / BIN_STEPS
    bins = np.arange(int(position[-1]) + 1)
    histograms: NDArray[np.float64] = counts @ np.maximum(1 - np.abs(position[:, None] - bins), 0)
    return histograms


def to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An sRGB (H, W, 3) uint8 image in CIE 1976 L*a*b*, white D65: (H, W, 3) float32, L* in 0..100 (CIE 15)."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
    matrix = (_XYZ_FROM_SRGB / _XYZ_FROM_SRGB.sum(1, keepdims=True)).astype(np.float32)
    ratio = matrix @ linear.take(image.reshape(-1, 3)).T
    edge = 6 / 29
    straight = ratio / np.float32(3 * edge**2) + np.float32(4 / 29)  # near black
    x, y, z = np.where(ratio > np.float32(edge**3), np.cbrt(ratio), straight)
    # Channel after channel in memory, as they are worked on.
    channels = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
    return np.moveaxis(channels.reshape(3, *image.shape[:2]), 0, -1)

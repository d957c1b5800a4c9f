"""Colours as the eye tells them apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FROM_SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE XYZ, both for the white D65 (IEC 61966-2-1)."""


def to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An sRGB (H, W, 3) uint8 image in CIE 1976 L*a*b*, white D65: (H, W, 3) float32, L* in 0..100 (CIE 15)."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
    matrix = _FROM_SRGB / _FROM_SRGB.sum(1, keepdims=True)
    x, y, z = _compressed(linear[image] @ matrix.T.astype(np.float32)).transpose(2, 0, 1)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _compressed(ratio: NDArray[np.float32]) -> NDArray[np.float32]:
    """f of the definition: the cube root, and a straight line near black."""
    edge = 6 / 29
    compressed: NDArray[np.float32] = np.where(
        ratio > np.float32(edge**3), np.cbrt(ratio), ratio / np.float32(3 * edge**2) + np.float32(4 / 29)
    )
    return compressed

"""The fixed palette of the colourised label maps: the same label has the same colour in every image."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

SIZE = 256
"""Colours; label n beyond them takes colour n modulo 256."""
DEFICIENT_WEIGHT = 2**0.5
"""By how much colours look further apart than they do to a dichromat before that is what keeps them from being chosen:
with 1, a palette has next to no hues but blue and yellow."""
DICHROMATS = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
"""What linear sRGB looks like to those who lack L, M or S cones (protanopia, deuteranopia, tritanopia): Machado et al.
2009, doi:10.1109/TVCG.2009.113, severity 1."""


@functools.cache
def label_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB, each colour as far as possible from those before it.

    Chosen by farthest-point sampling in Oklab (Ottosson 2020), where distance is perceived difference, among colours
    neither too dark, too pale nor too garish to sit side by side. How far two colours are apart is how far they are for
    the viewer who tells them apart the least: one with normal vision, or, `DEFICIENT_WEIGHT` times as strict, one who
    lacks a kind of cone.
    """
    steps = np.arange(0, 256, 17)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    oklab = _oklab(_linear(rgb / 255))
    chroma = np.hypot(oklab[:, 1], oklab[:, 2])
    rgb = rgb[(oklab[:, 0] > 0.36) & (oklab[:, 0] < 0.90) & (chroma < 0.14)]
    seen = as_seen(rgb)
    weights = np.array([1.0] + [DEFICIENT_WEIGHT] * len(DICHROMATS))
    first = _oklab(_linear(np.array([[70, 115, 170]]) / 255))
    chosen = [int(((seen[0] - first) ** 2).sum(1).argmin())]
    distance = np.full(len(rgb), np.inf)
    while len(chosen) < SIZE:
        apart = np.linalg.norm(seen - seen[:, chosen[-1:]], axis=2)
        distance = np.minimum(distance, (apart * weights[:, None]).min(0))
        chosen.append(int(distance.argmax()))
    return rgb[chosen].astype(np.uint8)


def label_color(label: int) -> tuple[int, int, int]:
    """The RGB colour of one label, 0..255 each."""
    red, green, blue = label_palette()[label % SIZE].tolist()
    return red, green, blue


def palette_colors(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB: the colours of labels 0..count-1."""
    return label_palette()[np.arange(count) % SIZE]


def as_seen(rgb: NDArray[np.integer]) -> NDArray[np.float64]:
    """Colours (N, 3), 0..255, in Oklab, (4, N, 3): for normal vision, and for those who lack L, M or S cones."""
    linear = _linear(rgb / 255)
    return np.stack([_oklab(linear), *(_oklab((linear @ matrix.T).clip(0, 1)) for matrix in DICHROMATS)])


def _linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB in 0..1 without its gamma."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear sRGB in 0..1, (N, 3), to Oklab."""
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab: NDArray[np.float64] = np.cbrt(linear @ to_lms.T) @ to_lab.T
    return lab

"""The fixed palette of the colourised label maps: the same label has the same colour in every image."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

SIZE = 256
"""Colours; label n beyond them takes colour n modulo 256."""


@functools.cache
def label_palette() -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB, each colour as far as possible from those before it.

    Chosen by farthest-point sampling in Oklab (Ottosson 2020), where distance is perceived difference, among colours
    neither too dark, too pale nor too garish to sit side by side. Differences in lightness count as much as those in
    hue, which keeps neighbours apart for colour-blind viewers too.
    """
    steps = np.arange(0, 256, 17)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    oklab = _oklab(rgb / 255)
    chroma = np.hypot(oklab[:, 1], oklab[:, 2])
    pleasant = (oklab[:, 0] > 0.38) & (oklab[:, 0] < 0.92) & (chroma < 0.13)
    rgb, oklab = rgb[pleasant], oklab[pleasant]
    first = _oklab(np.array([[70, 115, 170]]) / 255)
    chosen = [int(((oklab - first) ** 2).sum(1).argmin())]
    distance = np.full(len(oklab), np.inf)
    while len(chosen) < SIZE:
        distance = np.minimum(distance, ((oklab - oklab[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return rgb[chosen].astype(np.uint8)


def label_color(label: int) -> tuple[int, int, int]:
    """The RGB colour of one label, 0..255 each."""
    red, green, blue = label_palette()[label % SIZE].tolist()
    return red, green, blue


def _oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB in 0..1, (N, 3), to Oklab."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
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

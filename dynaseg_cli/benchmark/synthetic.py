"""Images to measure on where no photos are given: patches with curved borders, textures, uneven light and noise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REGIONS = 24
"""About what a person sees in a photo of BSDS500."""


def write_synthetic_photos(folder: Path, count: int, sizes: Iterable[tuple[int, int]]) -> None:
    """Write `count` PNG images of each (width, height), equal on every machine, into a folder that exists."""
    for width, height in sizes:
        for number in range(count):
            Image.fromarray(synthetic_photo(width, height, number)).save(folder / f"{width}x{height}-{number:03}.png")


def synthetic_photo(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """An RGB (height, width, 3) uint8 image; one seed shows the same scene at any size of the same proportions."""
    random = np.random.default_rng(seed)
    longest = max(width, height)
    y, x = np.mgrid[:height, :width].astype(np.float32) / longest
    wave = random.uniform(4, 12, 4)
    across, down = x + 0.03 * np.sin(wave[0] * y + wave[1]), y + 0.03 * np.sin(wave[2] * x + wave[3])

    centres = random.random((REGIONS, 2), dtype=np.float32) * (width / longest, height / longest)
    region = np.zeros((height, width), dtype=np.intp)
    nearest = np.full((height, width), np.inf, dtype=np.float32)
    for number, (cx, cy) in enumerate(centres):
        distance = (across - cx) ** 2 + (down - cy) ** 2
        region[distance < nearest] = number
        np.minimum(nearest, distance, out=nearest)

    # Lightness differs more than hue, as in photos.
    colors = (random.uniform(40, 215, (REGIONS, 1)) + random.normal(0, 25, (REGIONS, 3))).astype(np.float32)
    angles, pitches = random.uniform(0, np.pi, REGIONS), random.uniform(60, 300, REGIONS)
    heights = random.choice([0.0, 8.0, 20.0], REGIONS).astype(np.float32)
    phase = x * (pitches * np.cos(angles)).astype(np.float32)[region]
    phase += y * (pitches * np.sin(angles)).astype(np.float32)[region]
    light = 0.8 + 0.4 * (x * random.uniform(-0.5, 0.5) + y * random.uniform(0, 1))
    image = (colors[region] + (heights[region] * np.sin(phase))[..., None]) * light[..., None]
    image += random.normal(0, 6, image.shape)
    pixels: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return pixels

"""Scenes of known classes, for the tests of what is fitted to a folder.

Four classes are plain, four are checks of two colours. Checks have the very colours of plain classes, so that colour
alone does not tell them; black and white checks have the mean colour of plain grey, so that neither does its average.
Every scene has a light of its own: brightness and hue differ from those of the others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.config import FOLDER_FIT, SegmentConfig

RED, GREEN, BLUE, GREY = (185, 75, 70), (70, 150, 75), (75, 85, 180), (128, 128, 128)
DARK, LIGHT = (58, 58, 58), (198, 198, 198)
CLASSES = (
    (RED, RED),
    (GREEN, GREEN),
    (BLUE, BLUE),
    (GREY, GREY),
    (RED, GREEN),
    (GREEN, BLUE),
    (BLUE, RED),
    (DARK, LIGHT),
)
"""Of each the two colours of its checks."""
CHECK = 2
"""Side of one in pixels."""
HUES = 0.1
"""Standard deviation, between scenes, of the factor on each channel."""
NOISE = 10.0
TINY_FOLDER_FIT = SegmentConfig(
    **FOLDER_FIT | {"epochs": 3, "iterations": 2, "clusters": 8, "features": 8, "max_size": 16}, precision="float32"
)
"""A fit to a folder, of a second."""


def tiny_scenes(folder: Path) -> Path:
    """A folder of eleven: more than a mosaic holds, and not twice as many."""
    return scene_folder(folder, *(f"{seed:02}.png" for seed in range(11)))


def scene_folder(root: Path, *names: str) -> Path:
    """A folder of small scenes, each another one."""
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made_scene(seed, 30, 24)[0]).save(root / name)
    return root


def made_scene(seed: int, width: int = 96, height: int = 72) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image, (height, width, 3), and its classes, (height, width), both uint8: a ground, and shapes before it."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels = np.full((height, width), random.integers(len(CLASSES)), dtype=np.uint8)
    for _ in range(random.integers(3, 6)):
        y, x = random.uniform(0, height), random.uniform(0, width)
        down, across = random.uniform(0.15, 0.4, 2) * height
        if random.integers(2):
            inside = ((rows - y) / down) ** 2 + ((columns - x) / across) ** 2 < 1
        else:
            inside = (abs(rows - y) < down) & (abs(columns - x) < across)
        labels[inside] = random.integers(len(CLASSES))
    odd = (rows + random.integers(CHECK)) // CHECK % 2 != (columns + random.integers(CHECK)) // CHECK % 2
    image = np.array(CLASSES, dtype=float)[labels, odd.astype(int)]
    image *= random.normal(1, HUES, 3).clip(0.7, 1.3)
    image += random.normal(0, NOISE, image.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def save_scenes(photos: Path, truth: Path, count: int, named: str = "{:02}", first: int = 0) -> tuple[Path, Path]:
    """Write scenes as PNGs, and maps of their classes under the same names; gives both folders."""
    for folder in (photos, truth):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        image, labels = made_scene(seed)
        Image.fromarray(image).save(photos / f"{named.format(seed)}.png")
        Image.fromarray(labels).save(truth / f"{named.format(seed)}.png")
    return photos, truth

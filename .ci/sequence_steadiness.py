#!/usr/bin/env python3
"""How steady labels are from frame to frame, and what a frame costs, with and without a sequence.

The scene is a photo under a slow pan and zoom. The motion is undone before two maps are compared, so a label that
stays where its thing is counts as steady.

    python .ci/sequence_steadiness.py 60 photo.jpg ...
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli import Engine, SegmentConfig

SIZE = 240, 180
"""Width and height of a frame."""


@dataclass(frozen=True)
class View:
    """Part of the photo that a frame shows: pixels of the photo for one of the frame, and its left and upper end."""

    scale: float
    left: float
    top: float


def scene(photo: Image.Image, count: int) -> list[tuple[NDArray[np.uint8], View]]:
    """Frames of a pan from upper left to lower right, coming closer by a fifth; a pixel or so from one to the next."""
    frames = []
    width, height = SIZE
    for number in range(count):
        done = number / count
        scale = min(photo.width / width, photo.height / height) * 0.78 / (1 + 0.2 * done)
        left = (photo.width - width * scale) * (0.15 + 0.7 * done)
        top = (photo.height - height * scale) * (0.3 + 0.4 * done)
        shown = photo.transform(SIZE, Image.Transform.AFFINE, (scale, 0, left, 0, scale, top), Image.Resampling.BICUBIC)
        frames.append((np.asarray(shown), View(scale, left, top)))
    return frames


def changed(before: NDArray[np.integer], after: NDArray[np.integer], old: View, new: View) -> float:
    """The share of pixels in both frames whose label is another one in the second."""
    height, width = after.shape
    y, x = np.mgrid[:height, :width] + 0.5
    column = np.floor((x * new.scale + new.left - old.left) / old.scale).astype(int)
    row = np.floor((y * new.scale + new.top - old.top) / old.scale).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return float((before[row[inside], column[inside]] != after[inside]).mean())


def measure(frames: list[tuple[NDArray[np.uint8], View]], config: SegmentConfig) -> dict[str, list[float]]:
    """Figures of all frames behind the first."""
    engine, fitted, before = Engine(config, "cpu"), None, None
    found: dict[str, list[float]] = {
        name: [] for name in ("seconds", "iterations", "raw labels", "labels", "raw changed", "changed")
    }
    for index, (frame, view) in enumerate(frames):
        started = time.process_time()
        segmentation = engine.segment(frame, after=fitted)
        seconds = time.process_time() - started
        fitted, regions = segmentation.fitted, segmentation.regions()
        maps = segmentation.labels, regions.labels
        if before is not None:
            old = frames[index - 1][1]
            figures = [seconds, segmentation.fit.iterations, segmentation.num_labels, regions.num_labels]
            figures += [changed(was, now, old, view) for was, now in zip(before, maps, strict=True)]
            for name, figure in zip(found, figures, strict=True):
                found[name].append(figure)
        before = maps
    return found


def main(count: int, paths: list[Path]) -> None:
    torch.set_num_threads(1)
    for sequence in (False, True):
        pooled: dict[str, list[float]] = {}
        for path in paths:
            with Image.open(path) as photo:
                frames = scene(photo.convert("RGB"), count)
            found = measure(frames, SegmentConfig(sequence=sequence))
            print(f"sequence={sequence} {path.name}: raw labels {found['raw labels'][:: max(1, count // 10)]}")
            for name, figures in found.items():
                pooled.setdefault(name, []).extend(figures)
        print(f"sequence={sequence}", {name: round(float(np.mean(figures)), 3) for name, figures in pooled.items()})


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(path) for path in sys.argv[2:]])

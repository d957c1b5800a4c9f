"""Makes photos of mixed sizes from others, for ``.ci/gpu``: parts of them, upright and not, smaller and larger."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCALES = 1 / 3, 3.0
"""Least and greatest scale of a side: photos of BSDS500 become 80 to 1,440 pixels long."""
LEAST_PART = 0.5
"""Least part of a side that is kept."""
LEAST_SIDE = 8


def mixed(photo: Image.Image, seed: int) -> Image.Image:
    """A part of a photo at a size of its own; the same for the same seed."""
    random = np.random.default_rng(seed)
    width, height = (max(1, round(side * random.uniform(LEAST_PART, 1))) for side in photo.size)
    left, top = (
        int(random.integers(whole - part + 1)) for whole, part in zip(photo.size, (width, height), strict=True)
    )
    scale = float(np.exp(random.uniform(*np.log(SCALES))))
    size = max(LEAST_SIDE, round(width * scale)), max(LEAST_SIDE, round(height * scale))
    return photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path, help="where to")
    parser.add_argument("--most", type=int, default=100, metavar="N", help="how many at most (default: %(default)s)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    paths = sorted(path for path in options.photos.rglob("*") if path.is_file())
    for number, path in enumerate(paths[: options.most]):
        with Image.open(path) as photo:
            mixed(photo.convert("RGB"), number).save(options.folder / f"{number:03}.jpg", quality=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Label maps in another size: nearest neighbour, since labels cannot be mixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from .label_files import LabelMap

LONGEST = 1 << 24
"""Limit on a side, in pixels, while resizing, which needs an index for each."""


def resized(labels: LabelMap, height: int, width: int) -> LabelMap:
    """An (H, W) map as (height, width): each pixel takes the value nearest to it, as in Pillow."""
    if labels.shape == (height, width):
        return labels
    return labels[np.ix_(_nearest(labels.shape[0], height), _nearest(labels.shape[1], width))]


def center_crop(labels: LabelMap, size: int) -> LabelMap:
    """Resize an (H, W) map until its shorter side is `size`, then cut the middle: (size, size).

    As torchvision's Resize and CenterCrop do, which the published COCO-Stuff-27 figures were made with.

    Raises
    ------
    ImageError
        If the longer side would have more than `LONGEST` pixels.
    """
    shorter, longer = sorted(labels.shape)
    if size * longer // shorter > LONGEST:
        raise ImageError(f"{longer} x {shorter} pixels cannot be resized to a shorter side of {size} (--center-crop)")
    rows, columns = (_middle(_nearest(side, size * side // shorter), size) for side in labels.shape)
    return labels[np.ix_(rows, columns)]


def _middle(indices: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    start = round((len(indices) - size) / 2)
    return indices[start : start + size]


def _nearest(length: int, wanted: int) -> NDArray[np.int32]:
    # By Pillow itself: halfway between two pixels it takes one or the other, as its rounding errors have it.
    line = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    taken: NDArray[np.int32] = np.asarray(line.resize((wanted, 1), Image.Resampling.NEAREST))[0]
    return taken

"""COCO-Stuff as its published protocol takes it: 182 fine labels as 27 coarse classes, resized and cropped."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..images.label_maps import LabelMap
from ..resampling import nearest_indices

UNLABELED = 255
"""Value of unlabeled pixels, in stuffthingmaps and in coarse maps."""

_TABLE = json.loads((files(__package__) / "coco_stuff27.json").read_text())

NUM_THINGS: int = _TABLE["num_things"]
"""Classes below this are things, the others stuff."""
CLASS_NAMES: list[str] = _TABLE["coarse_names"]

_COARSE = np.full(256, -1, dtype=np.int16)
_COARSE[: len(_TABLE["fine_to_coarse"])] = _TABLE["fine_to_coarse"]
_COARSE[UNLABELED] = UNLABELED

LONGEST = 1 << 24
"""Limit on a side, in pixels, while resizing, which needs an index for each."""


def to_coarse(fine: LabelMap) -> LabelMap:
    """Map an (H, W) stuffthingmap, 0..181 and 255 for unlabeled, to the 27 classes and 255: (H, W) uint8.

    Raises
    ------
    ValueError
        If it holds another value.
    """
    values = np.unique(fine)
    strange = values[~np.isin(values, np.flatnonzero(_COARSE >= 0))]
    if len(strange):
        raise ValueError(f"the value {strange[0]} is no label of COCO-Stuff's stuffthingmaps (0..181, 255)")
    return _COARSE[fine].astype(np.uint8)


def looks_like_stuffthingmap(name: str, labels: LabelMap) -> bool:
    """Whether a file is named as COCO's images are, 12 digits, and holds only COCO-Stuff's labels."""
    values = np.unique(labels)
    return len(name) == 12 and name.isdigit() and bool(np.isin(values, np.flatnonzero(_COARSE >= 0)).all())


def center_crop(labels: LabelMap, size: int) -> LabelMap:
    """Resize an (H, W) map until its shorter side is `size`, then cut the middle: (size, size).

    As torchvision's Resize and CenterCrop do, which the published figures were made with. ImageError if the longer side
    would have more than `LONGEST` pixels.
    """
    shorter, longer = sorted(labels.shape)
    if size * longer // shorter > LONGEST:
        raise ImageError(f"{longer} x {shorter} pixels cannot be resized to a shorter side of {size} (`center_crop`)")
    rows, columns = (_middle(nearest_indices(side, size * side // shorter), size) for side in labels.shape)
    return labels[np.ix_(rows, columns)]


def _middle(indices: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    start = round((len(indices) - size) / 2)
    return indices[start : start + size]

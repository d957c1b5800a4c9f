"""COCO-Stuff's 182 fine labels as the 27 coarse classes of the published protocol, and its resize and crop."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np

from .label_files import LabelMap

UNLABELED = 255
"""In the stuffthingmaps, and in the coarse maps made of them."""

_TABLE = json.loads((files(__package__) / "coco_stuff27.json").read_text())

NUM_THINGS: int = _TABLE["num_things"]
"""Classes below this are things, the others stuff."""
CLASS_NAMES: list[str] = _TABLE["coarse_names"]

_COARSE = np.full(256, -1, dtype=np.int16)
_COARSE[: len(_TABLE["fine_to_coarse"])] = _TABLE["fine_to_coarse"]
_COARSE[UNLABELED] = UNLABELED


def to_coarse(fine: LabelMap) -> LabelMap:
    """Map an (H, W) stuffthingmap, 0..181 and 255 for unlabeled, to the 27 classes and 255: (H, W) uint8.

    Raises
    ------
    ValueError
        If it holds another value.
    """
    values = np.unique(fine)
    known = values[(values >= 0) & (values <= 255)]
    strange = [int(value) for value in values if value not in known or _COARSE[value] < 0]
    if strange:
        raise ValueError(f"the value {strange[0]} is no label of COCO-Stuff's stuffthingmaps (0..181, 255)")
    return _COARSE[fine].astype(np.uint8)


def looks_like_stuffthingmap(name: str, labels: LabelMap) -> bool:
    """Whether a file is named as COCO's images are, 12 digits, and holds only COCO-Stuff's labels."""
    values = np.unique(labels)
    return len(name) == 12 and name.isdigit() and bool(np.isin(values, np.flatnonzero(_COARSE >= 0)).all())

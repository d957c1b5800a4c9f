"""Which value of a ground-truth map is ignored by default: 255 in 8-bit maps, unless they are masks of 0 and 255."""

from __future__ import annotations

import numpy as np

from .label_files import LabelMap

VOID = 255
"""By convention, the 8-bit value of pixels without a label."""


def void_of(truth: LabelMap) -> int | None:
    """The value to ignore in a map: 255 if it has 8 bits and values other than 0 and 255, else None."""
    return VOID if truth.dtype == np.uint8 and not _values(truth) <= {0, VOID} else None


def counts_void(truth: LabelMap) -> bool:
    """Whether 255 is an object in a map: it has 8 bits, and no values but 255 and perhaps 0."""
    return truth.dtype == np.uint8 and VOID in (values := _values(truth)) and values <= {0, VOID}


def _values(truth: LabelMap) -> set[int]:
    return set(np.flatnonzero(np.bincount(truth.reshape(-1), minlength=VOID + 1)).tolist())

"""Which value of a ground-truth map counts nowhere: 255, unless it is one of only two values, or of many numbers."""

from __future__ import annotations

import numpy as np

from .label_files import LabelMap

VOID = 255
"""The largest 8-bit value: by custom a pixel without a label."""


def void_of(truth: LabelMap) -> int | None:
    """The value that a map ignores by custom: 255 if it has 8 bits and other values than 0 and 255; None if not."""
    return VOID if truth.dtype == np.uint8 and not _values(truth) <= {0, VOID} else None


def counts_void(truth: LabelMap) -> bool:
    """Whether a map of 8 bits has the value 255 and at most 0 beside it, so that 255 is what it shows."""
    return truth.dtype == np.uint8 and VOID in (values := _values(truth)) and values <= {0, VOID}


def _values(truth: LabelMap) -> set[int]:
    return set(np.flatnonzero(np.bincount(truth.reshape(-1), minlength=VOID + 1)).tolist())

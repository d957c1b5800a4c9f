"""Numbers in a script: a page opened from disk cannot read files, and in some browsers no exact pixels of pictures."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray


def packed(values: NDArray[np.integer], dtype: str) -> str:
    """Numbers as text: those of a little-endian type, compressed by zlib, in base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).astype(dtype).tobytes())).decode("ascii")


def runs_of(values: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.integer]]:
    """The lengths and the values of the runs of equal pixels in an (H, W) map; no run leaves its row."""
    starts = np.ones(values.shape, dtype=bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    return np.diff(np.append(np.flatnonzero(starts), values.size)), values[starts]

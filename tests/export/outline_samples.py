"""Maps with holes, and rings made masks again by a library of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import points_in_poly

from dynaseg_cli.export.source import Segments

NESTED = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0, 4],
        [0, 1, 1, 1, 0, 2, 0, 0, 4],
        [0, 1, 3, 1, 0, 0, 2, 0, 4],
        [0, 1, 1, 1, 0, 2, 0, 0, 4],
        [0, 0, 0, 0, 2, 0, 0, 4, 4],
        [5, 5, 0, 0, 0, 0, 4, 4, 4],
    ],
    np.uint8,
)
"""Labels: 1 lies in a hole of 0, and 3 in a hole of 1; the parts of 2 touch at corners, as the holes of 0 do there."""
NESTED_REGIONS = Segments(
    np.array(
        [
            [0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0, 2, 2, 2, 0, 3, 0, 0, 1],
            [0, 2, 7, 2, 0, 0, 4, 0, 1],
            [0, 2, 2, 2, 0, 5, 0, 0, 1],
            [0, 0, 0, 0, 6, 0, 0, 1, 1],
            [8, 8, 0, 0, 0, 0, 1, 1, 1],
        ],
        np.uint16,
    ),
    np.array([0, 4, 1, 2, 2, 2, 2, 3, 5]),
)
"""Its parts, with their labels."""


def inside(ring: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) the pixels whose centre is inside a ring, by the even-odd rule."""
    rows, columns = np.indices(shape)
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    found: NDArray[np.bool_] = points_in_poly(centres, ring).reshape(shape)
    return found

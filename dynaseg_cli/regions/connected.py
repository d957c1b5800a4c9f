"""Connected regions of a map, in time and memory linear in its pixels."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Value = TypeVar("Value", bound=np.integer)


def connected_regions(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the 4-connected regions of equal label of an (H, W) integer map: (H, W) int32, 0..R-1 in scan order."""
    return regions_between(labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1])


def regions_between(across: NDArray[np.bool_], down: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the regions of pixels that boundaries enclose: (H, W) int32, 0..R-1 in scan order.

    Horizontal runs of joined pixels are the nodes of a graph, and runs that touch vertically its edges: far fewer of
    both than there are pixels.

    Parameters
    ----------
    across : (H, W-1), whether there is a boundary between a pixel and the one to its right.
    down : (H-1, W), whether there is one between a pixel and the one below.
    """
    height, width = across.shape[0], down.shape[1]
    starts = np.ones((height, width), dtype=bool)
    starts[:, 1:] = across
    runs = np.cumsum(starts, dtype=np.int32).reshape(height, width) - np.int32(1)
    # Of a row of pixels that touch those below without a break, the first is enough.
    touching = ~down
    touching[:, 1:] &= starts[1:, 1:] | starts[:-1, 1:] | down[:, :-1]
    above, below = runs[:-1][touching], runs[1:][touching]
    count = int(runs[-1, -1]) + 1
    graph = coo_array((np.ones(len(above), dtype=np.int8), (above, below)), shape=(count, count))
    component: NDArray[np.int32] = connected_components(graph, directed=False)[1].astype(np.int32)[runs]
    return component


def value_of_each(parts: NDArray[np.int32], values: NDArray[Value]) -> NDArray[Value]:
    """(P,) the value of each of the parts 0..P-1 of an (H, W) map of `values` that is constant in each."""
    value_of = np.empty(int(parts.max()) + 1, dtype=values.dtype)
    value_of[parts.reshape(-1)] = values.reshape(-1)
    return value_of

"""Connected regions of a label map, in time and memory linear in its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def connected_regions(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the 4-connected regions of equal label of an (H, W) integer map: (H, W) int32, 0..R-1 in scan order.

    Horizontal runs of equal labels are the nodes of a graph, and runs that touch vertically its edges: far fewer of
    both than there are pixels.
    """
    height, width = labels.shape
    starts = np.ones((height, width), dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    runs = np.cumsum(starts, dtype=np.int32).reshape(height, width) - np.int32(1)
    touching = labels[1:] == labels[:-1]
    # One edge a pair of runs: at the first pixel where they touch, which is where either of them starts.
    touching &= starts[1:] | starts[:-1]
    above, below = runs[:-1][touching], runs[1:][touching]
    count = int(runs[-1, -1]) + 1
    graph = coo_array((np.ones(len(above), dtype=np.int8), (above, below)), shape=(count, count))
    component: NDArray[np.int32] = connected_components(graph, directed=False)[1].astype(np.int32)[runs]
    return component

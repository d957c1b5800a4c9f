"""All segmentations of an image, from its finest fragments to the whole, of which any is cut in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from ..config import COMMON_GRANULARITY
from .connected import connected_regions, regions_between
from .cues import photo_cues
from .graph import pair_keys, region_graph
from .linkage import boundary_strengths
from .numbering import numbers_by_area

STRONGEST = 2**16 - 1
"""What 16 bits hold. The boundary of a fragment is at least 1."""
COMMON_CUT = 35.0
"""Dissimilarity at `COMMON_GRANULARITY`, in a photo of typical contrast. Chosen on BSDS500 train."""
TYPICAL_REGIONS = 100
"""The dissimilarity at which a photo has so many regions left is taken for its contrast, ..."""
TYPICAL_CONTRAST = 24.0
"""which is typically this (geometric mean of 150 photos of BSDS500 train)."""
ADAPTATION = 1 / 3
"""Power of its contrast by which a photo is made more like a typical one: 0, not at all; 1, all have equally many."""
LEVELS = 20
"""Steps of granularity in the summary of a hierarchy."""
BAND_ROWS = 256
"""Rows of a boundary map that are worked on at a time, which bounds the memory."""


@dataclass(frozen=True)
class Hierarchy:
    """The fragments of an image, and how strong the boundary between two neighbours is.

    Cut anywhere, it gives 4-connected regions, and those of a coarser cut are unions of those of a finer one. Strength
    means the same in every image, so that one granularity for a whole folder leaves few regions where there is little
    to tell apart.
    """

    fragments: NDArray[np.int32]
    """(H, W) map of the finest regions, 0..F-1 in scan order."""
    first: NDArray[np.int64]
    """(E,) the fragment with the smaller number, of each two that touch."""
    second: NDArray[np.int64]
    """(E,) the other one."""
    strength: NDArray[np.uint16]
    """(E,) of the boundary between them, 1..`STRONGEST`."""

    @cached_property
    def size(self) -> int:
        """F."""
        return int(self.fragments.max()) + 1

    def cut(self, granularity: float = COMMON_GRANULARITY) -> NDArray[np.int32]:
        """Regions with boundaries stronger than 1 - `granularity` between them.

        Parameters
        ----------
        granularity : 0 (the whole image) to 1 (every fragment); 1/2 is where all images are cut unless asked otherwise.

        Returns
        -------
        (H, W) int32, 0..R-1 by falling area.

        Raises
        ------
        ValueError
            If `granularity` is not in 0..1.
        """
        return self._numbered(self.size - self.count(granularity))

    def cut_to(self, regions: int) -> NDArray[np.int32]:
        """So many regions, the weakest boundaries given up first, or every fragment if there are no more.

        Returns
        -------
        (H, W) int32, 0..R-1 by falling area.

        Raises
        ------
        ValueError
            If `regions` is not at least 1.
        """
        if regions < 1:
            raise ValueError(f"the number of regions must be at least 1, not {regions}")
        return self._numbered(max(self.size - regions, 0))

    def count(self, granularity: float) -> int:
        """The number of regions that `cut` gives."""
        if not 0 <= granularity <= 1:
            raise ValueError(f"granularity must be in 0..1, not {granularity}")
        threshold = round((1 - granularity) * STRONGEST)
        return self.size - int(np.searchsorted(self.strength[self._joins], threshold, side="right"))

    def region_of_fragments(self, granularity: float) -> NDArray[np.int32]:
        """(F,) in 0..R-1, which fragments are one region when it is `cut`."""
        return self._groups(self.size - self.count(granularity))

    def levels(self) -> list[tuple[float, int]]:
        """Granularities from 0 to 1, and the number of regions at each."""
        return [(step / LEVELS, self.count(step / LEVELS)) for step in range(LEVELS + 1)]

    @cached_property
    def _joins(self) -> NDArray[np.intp]:
        """(F-1,) the pairs at which two regions become one, weakest first; of equal ones that with smaller numbers."""
        order = np.lexsort((self.second, self.first, self.strength))
        rank = np.empty(len(order))
        rank[order] = np.arange(1, len(order) + 1)
        tree = minimum_spanning_tree(coo_array((rank, (self.first, self.second)), shape=(self.size, self.size)).tocsr())
        return order[np.sort(tree.data).astype(np.intp) - 1]

    def _groups(self, joins: int) -> NDArray[np.int32]:
        """(F,) the region of each fragment after the first so many joins."""
        joined = self._joins[:joins]
        graph = coo_array(
            (np.ones(joins, dtype=np.int8), (self.first[joined], self.second[joined])), shape=(self.size, self.size)
        )
        groups: NDArray[np.int32] = connected_components(graph, directed=False)[1].astype(np.int32)
        return groups

    def _numbered(self, joins: int) -> NDArray[np.int32]:
        groups = self._groups(joins)
        areas = np.bincount(groups, np.bincount(self.fragments.reshape(-1), minlength=self.size))
        regions: NDArray[np.int32] = numbers_by_area(areas)[groups][self.fragments]
        return regions


def build_hierarchy(labels: NDArray[np.integer], image: NDArray[np.uint8]) -> Hierarchy:
    """The hierarchy over the 4-connected regions of an (H, W) label map of an RGB (H, W, 3) uint8 photo."""
    fragments = connected_regions(labels)
    graph = region_graph(fragments, labels, photo_cues(image))
    different = _adapted(boundary_strengths(graph))
    # Any rising function would do; this one maps all of 0..infinity to 0..1, and the common cut to the middle.
    strength = np.rint(different / (different + COMMON_CUT) * STRONGEST)
    return Hierarchy(fragments, graph.first, graph.second, np.clip(strength, 1, STRONGEST).astype(np.uint16))


def _adapted(different: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dissimilarities as eyes would see them that have grown used to a photo's contrast."""
    strongest = np.unique(different)[-TYPICAL_REGIONS:]
    return different * (TYPICAL_CONTRAST / strongest[0]) ** ADAPTATION if len(strongest) else different


def boundary_map(hierarchy: Hierarchy) -> NDArray[np.uint16]:
    """The ultrametric boundary map of an image of H x W pixels: (2H-1, 2W-1) uint16.

    Pixel (y, x) is at (2y, 2x) and is 0; between it and its neighbours is the strength of the boundary there, 0 inside
    a fragment, and between four pixels the strongest around. Arbelaez et al. 2011, doi:10.1109/TPAMI.2010.161, section
    3.2.
    """
    height, width = hierarchy.fragments.shape
    grid = np.zeros((2 * height - 1, 2 * width - 1), dtype=np.uint16)
    keys = pair_keys(hierarchy.first, hierarchy.second, hierarchy.size)
    order = np.argsort(keys)
    keys, strength = keys[order], hierarchy.strength[order]
    for one, other, between in _neighbours(hierarchy.fragments, grid):
        differ = one != other
        between[differ] = strength[np.searchsorted(keys, pair_keys(one[differ], other[differ], hierarchy.size))]
    corners = grid[1::2, 1::2]
    for near in (grid[:-2:2, 1::2], grid[2::2, 1::2], grid[1::2, :-2:2], grid[1::2, 2::2]):
        np.maximum(corners, near, out=corners)
    return grid


def hierarchy_of(boundaries: NDArray[np.integer]) -> Hierarchy:
    """The hierarchy that a `boundary_map` was made of.

    Raises
    ------
    ValueError
        If its sides are not odd, or its values not those of 16 bits.
    """
    if boundaries.shape[0] % 2 == 0 or boundaries.shape[1] % 2 == 0:
        raise ValueError(f"a boundary map has odd sides, not {boundaries.shape[1]} x {boundaries.shape[0]}")
    if boundaries.min() < 0 or boundaries.max() > STRONGEST:
        raise ValueError(f"the strengths of a boundary map are 0..{STRONGEST}")
    fragments = regions_between(boundaries[::2, 1::2] > 0, boundaries[1::2, ::2] > 0)
    size = int(fragments.max()) + 1
    found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint16))]
    for one, other, between in _neighbours(fragments, boundaries):
        differ = one != other
        keys, at = np.unique(pair_keys(one[differ], other[differ], size), return_index=True)
        found.append((keys, between[differ][at].astype(np.uint16)))
    keys, at = np.unique(np.concatenate([keys for keys, _ in found]), return_index=True)
    strength = np.concatenate([strength for _, strength in found])[at]
    return Hierarchy(fragments, keys // size, keys % size, strength)


def _neighbours(
    fragments: NDArray[np.int32], grid: NDArray[np.integer]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.integer]]]:
    """Views of neighbouring pixels and of what the grid has between them, a band of rows at a time."""
    for start in range(0, len(fragments), BAND_ROWS):
        rows = slice(start, start + BAND_ROWS)
        yield fragments[rows, :-1], fragments[rows, 1:], grid[::2, 1::2][rows]
        above, below = fragments[:-1][rows], fragments[1:][rows]
        yield above, below, grid[1::2, ::2][rows]

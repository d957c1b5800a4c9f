"""Hierarchies of regions: all segmentations of an image, each of which is cut in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from ..config import COMMON_GRANULARITY
from .cues import Cues, photo_cues
from .features import Features
from .fragments import photo_fragments
from .graph import region_graph
from .linkage import boundary_strengths
from .segments import joined_groups, numbers_by_area, pair_keys, regions_between

STRONGEST = 2**16 - 1
"""The largest strength; the weakest boundary of a fragment has 1."""
TYPICAL_REGIONS = 45
"""The contrast of a photo is the dissimilarity at which this many regions are left."""
TYPICAL_CONTRAST = 32.0
"""Geometric mean of that contrast in BSDS500 train. Where a photo has it, it is the common cut."""
TYPICAL_CONTRAST_OF_FEATURES = 30.0
"""What it is replaced by where a pretrained network has a part: large regions stay whole, so the cut can be finer."""
ADAPTATION = 1 / 2
"""How far the contrast of a photo is made typical: with 0 not at all, with 1 all photos have equally many regions."""
LEVELS = 20
"""Steps of granularity in the summary of a hierarchy."""
BAND_ROWS = 256
"""Rows of a boundary map that are processed at a time, to bound the memory."""


@dataclass(frozen=True)
class Hierarchy:
    """The fragments of an image, and the strength of the boundaries between neighbours.

    Every cut gives 4-connected regions, and the regions of a coarser cut are unions of those of a finer one. Strength
    means the same in every image, so that one granularity for a whole folder leaves few regions in plain images.
    """

    fragments: NDArray[np.int32]
    """(H, W) map of the finest regions, 0..F-1 in scan order."""
    first: NDArray[np.int64]
    """(E,) the fragment with the smaller number in each pair that touches."""
    second: NDArray[np.int64]
    """(E,) the other fragment."""
    strength: NDArray[np.uint16]
    """(E,) strength of the boundary between them, 1..`STRONGEST`."""

    @cached_property
    def size(self) -> int:
        """F, the number of fragments."""
        return int(self.fragments.max()) + 1

    def cut(self, granularity: float = COMMON_GRANULARITY) -> NDArray[np.int32]:
        """The regions between boundaries stronger than 1 - `granularity`: (H, W) int32, 0..R-1 by falling area.

        Granularity 0 is the whole image, and 1 every fragment. Raises ValueError if it is not in 0..1.
        """
        return self._numbered(self.size - self.count(granularity))

    def cut_to(self, regions: int) -> NDArray[np.int32]:
        """At most this many regions, without the weakest boundaries: (H, W) int32, 0..R-1 by falling area.

        Raises ValueError if `regions` is not at least 1.
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
        """(F,) the region, 0..R-1, of each fragment after `cut`."""
        return self._groups(self.size - self.count(granularity))

    def levels(self) -> list[tuple[float, int]]:
        """Granularities from 0 to 1, and the number of regions at each."""
        return [(step / LEVELS, self.count(step / LEVELS)) for step in range(LEVELS + 1)]

    def joins_of(self, visible: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The hierarchy of V `visible` fragments alone, as pairs that join one after another.

        (V-1, 2) places in `visible`, weakest boundary first, and (V-1,) how many regions of the image each leaves:
        two visible fragments are in one region of `cut_to` R if and only if joins that leave R or more connect them.
        """
        joins, root = self._joins, np.full(len(visible), self.size)
        # In the spanning tree with a root beside all visible fragments, each branch has one of these. The joins that
        # are not in any branch are between two of them.
        weight = np.append(np.ones(len(visible)), np.arange(2, self.size + 1))
        ends = np.append(root, self.first[joins]), np.append(visible, self.second[joins])
        tree = minimum_spanning_tree(coo_array((weight, ends), shape=(self.size + 1, self.size + 1)).tocsr())
        inside = np.sort(tree.data[tree.data > 1]).astype(np.intp) - 2
        group = joined_groups(self.first[joins[inside]], self.second[joins[inside]], self.size)
        place = np.empty(len(visible), dtype=np.int64)
        place[group[visible]] = np.arange(len(visible))
        between = np.delete(joins, inside)
        pairs = np.stack([place[group[self.first[between]]], place[group[self.second[between]]]], axis=1)
        return pairs, self.size - 1 - np.delete(np.arange(len(joins)), inside)

    @cached_property
    def _joins(self) -> NDArray[np.intp]:
        """(F-1,) the pairs whose boundaries join two regions, weakest first, then by number."""
        order = np.lexsort((self.second, self.first, self.strength))
        rank = np.empty(len(order))
        rank[order] = np.arange(1, len(order) + 1)
        tree = minimum_spanning_tree(coo_array((rank, (self.first, self.second)), shape=(self.size, self.size)).tocsr())
        return order[np.sort(tree.data).astype(np.intp) - 1]

    def _groups(self, joins: int) -> NDArray[np.int32]:
        """(F,) the region of each fragment after the first `joins`."""
        joined = self._joins[:joins]
        return joined_groups(self.first[joined], self.second[joined], self.size)

    def _numbered(self, joins: int) -> NDArray[np.int32]:
        groups = self._groups(joins)
        areas = np.bincount(groups, np.bincount(self.fragments.reshape(-1), minlength=self.size))
        regions: NDArray[np.int32] = numbers_by_area(areas)[groups][self.fragments]
        return regions


def build_hierarchy(labels: NDArray[np.integer], image: NDArray[np.uint8], features: Features = ()) -> Hierarchy:
    """The hierarchy over the fragments of an RGB (H, W, 3) uint8 photo with an (H, W) label map.

    Fragments end where the photo's contrast is greatest, whatever their labels; labels say which of them are alike, and
    so do the `features` of a pretrained network, (h, w, C) maps of the photo with vectors of unit length, if there are
    any. Raises ValueError if labels and photo differ in size.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels of shape {labels.shape} do not belong to a photo of shape {image.shape}")
    cues = photo_cues(image)
    return hierarchy_over(photo_fragments(image, cues.contrast), labels, cues, features)


def hierarchy_over(
    fragments: NDArray[np.int32], labels: NDArray[np.integer], cues: Cues, features: Features = ()
) -> Hierarchy:
    """The hierarchy over 4-connected fragments, (H, W) int32 in scan order, from labels, cues and features."""
    graph = region_graph(fragments, labels, cues, features)
    typical = TYPICAL_CONTRAST_OF_FEATURES if features else TYPICAL_CONTRAST
    different = adapted(boundary_strengths(graph), typical)
    # A rising function that maps 0..infinity to 0..1, and the common cut to the middle.
    strength = np.rint(different**2 / (different**2 + 1) * STRONGEST)
    return Hierarchy(fragments, graph.first, graph.second, np.clip(strength, 1, STRONGEST).astype(np.uint16))


def adapted(different: NDArray[np.float64], typical: float = TYPICAL_CONTRAST) -> NDArray[np.float64]:
    """Dissimilarities as seen by eyes that have adapted to the contrast of the photo: 1 is the common cut.

    `typical` is the contrast of a photo for which nothing changes.
    """
    strongest = np.unique(different)[-TYPICAL_REGIONS:]
    contrast = strongest[0] if len(strongest) else typical
    relative: NDArray[np.float64] = different / (typical ** (1 - ADAPTATION) * contrast**ADAPTATION)
    return relative


def boundary_map(hierarchy: Hierarchy) -> NDArray[np.uint16]:
    """The ultrametric boundary map of an image of H x W pixels: (2H-1, 2W-1) uint16.

    Pixel (y, x) is at (2y, 2x) and is 0. Between two pixels is the strength of the boundary, 0 inside a fragment;
    between four pixels, the greatest strength around. Arbelaez et al. 2011, doi:10.1109/TPAMI.2010.161, section 3.2.
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
    """The hierarchy in a `boundary_map`.

    Raises ValueError if its sides are not odd, or its values not in 0..`STRONGEST`.
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
    """Views of neighbouring pixels and of the grid between them, a band of rows at a time."""
    for start in range(0, len(fragments), BAND_ROWS):
        rows = slice(start, start + BAND_ROWS)
        yield fragments[rows, :-1], fragments[rows, 1:], grid[::2, 1::2][rows]
        above, below = fragments[:-1][rows], fragments[1:][rows]
        yield above, below, grid[1::2, ::2][rows]

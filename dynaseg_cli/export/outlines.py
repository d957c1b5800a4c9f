"""Outlines of segments: polygons with holes, whose neighbours share their border exactly, simplified or not.

Coordinates are x, y in pixels from the outer corner of the top left pixel, y downwards. All vertices are corners of
pixels and so whole numbers, as simplification only drops some of them. shapely joins the edges between pixels to
polygons, and simplifies all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Polygons = NDArray[np.object_]
"""Polygons of shapely."""
Points = NDArray[np.float64]
"""(N, 2) x, y."""


@dataclass(frozen=True)
class Outlines:
    """The polygons of all segments of a map, which they cover without gaps and overlaps.

    Outer rings have a positive area in x, y (they look clockwise, as y points down), and holes a negative one.
    """

    parts: Polygons
    """(Q,) a valid polygon for each 4-connected part of a segment, by segment, then from the top left."""
    owners: NDArray[np.int64]
    """(Q,) the place of the segment of each part among the P that occur, rising."""

    @cached_property
    def of_segments(self) -> Polygons:
        """(P,) the polygon of each segment that occurs, or a multipolygon if it has several parts."""
        import shapely  # noqa: PLC0415 - an extra

        shapes: Polygons = shapely.multipolygons(self.parts, indices=self.owners)
        single = np.flatnonzero(np.bincount(self.owners) == 1)
        shapes[single] = self.parts[np.searchsorted(self.owners, single)]
        return shapes

    @cached_property
    def rings(self) -> list[Points]:
        """(Q,) each part as one ring, for formats without holes: see `with_bridges`."""
        return [with_bridges(part) for part in self.parts]


def trace(segments: NDArray[np.integer[Any]], tolerance: float) -> Outlines:
    """The outlines of an (H, W) map of segments, -1 where there is none.

    With a `tolerance` of 0 they follow the edges of the pixels. Otherwise it is that of shapely's `coverage_simplify`
    in pixels: vertices are dropped, that with the smallest triangle first, while the triangle of a vertex and its two
    neighbours has an area below its square (Visvalingam and Whyatt 1993, doi:10.1179/000870493786962263). No segment
    is dropped, and neither are vertices where more than two segments meet, or on the border of the map.
    """
    import shapely  # noqa: PLC0415 - an extra

    parts = shapely.get_parts(shapely.polygonize(shapely.linestrings(_borders(segments))))
    x, y = _top_left_corners(parts).T
    numbers = segments[y, x]
    order = np.lexsort((x, y, numbers))
    if tolerance:
        # Together with what is no segment, so that its borders are simplified as well.
        parts = shapely.coverage_simplify(parts, tolerance, simplify_boundary=False)
    order = order[numbers[order] >= 0]
    _, owners = np.unique(numbers[order], return_inverse=True)
    return Outlines(shapely.orient_polygons(parts[order]), owners)


def _borders(segments: NDArray[np.integer[Any]]) -> Points:
    """(L, 2, 2) the ends, x and y, of all straight lines between segments, and around the map.

    A line ends where it turns or another one meets it.
    """
    height, width = segments.shape
    # A border is missing on either side of the map, so that each corner has four edges.
    across = np.zeros((height + 1, width + 2), dtype=bool)
    across[1:-1, 1:-1] = segments[1:] != segments[:-1]
    across[[0, -1], 1:-1] = True
    down = np.zeros((height + 2, width + 1), dtype=bool)
    down[1:-1, 1:-1] = segments[:, 1:] != segments[:, :-1]
    down[1:-1, [0, -1]] = True
    from_left = _lines_along_rows(across, down[:-1] | down[1:])[..., ::-1]
    from_top = _lines_along_rows(down.T, (across[:, :-1] | across[:, 1:]).T)
    return np.concatenate([from_left, from_top]).astype(np.float64)


def _lines_along_rows(edges: NDArray[np.bool_], crossed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(L, 2, 2) row and column of both ends of each line of (R, N + 1) edges, cut where (R, N) corners are crossed."""
    before, after = edges[:, :-1], edges[:, 1:]
    starts, ends = np.argwhere(after & (crossed | ~before)), np.argwhere(before & (crossed | ~after))
    return np.stack([starts, ends], axis=1)


def _top_left_corners(parts: Polygons) -> NDArray[np.int64]:
    """(Q, 2) x, y of the leftmost of the topmost corners of each polygon: below and right of it is a pixel inside."""
    import shapely  # noqa: PLC0415 - an extra

    points, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    order = np.lexsort((points[:, 0], points[:, 1], part))
    first = np.flatnonzero(np.diff(part[order], prepend=-1))
    corners: NDArray[np.int64] = points[order[first]].astype(np.int64)
    return corners


def with_bridges(polygon: Any) -> Points:
    """A polygon with holes as one ring, (N, 2) without its last point, which encloses the same.

    From the leftmost vertex of each hole a bridge leads to the left, to the next border, and back. It has no area and
    crosses nothing (Eberly, Triangulation by Ear Clipping, 2002). Where it arrives there need not be a vertex.
    """
    ring = np.array(polygon.exterior.coords)[:-1]
    holes = [np.array(hole.coords)[:-1] for hole in polygon.interiors]
    # From left to right: a hole that a bridge arrives at has its own bridge already.
    for hole in sorted(holes, key=lambda points: points[:, 0].min()):
        start = int(hole[:, 0].argmin())
        edge, arrival = _next_to_the_left(ring, hole[start])
        around = np.concatenate([arrival, hole[start:], hole[: start + 1], arrival])
        ring = np.insert(ring, edge + 1, around, axis=0)
    return ring


def _next_to_the_left(ring: Points, point: Points) -> tuple[int, Points]:
    """The edge of a ring that is next to the left of a point inside or on it, and where, (1, 2)."""
    x, y = point
    # Level edges can be left out: the next one that is not level starts where they end.
    (from_x, from_y), (to_x, to_y) = ring.T, np.roll(ring, -1, axis=0).T
    low, high = np.minimum(from_y, to_y), np.maximum(from_y, to_y)
    edges = np.flatnonzero((low <= y) & (y <= high) & (low < high))
    share = (y - from_y[edges]) / (to_y[edges] - from_y[edges])
    arrivals = from_x[edges] + share * (to_x[edges] - from_x[edges])
    arrivals[arrivals > x] = -np.inf
    nearest = int(arrivals.argmax())
    return int(edges[nearest]), np.array([[arrivals[nearest], y]])

"""Outlines: with no tolerance they are the map again, and with any tolerance they still cover it without gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from outline_samples import NESTED, inside

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.export.outlines import Outlines, trace, with_bridges

shapely = pytest.importorskip("shapely", reason="no shapely here: nothing to trace with")

MAPS = npst.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int32]),
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.integers(0, 3),
)
TOLERANCES = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 5.0, 1000.0])


def blobs(seed: int, height: int, width: int) -> NDArray[np.int64]:
    """A map of smooth segments, some of them with holes."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 6, (height // 6, width // 6))
    rows, columns = np.indices((height, width)) / 6 + np.sin(np.indices((height, width))[::-1] / 7)
    inner = np.clip(rows, 0, height // 6 - 1).astype(int), np.clip(columns, 0, width // 6 - 1).astype(int)
    return small[inner]


def signed_area(ring: NDArray[Any]) -> float:
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)


def is_partition(outlines: Outlines, segments: NDArray[Any]) -> None:
    """All that holds whatever the tolerance is."""
    parts, pixels = outlines.parts, segments.size
    assert shapely.coverage_is_valid(parts)
    assert shapely.is_valid(parts).all()
    assert shapely.is_valid(outlines.of_segments).all()
    assert shapely.area(parts).min() > 0
    assert shapely.area(parts).sum() == pytest.approx(pixels, abs=1e-6)
    # There are no gaps: the union is the rectangle of the map, whose borders are straight.
    height, width = segments.shape
    assert shapely.equals(shapely.union_all(parts), shapely.box(0, 0, width, height))
    assert len(outlines.of_segments) == len(np.unique(segments))
    for part, ring in zip(parts, outlines.rings, strict=True):
        assert signed_area(ring) == pytest.approx(part.area, abs=1e-6)


@given(MAPS)
def test_pixel_edges_are_the_map_again(segments: NDArray[Any]) -> None:
    outlines = trace(segments, 0)
    rows, columns = np.indices(segments.shape)
    for number, shape in zip(np.unique(segments), outlines.of_segments, strict=True):
        assert np.array_equal(shapely.contains_xy(shape, columns + 0.5, rows + 0.5), segments == number)
    owners = np.full(segments.shape, -1)
    for owner, ring in zip(outlines.owners, outlines.rings, strict=True):
        pixels = inside(ring, segments.shape)
        assert (owners[pixels] == -1).all()
        owners[pixels] = owner
    assert np.array_equal(np.unique(segments)[owners], segments)


@given(MAPS, TOLERANCES)
def test_simplified_outlines_have_no_gaps_and_no_overlaps(segments: NDArray[Any], tolerance: float) -> None:
    outlines = trace(segments, tolerance)
    is_partition(outlines, segments)
    assert len(outlines.parts) == len(trace(segments, 0).parts)


@given(MAPS, TOLERANCES, st.sets(st.integers(0, 3)))
def test_what_is_left_out_changes_no_other_outline(
    segments: NDArray[Any], tolerance: float, left_out: set[int]
) -> None:
    dropped = np.where(np.isin(segments, [*left_out]), -1, segments.astype(np.int32))
    whole, some = trace(segments, tolerance), trace(dropped, tolerance)
    kept = [number for number in np.unique(segments) if number not in left_out]
    assert len(some.of_segments) == len(kept)
    shapes = dict(zip(np.unique(segments), whole.of_segments, strict=True))
    for number, shape in zip(kept, some.of_segments, strict=True):
        if tolerance == 0 or not left_out:
            assert shapely.equals(shape, shapes[number])
    if len(some.parts):
        assert shapely.coverage_is_valid(some.parts)
        assert not tolerance or shapely.is_valid(some.parts).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [ExportConfig.tolerance, 4.0])
def test_smooth_segments_are_simplified_without_gaps(seed: int, tolerance: float) -> None:
    segments = blobs(seed, 90, 120)
    exact, simple = trace(segments, 0), trace(segments, tolerance)
    is_partition(simple, segments)
    assert shapely.get_num_coordinates(simple.parts).sum() < shapely.get_num_coordinates(exact.parts).sum() / 2
    assert np.array_equal(simple.owners, exact.owners)
    assert (shapely.get_num_interior_rings(simple.parts) == shapely.get_num_interior_rings(exact.parts)).all()


def test_a_segment_with_a_hole_worked_by_hand() -> None:
    (around, hole) = trace(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), 0).parts
    assert shapely.equals_identical(
        shapely.normalize(around),
        shapely.normalize(shapely.Polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (2, 1), (2, 2), (1, 2)]])),
    )
    assert shapely.equals_identical(shapely.normalize(hole), shapely.normalize(shapely.box(1, 1, 2, 2)))


def test_vertices_are_where_borders_turn_or_meet() -> None:
    left, right, below = trace(np.array([[5, 5, 7], [9, 9, 9]]), 0).parts
    assert sorted(left.exterior.coords[:-1]) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert sorted(right.exterior.coords[:-1]) == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert sorted(below.exterior.coords[:-1]) == [(0, 1), (0, 2), (2, 1), (3, 1), (3, 2)]


def test_a_tolerance_drops_steps_of_smaller_triangles_and_no_others() -> None:
    """A step of one pixel up and three along: the triangle over each of its vertices has 1.5 square pixels."""
    stairs = (np.indices((6, 12))[0] * 3 > np.indices((6, 12))[1]).astype(np.uint8)
    exact, fine, coarse = (
        shapely.get_num_coordinates(trace(stairs, tolerance).parts).tolist()
        for tolerance in (0, 1.5**0.5 - 0.01, 1.5**0.5 + 0.01)
    )
    assert fine == exact == [11, 11]
    assert max(coarse) < 11


def test_parts_are_sorted_and_belong_to_their_segments() -> None:
    outlines = trace(NESTED, 0)
    assert outlines.owners.tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5]
    tops = [min((y, x) for x, y in part.exterior.coords) for part in outlines.parts[2:6]]
    assert tops == [(1, 5), (2, 6), (3, 5), (4, 4)]
    assert [shape.geom_type for shape in outlines.of_segments] == [
        *("Polygon", "Polygon", "MultiPolygon", "Polygon", "Polygon", "Polygon")
    ]
    assert [len(part.interiors) for part in outlines.parts] == [5, 1, 0, 0, 0, 0, 0, 0, 0]


def test_a_bridge_leads_from_the_leftmost_vertex_of_a_hole_to_the_left() -> None:
    """The left side has x = y / 4, and the bridge is level with the vertex (2, 1)."""
    polygon = shapely.Polygon([(0, 0), (4, 0), (4, 4), (1, 4)], [[(3, 1), (3, 2), (2, 1)]])
    assert with_bridges(polygon).tolist() == [
        *([0, 0], [4, 0], [4, 4], [1, 4]),
        *([0.25, 1], [2, 1], [3, 1], [3, 2], [2, 1], [0.25, 1]),
    ]


def test_a_hole_behind_another_one_is_joined_to_it() -> None:
    holes = [[(x, 1), (x, 2), (x + 1, 2), (x + 1, 1)] for x in (5, 2)]
    polygon = shapely.Polygon([(0, 0), (9, 0), (9, 3), (0, 3)], holes)
    ring = with_bridges(polygon)
    assert inside(ring, (3, 9)).astype(int).tolist() == [[1] * 9, [1, 1, 0, 1, 1, 0, 1, 1, 1], [1] * 9]
    assert [5.0, 1.0] in ring.tolist()
    assert [3.0, 1.0] in ring.tolist()
    assert ring[:, 0].tolist().count(0) == 4  # two vertices, and both ends of the one bridge that leads there


def test_a_polygon_without_holes_is_its_own_ring() -> None:
    assert with_bridges(shapely.Polygon([(0, 0), (2, 0), (2, 1)])).tolist() == [[0, 0], [2, 0], [2, 1]]

"""Tiles of an image: a grid that covers it, with names, margins and records."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynaseg_cli.files.tiles import MARGIN, Tile, is_tile_entry, part_entry, part_of, tiles_of

SIZES = st.integers(1, 3000)
SIDES = st.integers(256, 2048)


@given(SIZES, SIZES, SIDES)
def test_tiles_cover_every_pixel_once_and_differ_by_one_pixel_at_most(width: int, height: int, side: int) -> None:
    seen = np.zeros((height, width), np.uint8)
    tiles = list(tiles_of(width, height, side))
    for tile in tiles:
        left, top, wide, high = tile.box
        seen[top : top + high, left : left + wide] += 1
    assert (seen == 1).all()
    for lengths in ({tile.box.width for tile in tiles}, {tile.box.height for tile in tiles}):
        assert max(lengths) <= side
        assert max(lengths) - min(lengths) <= 1
    assert [tile.name for tile in tiles] == sorted({tile.name for tile in tiles})


@given(SIZES, SIZES, SIDES)
def test_what_is_segmented_has_one_size_and_holds_the_tile(width: int, height: int, side: int) -> None:
    sizes = set()
    for tile in tiles_of(width, height, side):
        left, top, wide, high = tile.box_with_margin
        sizes.add((wide, high))
        assert min(left, top) >= 0
        assert (left + wide <= width, top + high <= height) == (True, True)
        rows, columns = tile.inner
        assert (top + rows.start, left + columns.start) == (tile.box.top, tile.box.left)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (tile.box.height, tile.box.width)
        for margin, reaches in (
            (columns.start, tile.box.left),
            (rows.start, tile.box.top),
            (wide - columns.stop, width - tile.box.left - tile.box.width),
            (high - rows.stop, height - tile.box.top - tile.box.height),
        ):
            assert margin >= min(MARGIN, reaches)
    assert len(sizes) == 1


def test_by_hand() -> None:
    names = {tile.name: (tuple(tile.box), tuple(tile.box_with_margin)) for tile in tiles_of(1000, 600, 400)}
    assert names["r000-c000"] == ((0, 0, 333, 300), (0, 0, 462, 428))
    assert names["r001-c002"] == ((666, 300, 334, 300), (538, 172, 462, 428))
    assert len(names) == 6


def test_part_of_a_file_is_recorded_and_read_again() -> None:
    tile = Tile(1, 2, 1000, 600, 400)
    entry = json.loads(json.dumps(part_entry(tile)))
    assert entry["tile"]["left"], entry["tile"]["top"] == (666, 300)
    assert [part_of(each) for each in (entry, part_entry(3), part_entry(None))] == [tile, 3, None]


@pytest.mark.parametrize(
    "changed",
    [{"row": 2}, {"column": -1}, {"side": 0}, {"image_width": 0}, {"row": "1"}, {"row": True}, {"column": None}],
    ids=str,
)
def test_entry_of_no_tile_is_known(changed: dict[str, object]) -> None:
    entry = part_entry(Tile(1, 2, 1000, 600, 400))["tile"]
    assert is_tile_entry(entry)
    assert not is_tile_entry({**entry, **changed})
    assert part_of({"tile": {**entry, **changed}}) is None
    assert not is_tile_entry([1, 2])

"""Tiles of an image that is too large to be segmented at once: the grid, and how a tile is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MARGIN = 64
"""Pixels around a tile that are segmented with it and cut off, so that labels on both sides of a seam agree."""

MOST_TILES = 100_000
"""Limit on the tiles of a file, which may claim any size."""


class Box(NamedTuple):
    """A rectangle of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


class Tile(NamedTuple):
    """One tile of an image.

    The image is divided evenly rather than into full tiles and a rest: the network looks at a shrunk copy of each, and
    sees the same scale in all of them only if they have one size.
    """

    row: int
    column: int
    image_width: int
    image_height: int
    side: int
    """Longest side that a tile may have, in pixels: the option `tiles`."""

    @property
    def name(self) -> str:
        """``r003-c012``: names sort row by row."""
        return f"r{self.row:03}-c{self.column:03}"

    @property
    def box(self) -> Box:
        """The pixels of the image that the tile consists of."""
        left, width = _part(self.image_width, self.column, self.side)
        top, height = _part(self.image_height, self.row, self.side)
        return Box(left, top, width, height)

    @property
    def box_with_margin(self) -> Box:
        """The pixels that are segmented: with `MARGIN` on each side, or twice that inwards at the image's border."""
        left, width = _widened(self.image_width, self.column, self.side)
        top, height = _widened(self.image_height, self.row, self.side)
        return Box(left, top, width, height)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the tile within `box_with_margin`."""
        box, wider = self.box, self.box_with_margin
        top, left = box.top - wider.top, box.left - wider.left
        return slice(top, top + box.height), slice(left, left + box.width)


def grid_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Rows and columns of the tiles of an image."""
    return -(-height // side), -(-width // side)


def tiles_of(width: int, height: int, side: int) -> Iterator[Tile]:
    """The tiles of an image, row by row."""
    rows, columns = grid_size(width, height, side)
    return (Tile(row, column, width, height, side) for row in range(rows) for column in range(columns))


def part_entry(part: int | Tile | None) -> dict[str, Any]:
    """How a document records which part of a file was the image: a page, a tile, or nothing for all of it."""
    if isinstance(part, Tile):
        return {"tile": {**part._asdict(), "left": part.box.left, "top": part.box.top}}
    return {} if part is None else {"page": part}


def part_of(entry: Mapping[str, Any]) -> int | Tile | None:
    """The inverse of `part_entry`."""
    tile: Any = entry.get("tile")
    if is_tile_entry(tile):
        return Tile(*(tile[name] for name in Tile._fields))
    page = entry.get("page")
    return page if isinstance(page, int) else None


def is_tile_entry(entry: Any) -> bool:
    """Whether a value is the entry of a tile that exists."""
    if not isinstance(entry, dict) or not all(type(entry.get(name)) is int for name in Tile._fields):
        return False
    row, column, width, height, side = Tile(*(entry[name] for name in Tile._fields))
    if min(width, height, side) < 1:
        return False
    rows, columns = grid_size(width, height, side)
    return 0 <= row < rows and 0 <= column < columns


def _part(length: int, index: int, side: int) -> tuple[int, int]:
    """Start and length of one of the even parts of a line."""
    count = -(-length // side)
    start, end = index * length // count, (index + 1) * length // count
    return start, end - start


def _widened(length: int, index: int, side: int) -> tuple[int, int]:
    """The same with margins: all parts of a line have one length, and none reaches beyond its ends."""
    start, _ = _part(length, index, side)
    count = -(-length // side)
    wanted = min(length, -(-length // count) + 2 * MARGIN)
    return min(max(0, start - MARGIN), length - wanted), wanted

"""Mosaic: the labels of all tiles of a large image in one pyramidal TIFF, for viewers of slides and GIS programs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..files.tiles import Tile, grid_size
from ..images.georeference import Georeference, read_georeference
from ..images.windows import read_header
from .folder import ExportFolder
from .geotiff import layer_options, raster, raster_type
from .source import ExportImage, ExportSettings, Prepare, Source

if TYPE_CHECKING:
    from tifffile import TiffWriter

FOLDER = "mosaic"
SIDE = 512
"""Side in pixels of the tiles of the file, and longest side of its smallest level."""

_log = logging.getLogger(__name__)


@contextmanager
def mosaic(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``mosaic/`` with a TIFF of the labels of each image, whole or put together from its tiles.

    Files are written at the end, a row of tiles at a time. Those of other images that an earlier export left are
    removed.
    """
    folder.refuse_unwritable(f"{FOLDER}/any")
    found: dict[str, _Mosaic] = {}

    def prepare(source: Source) -> Callable[[], object]:
        image, shape = source.image, source.segments.of_pixel.shape
        name, tile = image.name.rpartition("/")[0], image.tile
        if tile is None:
            name, tile = image.name, Tile(0, 0, shape[1], shape[0], max(shape))
        if shape != (tile.box.height, tile.box.width):
            raise ImageError("its labels have another size than the tile: make them again with `overwrite=True`")
        here = found.get(name)
        if here is None:
            here = _Mosaic(name, tile, len(settings.names), _georeference(image, tile))
        elif here.first[2:] != tile[2:]:
            raise ImageError("it is a tile of another size of the image, or of another grid: segment it again")

        def add() -> None:
            here.tiles[tile[:2]] = image
            found[name] = here

        return add

    yield prepare
    for one in found.values():
        one.warn_of_missing()
        one.write(folder)
    folder.remove_earlier(FOLDER, ".tif", {f"{name}.tif" for name in found})


def _georeference(image: ExportImage, tile: Tile) -> Georeference | None:
    """Where the whole image lies on a map, if its file says so; raises ImageError or OSError if that cannot be read."""
    if image.tile is None or image.path is None:
        return read_georeference(image.photo())
    try:
        header, size = read_header(image.path)
    except FileNotFoundError:
        raise ImageError("the photo is not there: run this from the folder in which it was segmented") from None
    if size != (tile.image_width, tile.image_height):
        raise ImageError("the photo has changed since it was segmented; segment it again")
    return read_georeference(header)


@dataclass
class _Mosaic:
    """The labels of one image."""

    name: str
    first: Tile
    num_labels: int
    """Number of labels in all images, which decides the type."""
    georeference: Georeference | None
    tiles: dict[tuple[int, ...], ExportImage] = field(default_factory=dict)
    """By row and column."""

    @property
    def _shape(self) -> tuple[int, int]:
        return self.first.image_height, self.first.image_width

    @property
    def _grid(self) -> tuple[int, int]:
        return grid_size(self.first.image_width, self.first.image_height, self.first.side)

    def warn_of_missing(self) -> None:
        missing = [place for place in np.ndindex(self._grid) if place not in self.tiles]
        if missing:
            names = [self.first._replace(row=row, column=column).name for row, column in missing[:3]]
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            named = ", ".join(names) + more
            _log.warning("mosaic of %s: no data where tiles are missing (%s)", self.name, named)

    def write(self, folder: ExportFolder) -> None:
        """Raises ImageError or OSError if a tile can no longer be read, or the file cannot be written."""
        import tifffile  # noqa: PLC0415 - slow to import

        name = f"{FOLDER}/{self.name}.tif"
        folder.refuse_unwritable(name)
        order = "<" if self.georeference is None else self.georeference.byte_order
        with (
            folder.open(name) as stream,
            folder.scratch() as scratch,
            tifffile.TiffWriter(stream, bigtiff=True, byteorder=order) as writer,
        ):
            self._write_levels(writer, scratch)

    def _write_levels(self, writer: TiffWriter, scratch: BinaryIO) -> None:
        """The labels, and copies with each second row and column of the one before, which go by way of `scratch`."""
        dtype, shape = raster_type(self.num_labels), self._stored_shape
        options: dict[str, Any] = {"tile": (SIDE, SIDE), "dtype": dtype}
        bands = self._bands()
        if max(shape) <= SIDE:
            writer.write(_tiles(bands), shape=shape, **options, **layer_options(dtype, self.georeference))
            return
        half = np.memmap(scratch, dtype, "w+", shape=(-(-shape[0] // 2), -(-shape[1] // 2)))
        writer.write(_tiles(_halved(bands, half)), shape=shape, **options, **layer_options(dtype, self.georeference))
        level: NDArray[Any] = half
        while True:
            rows = (level[top : top + SIDE] for top in range(0, len(level), SIDE))
            writer.write(_tiles(rows), shape=level.shape, subfiletype=1, **options, **layer_options(dtype, None))
            if max(level.shape) <= SIDE:
                return
            level = level[::2, ::2]

    @property
    def _stored_shape(self) -> tuple[int, int]:
        if self.georeference is None or len(self.tiles) > 1:
            return self._shape
        height, width = self.georeference.as_stored(np.broadcast_to(np.uint8(0), self._shape)).shape
        return height, width

    def _bands(self) -> Iterator[NDArray[Any]]:
        """`SIDE` rows after rows of the labels, (SIDE, W); the last ones may be fewer."""
        dtype, waiting = raster_type(self.num_labels), None
        for row in range(self._grid[0]):
            tiles = [self.first._replace(row=row, column=column) for column in range(self._grid[1])]
            band = np.full((tiles[0].box.height, self.first.image_width), np.iinfo(dtype).max, dtype)
            for tile in tiles:
                image = self.tiles.get(tile[:2])
                if image is not None:
                    segments = image.read()
                    left, _, width, _ = tile.box
                    band[:, left : left + width] = raster(segments.of_pixel, segments.labels, self.num_labels)
            if self.georeference is not None:
                band = self.georeference.as_stored(band)  # only whole images are turned
            waiting = band if waiting is None else np.concatenate([waiting, band])
            while len(waiting) >= SIDE:
                yield waiting[:SIDE]
                waiting = waiting[SIDE:]
        if waiting is not None and len(waiting):
            yield waiting


def _halved(bands: Iterator[NDArray[Any]], half: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The bands as they are; each second row and column of them goes to `half`."""
    for number, band in enumerate(bands):
        smaller = band[::2, ::2]
        half[number * SIDE // 2 :][: len(smaller)] = smaller
        yield band


def _tiles(bands: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """(SIDE, SIDE) squares of bands, from left to right, filled up at the edges with "no data"."""
    for band in bands:
        for left in range(0, band.shape[1], SIDE):
            square = np.full((SIDE, SIDE), np.iinfo(band.dtype).max, band.dtype)
            piece = band[:, left : left + SIDE]
            square[: piece.shape[0], : piece.shape[1]] = piece
            yield square

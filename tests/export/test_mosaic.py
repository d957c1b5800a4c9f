"""Mosaics of tiles: read back by tifffile and GDAL, compared with the labels that went in."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from export_samples import LABELS, export, image
from map_samples import MAPS, map_photo, north_up, rasterio
from numpy.typing import NDArray

from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.mosaic import SIDE
from dynaseg_cli.export.source import ExportImage, Segments, labels_as_segments
from dynaseg_cli.files.tiles import Tile, tiles_of

write = partial(export, formats=["mosaic"])
WIDTH, HEIGHT, LONGEST = 1300, 1110, 300
WHOLE = np.random.default_rng(0).integers(0, 5, (HEIGHT, WIDTH), dtype=np.uint8)


def part(tile: Tile) -> NDArray[np.uint8]:
    left, top, width, height = tile.box
    return WHOLE[top : top + height, left : left + width]


def tile_of(slide: Path, tile: Tile, name: str = "sub/slide", labels: NDArray[Any] | None = None) -> ExportImage:
    segments = labels_as_segments(part(tile) if labels is None else labels)
    return ExportImage(
        f"{name}/{tile.name}", f"{name}/{tile.name}.tif", lambda: segments, no_part, path=slide, tile=tile
    )


def no_part() -> bytes:
    raise AssertionError("the file of a tile is not asked for its pixels")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A file of the size of `WHOLE`, with a place on a map."""
    content = map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), pixels=np.zeros((1, HEIGHT, WIDTH), np.uint8))
    (tmp_path / "slide.tif").write_bytes(content)
    return tmp_path / "slide.tif"


def test_mosaic_has_the_labels_of_all_tiles_in_the_place_of_the_image(tmp_path: Path, slide: Path) -> None:
    tiles = [tile_of(slide, tile) for tile in tiles_of(WIDTH, HEIGHT, LONGEST)]
    assert len(tiles) == 20
    assert write(tmp_path, *tiles) == []
    with rasterio.open(slide) as photo, rasterio.open(tmp_path / "mosaic/sub/slide.tif") as written:
        np.testing.assert_array_equal(written.read(1), WHOLE)
        assert (written.transform, written.crs) == (photo.transform, photo.crs)
        assert (written.count, written.dtypes, written.nodatavals) == (1, ("uint8",), (255.0,))
        assert (written.profile["tiled"], written.profile["compress"]) == (True, "deflate")
        assert written.overviews(1) == [2, 4]


def test_levels_have_every_second_pixel_of_the_one_before(tmp_path: Path, slide: Path) -> None:
    write(tmp_path, *(tile_of(slide, tile) for tile in tiles_of(WIDTH, HEIGHT, LONGEST)))
    with tifffile.TiffFile(tmp_path / "mosaic/sub/slide.tif") as file:
        assert file.is_bigtiff
        levels = [page.asarray() for page in file.pages]
        assert [page.subfiletype for page in file.pages] == [0, 1, 1]
        assert len(file.series[0].levels) == 3
    assert max(levels[-1].shape) <= SIDE
    for step, level in zip((1, 2, 4), levels, strict=True):
        np.testing.assert_array_equal(level, WHOLE[::step, ::step])


def test_missing_tiles_are_named_and_have_no_data(
    tmp_path: Path, slide: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = list(tiles_of(WIDTH, HEIGHT, LONGEST))
    with caplog.at_level(logging.WARNING):
        write(tmp_path, *(tile_of(slide, tile) for tile in tiles if tile.name not in ("r001-c002", "r003-c000")))
    assert "sub/slide" in caplog.text
    assert "r001-c002, r003-c000" in caplog.text
    expected = WHOLE.copy()
    for tile in tiles:
        if tile.name in ("r001-c002", "r003-c000"):
            expected[tile.box.top :, tile.box.left :][: tile.box.height, : tile.box.width] = 255
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mosaic/sub/slide.tif"), expected)


def test_many_labels_get_16_bits(tmp_path: Path, slide: Path) -> None:
    tiles = list(tiles_of(WIDTH, HEIGHT, LONGEST))
    shifted = (tile_of(slide, tile, labels=part(tile).astype(np.uint16) + 300) for tile in tiles)
    write(tmp_path, *shifted, labels=305)
    with tifffile.TiffFile(tmp_path / "mosaic/sub/slide.tif") as file:
        np.testing.assert_array_equal(file.pages.first.asarray(), WHOLE.astype(np.uint16) + 300)
        assert file.pages.first.tags[42113].value == "65535"


@pytest.mark.parametrize("name", ["UTM north", "big-endian", "tiled LZW"])
def test_whole_image_is_a_mosaic_of_one(tmp_path: Path, name: str) -> None:
    labels = np.random.default_rng(1).integers(0, 5, (30, 40), dtype=np.uint8)
    assert write(tmp_path, image("a", labels, ".tif", lambda: MAPS[name])) == []
    (tmp_path / "photo.tif").write_bytes(MAPS[name])
    with rasterio.open(tmp_path / "photo.tif") as photo, rasterio.open(tmp_path / "mosaic/a.tif") as written:
        np.testing.assert_array_equal(written.read(1), labels)
        assert (written.transform, written.crs) == (photo.transform, photo.crs)


def test_image_without_a_place_has_none(tmp_path: Path) -> None:
    assert write(tmp_path, image("a", LABELS, ".jpg", lambda: b"")) == []
    with tifffile.TiffFile(tmp_path / "mosaic/a.tif") as file:
        np.testing.assert_array_equal(file.asarray(), LABELS)
        assert 34735 not in file.pages.first.tags


def test_labels_of_another_size_or_grid_are_left_out(tmp_path: Path, slide: Path) -> None:
    tiles = list(tiles_of(WIDTH, HEIGHT, LONGEST))
    wrong = tile_of(slide, tiles[1], labels=np.zeros((5, 5), np.uint8))
    other = tile_of(slide, next(tiles_of(WIDTH, HEIGHT, 600)))
    failures = write(tmp_path, tile_of(slide, tiles[0]), wrong, other)
    assert [failure.name for failure in failures] == ["sub/slide/r000-c001", "sub/slide/r000-c000"]
    assert "another size" in failures[0].reason


def test_photo_that_is_gone_or_has_changed_is_named(tmp_path: Path, slide: Path) -> None:
    tile = next(tiles_of(WIDTH, HEIGHT, LONGEST))
    assert "not there" in write(tmp_path, tile_of(tmp_path / "gone.tif", tile))[0].reason
    larger = next(tiles_of(WIDTH + 1, HEIGHT, LONGEST))
    segments = np.zeros((larger.box.height, larger.box.width), np.uint8)
    assert "has changed" in write(tmp_path, tile_of(slide, larger, labels=segments))[0].reason
    assert not list(tmp_path.glob("mosaic/**/*.tif"))


def test_earlier_mosaic_stays_if_a_tile_cannot_be_read_again(tmp_path: Path, slide: Path) -> None:
    tiles = [tile_of(slide, tile) for tile in tiles_of(WIDTH, HEIGHT, LONGEST)]
    write(tmp_path, *tiles)
    before = (tmp_path / "mosaic/sub/slide.tif").read_bytes()
    reads: list[None] = []

    def once() -> Segments:
        reads.append(None)
        if len(reads) > 1:
            raise ImageError("gone by now")
        return tiles[3].read()

    flaky = ExportImage(tiles[3].name, tiles[3].file_name, once, no_part, path=slide, tile=tiles[3].tile)
    with pytest.raises(ImageError, match="gone by now"):
        write(tmp_path, *tiles[:3], flaky, *tiles[4:])
    assert (tmp_path / "mosaic/sub/slide.tif").read_bytes() == before
    assert [path.name for path in (tmp_path / "mosaic/sub").iterdir()] == ["slide.tif"]


def test_mosaics_of_images_that_are_gone_are_removed(tmp_path: Path, slide: Path) -> None:
    tiles = list(tiles_of(WIDTH, HEIGHT, 700))
    write(tmp_path, *(tile_of(slide, tile) for tile in tiles), *(tile_of(slide, tile, "b") for tile in tiles))
    (tmp_path / "mosaic/mine.tif").write_bytes(b"II*\0 of the user")
    write(tmp_path, *(tile_of(slide, tile, "b") for tile in tiles))
    assert {path.name for path in (tmp_path / "mosaic").iterdir()} == {"b.tif", "mine.tif"}

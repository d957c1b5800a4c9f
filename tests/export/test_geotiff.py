"""GeoTIFF, read back by GDAL through rasterio."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from export_samples import LABELS, REGIONS, export, export_folder, image, pixels
from map_samples import (
    CONTROL_POINTS,
    DAMAGED,
    MAPS,
    PIXELS,
    SCALE,
    TIE_POINT,
    map_photo,
    north_up,
    rasterio,
    with_tags,
)
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise
from typer.testing import CliRunner

from dynaseg_cli.cli import app
from dynaseg_cli.export.geotiff import encode_geotiff, raster
from dynaseg_cli.export.source import Segments
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.images.georeference import read_georeference
from dynaseg_cli.pictures.palette import label_palette

merging = pytest.importorskip("rasterio.merge")
write = partial(export, formats=["geotiff"])


def on_map(name: str, segments: Segments | NDArray[Any], photo: bytes, suffix: str = ".tif") -> Any:
    return image(name, segments, suffix, lambda: photo)


def labels_for(photo: bytes) -> NDArray[np.uint8]:
    """Labels of the size of a photo."""
    with tifffile.TiffFile(io.BytesIO(photo)) as file:
        size = file.pages.first.imagelength, file.pages.first.imagewidth
    return np.random.default_rng(1).integers(0, 5, size, dtype=np.uint8)


@contextmanager
def opened(content: bytes) -> Iterator[Any]:
    with rasterio.MemoryFile(content) as file, file.open() as dataset:
        yield dataset


SMALL = map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), pixels=np.zeros((3, *LABELS.shape), np.uint8))


@pytest.mark.parametrize("name", MAPS)
def test_gdal_finds_the_labels_in_the_place_of_the_photo(tmp_path: Path, name: str) -> None:
    labels = labels_for(MAPS[name])
    assert write(tmp_path, on_map("sub/tile", labels, MAPS[name])) == []
    with opened(MAPS[name]) as photo, rasterio.open(tmp_path / "geotiff/sub/tile.tif") as written:
        assert np.array_equal(written.read(1), labels)
        assert (written.transform, written.crs) == (photo.transform, photo.crs)
        assert written.tags().get("AREA_OR_POINT") == photo.tags().get("AREA_OR_POINT")
        assert (written.count, written.dtypes, written.nodatavals) == (1, ("uint8",), (255.0,))
        assert written.profile["tiled"]
        assert written.profile["compress"] == "deflate"
    assert not (tmp_path / "geotiff-regions").exists()


@pytest.mark.parametrize("name", [*MAPS, "control points"])
def test_the_tags_are_those_of_the_photo(tmp_path: Path, name: str) -> None:
    photo = MAPS.get(name, CONTROL_POINTS)
    write(tmp_path, on_map("tile", labels_for(photo), photo))
    expected = stored_tags(photo)
    assert expected
    assert stored_tags((tmp_path / "geotiff/tile.tif").read_bytes()) == expected


def stored_tags(content: bytes) -> dict[int, Any]:
    """Byte order, type and values of the tags of a GeoTIFF."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = [file.pages.first.tags.get(code) for code in (33550, 33922, 34264, 34735, 34736, 34737)]
        return {tag.code: (file.byteorder, tag.dtype, tag.value) for tag in tags if tag is not None}


def test_control_points_are_kept(tmp_path: Path) -> None:
    assert write(tmp_path, on_map("tile", labels_for(CONTROL_POINTS), CONTROL_POINTS)) == []
    with opened(CONTROL_POINTS) as photo, rasterio.open(tmp_path / "geotiff/tile.tif") as written:
        found, expected = ([(p.row, p.col, p.x, p.y) for p in one.gcps[0]] for one in (written, photo))
        assert found == expected
        assert len(found) == 4
        assert written.gcps[1] == photo.gcps[1]


def test_labels_have_the_colours_that_they_have_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, on_map("tile", LABELS, SMALL))
    with rasterio.open(tmp_path / "geotiff/tile.tif") as written:
        colors = written.colormap(1)
    assert [colors[label][:3] for label in range(255)] == [tuple(color) for color in label_palette()[:255].tolist()]
    with Image.open(tmp_path / "geotiff/tile.tif") as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), label_palette()[LABELS])


def test_regions_are_maps_of_their_own_beside_the_labels(tmp_path: Path) -> None:
    assert write(tmp_path, on_map("tile", REGIONS, SMALL), regions=True) == []
    for folder, expected in (("geotiff", LABELS), ("geotiff-regions", REGIONS.of_pixel)):
        with rasterio.open(tmp_path / folder / "tile.tif") as written:
            assert np.array_equal(written.read(1), expected)
            assert written.crs.to_epsg() == 25832


@pytest.mark.parametrize(("labels", "dtype"), [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32")])
def test_all_maps_have_the_least_type_that_holds_the_labels_of_all(tmp_path: Path, labels: int, dtype: str) -> None:
    last = np.where(LABELS == 4, labels - 1, LABELS)
    assert write(tmp_path, on_map("few", LABELS, SMALL), on_map("last", last, SMALL), labels=labels) == []
    for name, expected in (("few", LABELS), ("last", last)):
        with rasterio.open(tmp_path / f"geotiff/{name}.tif") as written:
            assert written.dtypes == (dtype,)
            assert written.nodata == np.iinfo(dtype).max
            assert np.array_equal(written.read(1), expected)
            assert written.read_masks(1).all()


def test_pixels_of_no_segment_are_no_data() -> None:
    segments = np.array([[0, -1, 2], [2, 2, -1]])
    assert raster(segments, np.array([7, 8, 9]), 10).tolist() == [[7, 255, 9], [9, 9, 255]]
    assert raster(segments, np.array([7, 8, 300]), 301).tolist() == [[7, 65535, 300], [300, 300, 65535]]
    georeference = read_georeference(SMALL)
    assert georeference is not None
    content = encode_geotiff(raster(segments, np.arange(3), 3), georeference)
    with opened(content) as written:
        assert (written.read_masks(1) > 0).tolist() == [[True, False, True], [True, True, False]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_of_a_turned_photo_lie_on_the_pixels_as_gdal_sees_them(tmp_path: Path, orientation: int) -> None:
    photo = with_tags(SCALE, TIE_POINT, orientation=orientation)
    turned = decode(photo, 100)[..., 0]
    assert (turned.shape == PIXELS.shape) == (orientation < 5)
    write(tmp_path, on_map("tile", turned, photo), labels=251)
    with opened(photo) as seen, rasterio.open(tmp_path / "geotiff/tile.tif") as written:
        assert np.array_equal(written.read(1), seen.read(1))
        assert written.transform == seen.transform


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 1), (4, 3), (257, 255), (512, 256)])
def test_maps_of_any_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 5, shape, dtype=np.uint8)
    write(tmp_path, on_map("tile", labels, map_photo("EPSG:3857", north_up(1.0, 5.0, 6.0), pixels=labels[np.newaxis])))
    with rasterio.open(tmp_path / "geotiff/tile.tif") as written:
        assert np.array_equal(written.read(1), labels)


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (encoded(noise(), "JPEG"), r"has no georeference: .* \(gdal_translate"),
        (with_tags(), r"has no georeference: .* \(gdal_translate"),
        (DAMAGED["not finite"], "what its tags say of its place on a map is damaged"),
    ],
)
def test_a_photo_without_a_place_is_missing_and_the_others_are_there(tmp_path: Path, photo: bytes, reason: str) -> None:
    write(tmp_path, on_map("lost", LABELS, SMALL))
    failures = write(tmp_path, on_map("lost", LABELS, photo), on_map("tile", LABELS, SMALL))
    assert [(failure.name, failure.format) for failure in failures] == [("lost", "geotiff")]
    assert re.search(reason, failures[0].reason)
    assert [path.name for path in (tmp_path / "geotiff").iterdir()] == ["tile.tif"]


def test_another_export_leaves_no_map_of_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, *(on_map(name, REGIONS, SMALL) for name in ("gone", "sub/gone", "tile")), regions=True)
    mine = tmp_path / "geotiff/mine.tif"
    mine.write_bytes(SMALL)
    write(tmp_path, on_map("tile", LABELS, SMALL))
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.tif"))
    assert left == ["geotiff/mine.tif", "geotiff/tile.tif"]
    assert mine.read_bytes() == SMALL


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write(outside, on_map("tile", LABELS, SMALL))
    inside.mkdir()
    (inside / "geotiff").symlink_to(outside / "geotiff")
    export_folder(inside).remove_earlier("geotiff", ".tif", set())
    assert (outside / "geotiff/tile.tif").is_file()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_tiles_of_one_map_are_merged(tmp_path: Path) -> None:
    whole, size = np.random.default_rng(0).integers(0, 300, (60, 80), dtype=np.uint16), 20
    tiles = []
    for top in range(0, 60, size):
        for left in range(0, 80, size):
            piece = whole[top : top + size, left : left + size]
            photo = map_photo("EPSG:25832", north_up(2.0, 5e5 + 2 * left, 5e6 - 2 * top), pixels=piece[np.newaxis])
            tiles.append(on_map(f"{top}-{left}", piece, photo))
    assert write(tmp_path, *tiles[1:], labels=300) == []
    merged, transform = merging.merge(sorted((tmp_path / "geotiff").iterdir()))
    expected = whole.copy()
    expected[:size, :size] = 65535  # the tile that is not there
    assert np.array_equal(merged[0], expected)
    assert transform == rasterio.Affine(2, 0, 5e5, 0, -2, 5e6)


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiles").mkdir()
    for name in ("four deep bands", "tilted", "big-endian"):
        Path(f"tiles/{name}.tif").write_bytes(MAPS[name])
    quick = ["--iterations", "2", "--max-size", "16", "--min-labels", "3", "--features", "8", "--workers", "0"]
    result = CliRunner().invoke(app, ["segment", "tiles", *quick, "--export", "geotiff"])
    assert result.exit_code == 0, result.stderr
    for name in ("four deep bands", "tilted", "big-endian"):
        with rasterio.open(f"tiles-dynaseg/export/geotiff/{name}.tif") as written:
            assert np.array_equal(written.read(1), pixels(Path(f"tiles-dynaseg/labels/{name}.png")))
    before = {path.name: path.read_bytes() for path in Path("tiles-dynaseg/export/geotiff").iterdir()}

    Path("tiles/tilted.tif").unlink()
    Path("tiles/photo.jpg").write_bytes(encoded(noise(), "JPEG"))
    result = CliRunner().invoke(app, ["segment", "tiles", *quick])
    assert result.exit_code == 0, result.stderr
    result = CliRunner().invoke(app, ["export", "tiles-dynaseg", "--format", "geotiff"])
    assert result.exit_code == 1
    message = " ".join(result.stderr.split())
    assert "not exported as geotiff: photo: has no georeference: its file does not say where it lies" in message
    assert "not exported as geotiff: tilted:" in message
    after = {path.name: path.read_bytes() for path in Path("tiles-dynaseg/export/geotiff").iterdir()}
    assert after == {name: content for name, content in before.items() if name != "tilted.tif"}

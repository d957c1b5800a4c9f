"""Windows of TIFFs that tifffile and GDAL wrote, compared with what the same libraries read of the whole file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import tifffile
from map_samples import MATRIX, TILTED, map_photo, north_up, rasterio, with_tags
from numpy.typing import NDArray
from PIL import Image
from samples import save_photo

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.files.tiles import Box
from dynaseg_cli.images import windows as module
from dynaseg_cli.images.decoding import decode, read_stored
from dynaseg_cli.images.georeference import read_georeference
from dynaseg_cli.images.windows import range_of_file, read_header, read_window, size_to_cut

LIMIT = 1_000_000
WIDTH, HEIGHT = 150, 130
BOXES = (Box(0, 0, 20, 10), Box(37, 41, 60, 50), Box(WIDTH - 5, HEIGHT - 7, 5, 7), Box(0, 0, WIDTH, HEIGHT))


def numbers(dtype: str, bands: int = 1) -> NDArray[Any]:
    """(H, W) or (H, W, bands)."""
    generator = np.random.default_rng(0)
    found = generator.integers(0, 200, (HEIGHT, WIDTH, bands)) if dtype == "uint8" else None
    found = generator.normal(0, 3000, (HEIGHT, WIDTH, bands)) if found is None else found
    kept = np.abs(found) if dtype.startswith("u") else found
    return (kept[..., 0] if bands == 1 else kept).astype(dtype)


def stored(path: Path, box: Box) -> NDArray[Any]:
    return read_stored(read_window(path, box, LIMIT).content(), LIMIT, "all").values


def part(pixels: NDArray[Any], box: Box) -> NDArray[Any]:
    return pixels[box.top : box.top + box.height, box.left : box.left + box.width]


LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "one strip, big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 7},
    "deflate strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one deflate strip": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (32, 48)},
    "deflate tiles": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "big-endian BigTIFF tiles": {"tile": (16, 16), "compression": "zlib", "bigtiff": True, "byteorder": ">"},
}


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_grey_numbers_are_those_of_the_file(tmp_path: Path, dtype: str, layout: str, box: Box) -> None:
    pixels, options = numbers(dtype), LAYOUTS[layout]
    if dtype == "float32":  # tifffile writes predictors of floats with imagecodecs alone
        options = {name: value for name, value in options.items() if name != "predictor"}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, **options)
    np.testing.assert_array_equal(stored(path, box), part(pixels, box))


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one deflate strip"])
def test_bands_are_those_of_the_file(tmp_path: Path, layout: str, planes: str, box: Box) -> None:
    pixels = numbers("uint16", 5)
    data = pixels if planes == "contig" else np.moveaxis(pixels, 2, 0)
    options = {**LAYOUTS[layout]}
    options.pop("predictor", None)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", planarconfig=planes, metadata=None, **options)
    np.testing.assert_array_equal(stored(tmp_path / "a.tif", box), part(pixels, box))


def test_channels_that_are_pages_are_read_together(tmp_path: Path) -> None:
    stack = np.moveaxis(numbers("uint16", 3), 2, 0)
    for name, options in (("a.ome.tif", {"ome": True}), ("b.tif", {"imagej": True}), ("c.tif", {"tile": (32, 32)})):
        tifffile.imwrite(tmp_path / name, stack, photometric="minisblack", metadata={"axes": "CYX"}, **options)
        np.testing.assert_array_equal(stored(tmp_path / name, BOXES[1]), part(np.moveaxis(stack, 0, 2), BOXES[1]))


GDAL: dict[str, dict[str, Any]] = {
    "JPEG tiles": {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 32, "blockysize": 16},
    "JPEG RGB tiles": {"compress": "jpeg", "tiled": True, "blockxsize": 32, "blockysize": 16},
    "JPEG strips": {"compress": "jpeg", "photometric": "ycbcr", "blockysize": 16},
    "LZW tiles": {"compress": "lzw", "predictor": 2, "tiled": True, "blockxsize": 32, "blockysize": 16},
    "LZW strips": {"compress": "lzw", "blockysize": 8},
    "PackBits": {"compress": "packbits", "blockysize": 8},
    "planes": {"interleave": "band", "tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate"},
    "sparse": {"SPARSE_OK": "TRUE", "tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate"},
}


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("name", GDAL)
def test_colours_are_those_that_gdal_reads(tmp_path: Path, name: str, box: Box) -> None:
    small = Image.fromarray(numbers("uint8", 3)[::16, ::16])
    smooth = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    pixels = np.moveaxis(smooth, 2, 0).copy()
    if name == "sparse":
        pixels[:, :64] = 0
    (tmp_path / "a.tif").write_bytes(map_photo("EPSG:25832", north_up(0.2, 5e5, 5.4e6), pixels=pixels, **GDAL[name]))
    content = read_window(tmp_path / "a.tif", box, LIMIT).content()
    with rasterio.open(tmp_path / "a.tif") as dataset:
        expected = np.moveaxis(dataset.read(), 0, 2)
    found = decode(content, LIMIT)
    if name != "sparse":  # Pillow does not read it whole
        np.testing.assert_array_equal(found, part(decode((tmp_path / "a.tif").read_bytes(), LIMIT), box))
    # GDAL's libjpeg interpolates colours that are stored at half the size in another way.
    most = 16 if "ycbcr" in GDAL[name].values() else 1 if "JPEG" in name else 0
    assert np.abs(found.astype(int) - part(expected, box)).max() <= most


@pytest.mark.parametrize("mode", ["P", "1", "RGBA", "LA", "CMYK"])
def test_pixels_are_those_of_the_whole_file(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(numbers("uint8", 3)).convert(mode)
    if "A" in mode:
        picture.putalpha(Image.fromarray(numbers("uint8")))
    picture.save(tmp_path / "a.tif", compression="tiff_adobe_deflate")
    whole = decode((tmp_path / "a.tif").read_bytes(), LIMIT)
    for box in BOXES:
        content = read_window(tmp_path / "a.tif", box, LIMIT).content()
        np.testing.assert_array_equal(decode(content, LIMIT), part(whole, box))


def test_part_of_a_window_is_cut_out_of_it(tmp_path: Path) -> None:
    pixels = numbers("uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 16), photometric="minisblack")
    content = read_window(tmp_path / "a.tif", BOXES[1], LIMIT).content(Box(50, 60, 7, 9))
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(content)), pixels[60:69, 50:57])


@pytest.mark.parametrize("transform", [north_up(0.2, 5e5, 5.4e6), TILTED], ids=["north up", "tilted"])
def test_place_on_the_map_is_that_of_the_window(tmp_path: Path, transform: tuple[float, ...]) -> None:
    pixels = np.moveaxis(numbers("uint8", 3), 2, 0)
    (tmp_path / "a.tif").write_bytes(map_photo("EPSG:25832", transform, pixels=pixels))
    box = Box(37, 41, 60, 50)
    content = read_window(tmp_path / "a.tif", box, LIMIT).content()
    with rasterio.MemoryFile(content) as file, file.open() as found, rasterio.open(tmp_path / "a.tif") as whole:
        for row, column in ((0, 0), (5, 7)):
            assert found.xy(row, column) == pytest.approx(whole.xy(row + box.top, column + box.left), abs=1e-6)
        assert found.crs == whole.crs


def test_header_has_the_place_of_the_whole_image(tmp_path: Path) -> None:
    content = with_tags(MATRIX)
    (tmp_path / "a.tif").write_bytes(content)
    header, size = read_header(tmp_path / "a.tif")
    assert size == (4, 3)
    whole, found = read_georeference(content), read_georeference(header)
    assert whole is not None
    assert found is not None
    assert (found.transform, found.tags) == (whole.transform, whole.tags)


def test_only_what_a_window_needs_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "a.tif", [0]
    real = module.open_file

    class Counting:
        def __init__(self, file: BinaryIO) -> None:
            self.seek, self.tell, self._file = file.seek, file.tell, file

        def read(self, size: int = -1) -> bytes:
            content = self._file.read(size)
            read[0] += len(content)
            return content

    @contextmanager
    def counting(name: Path) -> Iterator[tuple[Any, int]]:
        with real(name) as (file, size):
            yield Counting(file), size

    monkeypatch.setattr(module, "open_file", counting)
    pixels = np.random.default_rng(0).integers(0, 255, (1024, 2048), dtype=np.uint8)
    for options in ({}, {"tile": (64, 64)}, {"tile": (64, 64), "compression": "zlib"}, {"rowsperstrip": 1}):
        tifffile.imwrite(path, pixels, photometric="minisblack", **options)
        read[0] = 0
        read_window(path, Box(700, 500, 64, 64), LIMIT)
        assert 64 * 64 <= read[0] < 120_000  # of two million


def test_hash_is_of_the_window_alone(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", numbers("uint8")

    def hashes() -> list[str]:
        tifffile.imwrite(path, pixels, tile=(16, 16), photometric="minisblack", compression="zlib")
        return [read_window(path, box, LIMIT).sha256 for box in (Box(0, 0, 32, 32), Box(64, 64, 32, 32))]

    before = hashes()
    assert before == hashes()
    assert before[0] != before[1]
    pixels[70, 70] += 1
    after = hashes()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_range_is_one_for_all_windows_and_close_to_that_of_the_whole_image(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(900, dtype=np.uint16) * 10, np.arange(1100, dtype=np.uint16) * 5)
    tifffile.imwrite(tmp_path / "a.tif", ramp, tile=(128, 128), photometric="minisblack")
    low, high = range_of_file(tmp_path / "a.tif", "auto", None, LIMIT)
    ends = np.percentile(ramp, (0.1, 99.9))
    assert abs(low - ends[0]) < 0.03 * ramp.max()
    assert abs(high - ends[1]) < 0.03 * ramp.max()
    assert range_of_file(tmp_path / "a.tif", "full", None, LIMIT) == (0, 65535)
    assert range_of_file(tmp_path / "a.tif", (3.0, 4.0), None, LIMIT) == (3.0, 4.0)


def test_range_is_that_of_the_chosen_channels(tmp_path: Path) -> None:
    pixels = np.stack([np.full((300, 300), value, np.uint16) for value in (1, 50, 9, 300)], axis=2)
    pixels[::2, :, 1] = 70
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    assert range_of_file(tmp_path / "a.tif", "auto", (2,), LIMIT) == (50, 70)


def test_tiffs_alone_are_cut(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers("uint8"), photometric="minisblack")
    assert size_to_cut(tmp_path / "a.tif") == (WIDTH, HEIGHT)
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "b.tif", numbers("uint8"), photometric="minisblack", extratags=turned)
    (tmp_path / "c.tif").write_bytes(b"II*\0\x08")
    (tmp_path / "d.tif").write_bytes(b"")
    save_photo(tmp_path / "e.png")
    assert [size_to_cut(tmp_path / name) for name in ("b.tif", "c.tif", "d.tif", "e.png", "none.tif")] == [None] * 5


def test_pyramid_is_cut_at_its_full_resolution(tmp_path: Path) -> None:
    pixels = numbers("uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels, tile=(16, 16), photometric="minisblack", subifds=1)
        writer.write(pixels[::2, ::2], tile=(16, 16), photometric="minisblack", subfiletype=1)
    assert size_to_cut(tmp_path / "a.tif") == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(stored(tmp_path / "a.tif", BOXES[1]), part(pixels, BOXES[1]))


def damaged(tmp_path: Path, keep: int, **options: Any) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", numbers("uint8"), photometric="minisblack", **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:keep] if keep >= 0 else content[: len(content) + keep])
    return tmp_path / "a.tif"


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"}], ids=str)
def test_file_that_is_cut_off_is_an_error(tmp_path: Path, options: dict[str, Any]) -> None:
    path = damaged(tmp_path, -20, **options)
    with pytest.raises(DecodeError, match="cut off"):
        read_window(path, BOXES[3], LIMIT).content()
    with pytest.raises(DecodeError, match=r"TIFF that can be read|damaged"):
        read_window(damaged(tmp_path, 12), BOXES[0], LIMIT)


def test_damaged_tile_is_an_error_of_the_windows_that_touch_it(tmp_path: Path) -> None:
    path = damaged(tmp_path, 100_000, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="damaged"):
        read_window(path, Box(0, 0, 8, 8), LIMIT).content()
    np.testing.assert_array_equal(stored(path, Box(16, 16, 8, 8)), numbers("uint8")[16:24, 16:24])


def test_limits_are_kept(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", numbers("uint8"), photometric="minisblack", tile=(16, 16))
    with pytest.raises(DecodeError, match="`max_pixels=99`"):
        read_window(tmp_path / "a.tif", Box(0, 0, 10, 10), 99)
    with pytest.raises(DecodeError, match="smaller"):
        read_window(tmp_path / "a.tif", Box(WIDTH - 5, 0, 10, 10), LIMIT)
    bits = np.packbits(numbers("uint8")[:, :144] > 99, axis=1)
    tifffile.imwrite(tmp_path / "b.tif", bits, photometric="minisblack")
    assert read_window(tmp_path / "b.tif", Box(0, 0, 3, 3), LIMIT).box == (0, 0, 3, 3)


def test_whole_slide_in_a_compression_that_is_not_read_says_so(tmp_path: Path) -> None:
    content = map_photo(
        None, None, pixels=np.zeros((3, 64, 64), np.uint8), compress="lerc", tiled=True, blockxsize=32, blockysize=32
    )
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DecodeError, match=r"LERC.*deflate"):
        read_window(tmp_path / "a.tif", Box(0, 0, 40, 40), LIMIT).content()

"""Large TIFFs cut into tiles, from the command line to the mosaic."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from refusal import refused
from samples import files_below, read_pixels, save_photo
from scenes import made_scene
from typer.testing import CliRunner, Result

from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.stats_shape import parse_stats
from dynaseg_cli.cli import app
from dynaseg_cli.config import BatchConfig, SegmentConfig
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.tiles import Tile, tiles_of
from dynaseg_cli.files.weights import read_model

SMALL = ("--max-size", "64", "--features", "8", "--precision", "float32", "--classes", "6")
FIT = ("--iterations", "2", *SMALL)
WIDTH, HEIGHT = 600, 500
TILES = ("--tiles", "300")
MODEL = Path("model.safetensors")
FITTED = ("--load-model", str(MODEL))
NAMES = [f"slide/r00{row}-c00{column}" for row in range(2) for column in range(2)]


def segment(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments), "--device", "cpu", "--workers", "0"])


def pixels() -> NDArray[np.uint8]:
    """A scene, (H, W, 3)."""
    return np.asarray(Image.fromarray(made_scene(1)[0]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def write_slide(path: Path, image: NDArray[Any] | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as writer:
        shown = pixels() if image is None else image
        tiled = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb", **options}
        writer.write(shown, **tiled)
        writer.write(shown[::4, ::4], subfiletype=1, **tiled)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A network that was fitted to the tiles of a slide."""
    folder = tmp_path_factory.mktemp("fitted")
    write_slide(folder / "slide.tif")
    assert segment(folder / "slide.tif", *TILES, *FIT, "--epochs", "4", "-o", folder / "out").exit_code == 0
    return (folder / "out/model.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def fitted(here: Path, model: bytes) -> None:
    MODEL.write_bytes(model)


@pytest.fixture
def slide(here: Path) -> Path:
    write_slide(here / "slide.tif")
    return Path("slide.tif")


def stats(name: str) -> dict[str, Any]:
    found = parse_stats(Path(f"out/stats/{name}.json").read_bytes())
    assert found is not None
    return found


def put_together(product: str = "labels") -> NDArray[Any]:
    whole = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for tile in tiles_of(WIDTH, HEIGHT, 300):
        left, top, width, height = tile.box
        whole[top : top + height, left : left + width] = read_pixels(Path(f"out/{product}/slide/{tile.name}.png"))
    return whole


def test_slide_is_cut_fitted_labelled_and_put_together(slide: Path, here: Path) -> None:
    result = segment(slide, *TILES, *FIT, "--epochs", "1", "-o", "out", "--export", "mosaic")
    assert result.exit_code == 0, result.stderr
    files = files_below(here / "out")
    assert {name for name in files if name.startswith("labels/")} == {f"labels/{name}.png" for name in NAMES}
    run = json.loads(files["run.json"])
    assert (run["images"], run["done"], run["failures"]) == (4, 4, [])
    assert run["options"]["fit"] == "folder"
    np.testing.assert_array_equal(tifffile.imread("out/export/mosaic/slide.tif"), put_together())
    source = stats(NAMES[3])["source"]
    assert (source["path"], source["width"], source["height"]) == ("slide.tif", 300, 250)
    assert source["tile"] == {
        **{"row": 1, "column": 1, "image_width": WIDTH, "image_height": HEIGHT, "side": 300},
        **{"left": 300, "top": 250},
    }
    outcomes = [json.loads(line) for line in files["outcomes.jsonl"].splitlines()]
    assert [outcome["tile"]["column"] for outcome in outcomes] == [0, 1, 0, 1]
    clusters = json.loads(files["clusters.json"])
    assert sum(one["pixels"] for one in clusters["clusters"]) == WIDTH * HEIGHT


def test_labels_are_those_of_the_network_on_the_tile_with_its_margin(slide: Path) -> None:
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    engine, image = Engine(read_model(MODEL), "cpu"), pixels()
    for tile in tiles_of(WIDTH, HEIGHT, 300):
        left, top, width, height = tile.box_with_margin
        expected = engine.segment(image[top : top + height, left : left + width]).labels[tile.inner]
        np.testing.assert_array_equal(read_pixels(Path(f"out/labels/slide/{tile.name}.png")), expected)


def test_margin_makes_seams_weak(slide: Path) -> None:
    """Against the whole image labelled by the same network at the same scale."""
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    tile = Tile(0, 0, WIDTH, HEIGHT, 300)
    longest = max(tile.box_with_margin[2:])
    config = read_model(MODEL)
    engine = Engine(config, "cpu")
    scaled = dataclasses.replace(config, max_size=round(config.max_size * WIDTH / longest))
    whole = Engine(scaled, "cpu").segment(pixels()).labels

    def differing(labels: NDArray[Any]) -> float:
        return float((labels[:, 292:308] != whole[:, 292:308]).mean())

    alone = np.empty_like(whole)
    for one in tiles_of(WIDTH, HEIGHT, 300):
        left, top, width, height = one.box
        alone[top : top + height, left : left + width] = engine.segment(
            np.ascontiguousarray(pixels()[top : top + height, left : left + width])
        ).labels
    assert len(np.unique(whole)) > 1
    assert differing(put_together()) < differing(alone)


def test_complete_tiles_are_skipped_and_a_changed_one_is_done_again(slide: Path, here: Path) -> None:
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    before = files_below(here / "out/labels")
    Path("out/labels/slide/r001-c000.png").unlink()
    assert segment(slide, *TILES, *FITTED, "-o", "out", "--export", "mosaic").exit_code == 0
    assert files_below(here / "out/labels") == before
    image = pixels().copy()
    image[450:, 550:] = 0
    write_slide(slide, image)
    result = segment(slide, *TILES, *FITTED, "-o", "out")
    run = json.loads(Path("out/run.json").read_bytes())
    assert (result.exit_code, run["done"], run["skipped"]) == (0, 1, 3)


def test_other_tiles_are_refused_with_the_option_that_continues(slide: Path) -> None:
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    result = segment(slide, "--tiles", "256", *FITTED, "-o", "out")
    assert result.exit_code == 2
    assert "tiles was 300, now 256" in result.stderr
    assert "--tiles 300" in result.stderr.replace("\n", " ")


def test_shards_make_what_one_run_makes(slide: Path, here: Path) -> None:
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    for shard in ("2/2", "1/2"):
        assert segment(slide, *TILES, *FITTED, "-o", "parts", "--shard", shard).exit_code == 0
    assert files_below(here / "parts/labels") == files_below(here / "out/labels")


def test_damaged_tile_is_named_and_void_in_the_mosaic(slide: Path) -> None:
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    with tifffile.TiffFile(slide) as file:
        start = file.pages.first.dataoffsets[-1]
    content = bytearray(slide.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    slide.write_bytes(content)
    result = segment(slide, *TILES, *FITTED, "-o", "again", "--export", "mosaic")
    assert result.exit_code == 1
    assert "slide.tif, tile r001-c001" in result.stderr.replace("\n", " ")
    mosaic = tifffile.imread("again/export/mosaic/slide.tif")
    assert (mosaic[250:, 300:] == 255).all()
    np.testing.assert_array_equal(mosaic[:250], put_together()[:250])


def test_mosaic_is_made_again_of_a_finished_folder_with_a_report(slide: Path) -> None:
    assert segment(slide, *TILES, *FITTED, "-o", "out").exit_code == 0
    runner = CliRunner()
    result = runner.invoke(app, ["export", "out", "--format", "mosaic,csv"])
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(tifffile.imread("out/export/mosaic/slide.tif"), put_together())
    assert runner.invoke(app, ["report", "out"]).exit_code == 0
    Path("out/stats/slide/r000-c001.json").unlink()
    result = runner.invoke(app, ["export", "out", "--format", "mosaic"])
    assert "r000-c001" in result.stderr
    assert (tifffile.imread("out/export/mosaic/slide.tif")[:250, 300:] == 255).all()


def test_geotiff_of_each_tile_lies_in_its_place(here: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    place = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 1000.0, 9000.0, 0.0), True)]
    write_slide(here / "slide.tif", extratags=place)
    assert segment("slide.tif", *TILES, *FITTED, "-o", "out", "--export", "geotiff,mosaic").exit_code == 0
    with rasterio.open("out/export/geotiff/slide/r001-c001.tif") as tile:
        assert (tile.bounds.left, tile.bounds.top) == (1000 + 300 / 2, 9000 - 250 / 2)
        np.testing.assert_array_equal(tile.read(1), put_together()[250:, 300:])
    with rasterio.open("out/export/mosaic/slide.tif") as mosaic:
        assert (mosaic.bounds.left, mosaic.bounds.top) == (1000, 9000)


def test_deep_slide_has_one_range(here: Path) -> None:
    grey = (pixels()[..., 0].astype(np.uint16) * 100) + np.arange(WIDTH, dtype=np.uint16) * 20
    write_slide(here / "slide.tif", grey, photometric="minisblack")
    assert segment("slide.tif", *TILES, *FITTED, "-o", "out").exit_code == 0
    ranges = [stats(name)["source"]["range"] for name in NAMES]
    assert {(one["option"], one["low"], one["high"]) for one in ranges} == {
        ("auto", ranges[0]["low"], ranges[0]["high"])
    }
    assert segment("slide.tif", *TILES, *FITTED, "-o", "out").exit_code == 0
    assert json.loads(Path("out/run.json").read_bytes())["skipped"] == 4
    assert CliRunner().invoke(app, ["report", "out"]).exit_code == 0


def test_other_images_are_segmented_whole(here: Path) -> None:
    write_slide(here / "photos/slide.tif")
    save_photo(here / "photos/small.png")
    write_slide(here / "photos/tiny.tif", pixels()[:200, :200])
    assert segment("photos", *TILES, *FITTED, "-o", "out", "--export", "mosaic").exit_code == 0
    names = set(files_below(here / "out/labels"))
    assert names == {*(f"{name}.png" for name in NAMES), "small.png", "tiny.png"}
    assert set(files_below(here / "out/export/mosaic")) == {"slide.tif", "small.tif", "tiny.tif"}


def test_extension_is_kept_in_the_name_of_the_folder(slide: Path, here: Path) -> None:
    result = segment(slide, *TILES, *FITTED, "-o", "out", "--keep-extension", "--export", "mosaic")
    assert result.exit_code == 0
    assert "labels/slide.tif/r000-c000.png" in files_below(here / "out")
    assert Path("out/export/mosaic/slide.tif.tif").is_file()


def test_dry_run_names_each_tile(slide: Path) -> None:
    result = segment(slide, *TILES, "-n", "--json")
    jobs = json.loads(result.stdout)["jobs"]
    assert [job["tile"]["row"] for job in jobs] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--fit", "image"), ("tiles", "fit")),
        (("--pages", "all"), ("--tiles", "--pages")),
        (("--channels", "all"), ("--channels", "--tiles")),
        (("--record",), ("--record", "--tiles")),
        (("--tiles", "100"), ("--tiles", "256")),
        (("--scribbles", "."), ("--scribbles",)),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_before_work(
    slide: Path, options: tuple[str, ...], told: tuple[str, ...]
) -> None:
    result = segment(slide, "--tiles", "300", *options, "-o", "out")
    assert all(word in refused(result) for word in told)
    assert not Path("out").exists()


def test_python_says_what_tiles_need(slide: Path) -> None:
    with pytest.raises(UsageError, match="`fit=folder`"):
        plan_batch([slide], Path("out"), SegmentConfig(), BatchConfig(tiles=300))


@pytest.mark.slow
def test_image_larger_than_the_limit_is_read_by_tiles(here: Path) -> None:
    """Three million pixels with a limit of half a million; `test_windows.py` counts what is read of a file."""
    large = np.asarray(Image.fromarray(pixels()).resize((2000, 1500), Image.Resampling.BICUBIC))
    tifffile.imwrite("slide.tif", large, tile=(256, 256), photometric="rgb")
    saved = ("--save", "labels,stats", "--export", "mosaic", "--max-pixels", "500000")
    result = segment("slide.tif", "--tiles", "512", *FITTED, "-o", "out", *saved)
    assert result.exit_code == 0, result.stderr
    assert len(list(Path("out/labels/slide").iterdir())) == 12
    assert tifffile.imread("out/export/mosaic/slide.tif").max() < 6


@pytest.mark.slow
@pytest.mark.skipif("DYNASEG_GIGAPIXEL" not in os.environ, reason="takes an hour: set DYNASEG_GIGAPIXEL")
def test_gigapixel_takes_less_than_4_gb(here: Path) -> None:
    side, rng = 32768, np.random.default_rng(0)
    scenes = [np.asarray(Image.fromarray(made_scene(seed)[0]).resize((512, 512))) for seed in range(8)]
    parts = (scenes[rng.integers(8)] for _ in range((side // 512) ** 2))
    options = {"tile": (512, 512), "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite("slide.tif", parts, shape=(side, side, 3), dtype=np.uint8, bigtiff=True, **options)
    command = ["segment", "slide.tif", "-o", "out", "--tiles", "2048", "--load-model", str(MODEL)]
    command += ["--save", "labels,stats", "--export", "mosaic", "--device", "cpu", "--workers", "2"]
    process = psutil.Popen([sys.executable, "-m", "dynaseg_cli", *command])
    most = 0
    while process.poll() is None:
        used = 0
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                used += one.memory_info().rss
        most = max(most, used)
        time.sleep(0.2)
    assert (process.returncode, len(list(Path("out/labels/slide").iterdir()))) == (0, 256)
    assert most < 4e9

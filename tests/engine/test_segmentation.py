"""The result for one image: from any kind of image, its regions, pictures and files, as the command writes them."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from samples import TINY, encoded, noise, read_pixels
from scenes import TINY_FOLDER_FIT, made_scene, scene_folder

from dynaseg_cli import BatchConfig, CutConfig, Engine, Segmentation, WorkersConfig, read_model, segment_folder
from dynaseg_cli.config import Product
from dynaseg_cli.engine import segmentation as module
from dynaseg_cli.engine.segmentation import FitRecord, Regions
from dynaseg_cli.errors import DecodeError, UsageError
from dynaseg_cli.pictures.palette import palette_colors

HERE = WorkersConfig(device="cpu", workers=0)
SAVED: tuple[Product, ...] = ("labels", "color", "stats", "overlay", "regions", "raw")
SCENE = made_scene(3, 40, 30)[0]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(TINY, "cpu")


@pytest.fixture
def found(engine: Engine) -> Segmentation:
    return engine.segment(SCENE)


# Kinds of images


def test_file_picture_and_array_give_the_same(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(SCENE).save(path)
    expected = engine.segment(SCENE)
    with Image.open(path) as picture:
        for image in (path, str(path), picture):
            result = engine.segment(image)
            np.testing.assert_array_equal(result.labels, expected.labels)
            np.testing.assert_array_equal(result.image, SCENE)
            assert result.source == path
    assert expected.source is None


def test_picture_that_lies_on_its_side_is_segmented_upright(engine: Engine) -> None:
    picture = Image.fromarray(SCENE)
    exif = picture.getexif()
    exif[0x0112] = 8
    result = engine.segment(Image.open(io.BytesIO(encoded(picture, "PNG", exif=exif))))
    np.testing.assert_array_equal(result.image, np.rot90(SCENE))
    assert result.labels.shape == (40, 30)


def test_image_is_kept_and_cannot_be_written_through(found: Segmentation) -> None:
    assert np.shares_memory(found.image, SCENE)
    with pytest.raises(ValueError, match="read-only"):
        found.image[0] = 0
    assert SCENE.flags.writeable


def test_what_is_odd_about_an_image_is_logged(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine.segment(SCENE)
    assert caplog.messages == []
    engine.segment(np.full((8, 9), 300, np.uint16))
    path = tmp_path / "two.tif"
    Image.fromarray(SCENE).save(path, save_all=True, append_images=[Image.fromarray(SCENE)])
    engine.segment(path)
    assert caplog.messages == ["the image: all its numbers are 300", f"{path}: first of 2 pages, 1 left out"]


def test_file_that_is_no_image_is_named(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(DecodeError, match=r"a\.png: not an image of a known format"):
        engine.segment(tmp_path / "a.png")


# Regions


CUTS: list[tuple[dict[str, Any], CutConfig]] = [
    ({}, CutConfig()),
    ({"regions": "coarse"}, CutConfig("coarse")),
    ({"regions": "raw"}, CutConfig("raw")),
    ({"regions": 3}, CutConfig(3)),
    ({"granularity": 0.4}, CutConfig(granularity=0.4)),
]


@pytest.mark.parametrize(("asked", "cut"), CUTS, ids=str)
def test_everything_is_as_the_command_writes_it(
    engine: Engine, tmp_path: Path, asked: dict[str, Any], cut: CutConfig
) -> None:
    photos = scene_folder(tmp_path / "photos", "a.png")
    out = tmp_path / "out"
    (outcome,) = segment_folder(photos, out, TINY, BatchConfig(cut=cut, save=SAVED), HERE)
    result = engine.segment(photos / "a.png")
    regions = result.regions(**asked)
    saved = regions.save(tmp_path / "saved")
    assert [path.name for path in saved] == ["labels.png", "regions.png", "color.png", "overlay.jpg"]
    for path in saved:
        assert path.read_bytes() == (out / path.stem / f"a{path.suffix}").read_bytes(), path.name
    np.testing.assert_array_equal(regions.labels, read_pixels(out / "labels/a.png"))
    np.testing.assert_array_equal(regions.map, read_pixels(out / "regions/a.png"))
    np.testing.assert_array_equal(np.asarray(regions.color()), read_pixels(out / "color/a.png", "RGB"))
    np.testing.assert_array_equal(result.labels, read_pixels(out / "raw/a.png"))
    assert (regions.map.dtype, regions.labels.dtype) == (np.int32, np.uint8)
    assert regions.num_labels == outcome.num_labels
    assert regions.count == len(np.unique(regions.map))


def test_drawn_labels_keep_their_numbers(engine: Engine) -> None:
    scribbles = np.full((30, 40), 255, dtype=np.uint8)
    scribbles[2:5, 3:9], scribbles[20:24, 25:35] = 5, 2
    regions = engine.segment(SCENE, scribbles=scribbles).regions(4)
    assert (regions.labels[scribbles == 5] == 5).all()
    assert (regions.labels[scribbles == 2] == 2).all()
    free = engine.segment(SCENE, scribbles=np.full((30, 40), 255, dtype=np.uint8))
    assert free.scribbles is None


def test_labels_of_a_folder_keep_their_numbers(tmp_path: Path) -> None:
    photos = scene_folder(tmp_path / "photos", "a.png", "b.png", "c.png")
    list(segment_folder(photos, tmp_path / "out", TINY_FOLDER_FIT, workers=HERE))
    engine = Engine(read_model(tmp_path / "out/model.safetensors"), "cpu")
    for name in "abc":
        result = engine.segment(photos / f"{name}.png")
        np.testing.assert_array_equal(result.regions().labels, read_pixels(tmp_path / f"out/labels/{name}.png"))
        assert result.source == photos / f"{name}.png"
        assert "scf, a folder's network, " in repr(result)


def test_renumbered_labels_would_be_others() -> None:
    """That numbers are kept is seen above only if keeping them matters."""
    raw = np.zeros((8, 8), dtype=np.uint8)
    raw[:, 3:] = 7
    of_folder = made(raw, TINY_FOLDER_FIT)
    assert np.unique(of_folder.regions(2).labels).tolist() == [0, 7]
    assert np.unique(made(raw, TINY).regions(2).labels).tolist() == [0, 1]


def made(raw: NDArray[np.uint8], config: Any) -> Segmentation:
    image = np.repeat(raw[..., None] * 30, 3, axis=2)
    numbers = np.arange(raw.max() + 1, dtype=np.int32)
    return Segmentation(raw, len(np.unique(raw)), numbers, FitRecord(3, "float32"), 0.0, image, config)


def test_hierarchy_is_built_once(found: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    build, built = module.build_hierarchy, []
    monkeypatch.setattr(module, "build_hierarchy", lambda *given: built.append(1) or build(*given))
    found.regions("raw")
    assert built == []
    assert found.regions(2).count <= 2 <= found.regions("fine").count
    assert found.hierarchy.cut_to(2).max() <= 1
    assert built == [1]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"regions": "some"}, "`regions` must be"),
        ({"regions": 0}, "`regions` must be at least 1, not 0"),
        ({"granularity": 1.5}, "`granularity` must be"),
        ({"regions": 4, "granularity": 0.5}, "`regions` and `granularity` are two ways"),
    ],
    ids=str,
)
def test_errors_speak_of_fields(found: Segmentation, asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as raised:
        found.regions(**asked)
    assert "--" not in str(raised.value)


# Pictures


def test_colours_can_be_the_means_of_the_photo(found: Segmentation) -> None:
    labels = found.regions().labels
    means = np.stack([SCENE[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    assert np.abs(np.asarray(found.color("mean")) - means[labels]).max() <= 0.5
    assert np.asarray(found.overlay("mean")).tolist() != np.asarray(found.overlay()).tolist()
    np.testing.assert_array_equal(np.asarray(found.color("palette")), palette_colors(9, "palette")[labels])


def test_part_is_cut_out_of_maps_and_features(found: Segmentation) -> None:
    height, width = found.labels.shape
    wide = np.dstack([np.arange(width, dtype=np.float32)[None].repeat(height, 0)] * 2)
    features = (wide, wide[::4, ::4])
    part = dataclasses.replace(found, features=features).cropped(slice(3, 11), slice(8, 16))
    np.testing.assert_array_equal(part.labels, found.labels[3:11, 8:16])
    np.testing.assert_array_equal(part.image, found.image[3:11, 8:16])
    assert part.num_labels == len(np.unique(part.labels))
    np.testing.assert_array_equal(part.features[0], wide[3:11, 8:16])
    np.testing.assert_array_equal(part.features[1][0, :, 0], [8, 12])
    assert part.features[1].shape == (3, 2, 2)  # rows 0 to 11 have a pixel of the part


def test_pictures_show_regions_not_raw_labels(found: Segmentation) -> None:
    regions = found.regions()
    assert found.num_labels > 1
    assert not np.array_equal(regions.labels, found.labels), "the test would not tell them apart"
    for result in (found, regions):
        colors = np.asarray(result.color())
        np.testing.assert_array_equal(colors, palette_colors(9)[regions.labels])
        laid = np.asarray(result.overlay())
        assert (laid.shape, laid.dtype) == ((30, 40, 3), np.uint8)
        assert (laid == 255).all(axis=2).any(), "outlines"
        assert (laid != SCENE).any(axis=2).mean() > 0.5


def test_notebook_gets_a_small_picture_and_a_line(engine: Engine) -> None:
    result = engine.segment(noise(0, 500, 40))
    for shown in (result, result.regions()):
        text = shown._repr_html_()
        content = re.search(r'src="data:image/jpeg;base64,([^"]+)"', text)
        assert content is not None
        assert Image.open(io.BytesIO(base64.b64decode(content[1]))).size == (360, 29)
        assert repr(shown) in text


def test_repr_is_short(found: Segmentation) -> None:
    found = dataclasses.replace(found, seconds=0.62)
    assert repr(found) == f"Segmentation(40x30, {found.num_labels} raw labels, scf, 2 iterations, 0.6 s)"
    assert repr(found.regions(1)) == "Regions(40x30, 1 region, 1 label)"
    one = found.fit.labels_per_iteration[:1]
    fit = dataclasses.replace(found.fit, labels_per_iteration=one)
    assert "1 iteration," in repr(dataclasses.replace(found, fit=fit))


def test_show_opens_a_window_or_draws_in_a_notebook(found: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Image.Image] = []
    drawn: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: opened.append(picture))  # noqa: PLW0108 - to be a method
    monkeypatch.setitem(sys.modules, "IPython", None)  # not installed
    found.show()
    ipython: Any = types.ModuleType("IPython")
    ipython.display = types.SimpleNamespace(display=drawn.append)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    for shell in (None, types.SimpleNamespace()):  # a script that has loaded it; a terminal
        monkeypatch.setattr(ipython, "get_ipython", lambda shell=shell: shell, raising=False)
        found.show()
    assert (len(opened), len(drawn)) == (3, 0)
    monkeypatch.setattr(ipython, "get_ipython", lambda: types.SimpleNamespace(kernel=1))
    found.regions(2).show()
    assert (len(opened), len(drawn)) == (3, 1)
    assert drawn[0] == found.regions(2).overlay()


# Files


def test_file_has_the_labels_by_region(found: Segmentation, tmp_path: Path) -> None:
    path = tmp_path / "new/cat.PNG"
    assert found.save(str(path)) == (path,)
    np.testing.assert_array_equal(read_pixels(path), found.regions().labels)
    assert found.regions(1).save(path) == (path,)
    assert not read_pixels(path).any(), "replaced"
    assert [entry.name for entry in path.parent.iterdir()] == ["cat.PNG"]


def test_folder_may_have_a_dot_if_it_exists(found: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    found.save(tmp_path / "v1.0")
    assert {path.name for path in (tmp_path / "v1.0").iterdir()} == {
        "labels.png",
        "regions.png",
        "color.png",
        "overlay.jpg",
    }
    with pytest.raises(UsageError, match=r"v2\.0: labels are saved as \.png, .* a folder must exist or have no suffix"):
        found.save(tmp_path / "v2.0")
    with pytest.raises(UsageError, match=r"a\.jpg: labels are saved as \.png"):
        found.save(tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["v1.0"]


@pytest.mark.parametrize("name", ["labels.png", "color.png"])
def test_photo_itself_is_never_replaced(engine: Engine, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(SCENE).save(path)
    before = path.read_bytes()
    (tmp_path / "link.png").symlink_to(path)
    with Image.open(path) as picture:
        for image in (path, picture):
            result = engine.segment(image)
            for target in (path, tmp_path, tmp_path / "link.png"):
                with pytest.raises(UsageError, match="is the photo itself; choose another name"):
                    result.save(target)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_many_labels_and_regions_keep_their_numbers(tmp_path: Path) -> None:
    numbers = np.arange(70_000, dtype=np.int32).reshape(7, 10_000)
    labels = (numbers % 300).astype(np.uint16)
    regions = Regions(numbers, labels, np.zeros((7, 10_000, 3), np.uint8))
    found = [path.name for path in regions.save(tmp_path)]
    assert found == ["labels.png", "regions.tif", "color.png", "overlay.jpg"]
    np.testing.assert_array_equal(read_pixels(tmp_path / "labels.png"), labels)
    np.testing.assert_array_equal(read_pixels(tmp_path / "regions.tif"), numbers)
    np.testing.assert_array_equal(read_pixels(tmp_path / "color.png"), np.asarray(regions.color()))


def test_overlay_is_thinned_where_its_format_asks_for_it(tmp_path: Path) -> None:
    wide = np.zeros((1, 65_501), dtype=np.int32)
    regions = Regions(wide, wide.astype(np.uint8), np.zeros((1, 65_501, 3), np.uint8))
    regions.save(tmp_path)
    assert read_pixels(tmp_path / "overlay.jpg").shape == (1, 32_751, 3)
    assert regions.overlay().size == (65_501, 1)

"""Masks from their files to all that a run writes: the laws that hold whatever the photo."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import shapely.geometry
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks
from samples import TINY, encoded, files_below, noise, photo_folder, read_pixels, save_photo
from scenes import TINY_FOLDER_FIT

from dynaseg_cli import BatchConfig, CutConfig, Engine
from dynaseg_cli.batch import stages
from dynaseg_cli.batch.exports import export_folder
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.batch.results import complete_entries, plan_of_results
from dynaseg_cli.batch.stages import run_stream
from dynaseg_cli.config import EvaluateConfig, ExportConfig
from dynaseg_cli.errors import ImageError, UsageError
from dynaseg_cli.evaluation.evaluate import Evaluation
from dynaseg_cli.images.decoding import decode_photo
from dynaseg_cli.images.masks import Mask
from dynaseg_cli.images.scribbles import ScribbleFile, decode_scribbles

SCHEMA = json.loads((Path(stages.__file__).parent / "stats.schema.json").read_text())
EVERYTHING = ("labels", "color", "stats", "overlay", "regions", "hierarchy", "raw", "recording")
OF_LABELS = ("labels", "color", "regions", "hierarchy", "raw")
HEIGHT, WIDTH = 20, 24


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(TINY, "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.bmp", "sub/c.png")


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A folder of masks for two of the photos."""
    for name in ("a", "sub/c"):
        draw(tmp_path / f"masks/{name}.png", disc())
    return tmp_path / "masks"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def disc() -> NDArray[np.uint8]:
    """255 in a circle and in a piece apart, 0 elsewhere."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.where((y - 9) ** 2 + (x - 9) ** 2 < 50, 255, 0).astype(np.uint8)
    mask[12:18, 19:22] = 255
    return mask


def rectangle() -> NDArray[np.uint8]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:17, 4:20] = 1
    return mask


def draw(path: Path, mask: NDArray[Any] | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(mask, "PNG"))


def run(engine: Engine, photos: Path, out: Path, mask: Any = None, **batch: Any) -> dict[str, Outcome]:
    plan = plan_batch([photos], out, engine.config, BatchConfig(mask=mask, **batch))
    plan.folder.mark()
    outcomes = [
        outcome for _, outcome in run_stream(plan.jobs, plan.folder, plan.batch, [engine]) if outcome is not None
    ]
    return {Path(outcome.path).name: outcome for outcome in outcomes}


def statuses(outcomes: dict[str, Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes.values()]


def stats_of(out: Path, name: str) -> dict[str, Any]:
    stats = json.loads((out / f"stats/{name}.json").read_text())
    jsonschema.validate(stats, SCHEMA)
    return dict(stats)


def products(out: Path, *kinds: str) -> dict[str, bytes]:
    return {f"{kind}/{name}": content for kind in kinds for name, content in files_below(out / kind).items()}


def without(stats: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Statistics without times, and what else differs between runs."""
    fit = {name: value for name, value in stats["fit"].items() if name != "seconds"}
    source = {name: value for name, value in stats["source"].items() if name not in (*keys, "path")}
    return {**stats, "fit": fit, "source": source}


# The laws


@pytest.mark.parametrize("outside", ["255", "background"])
@pytest.mark.parametrize("regions", ["auto", "raw"])
def test_what_is_outside_has_no_influence(engine: Engine, tmp_path: Path, outside: str, regions: Any) -> None:
    found = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        photo = np.where(disc()[..., None] > 0, noise(0), noise(100 + seed))
        draw(folder / "photos/a.png", photo)
        draw(folder / "masks/a.png", disc())
        cut = CutConfig(regions)
        run(engine, folder / "photos", folder / "out", folder / "masks", save=EVERYTHING, outside=outside, cut=cut)
        files = products(folder / "out", *OF_LABELS, "recording")
        assert len(files) == 6
        found.append((files, without(stats_of(folder / "out", "a"), "sha256", "mask")))
    assert found[0] == found[1]


@pytest.mark.parametrize("regions", ["auto", "raw", 3])
def test_rectangle_gives_the_labels_of_the_cropped_photo(engine: Engine, tmp_path: Path, regions: Any) -> None:
    cut, save = CutConfig(regions), ("labels", "stats", "regions", "raw")
    save_photo(tmp_path / "photos/a.png")
    draw(tmp_path / "masks/a.png", rectangle())
    draw(tmp_path / "cropped/a.png", noise()[3:17, 4:20])
    run(engine, tmp_path / "photos", tmp_path / "out", tmp_path / "masks", save=save, cut=cut)
    run(engine, tmp_path / "cropped", tmp_path / "out-cropped", save=save, cut=cut)
    for product, outside in (("labels", 255), ("regions", 65535), ("raw", None)):
        whole = read_pixels(tmp_path / f"out/{product}/a.png")
        part = read_pixels(tmp_path / f"out-cropped/{product}/a.png")
        np.testing.assert_array_equal(whole[3:17, 4:20], part)
        if outside is not None:
            assert (whole[rectangle() == 0] == outside).all()
    whole_stats, part_stats = (stats_of(tmp_path / name, "a") for name in ("out", "out-cropped"))
    for key in ("num_labels", "raw_labels"):
        assert whole_stats[key] == part_stats[key]
    for entry, same in zip(whole_stats["regions"], part_stats["regions"], strict=True):
        assert {**entry, "bbox": 0, "centroid": 0} == {**same, "bbox": 0, "centroid": 0}
        assert entry["bbox"] == [same["bbox"][0] + 4, same["bbox"][1] + 3, same["bbox"][2] + 4, same["bbox"][3] + 3]


def test_mask_that_covers_all_gives_what_no_mask_gives(engine: Engine, photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "sub/c"):
        draw(tmp_path / f"masks/{name}.png", np.ones((HEIGHT, WIDTH), np.uint8))
    run(engine, photos, tmp_path / "one", save=EVERYTHING)
    run(engine, photos, tmp_path / "other", tmp_path / "masks", save=EVERYTHING)
    kinds = [kind for kind in EVERYTHING if kind != "stats"]
    assert products(tmp_path / "one", *kinds) == products(tmp_path / "other", *kinds)
    one, other = (stats_of(tmp_path / name, "a") for name in ("one", "other"))
    assert other["source"]["mask"]["pixels"] == HEIGHT * WIDTH
    assert without(one) == without(other, "mask")


def test_same_engine_from_python(engine: Engine, photos: Path, masks: Path, out: Path) -> None:
    run(engine, photos, out, masks, save=EVERYTHING)
    result = engine.segment(photos / "a.png", mask=disc() > 0)
    regions = result.regions()
    np.testing.assert_array_equal(regions.labels, read_pixels(out / "labels/a.png"))
    np.testing.assert_array_equal(regions.map.astype(np.uint16), read_pixels(out / "regions/a.png"))
    np.testing.assert_array_equal(result.labels, read_pixels(out / "raw/a.png"))
    np.testing.assert_array_equal(np.asarray(regions.color()), read_pixels(out / "color/a.png", "RGB"))
    assert regions.num_labels == stats_of(out, "a")["num_labels"]
    for colors in ("calm", "mean"):
        assert (np.asarray(regions.color(colors))[disc() == 0] == 0).all()  # type: ignore[arg-type]
    files = regions.save(out / "saved")
    assert read_pixels(next(file for file in files if file.name == "regions.png"))[0, 0] == 65535


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [
        (np.ones((3, 4), bool), r"not \(3, 4\) bool"),
        (np.ones((HEIGHT, WIDTH), np.uint8), "uint8"),
        (np.zeros((HEIGHT, WIDTH), bool), "no pixel counts"),
    ],
    ids=["size", "type", "empty"],
)
def test_arrays_that_are_no_masks_are_refused(engine: Engine, mask: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        engine.segment(noise(), mask=mask)


def test_deep_photo_is_stretched_by_what_counts(tmp_path: Path) -> None:
    values = np.linspace(1000, 2000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    counts = disc() > 0
    found = []
    for outside in (0, 65535):
        content = encoded(np.where(counts, values, np.uint16(outside)), "PNG")
        photo = decode_photo(content, 10_000, mask=Mask("a.png", 10_000, encoded(disc(), "PNG"), "ab"))
        assert photo.range is not None
        assert (photo.range.low, photo.range.high) == (values[counts].min(), values[counts].max())
        found.append(photo.pixels[counts])
    np.testing.assert_array_equal(*found)


def test_projection_of_channels_is_that_of_what_counts(tmp_path: Path) -> None:
    counts, channels = disc() > 0, np.random.default_rng(0).integers(0, 4000, (HEIGHT, WIDTH, 5)).astype(np.uint16)
    found = []
    for seed in (1, 2):
        other = np.random.default_rng(seed).integers(0, 65535, channels.shape).astype(np.uint16)
        values = np.where(counts[..., None], channels, other)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
        mask = Mask("a.png", 10_000, encoded(disc(), "PNG"), "ab")
        found.append(decode_photo((tmp_path / "a.tif").read_bytes(), 10_000, "auto", "all", mask).pixels[counts])
    np.testing.assert_array_equal(*found)


# Products


@pytest.mark.parametrize("outside", ["255", "background"])
def test_every_product_tells_what_is_outside(
    engine: Engine, photos: Path, masks: Path, out: Path, outside: str
) -> None:
    run(engine, photos, out, masks, save=EVERYTHING, outside=outside)
    counts, first = disc() > 0, int(outside == "background")
    labels, regions = read_pixels(out / "labels/a.png"), read_pixels(out / "regions/a.png")
    assert (labels.dtype, regions.dtype) == (np.uint8, np.uint16)
    assert (labels[~counts] == (0 if first else 255)).all()
    assert (regions[~counts] == (0 if first else 65535)).all()
    stats = stats_of(out, "a")
    for key, name, found in (("clusters", "label", labels[counts]), ("regions", "region", regions[counts])):
        numbers, areas = np.unique(found, return_counts=True)
        assert numbers.tolist() == list(range(first, len(numbers) + first))
        assert [entry[name] for entry in stats[key]] == numbers.tolist()
        assert [entry["pixels"] for entry in stats[key]] == areas.tolist()
        assert sum(entry["fraction"] for entry in stats[key]) == pytest.approx(1)
    for entry in stats["regions"]:
        is_there = np.pad(regions == entry["region"], 1)
        around = is_there[:-2, 1:-1] | is_there[2:, 1:-1] | is_there[1:-1, :-2] | is_there[1:-1, 2:]
        touching = set(np.unique(regions[around & counts]).tolist()) - {entry["region"]}
        assert entry["neighbours"] == sorted(touching)
        assert entry["label"] == labels[regions == entry["region"]][0]
    mask = stats["source"]["mask"]
    assert (mask["path"], mask["outside"]) == (str(masks / "a.png"), outside)
    assert mask["pixels"] == np.count_nonzero(counts)
    color = read_pixels(out / "color/a.png", "RGB")
    assert (color[~counts] == 0).all()
    for entry in stats["clusters"]:
        assert (color[labels == entry["label"]] == entry["color"]).all()
    assert "mask" not in stats_of(out, "b")["source"]
    assert read_pixels(out / "labels/b.png").min() == 0


def test_overlay_leaves_the_photo_outside_as_it_is(engine: Engine) -> None:
    result = engine.segment(noise(), mask=disc() > 0)
    laid, far = np.asarray(result.overlay()), np.zeros((HEIGHT, WIDTH), bool)
    far[:2, 14:], far[-2:, :8] = True, True
    np.testing.assert_array_equal(laid[far], noise()[far])
    assert (laid[disc() > 0] != noise()[disc() > 0]).any(axis=1).mean() > 0.9


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
@pytest.mark.parametrize("outside", ["255", "background"])
@pytest.mark.parametrize("things", [True, False], ids=["regions", "labels"])
def test_exports_leave_out_what_does_not_count(
    engine: Engine, photos: Path, masks: Path, out: Path, outside: str, things: bool
) -> None:
    save = ("labels", "stats", "regions") if things else ("labels", "stats")
    formats = "voc", "coco-rle", "coco-panoptic", "cvat", "csv", "geojson", "cutouts"
    exact = ExportConfig(tolerance=0)
    batch = BatchConfig(mask=masks, outside=outside, save=save, export=formats, export_config=exact)  # type: ignore[arg-type]
    plan = plan_batch([photos], out, engine.config, batch)
    plan.folder.mark()
    assert all(
        outcome.status == "done" for _, outcome in run_stream(plan.jobs, plan.folder, batch, [engine]) if outcome
    )
    list(export_folder(plan))
    stats, counts = stats_of(out, "a"), disc() > 0
    entries = stats["regions" if things else "clusters"]
    exported = out / "export"
    classes, objects = (read_pixels(exported / f"voc/Segmentation{kind}/a.png") for kind in ("Class", "Object"))
    labels = read_pixels(out / "labels/a.png").astype(int)
    assert (classes[~counts] == 0).all()
    assert (objects[~counts] == 0).all()
    np.testing.assert_array_equal(classes[counts], labels[counts] + 1)
    assert np.unique(objects[counts]).tolist() == list(range(1, len(entries) + 1))
    with zipfile.ZipFile(exported / "cvat.zip") as archive:
        assert archive.read("SegmentationClass/a.png") == (exported / "voc/SegmentationClass/a.png").read_bytes()
    document = json.loads((exported / "coco-rle.json").read_text())
    image = next(one["id"] for one in document["images"] if one["file_name"] == "a.png")
    found = [one for one in document["annotations"] if one["image_id"] == image]
    assert [one["area"] for one in found] == [entry["pixels"] for entry in entries]
    assert [one["category_id"] for one in found] == [entry["label"] + 1 for entry in entries]
    together = np.sum([coco_masks.decode(one["segmentation"]) for one in found], axis=0)
    np.testing.assert_array_equal(together, counts)
    panoptic = read_pixels(exported / "coco-panoptic/a.png").astype(int) @ [1, 256, 65536]
    np.testing.assert_array_equal(panoptic > 0, counts)
    collection = json.loads((exported / "geojson/a.geojson").read_text())
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in collection["features"]]
    assert sum(shape.area for shape in shapes) == pytest.approx(np.count_nonzero(counts))
    opaque = [read_pixels(path)[..., 3] > 0 for path in (exported / "cutouts/a").glob("*.png")]
    assert sorted(map(np.count_nonzero, opaque), reverse=True) == [entry["pixels"] for entry in entries]
    lines = [line.split(",") for line in (exported / "measurements.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:] if line[0] == "a.png"]
    assert [int(row["area"]) for row in rows] == [entry["pixels"] for entry in entries]
    if things:
        assert [int(row["region"]) for row in rows] == [entry["region"] for entry in entries]
        neighbours = [[int(number) for number in row["neighbors"].split()] for row in rows]
        assert neighbours == [entry["neighbours"] for entry in entries]


def test_map_of_many_regions_has_its_own_void(tmp_path: Path) -> None:
    """More than 65,535 regions beside pixels without one do not fit 16 bits."""
    from dynaseg_cli.files.encoding import regions_file  # noqa: PLC0415
    from dynaseg_cli.files.writing import write_atomically  # noqa: PLC0415

    for count, suffix, void in ((65535, ".png", 65535), (65536, ".tif", 2**31 - 1)):
        regions = np.append(-1, np.arange(count)).astype(np.int32)[None]
        found, content = regions_file(regions)
        assert found == suffix
        write_atomically(tmp_path / f"regions{suffix}", content)
        stored = read_pixels(tmp_path / f"regions{suffix}")
        assert stored[0, 0] == void
        np.testing.assert_array_equal(stored[0, 1:], np.arange(count))


@pytest.mark.parametrize("outside", ["255", "background"])
def test_report_of_a_finished_folder_is_that_of_the_run(
    engine: Engine, photos: Path, masks: Path, out: Path, tmp_path: Path, outside: str
) -> None:
    save = ("labels", "color", "stats", "overlay", "hierarchy")
    run(engine, photos, out, masks, save=save, report=True, outside=outside)
    expected = files_below(out / "report")
    for path in (out / "report").rglob("*.*"):
        path.unlink()
    before = products(out, *save)
    outcomes = list(complete_entries(plan_of_results(out, report=True), threading.Event()))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert files_below(out / "report") == expected
    changed = {name for name, content in products(out, *save).items() if before[name] != content}
    assert not {name for name in changed if not name.startswith("stats/")}
    draw(masks / "a.png", rectangle())
    (masks / "sub/c.png").unlink()
    for path in (out / "report").rglob("*.*"):
        path.unlink()
    reasons = [outcome.reason for outcome in complete_entries(plan_of_results(out, report=True), threading.Event())]
    assert "masks/a.png has changed since" in str(reasons[0])
    assert reasons[1] is None
    assert "masks/sub/c.png is gone" in str(reasons[2])


def test_report_of_a_deep_photo_has_the_greys_of_the_run(engine: Engine, tmp_path: Path, out: Path) -> None:
    """Those of what counts, though the rest would stretch them otherwise."""
    values = np.where(disc() > 0, noise()[..., 0].astype(np.uint16) + 7000, 65535).astype(np.uint16)
    draw(tmp_path / "photos/a.png", values)
    draw(tmp_path / "masks/a.png", disc())
    run(engine, tmp_path / "photos", out, tmp_path / "masks", report=True)
    expected = files_below(out / "report")
    for path in (out / "report").rglob("*.*"):
        path.unlink()
    assert [one.status for one in complete_entries(plan_of_results(out, report=True), threading.Event())] == ["done"]
    assert files_below(out / "report") == expected


def test_evaluation_ignores_255(engine: Engine, photos: Path, masks: Path, out: Path, tmp_path: Path) -> None:
    """A result with a mask is ground truth for labels that are the same inside, and others outside."""
    run(engine, photos, out, masks)
    labels = read_pixels(out / "labels/a.png")
    draw(tmp_path / "truth/a.png", labels)
    outside = np.random.default_rng(0).integers(0, 9, labels.shape).astype(np.uint8)
    draw(tmp_path / "found/a.png", np.where(labels == 255, outside, labels))
    evaluation = Evaluation(tmp_path / "found", tmp_path / "truth", EvaluateConfig(protocol="regions", connected=False))
    assert len(list(evaluation.run())) == 1
    assert evaluation.metrics()["covering"] == 1
    assert evaluation.ignored_fraction == pytest.approx((disc() == 0).mean())


# Continuing


def test_re_run_does_what_is_masked_otherwise_and_nothing_else(
    engine: Engine, photos: Path, masks: Path, out: Path
) -> None:
    run(engine, photos, out)
    assert statuses(run(engine, photos, out, masks)) == ["done", "skipped", "done"]
    assert statuses(run(engine, photos, out, masks)) == ["skipped"] * 3
    draw(masks / "a.png", rectangle())
    (masks / "sub/c.png").unlink()
    outcomes = run(engine, photos, out, masks)
    assert statuses(outcomes) == ["done", "skipped", "done"]
    assert outcomes["a.png"].segmented
    assert "mask" not in stats_of(out, "sub/c")["source"]
    assert stats_of(out, "a")["source"]["mask"]["pixels"] == rectangle().sum()


def test_run_without_masks_leaves_alone_what_was_made_with_some(
    engine: Engine, photos: Path, masks: Path, out: Path
) -> None:
    run(engine, photos, out, masks)
    before = files_below(out / "labels")
    with pytest.raises(UsageError, match=r"a\.json was made with other options \(mask was .*a\.png, now none\)"):
        run(engine, photos, out)
    jobs = plan_batch([photos], out, engine.config, BatchConfig(overwrite=True)).jobs
    folder = plan_batch([photos], out, engine.config, BatchConfig(overwrite=True)).folder
    outcomes = [outcome for _, outcome in run_stream(jobs, folder, BatchConfig(), [engine])]
    assert [outcome.status for outcome in outcomes if outcome] == ["failed", "skipped", "failed"]
    assert files_below(out / "labels") == before
    run(engine, photos, out, overwrite=True)
    assert "mask" not in stats_of(out, "a")["source"]


def test_another_cut_or_outside_needs_no_network_and_gives_what_a_new_run_gives(
    engine: Engine, photos: Path, masks: Path, out: Path
) -> None:
    save = ("labels", "color", "stats", "overlay", "regions", "hierarchy")
    run(engine, photos, out, masks, save=save)
    changes: list[dict[str, Any]] = [
        {"outside": "background"},
        {"outside": "background", "cut": CutConfig(2)},
        {"cut": CutConfig("raw")},
        {},
    ]
    for number, change in enumerate(changes):
        outcomes = run(engine, photos, out, masks, save=save, **change)
        assert outcomes["a.png"].status == "done"
        assert not outcomes["a.png"].segmented
        fresh = out.parent / str(number)
        run(engine, photos, fresh, masks, save=save, **change)
        kinds = ("labels", "color", "overlay", "regions", "hierarchy", ".raw")
        assert products(out, *kinds) == products(fresh, *kinds)
        assert without(stats_of(out, "a")) == without(stats_of(fresh, "a"))
        assert statuses(run(engine, photos, out, masks, save=save, **change)) == ["skipped"] * 3


def test_outside_of_photos_without_masks_changes_nothing(engine: Engine, photos: Path, masks: Path, out: Path) -> None:
    run(engine, photos, out, masks)
    assert statuses(run(engine, photos, out, masks, outside="background")) == ["done", "skipped", "done"]


def test_scribbles_and_masks_go_together(engine: Engine, photos: Path, masks: Path, out: Path, tmp_path: Path) -> None:
    scribbles = np.full((HEIGHT, WIDTH), 255, np.uint8)
    scribbles[7, 5:14], scribbles[11, 5:14] = 6, 2
    scribbles[0] = 4  # outside
    draw(tmp_path / "drawn/a.png", scribbles)
    for cut in (CutConfig(), CutConfig(2)):
        run(engine, photos, out, masks, scribbles=tmp_path / "drawn", cut=cut)
        labels = read_pixels(out / "labels/a.png")
        drawn = (scribbles != 255) & (disc() > 0)
        np.testing.assert_array_equal(labels[drawn], scribbles[drawn])
        assert (labels[0] == 255).all()
    assert stats_of(out, "a")["fit"]["silhouette"] is None


# Files


def counts_of(mask: NDArray[Any] | Image.Image | bytes, content: bytes | None = None) -> NDArray[np.bool_] | None:
    drawn = mask if isinstance(mask, bytes) else encoded(mask, "PNG")
    photo = decode_photo(content or encoded(noise(), "PNG"), 1000, mask=Mask("masks/a.png", 1000, drawn, "ab"))
    return photo.counts


def test_grey_palette_bits_and_16_bits_are_masks() -> None:
    expected = disc() > 0
    palette = Image.fromarray((disc() > 0).astype(np.uint8) * 3).convert("P")
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    stored = [disc(), (disc() > 0).astype(np.uint8), Image.fromarray(expected), palette, disc().astype(np.uint16) * 9]
    stored.append(Image.fromarray(disc()).convert("LA"))
    for mask in stored:
        np.testing.assert_array_equal(counts_of(mask), expected)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.ones((HEIGHT, 30), np.uint8), "30 x 20 pixels, but the photo has 24 x 20"),
        (np.zeros((HEIGHT, WIDTH), np.uint8), "it is 0 everywhere, so nothing of the photo counts"),
        (Image.fromarray(disc()).convert("RGB"), "its pixels are colours, and a mask is 0 where the photo does not"),
        (Image.fromarray(disc()).convert("RGBA"), "its pixels are colours"),
        (encoded(disc(), "JPEG"), "a JPEG file under the name of a PNG"),
        (b"", "the file is empty"),
        (b"no picture", "masks/a.png"),
        (encoded(disc(), "PNG")[:60], "damaged, or not a PNG file"),
        (np.ones((60, 60), np.uint8), "60 x 60 pixels are more than `max_pixels=1000` allows"),
    ],
    ids=["size", "empty", "colours", "transparent", "format", "nothing", "text", "cut", "pixels"],
)
def test_what_cannot_be_a_mask_is_refused_with_its_name(mask: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=r"^masks/a\.png: ") as raised:
        counts_of(mask)
    assert reason in str(raised.value)


def test_hostile_masks_fail_their_photo_alone(engine: Engine, photos: Path, masks: Path, out: Path) -> None:
    draw(masks / "a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    (masks / "b.png").mkdir()
    os.mkfifo(masks / "pipe.png")
    outcomes = run(engine, photos, out, masks)
    assert statuses(outcomes) == ["failed", "failed", "done"]
    assert outcomes["a.png"].reason == f"{masks / 'a.png'}: it is 0 everywhere, so nothing of the photo counts"
    assert outcomes["b.bmp"].reason == f"{masks / 'b.png'}: Is a directory"
    assert not (out / "labels/a.png").exists()


def test_mask_lies_on_the_photo_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(noise(), "PNG", exif=exif)
    upright = np.ones((WIDTH, HEIGHT), np.uint8)
    upright[0] = 0
    np.testing.assert_array_equal(counts_of(upright, content), upright > 0)
    with pytest.raises(ImageError, match="24 x 20 pixels, but the photo has 20 x 24, turned upright as EXIF says"):
        counts_of(disc(), content)
    drawn = ScribbleFile("a.png", encoded(disc(), "PNG"), "")
    with pytest.raises(ImageError, match="turned upright"):
        decode_scribbles(drawn, (WIDTH, HEIGHT), 300, 1000)


def test_jpeg_2000_which_is_read_alone_may_have_a_mask() -> None:
    """Its reader keeps all others out, also that of the mask."""
    np.testing.assert_array_equal(counts_of(disc(), encoded(noise(), "JPEG2000")), disc() > 0)


# Opacity and "no data"


def test_opacity_is_a_mask(engine: Engine, tmp_path: Path, out: Path) -> None:
    alpha = disc().copy()
    alpha[9, 9] = 1  # hardly there, but not wholly transparent
    draw(tmp_path / "photos/a.png", np.dstack([noise(), alpha]))
    save_photo(tmp_path / "photos/b.png", 1)
    draw(tmp_path / "photos/c.png", np.dstack([noise(), np.zeros_like(alpha)]))
    outcomes = run(engine, tmp_path / "photos", out, "alpha")
    assert statuses(outcomes) == ["done", "done", "failed"]
    assert outcomes["c.png"].reason == "it is wholly transparent, so nothing of it counts with `mask=alpha`"
    np.testing.assert_array_equal(read_pixels(out / "labels/a.png") != 255, disc() > 0)
    mask = stats_of(out, "a")["source"]["mask"]
    assert mask == {"from": "alpha", "outside": "255", "pixels": int((disc() > 0).sum())}
    assert stats_of(out, "b")["source"]["mask"]["pixels"] == HEIGHT * WIDTH
    (tmp_path / "photos/c.png").unlink()
    assert statuses(run(engine, tmp_path / "photos", out, "alpha")) == ["skipped", "skipped"]
    with pytest.raises(UsageError, match="mask was alpha, now none"):
        run(engine, tmp_path / "photos", out)


@pytest.mark.parametrize("kind", ["declared", "nan"])
def test_no_data_is_a_mask(engine: Engine, tmp_path: Path, out: Path, kind: str) -> None:
    counts = disc() > 0
    (tmp_path / "photos").mkdir()
    if kind == "nan":
        values: NDArray[Any] = np.where(counts, noise()[..., 0].astype(np.float32), np.float32(np.nan))
        tifffile.imwrite(tmp_path / "photos/a.tif", values)
    else:
        values = np.where(counts, np.maximum(noise()[..., 0], 1), 0).astype(np.uint8)
        tifffile.imwrite(tmp_path / "photos/a.tif", values, extratags=[(42113, 2, 0, "0", True)])
    assert statuses(run(engine, tmp_path / "photos", out, "nodata")) == ["done"]
    np.testing.assert_array_equal(read_pixels(out / "labels/a.png") != 255, counts)
    assert stats_of(out, "a")["source"]["mask"]["from"] == "nodata"


# Planning


def plan(photos: Path, out: Path, masks: Any, **batch: Any) -> Plan:
    return plan_batch([photos], out, TINY, BatchConfig(mask=masks, **batch))


def test_folders_of_masks_are_planned_as_those_of_scribbles(photos: Path, masks: Path, out: Path) -> None:
    with pytest.raises(UsageError, match=r"`mask=.*absent` is not a folder"):
        plan(photos, out, photos.parent / "absent")
    with pytest.raises(UsageError, match="is the input itself"):
        plan(photos, out, photos)
    empty = photos.parent / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"`mask=.*` has none for any image; for .*a\.png it would be .*empty/a\.png"):
        plan(photos, out, empty)
    draw(masks / "other.png", disc())
    assert plan(photos, out, masks).unused_masks == [masks / "other.png"]
    inside = masks.rename(photos / "masks")
    assert [job.name for job in plan(photos, out, inside).jobs] == ["a", "b", "sub/c"]


def test_background_is_no_label_of_scribbles_or_folders(photos: Path, masks: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="`outside=background` is for what `mask` leaves out"):
        BatchConfig(outside="background")
    with pytest.raises(UsageError, match="`scribbles` give labels their numbers"):
        BatchConfig(outside="background", mask=masks, scribbles=masks)
    folder = dataclasses.replace(TINY_FOLDER_FIT, model=None)
    with pytest.raises(UsageError, match="a folder's network has a label 0 of its own"):
        plan_batch([photos], out, folder, BatchConfig(mask=masks, outside="background"))

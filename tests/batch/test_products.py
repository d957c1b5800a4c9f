from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from samples import TINY, files_below, photo_folder, read_pixels

from dynaseg_cli import FOLDER_FIT, BatchConfig, CutConfig, Engine, read_hierarchy
from dynaseg_cli.batch import products, stages
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.products import Products
from dynaseg_cli.batch.report_files import ReportEntry
from dynaseg_cli.batch.stages import run_stream
from dynaseg_cli.config import Colors, Product, SegmentConfig
from dynaseg_cli.engine.segmentation import FitRecord, Segmentation
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.encoding import JPEG_SIDE, jpeg, png
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.files.user_files import MARK
from dynaseg_cli.files.weights import identify
from dynaseg_cli.files.writing import write_atomically
from dynaseg_cli.pictures.overlay import overlay
from dynaseg_cli.pictures.palette import label_palette
from dynaseg_cli.regions.hierarchy import Hierarchy, boundary_map, build_hierarchy
from dynaseg_cli.regions.segments import connected_regions, number_by_area
from dynaseg_cli.regions.tidying import cut_regions, tidied_labels

SCHEMA = json.loads((Path(stages.__file__).parent / "stats.schema.json").read_text())
ALL: tuple[Product, ...] = ("labels", "color", "stats", "overlay", "regions", "hierarchy", "raw")
"""All that can be made of raw labels."""
REGIONS: tuple[Product, ...] = ("labels", "color", "stats", "regions")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(TINY, "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "sub/b.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(engine: Engine, photos: Path, out: Path, cut: CutConfig | None = None, **batch: Any) -> list[Outcome]:
    plan = plan_batch([photos], out, engine.config, BatchConfig(cut=cut or CutConfig(), **batch))
    plan.folder.mark()
    return [outcome for _, outcome in run_stream(plan.jobs, plan.folder, plan.batch, [engine]) if outcome is not None]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def written(out: Path) -> dict[str, bytes]:
    """Everything but the log, and stats and details without what tells the time."""
    found = files_below(out)
    found.pop("outcomes.jsonl")
    for name in [name for name in found if name.endswith(".js")]:
        found[name] = re.sub(rb'"seconds":[0-9.e-]+', b"", found[name])
    for name in [name for name in found if name.endswith(".json")]:
        stats = json.loads(found[name])
        stats["fit"].pop("seconds")
        found[name] = json.dumps(stats, sort_keys=True).encode()
    return found


def stats_of(out: Path, name: str = "a") -> dict[str, Any]:
    stats = json.loads((out / f"stats/{name}.json").read_text())
    jsonschema.validate(stats, SCHEMA)
    return dict(stats)


class _SegmentsAgainError(Exception):
    pass


@pytest.fixture
def no_network(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs from here on must not segment."""

    def refuse(*_: object) -> None:
        raise _SegmentsAgainError

    monkeypatch.setattr(engine, "segment", refuse)
    monkeypatch.setattr(engine, "find_silhouette", refuse)


@pytest.mark.parametrize(
    "cut", [CutConfig(), CutConfig(regions=3), CutConfig(granularity=0.9), CutConfig(regions="fine")]
)
def test_labels_regions_and_hierarchy_agree(engine: Engine, photos: Path, out: Path, cut: CutConfig) -> None:
    assert statuses(run(engine, photos, out, cut, save=ALL)) == ["done", "done"]
    for name in ("a", "sub/b"):
        raw, labels, regions = (read_pixels(out / f"{product}/{name}.png") for product in ("raw", "labels", "regions"))
        np.testing.assert_array_equal(raw, engine.segment(read_pixels(photos / f"{name}.png")).labels)
        assert regions.dtype == np.uint16
        assert (np.diff(np.bincount(regions.reshape(-1))) <= 0).all()
        np.testing.assert_array_equal(connected_regions(regions).max(), regions.max())
        hierarchy = read_hierarchy(out / f"hierarchy/{name}.png")
        np.testing.assert_array_equal(cut_regions(hierarchy, cut), regions)
        tidied = number_by_area(tidied_labels(raw, regions.astype(np.int32)))
        np.testing.assert_array_equal(labels, tidied.labels)
        stats = stats_of(out, name)
        assert stats["cut"] == cut.as_options()
        assert (stats["num_labels"], stats["raw_labels"]) == (tidied.count, len(np.unique(raw)))
        assert [entry["pixels"] for entry in stats["clusters"]] == np.bincount(labels.reshape(-1)).tolist()
        assert [entry["pixels"] for entry in stats["regions"]] == np.bincount(regions.reshape(-1)).tolist()
        assert {(entry["granularity"], entry["regions"]) for entry in stats["levels"]} == set(hierarchy.levels())


@pytest.mark.parametrize("cut", [CutConfig(regions="raw"), CutConfig(granularity=1.0)])
def test_raw_cut_leaves_the_labels_of_the_network(engine: Engine, photos: Path, out: Path, cut: CutConfig) -> None:
    run(engine, photos, out, cut, save=("labels", "stats", "regions", "overlay", "raw"))
    raw, labels, regions = (read_pixels(out / f"{product}/a.png") for product in ("raw", "labels", "regions"))
    np.testing.assert_array_equal(labels, engine.segment(read_pixels(photos / "a.png")).labels)
    np.testing.assert_array_equal(raw, labels)
    parts = connected_regions(labels)
    assert len(np.unique(parts * 65536 + regions)) == parts.max() + 1 == regions.max() + 1
    assert len(stats_of(out)["regions"]) == regions.max() + 1
    assert "levels" not in stats_of(out), "no hierarchy is needed"


@pytest.mark.parametrize("save", [("labels", "stats"), ("color", "stats", "hierarchy"), ("stats", "overlay", "raw")])
def test_raw_labels_are_kept_and_nothing_else_that_nobody_asked_for(
    engine: Engine, photos: Path, out: Path, save: tuple[Product, ...]
) -> None:
    run(engine, photos, out, save=save)
    kept = () if "raw" in save else (".raw",)
    assert {path.name for path in out.iterdir()} == {*save, *kept, "outcomes.jsonl", MARK}
    assert {"levels", "cut", "regions"} <= stats_of(out).keys()


def test_without_statistics_nothing_is_kept_for_later(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out, save=("labels",))
    assert {path.name for path in out.iterdir()} == {"labels", "outcomes.jsonl", MARK}


@pytest.mark.usefixtures("no_network")
def test_raw_labels_that_are_asked_for_later_take_no_network(photos: Path, out: Path, engine: Engine) -> None:
    run(Engine(TINY, "cpu"), photos, out)
    kept = files_below(out / ".raw")
    outcomes = run(engine, photos, out, save=("labels", "color", "stats", "overlay", "raw"))
    assert [outcome.segmented for outcome in outcomes] == [False, False]
    assert files_below(out / "raw") == kept
    assert files_below(out / ".raw") == {}
    run(engine, photos, out, CutConfig(regions=2))
    assert files_below(out / "raw") == kept, "they serve for the next cut"


def test_kept_raw_labels_of_a_photo_that_is_redone_are_its_own(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out)
    other = Engine(replace(TINY, seed=5), "cpu")
    run(other, photos, out, overwrite=True)
    np.testing.assert_array_equal(read_pixels(out / ".raw/a.png"), other.segment(read_pixels(photos / "a.png")).labels)


def to_version_1(out: Path, *, overlay: bool = True) -> None:
    """Turn results of the cut `raw` to what the first version wrote."""
    shutil.rmtree(out / ".raw", ignore_errors=True)
    for path in out.glob("stats/**/*.json"):
        stats = json.loads(path.read_text())
        assert stats.pop("raw_labels") == stats["num_labels"]
        stats["schema_version"] = 1
        for name in ("cut", "regions"):
            del stats[name]
        path.write_text(json.dumps(stats))
    for path in out.glob("overlay/**/*.jpg"):
        path.rename(path.with_suffix(".png"))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("cut", [CutConfig(), CutConfig(regions=3), CutConfig(regions="raw")])
@pytest.mark.parametrize("save", [BatchConfig.save, ("stats", "color"), ALL])
def test_results_of_version_1_are_cut_without_the_network(
    photos: Path, out: Path, engine: Engine, cut: CutConfig, save: tuple[Product, ...]
) -> None:
    run(Engine(TINY, "cpu"), photos, out, CutConfig(regions="raw"))
    before = files_below(out / "labels")
    to_version_1(out)
    outcomes = run(engine, photos, out, cut, save=save)
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False)] * 2
    assert files_below(out / ("raw" if "raw" in save else ".raw")) == before
    everything = tuple(dict.fromkeys((*BatchConfig.save, *save)))
    run(Engine(TINY, "cpu"), photos, out.parent / "fresh", cut, save=everything)
    assert written(out) == written(out.parent / "fresh")
    assert not list(out.glob("overlay/**/*.png")), "there is one overlay an image"
    assert statuses(run(engine, photos, out, cut, save=save)) == ["skipped", "skipped"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("step", range(12))
def test_results_of_version_1_survive_a_kill(photos: Path, out: Path, engine: Engine, step: int) -> None:
    run(Engine(TINY, "cpu"), photos, out, CutConfig(regions="raw"))
    before = files_below(out / "labels")
    to_version_1(out)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_KilledError):
        killed_at(patch, step)
        run(engine, photos, out)
    assert [outcome.segmented for outcome in run(engine, photos, out) if outcome.status == "done"] in (
        [],
        [False],
        [False, False],
    )
    assert files_below(out / ".raw") == before
    run(Engine(TINY, "cpu"), photos, out.parent / "fresh")
    assert written(out) == written(out.parent / "fresh")


def test_an_overlay_of_the_user_stays(engine: Engine, photos: Path, out: Path) -> None:
    theirs = out / "overlay/a.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    for save in (("overlay",), ("labels",)):
        with pytest.raises(UsageError, match=r"overlay/a\.png exists and was not written by dynaseg"):
            run(engine, photos, out, save=save, overwrite=True)
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize(("width", "height"), [(JPEG_SIDE + 1, 1), (1, JPEG_SIDE), (1, 2 * JPEG_SIDE + 1)])
def test_overlay_is_as_large_as_its_format_allows(tmp_path: Path, width: int, height: int) -> None:
    job, folder = Job("strip.png", "strip"), OutputFolder(tmp_path)
    regions = np.zeros((height, width), dtype=np.int32)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    with folder.batch() as files:
        Products(job, folder, BatchConfig())._write_overlay(files, image, regions, np.zeros((1, 3), dtype=np.uint8))
    longest = max(read_pixels(tmp_path / "overlay/strip.jpg").shape)
    assert longest == -(-max(width, height) // -(-max(width, height) // JPEG_SIDE)) <= JPEG_SIDE


def test_labels_of_a_folder_keep_their_numbers(photos: Path, tmp_path: Path) -> None:
    job, folder = Job("photo.png", "photo"), OutputFolder(tmp_path)
    raw = np.full((20, 24), 7, dtype=np.uint8)
    raw[:, 12:] = 3
    raw[4, 5] = 20  # a speck
    image = read_pixels(photos / "a.png")
    image[:] = raw[..., None] * 10
    fit = {"options": {"fit": "folder"}, "source": {"width": 24, "height": 20}}
    record, config = FitRecord(3, "float32"), replace(TINY, **FOLDER_FIT)
    segmentation = Segmentation(raw, 3, np.arange(27, dtype=np.int32), record, 0.0, image, config)
    Products(job, folder, BatchConfig(cut=CutConfig(regions=2))).write(segmentation, fit)
    assert np.unique(read_pixels(tmp_path / "labels/photo.png")).tolist() == [3, 7]
    np.testing.assert_array_equal(read_pixels(tmp_path / ".raw/photo.png"), raw)


@pytest.mark.parametrize("colors", ["calm", "palette", "mean"])
def test_pictures_are_in_the_colours_that_the_statistics_tell(
    engine: Engine, photos: Path, out: Path, colors: Colors
) -> None:
    run(engine, photos, out, save=ALL, colors=colors)
    stats = stats_of(out)
    assert stats["colors"] == colors
    table = np.array([entry["color"] for entry in stats["clusters"]], dtype=np.uint8)
    expected = means_of(stats) if colors == "mean" else label_palette(colors)[: len(table)]
    np.testing.assert_array_equal(table, expected)
    np.testing.assert_array_equal(read_pixels(out / "color/a.png", "RGB"), table[read_pixels(out / "labels/a.png")])
    of_region = table[[entry["label"] for entry in stats["regions"]]]
    laid = overlay(read_pixels(photos / "a.png"), read_pixels(out / "regions/a.png").astype(int), of_region)
    write_atomically(out.parent / "laid.jpg", jpeg(laid))
    assert (out / "overlay/a.jpg").read_bytes() == (out.parent / "laid.jpg").read_bytes()


def means_of(stats: dict[str, Any]) -> NDArray[np.float64]:
    return np.rint([entry["mean_rgb"] for entry in stats["clusters"]])


@pytest.mark.usefixtures("no_network")
def test_other_colours_take_no_network_and_give_what_a_fresh_run_does(
    photos: Path, tmp_path: Path, engine: Engine
) -> None:
    cut = CutConfig(regions=4)
    run(Engine(TINY, "cpu"), photos, tmp_path / "fresh", cut, save=ALL, colors="mean", report=True)
    run(Engine(TINY, "cpu"), photos, tmp_path / "out", cut, save=ALL, report=True)
    colored = ("labels", "color", "stats")  # what is not asked for follows
    outcomes = run(engine, photos, tmp_path / "out", cut, save=colored, colors="mean")
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False)] * 2
    assert written(tmp_path / "out") == written(tmp_path / "fresh")
    assert statuses(run(engine, photos, tmp_path / "out", cut, save=ALL, colors="mean")) == ["skipped", "skipped"]


@pytest.mark.usefixtures("no_network")
def test_colours_that_are_not_asked_for_stay_as_they_are(photos: Path, out: Path, engine: Engine) -> None:
    run(Engine(TINY, "cpu"), photos, out, colors="mean")
    before = written(out)
    assert statuses(run(engine, photos, out, save=("labels", "stats"))) == ["skipped", "skipped"]
    assert statuses(run(engine, photos, out, save=("labels", "stats", "hierarchy"))) == ["done", "done"]
    assert {name: written(out)[name] for name in before} == before
    assert statuses(run(engine, photos, out, CutConfig(regions=2), save=("labels", "stats"))) == ["done", "done"]
    assert stats_of(out)["colors"] == "mean", "the pictures that are there follow the cut"
    run(Engine(TINY, "cpu"), photos, out.parent / "fresh", CutConfig(regions=2), colors="mean")
    shutil.rmtree(out / "hierarchy")
    assert written(out) == written(out.parent / "fresh")


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("options", [{"colors": "mean"}, {"cut": CutConfig(regions=3)}])
@pytest.mark.parametrize("failing", ["jpeg", "palette_png"])
def test_pictures_that_cannot_be_written_leave_the_raw_labels_to_go_on_from(
    engine: Engine, photos: Path, out: Path, options: dict[str, Any], failing: str
) -> None:
    run(engine, photos, out, save=ALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, failing, disk_full)
        assert statuses(run(engine, photos, out, save=ALL, **options)) == ["failed", "failed"]
    stats = json.loads((out / "stats/a.json").read_text())
    assert not {"cut", "num_labels", "colors", "clusters", "levels", "regions"} & stats.keys()
    outcomes = run(engine, photos, out, save=("labels", "stats"))
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False)] * 2
    fresh = out.parent / "fresh"
    run(engine, photos, fresh, save=ALL)
    assert written(out) == written(fresh)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("asked", [{"report": True}, {"save": ("labels", "stats")}, {"save": ("stats", "regions")}])
def test_everything_that_is_there_follows_the_cut(photos: Path, out: Path, engine: Engine, asked: Any) -> None:
    run(Engine(TINY, "cpu"), photos, out, CutConfig(regions=4), save=ALL)
    assert statuses(run(engine, photos, out, **asked)) == ["done", "done"]
    assert statuses(run(engine, photos, out, **asked)) == ["skipped", "skipped"]
    run(Engine(TINY, "cpu"), photos, out.parent / "fresh", save=ALL, report="report" in asked)
    assert written(out) == written(out.parent / "fresh")


def test_thumbnail_that_is_gone_is_made_again(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out, report=True)
    before = written(out)
    for path in out.glob("report/*/*-labels.webp"):
        path.unlink()
    assert [outcome.segmented for outcome in run(engine, photos, out, report=True)] == [False, False]
    assert written(out) == before


def test_recording_shows_the_iterations_and_changes_nothing_else(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out.parent / "without", save=ALL)
    run(engine, photos, out, save=(*ALL, "recording"))
    for name in ("a", "sub/b"):
        with Image.open(out / f"recording/{name}.webp") as recording:
            assert recording.n_frames == stats_of(out, name)["fit"]["iterations"] + 1
    found = written(out)
    without = written(out.parent / "without")
    assert {name: content for name, content in found.items() if not name.startswith("recording/")} == without
    assert statuses(run(engine, photos, out, save=(*ALL, "recording"))) == ["skipped", "skipped"]


def test_channels_of_labels_that_survive_have_their_numbers() -> None:
    """Channel 0 became raw label 2, which is label 0 now; channel 3 became raw label 5, which did not occur."""
    numbers, renumbered = np.array([2, 0, 1, 5], dtype=np.int32), np.array([1, 3, 0, 2], dtype=np.int32)
    assert products._joined(numbers, renumbered).tolist() == [0, 1, 3, 5]


@pytest.mark.parametrize("cut", [CutConfig(regions="raw"), CutConfig(regions=1)])
def test_recording_ends_with_the_labels_as_they_were_cut(
    engine: Engine, photos: Path, out: Path, cut: CutConfig
) -> None:
    run(engine, photos, out, save=("labels", "stats", "recording"))
    outcomes = run(engine, photos, out, cut, save=("labels", "stats"))
    assert [outcome.segmented for outcome in outcomes] == [True, True], "the frames are gone"
    run(engine, photos, out.parent / "fresh", cut, save=("labels", "stats", "recording"))
    assert written(out) == written(out.parent / "fresh")
    with Image.open(out / "recording/a.webp") as recording:
        recording.seek(recording.n_frames - 1)
        right = np.array(recording.convert("RGB"))[: 480 * 20 // 24, -480:]
    shown = {tuple(color) for color in right[5:-5, 5:-5].reshape(-1, 3).tolist()}
    assert {tuple(entry["color"]) for entry in stats_of(out)["clusters"]} == shown


def test_recording_that_is_asked_for_later_takes_the_network_and_gives_the_same_labels(
    engine: Engine, photos: Path, out: Path
) -> None:
    run(engine, photos, out)
    before = written(out)
    outcomes = run(engine, photos, out, save=("labels", "color", "stats", "recording"))
    assert [outcome.segmented for outcome in outcomes] == [True, True]
    after = written(out)
    assert {name: after[name] for name in before} == before
    outcomes = run(engine, photos, out, save=("labels", "stats", "recording"), colors="mean")
    assert [outcome.segmented for outcome in outcomes] == [True, True], "its colours are not as asked for"
    assert written(out)["recording/a.webp"] != after["recording/a.webp"]


def test_recording_that_is_there_changes_its_colours_with_the_other_pictures(
    engine: Engine, photos: Path, out: Path
) -> None:
    save: tuple[Product, ...] = (*BatchConfig.save, "recording")
    run(engine, photos, out, save=save)
    assert statuses(run(engine, photos, out, colors="mean")) == ["done", "done"]
    assert statuses(run(engine, photos, out, save=save, colors="mean")) == ["skipped", "skipped"]
    run(engine, photos, out.parent / "fresh", save=save, colors="mean")
    assert written(out) == written(out.parent / "fresh")


def test_recording_of_other_labels_does_not_stay(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out, save=("labels", "stats", "recording"))
    other = Engine(replace(TINY, seed=5), "cpu")
    run(other, photos, out, save=("labels", "stats"), overwrite=True)
    fresh = out.parent / "fresh"
    run(other, photos, fresh, save=("labels", "stats", "recording"))
    assert written(out) == written(fresh)


def test_report_has_an_entry_of_each_image_with_a_slider_where_a_hierarchy_is(
    engine: Engine, photos: Path, out: Path
) -> None:
    run(engine, photos, out, report=True)
    plain = written(out)
    assert {Path(name).suffix for name in plain if name.startswith("report/")} == {".webp", ".js"}
    assert statuses(run(engine, photos, out, report=True)) == ["skipped", "skipped"]
    run(engine, photos, out, report=True, save=("labels", "color", "stats", "hierarchy"))
    entries = [name for name in plain if name.endswith(".js")]
    assert len(entries) == 2
    after = written(out)
    assert all(len(after[name]) > len(plain[name]) for name in entries)


def test_entry_of_an_earlier_version_is_made_anew_without_the_network(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out, report=True)
    expected = written(out)
    for path in out.glob("report/*/*-details.js"):
        path.rename(path.with_name(path.name.replace("-details.js", ".js")))
    outcomes = run(engine, photos, out, report=True)
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False), ("done", False)]
    assert written(out) == expected


def test_entry_that_could_not_be_written_is_made_by_the_next_run(engine: Engine, photos: Path, out: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "report_entry", fail)
        assert statuses(run(engine, photos, out, report=True)) == ["failed", "failed"]
    assert not list(out.glob("stats/*.json"))
    assert statuses(run(engine, photos, out, report=True)) == ["done", "done"]


@pytest.mark.parametrize(
    "cut", [CutConfig(regions=5), CutConfig(granularity=0.0), CutConfig(granularity=1.0), CutConfig(regions=100_000)]
)
@pytest.mark.parametrize("hierarchy", [True, False])
@pytest.mark.usefixtures("no_network")
def test_another_cut_takes_no_network_and_gives_what_a_fresh_run_does(
    photos: Path, tmp_path: Path, cut: CutConfig, hierarchy: bool, engine: Engine
) -> None:
    save = ALL if hierarchy else REGIONS
    other = Engine(TINY, "cpu")
    run(other, photos, tmp_path / "fresh", cut, save=save)
    run(other, photos, tmp_path / "out", save=save)
    outcomes = run(engine, photos, tmp_path / "out", cut, save=save)
    assert statuses(outcomes) == ["done", "done"]
    assert [outcome.segmented for outcome in outcomes] == [False, False]
    assert [outcome.iterations for outcome in outcomes] == [2, 2]
    assert written(tmp_path / "out") == written(tmp_path / "fresh")
    assert statuses(run(engine, photos, tmp_path / "out", cut, save=save)) == ["skipped", "skipped"]


@pytest.mark.usefixtures("no_network")
def test_what_is_asked_for_later_is_made_of_the_labels(photos: Path, tmp_path: Path, engine: Engine) -> None:
    other = Engine(TINY, "cpu")
    run(other, photos, tmp_path / "fresh", save=ALL)
    run(other, photos, tmp_path / "out", save=("labels", "stats"))
    assert statuses(run(engine, photos, tmp_path / "out", save=ALL)) == ["done", "done"]
    assert written(tmp_path / "out") == written(tmp_path / "fresh")


@pytest.mark.usefixtures("no_network")
def test_a_hierarchy_on_disk_is_what_is_cut(photos: Path, out: Path, engine: Engine) -> None:
    run(Engine(TINY, "cpu"), photos, out, save=ALL)
    path = out / "hierarchy/a.png"
    boundaries = read_pixels(path)
    write_atomically(path, png(np.where(boundaries > 0, 1, 0).astype(np.uint16)))  # by a person, as weak as can be
    run(engine, photos, out, CutConfig(granularity=0.9), save=ALL)
    assert (read_pixels(out / "regions/a.png") == 0).all()
    assert read_pixels(out / "regions/sub/b.png").max() > 0


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n", None], ids=["empty", "header", "other size"])
@pytest.mark.usefixtures("no_network")
def test_a_damaged_hierarchy_is_built_again(photos: Path, out: Path, engine: Engine, damage: bytes | None) -> None:
    run(Engine(TINY, "cpu"), photos, out, save=ALL)
    before = written(out)
    (out / "hierarchy/a.png").write_bytes((out / "labels/a.png").read_bytes() if damage is None else damage)
    run(engine, photos, out, CutConfig(regions=3), save=ALL)
    run(engine, photos, out, save=ALL)
    assert written(out) == before


def damage(out: Path, how: str) -> None:
    path = out / ".raw/a.png"
    if how == "lost":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    elif how == "other size":
        write_atomically(path, png(np.zeros((3, 3), dtype=np.uint8)))
    elif how == "other labels":
        write_atomically(path, png(read_pixels(path) // 2))
    else:
        (out / "stats/a.json").write_text(json.dumps({**stats_of(out), "fit": None}))


@pytest.mark.parametrize("how", ["lost", "truncated", "other size", "other labels", "no fit"])
def test_raw_labels_that_are_not_as_they_were_written_are_made_anew(
    engine: Engine, photos: Path, out: Path, how: str
) -> None:
    run(engine, photos, out, save=REGIONS)
    damage(out, how)
    first, second = run(engine, photos, out, CutConfig(regions=3), save=REGIONS)
    assert (first.segmented, second.segmented) == (True, False)
    fresh = out.parent / "fresh"
    run(engine, photos, fresh, CutConfig(regions=3), save=REGIONS)
    assert written(out) == written(fresh)


@pytest.mark.usefixtures("no_network")
def test_raw_labels_with_gaps_between_them_serve_again(photos: Path, out: Path, engine: Engine) -> None:
    run(Engine(TINY, "cpu"), photos, out, CutConfig(regions="raw"))
    path = out / ".raw/a.png"
    raw = read_pixels(path)
    values = np.array([7, 250, 3, 9, 40, 41, 100, 0], dtype=np.uint8)[: raw.max() + 1]
    write_atomically(path, png(values[raw]))
    (out / "labels/a.png").unlink()
    run(engine, photos, out, CutConfig(regions="raw"))
    np.testing.assert_array_equal(read_pixels(out / "labels/a.png"), values[raw])
    assert {entry["label"] for entry in stats_of(out)["clusters"]} == set(values.tolist())


def test_all_files_of_an_image_that_is_redone_are_of_one_segmentation(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out, save=ALL)
    other = Engine(replace(TINY, seed=5), "cpu")
    run(other, photos, out, save=("labels", "stats"), overwrite=True)
    fresh = out.parent / "fresh"
    run(other, photos, fresh, save=ALL)
    assert written(out) == written(fresh)


def test_more_regions_than_16_bits_number_become_a_tiff(tmp_path: Path) -> None:
    job, folder = Job("photo.png", "photo"), OutputFolder(tmp_path)
    fragments = np.arange(260 * 260, dtype=np.int32).reshape(260, 260)
    pairs = np.arange(260 * 260 - 1)
    across = (pairs + 1) % 260 != 0
    down = np.arange(259) * 260
    first, second = np.concatenate([pairs[across], down]), np.concatenate([pairs[across] + 1, down + 260])
    hierarchy = Hierarchy(fragments, first, second, np.full(len(first), 9, dtype=np.uint16))

    def write(cut: CutConfig) -> NDArray[np.int32]:
        regions = cut_regions(hierarchy, cut)
        with folder.batch() as files:
            Products(job, folder, BatchConfig(cut=cut))._write_regions(files, regions)
        return regions

    for regions, name, dtype in ((65_536, "photo.png", np.uint16), (65_537, "photo.tif", np.int32)) * 2:
        cut = write(CutConfig(regions=regions))
        assert [path.name for path in (tmp_path / "regions").iterdir()] == [name]
        assert folder.has(job, "regions")
        pixels = read_pixels(tmp_path / "regions" / name)
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, cut)
        assert pixels.max() == regions - 1


class _KilledError(BaseException):
    pass


def killed_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """End a run before the file of this number takes its name, with what has one."""
    left = itertools.count(step, -1)
    replace_file = Path.replace

    def replace_or_end(path: Path, target: Path) -> Path:
        if next(left) == 0:
            raise _KilledError
        return replace_file(path, target)

    patch.setattr(Path, "replace", replace_or_end)


def ends_as_one_run(engine: Engine, tmp_path: Path, seed: int) -> None:
    """Of any sequence of runs, some of which are killed, the last one leaves what it would have made alone."""
    photos, out, chance = photo_folder(tmp_path / "photos", "a.png"), tmp_path / "out", random.Random(seed)
    every: tuple[Product, ...] = (*ALL, "recording")

    def any_options() -> dict[str, Any]:
        more = [product for product in every[3:] if chance.random() < 0.3]
        color = ["color"] * (chance.random() < 0.6)
        return {
            "save": ("labels", "stats", *color, *more),
            "cut": chance.choice([CutConfig(), CutConfig(regions=3), CutConfig(regions="raw")]),
            "colors": chance.choice(["calm", "palette", "mean"]),
            "report": chance.random() < 0.3,
        }

    for _ in range(chance.randint(2, 5)):
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_KilledError):
            killed_at(patch, chance.choice([*range(12), 1000]))
            run(engine, photos, out, **any_options())
    last = any_options()
    last["save"] = (*last["save"], "overlay")  # it has colours
    run(engine, photos, out, **last)
    job, folder = Job(str(photos / "a.png"), "a"), OutputFolder(out)
    there = tuple(product for product in every if folder.has(job, product))
    reported = ReportEntry(job, folder).exists
    if not reported:  # some of its files may be there, which tell nobody anything
        shutil.rmtree(out / "report", ignore_errors=True)
    fresh = {**last, "save": there, "report": reported}
    run(engine, photos, tmp_path / "fresh", **fresh)
    found = written(out)
    if last["cut"].is_raw and "hierarchy" not in there:  # one may be left that an earlier cut was made from
        found.pop(".hierarchy/a.png", None)
    assert found == written(tmp_path / "fresh")


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_of_runs_of_which_some_are_killed_ends_as_one_run(
    engine: Engine, tmp_path: Path, seed: int
) -> None:
    ends_as_one_run(engine, tmp_path, seed)


# What a pretrained network had a part in


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> SegmentConfig:
    """A fit beside what timm's smallest network sees, which has learned nothing."""
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(timm.create_model("test_resnet").state_dict(), path)
    return replace(TINY, backbone="timm:test_resnet", weights=identify(path))


@pytest.fixture(scope="module")
def seeing(frozen: SegmentConfig) -> Engine:
    return Engine(frozen, "cpu")


@pytest.fixture
def closed(frozen: SegmentConfig, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One with the same options, which must not segment."""

    def refuse(*_: object) -> None:
        raise _SegmentsAgainError

    engine = Engine(frozen, "cpu")
    for name in ("segment", "find_silhouette", "look"):
        monkeypatch.setattr(engine, name, refuse)
    return engine


def kept(out: Path) -> dict[str, bytes]:
    return files_below(out / ".hierarchy")


@pytest.mark.parametrize("resnet", [False, True], ids=["frozen", "trained"])
def test_hierarchy_that_a_pretrained_network_had_a_part_in_is_kept(
    seeing: Engine, photos: Path, out: Path, resnet: bool
) -> None:
    if resnet:
        seeing = Engine(replace(TINY, backbone="resnet18-fpn", weights="random"), "cpu")
    run(seeing, photos, out, save=("labels", "stats"))
    assert {path.name for path in out.iterdir()} == {"labels", "stats", ".raw", ".hierarchy", "outcomes.jsonl", MARK}
    assert kept(out).keys() == {"a.png", "sub/b.png"}
    for name in ("a", "sub/b"):
        image = read_pixels(photos / f"{name}.png")
        result, found = seeing.segment(image), read_hierarchy(out / f".hierarchy/{name}.png")
        expected, blind = (build_hierarchy(result.labels, image, seen) for seen in (result.features, ()))
        np.testing.assert_array_equal(boundary_map(found), boundary_map(expected))
        assert not np.array_equal(boundary_map(found), boundary_map(blind)), "what it saw counts"


def test_no_hierarchy_is_kept_where_none_is_needed_or_the_labels_are_enough(
    engine: Engine, seeing: Engine, photos: Path, tmp_path: Path
) -> None:
    run(engine, photos, tmp_path / "cnn")
    run(seeing, photos, tmp_path / "raw", CutConfig(regions="raw"))
    run(seeing, photos, tmp_path / "without", save=("labels",))
    run(seeing, photos, tmp_path / "with", save=("labels", "stats", "hierarchy"))
    for name in ("cnn", "raw", "without", "with"):
        assert not (tmp_path / name / ".hierarchy").exists()


@pytest.mark.parametrize("save", [REGIONS, ALL], ids=["kept", "asked for"])
@pytest.mark.parametrize("cut", [CutConfig(regions=3), CutConfig(granularity=0.9), CutConfig(regions="raw")])
def test_another_cut_of_what_a_pretrained_network_saw_takes_no_network(
    seeing: Engine, closed: Engine, photos: Path, out: Path, save: tuple[Product, ...], cut: CutConfig
) -> None:
    run(seeing, photos, out, save=save, report=True)
    before = kept(out)
    outcomes = run(closed, photos, out, cut, save=save, report=True)
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False)] * 2
    fresh = out.parent / "fresh"
    run(seeing, photos, fresh, cut, save=save, report=True)
    assert kept(out) == before
    if cut.is_raw:
        shutil.rmtree(out / ".hierarchy", ignore_errors=True)
    assert written(out) == written(fresh)
    assert statuses(run(closed, photos, out, cut, save=save, report=True)) == ["skipped", "skipped"]


def test_kept_hierarchy_that_is_asked_for_later_is_moved(
    seeing: Engine, closed: Engine, photos: Path, out: Path
) -> None:
    run(seeing, photos, out, save=("labels", "stats"))
    before = kept(out)
    outcomes = run(closed, photos, out, save=ALL)
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False)] * 2
    assert files_below(out / "hierarchy") == before
    assert kept(out) == {}
    shutil.rmtree(out / ".hierarchy")
    run(seeing, photos, out.parent / "fresh", save=ALL)
    assert written(out) == written(out.parent / "fresh")
    outcomes = run(closed, photos, out, CutConfig(regions=2), save=("labels", "stats"))
    assert [outcome.segmented for outcome in outcomes] == [False, False], "it serves for the next cut"


def damage_kept(path: Path, how: str) -> None:
    if how == "lost":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:60])
    elif how == "other size":
        write_atomically(path, png(np.zeros((5, 5), dtype=np.uint16)))
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["lost", "truncated", "other size", "empty"])
@pytest.mark.parametrize("save", [REGIONS, ALL], ids=["kept", "asked for"])
def test_hierarchy_that_is_not_as_it_was_written_is_made_anew_by_the_network(
    seeing: Engine, photos: Path, out: Path, how: str, save: tuple[Product, ...]
) -> None:
    run(seeing, photos, out, save=save)
    damage_kept(out / ("hierarchy" if save is ALL else ".hierarchy") / "a.png", how)
    first, second = run(seeing, photos, out, CutConfig(regions=3), save=save)
    assert (first.segmented, second.segmented) == (True, False)
    run(seeing, photos, out.parent / "fresh", CutConfig(regions=3), save=save)
    assert written(out) == written(out.parent / "fresh")


def test_cut_of_raw_labels_alone_takes_the_network_where_no_hierarchy_was_made(
    seeing: Engine, photos: Path, out: Path
) -> None:
    run(seeing, photos, out, CutConfig(regions="raw"))
    assert [outcome.segmented for outcome in run(seeing, photos, out)] == [True, True]
    run(seeing, photos, out.parent / "fresh")
    assert written(out) == written(out.parent / "fresh")


def test_labels_and_colours_need_no_hierarchy(closed: Engine, seeing: Engine, photos: Path, out: Path) -> None:
    run(seeing, photos, out, CutConfig(regions="raw"))
    outcomes = run(closed, photos, out, CutConfig(regions="raw"), colors="mean")
    assert [(outcome.status, outcome.segmented) for outcome in outcomes] == [("done", False)] * 2


@pytest.mark.parametrize("save", [("labels", "stats"), ("labels", "stats", "hierarchy")], ids=["kept", "asked for"])
def test_hierarchy_of_another_backbone_does_not_stay(
    engine: Engine, seeing: Engine, photos: Path, out: Path, save: tuple[Product, ...]
) -> None:
    run(seeing, photos, out, save=save)
    run(engine, photos, out, save=save, overwrite=True)
    assert kept(out) == {}
    shutil.rmtree(out / ".hierarchy", ignore_errors=True)
    fresh = out.parent / "fresh"
    run(engine, photos, fresh, save=save)
    assert written(out) == written(fresh)
    run(seeing, photos, out, save=save, overwrite=True)
    shutil.rmtree(fresh)
    run(seeing, photos, fresh, save=save)
    assert written(out) == written(fresh)


def test_hierarchy_of_the_user_in_the_place_of_a_kept_one_stays(seeing: Engine, photos: Path, out: Path) -> None:
    theirs = out / ".hierarchy/a.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(UsageError, match=r"\.hierarchy/a\.png exists and was not written by dynaseg"):
        run(seeing, photos, out, overwrite=True)
    assert theirs.read_bytes() == b"theirs"


@pytest.mark.parametrize("seed", range(8))
def test_any_sequence_of_runs_with_a_backbone_ends_as_one_run(seeing: Engine, tmp_path: Path, seed: int) -> None:
    ends_as_one_run(seeing, tmp_path, seed)

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from samples import (
    TINY,
    PhotosInMemory,
    encoded,
    files_below,
    noise,
    photo_folder,
    pictures_of,
    read_pixels,
    save_photo,
)

from dynaseg_cli import BatchConfig, Engine
from dynaseg_cli.batch import products, stages
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.stages import run_stream
from dynaseg_cli.errors import DeviceMemoryError, InterruptedWorkError
from dynaseg_cli.files.output_folder import OutputFolder
from dynaseg_cli.pictures.palette import label_palette

SCHEMA = json.loads((Path(stages.__file__).parent / "stats.schema.json").read_text())


@pytest.fixture(scope="module")
def shared_engine() -> Engine:
    return Engine(TINY, "cpu")


@pytest.fixture
def engine(shared_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One that a test may patch."""
    monkeypatch.setattr(shared_engine, "segment", shared_engine.segment)
    return shared_engine


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.bmp", "sub/c.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def outcomes_of(engine: Engine, photos: Path, out: Path, **batch: Any) -> Generator[Outcome, None, None]:
    """The stream over a folder, as a worker runs it. Nobody else works in the folder."""
    plan = plan_batch([photos], out, engine.config, BatchConfig(**batch))
    plan.folder.mark()
    for _, outcome in run_stream(plan.jobs, plan.folder, plan.batch, [engine]):
        assert outcome is not None
        yield outcome


def run(engine: Engine, photos: Path, out: Path, **batch: Any) -> list[Outcome]:
    return list(outcomes_of(engine, photos, out, **batch))


def statuses(outcomes: list[Outcome]) -> dict[str, str]:
    return {Path(outcome.path).name: outcome.status for outcome in outcomes}


def results(out: Path) -> dict[str, bytes]:
    """The label maps and colours, of which each byte must stay the same."""
    return {name: content for name, content in files_below(out).items() if name.endswith((".png", ".jpg"))}


def disk_full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_every_image_gets_its_files(engine: Engine, photos: Path, out: Path) -> None:
    outcomes = run(engine, photos, out)
    assert statuses(outcomes) == {"a.png": "done", "b.bmp": "done", "c.png": "done"}
    assert set(files_below(out)) == {
        "outcomes.jsonl",
        *pictures_of("a", "b", "sub/c"),
        *(f"stats/{name}.json" for name in ("a", "b", "sub/c")),
    }
    for outcome in outcomes:
        assert outcome.iterations == 2
        assert outcome.stop_reason == "converged"
        assert outcome.reason is None


@pytest.mark.parametrize(("width", "height"), [(24, 20), (7, 31), (1, 1), (1, 40), (40, 1), (90, 60)])
def test_results_have_the_images_own_size_and_agree(engine: Engine, out: Path, width: int, height: int) -> None:
    photo = save_photo(out.parent / "photo.png", 0, width, height)
    (outcome,) = run(engine, photo, out)
    labels = read_pixels(out / "labels/photo.png")
    assert labels.shape == (height, width)
    areas = np.bincount(labels.reshape(-1))
    assert len(areas) == outcome.num_labels
    assert areas.min() > 0
    assert (np.diff(areas) <= 0).all()
    colours = read_pixels(out / "color/photo.png", "RGB")
    np.testing.assert_array_equal(colours, label_palette()[labels])
    stats = json.loads((out / "stats/photo.json").read_text())
    jsonschema.validate(stats, SCHEMA)
    assert [cluster["pixels"] for cluster in stats["clusters"]] == areas.tolist()
    assert stats["source"]["path"] == str(photo)


def test_labels_lie_over_the_image_as_exif_turns_it(engine: Engine, tmp_path: Path, out: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photo.jpg").write_bytes(encoded(noise(), "JPEG", exif=exif))
    run(engine, tmp_path / "photo.jpg", out)
    assert read_pixels(out / "labels/photo.png").shape == (24, 20)


def test_name_that_is_not_utf_8_is_written(engine: Engine, tmp_path: Path, out: Path) -> None:
    stem = os.fsdecode(b"caf\xe9\n")
    photo = save_photo(tmp_path / f"{stem}.png")
    assert statuses(run(engine, photo, out)) == {photo.name: "done"}
    assert json.loads((out / f"stats/{stem}.json").read_text())["source"]["path"] == str(photo)


def test_bad_image_among_good_ones_is_named_and_stops_nothing(engine: Engine, photos: Path, out: Path) -> None:
    (photos / "a.png").write_bytes(b"")
    (photos / "bad.jpg").write_bytes(encoded(noise(), "JPEG")[:300])
    outcomes = run(engine, photos, out)
    assert statuses(outcomes) == {"a.png": "failed", "b.bmp": "done", "bad.jpg": "failed", "c.png": "done"}
    assert outcomes[0].reason == "the file is empty"
    assert set(results(out)) == pictures_of("b", "sub/c")


def test_image_that_vanished_meanwhile_is_a_failure(engine: Engine, photos: Path, out: Path) -> None:
    jobs = plan_batch([photos], out, TINY).jobs
    (photos / "b.bmp").unlink()
    out.mkdir()
    outcomes = [
        outcome for _, outcome in run_stream(jobs, OutputFolder(out), BatchConfig(), [engine]) if outcome is not None
    ]
    assert statuses(outcomes) == {"a.png": "done", "b.bmp": "failed", "c.png": "done"}
    assert outcomes[1].reason == f"{photos / 'b.bmp'}: No such file or directory"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeviceMemoryError("cpu is out of memory even at 32 pixels"), "cpu is out of memory even at 32 pixels"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), "x.png: No space left on device"),
    ],
    ids=["named", "memory", "file"],
)
def test_foreseen_error_of_one_image_is_its_failure(
    engine: Engine, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    segment, images = engine.segment, itertools.count()

    def fail_once(*arguments: Any) -> Any:
        if next(images) == 1:
            raise error
        return segment(*arguments)

    monkeypatch.setattr(engine, "segment", fail_once)
    outcomes = run(engine, photos, out)
    assert statuses(outcomes) == {"a.png": "done", "b.bmp": "failed", "c.png": "done"}
    assert outcomes[1].reason == reason


@pytest.mark.parametrize("error", [TypeError, RuntimeError, AssertionError])
def test_programming_error_surfaces(
    engine: Engine, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error("a mistake of ours")

    monkeypatch.setattr(engine, "segment", fail)
    with pytest.raises(error, match="a mistake of ours"):
        run(engine, photos, out)
    assert results(out) == {}


@pytest.mark.parametrize("writer", ["png", "palette_png", "json_text"])
def test_result_that_cannot_be_written_fails_its_image_until_a_re_run(
    engine: Engine, photos: Path, out: Path, writer: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, writer, disk_full)
        outcomes = run(engine, photos, out)
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert all("No space left on device" in str(outcome.reason) for outcome in outcomes)
    assert [name for name in files_below(out) if name.startswith("stats")] == []
    assert set(statuses(run(engine, photos, out)).values()) == {"done"}
    assert set(statuses(run(engine, photos, out)).values()) == {"skipped"}


def test_image_whose_redoing_fails_is_no_longer_complete(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "palette_png", disk_full)
        run(engine, photos, out, overwrite=True)
    assert not (out / "stats/a.json").exists()
    assert set(statuses(run(engine, photos, out)).values()) == {"done"}


def test_file_in_the_place_of_a_result_folder_fails_each_image(engine: Engine, photos: Path, out: Path) -> None:
    OutputFolder(out).mark()
    (out / "color").touch()
    outcomes = run(engine, photos, out)
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert all(str(out / "color") in str(outcome.reason) for outcome in outcomes)


def test_results_do_not_depend_on_the_other_images(engine: Engine, photos: Path, tmp_path: Path) -> None:
    run(engine, photos, tmp_path / "all")
    together = results(tmp_path / "all")
    run(engine, photos / "sub/c.png", tmp_path / "alone")
    alone = results(tmp_path / "alone")
    assert alone == {name.replace("sub/", ""): together[name] for name in pictures_of("sub/c")}

    photo_folder(tmp_path / "more", "0.png", "1.png", "2.png", "a.png")
    (tmp_path / "more/a.png").write_bytes((photos / "a.png").read_bytes())
    run(Engine(TINY, "cpu"), tmp_path / "more", tmp_path / "later")
    assert results(tmp_path / "later")["labels/a.png"] == together["labels/a.png"]


def test_results_do_not_depend_on_resuming(engine: Engine, photos: Path, tmp_path: Path) -> None:
    run(engine, photos, tmp_path / "at once")
    run(engine, photos, tmp_path / "parts", include=("b.bmp",))
    run(engine, photos, tmp_path / "parts")
    assert results(tmp_path / "parts") == results(tmp_path / "at once")


def test_re_run_skips_everything_and_touches_no_file(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert set(statuses(run(engine, photos, out)).values()) == {"skipped"}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_image_of_changed_content_is_redone(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out)
    before = results(out)
    save_photo(photos / "a.png", seed=99)
    assert statuses(run(engine, photos, out)) == {"a.png": "done", "b.bmp": "skipped", "c.png": "skipped"}
    changed = {name for name, content in results(out).items() if content != before[name]}
    assert changed == pictures_of("a")


@pytest.mark.parametrize("lost", ["labels/sub/c.png", "color/sub/c.png", "stats/sub/c.json"])
def test_lost_result_is_made_again(engine: Engine, photos: Path, out: Path, lost: str) -> None:
    run(engine, photos, out)
    before = results(out)
    (out / lost).unlink()
    assert statuses(run(engine, photos, out)) == {"a.png": "skipped", "b.bmp": "skipped", "c.png": "done"}
    assert results(out) == before
    assert (out / lost).exists()


def test_stats_cut_short_by_a_crash_mark_nothing(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out)
    stats = out / "stats/a.json"
    stats.write_bytes(stats.read_bytes()[:50])
    assert statuses(run(engine, photos, out))["a.png"] == "done"


def test_overwriting_redoes_complete_images(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out)
    before = results(out)
    assert set(statuses(run(engine, photos, out, overwrite=True)).values()) == {"done"}
    assert results(out) == before


def test_files_of_an_image_are_all_of_one_segmentation(engine: Engine, photos: Path, out: Path, tmp_path: Path) -> None:
    """Also those of an earlier run that are not asked for now."""
    other = Engine(dataclasses.replace(TINY, seed=5), "cpu")
    run(engine, photos, out, save=("labels", "stats"))
    run(other, photos, out, save=("color", "stats"), overwrite=True)
    run(other, photos, tmp_path / "other", save=("labels", "color", "stats"))
    assert results(out) == results(tmp_path / "other")
    (out / "color/a.png").unlink()
    run(other, photos, out, save=("color",))
    assert (out / "stats/a.json").exists()


def test_only_what_is_asked_for_is_written(engine: Engine, photos: Path, out: Path) -> None:
    run(engine, photos, out, save=("labels",))
    assert {name.split("/")[0] for name in files_below(out)} == {"labels", "outcomes.jsonl"}


@pytest.mark.parametrize("slow", ["engine", "consumer"])
def test_images_in_flight_stay_few_however_many_there_are(
    engine: Engine, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    photos = photo_folder(tmp_path / "photos", *(f"{index:02}.bmp" for index in range(30)))
    segment = engine.segment
    in_memory = PhotosInMemory(monkeypatch)

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.01)
        return segment(*arguments)

    if slow == "engine":
        monkeypatch.setattr(engine, "segment", slowly)
    for _ in outcomes_of(engine, photos, out):
        if slow == "consumer":
            time.sleep(0.01)
    assert 1 < in_memory.most <= 6


@pytest.fixture
def interrupted(engine: Engine, tmp_path: Path, out: Path) -> Iterator[Path]:
    """A folder of images whose run was closed after the second."""
    photos = photo_folder(tmp_path / "many", *(f"{index}.bmp" for index in range(6)))
    outcomes = outcomes_of(engine, photos, out)
    for _ in range(2):
        next(outcomes)
    outcomes.close()
    yield photos


def test_closing_midway_leaves_only_complete_files(interrupted: Path, out: Path) -> None:
    assert interrupted.is_dir()
    assert set(files_below(out)) == {
        "outcomes.jsonl",
        *pictures_of("0", "1"),
        *(f"stats/{index}.json" for index in range(2)),
    }


def test_re_run_completes_what_was_closed_midway(engine: Engine, interrupted: Path, out: Path, tmp_path: Path) -> None:
    assert list(statuses(run(engine, interrupted, out)).values()) == ["skipped"] * 2 + ["done"] * 4
    run(engine, interrupted, tmp_path / "at once")
    assert results(out) == results(tmp_path / "at once")


def test_closing_drops_the_image_at_hand_and_begins_no_other(
    engine: Engine, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, begun, at_second = engine.segment, itertools.count(), threading.Event()
    dropped: list[Exception] = []

    def iterate_until_stopped(image: Any, silhouette: Any, watch: Any, *_: Any) -> Any:
        if next(begun) == 0:
            return segment(image, silhouette, watch)
        at_second.set()
        try:
            for iteration in range(20_000):
                watch(iteration, 3)
                time.sleep(0.001)
        except InterruptedWorkError as error:
            dropped.append(error)
            raise
        raise AssertionError("the run was closed, and the image went on")

    monkeypatch.setattr(engine, "segment", iterate_until_stopped)
    outcomes = outcomes_of(engine, photos, out)
    next(outcomes)
    assert at_second.wait(120)
    outcomes.close()
    assert len(dropped) == 1
    assert next(begun) == 2
    assert set(results(out)) == pictures_of("a")


@pytest.mark.parametrize(("marked", "left"), [(False, {}), (True, {"outcomes.jsonl": b""})])
def test_interrupt_while_a_file_is_written_leaves_nothing_half_done(
    engine: Engine, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, marked: bool, left: dict[str, bytes]
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    if marked:
        OutputFolder(out).mark()
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(engine, photos, out)
    assert files_below(out) == left

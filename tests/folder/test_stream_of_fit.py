from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from samples import files_below, noise, read_pixels, save_photo
from scenes import TINY_FOLDER_FIT, tiny_scenes

from dynaseg_cli import config as config_module
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.config import BatchConfig, Mode, SegmentConfig, WeightsFile, WorkersConfig
from dynaseg_cli.engine.folder_fitting import FolderFitter
from dynaseg_cli.engine.region_fitting import RegionFitter
from dynaseg_cli.errors import InterruptedWorkError, UsageError
from dynaseg_cli.files.output_folder import CHECKPOINT_NAME, MODEL_NAME, OutputFolder
from dynaseg_cli.files.weights import identify, read_model
from dynaseg_cli.folder import stream as module
from dynaseg_cli.folder.mosaics import CROPS
from dynaseg_cli.folder.stream import STATE_KEY, fit_network
from dynaseg_cli.images import pages
from dynaseg_cli.images.decoding import Photo
from dynaseg_cli.run_from_python import segment_folder
from dynaseg_cli.workers.messages import Began, FitProgress

HERE = WorkersConfig(device="cpu", workers=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tiny_scenes(tmp_path / "photos")


def planned(
    photos: Path, output: Path, config: SegmentConfig = TINY_FOLDER_FIT, batch: BatchConfig | None = None
) -> Plan:
    return plan_batch([photos], output, config, batch)


def fit_folder(
    plan: Plan, on_progress: Callable[[FitProgress], None] | None = None, stop: threading.Event | None = None
) -> Plan:
    """The plan with its model, in this thread: it is told of progress before the next mosaic."""

    def observe(message: Began | FitProgress) -> None:
        if on_progress is not None and isinstance(message, FitProgress):
            on_progress(message)

    plan.folder.mark()
    model = fit_network(plan.found, plan.folder, plan.segment, plan.batch, "cpu", observe, stop or threading.Event())
    return dataclasses.replace(plan, segment=dataclasses.replace(plan.segment, model=model))


def fitted(photos: Path, output: Path, config: SegmentConfig = TINY_FOLDER_FIT, **changes: Any) -> bytes:
    """The model's file."""
    fit_folder(planned(photos, output, config, BatchConfig(**changes)))
    return (output / MODEL_NAME).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model's file of the photos, of a fit that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    return fitted(tiny_scenes(folder / "photos"), folder / "out")


def segmented(photos: Path, output: Path, config: SegmentConfig = TINY_FOLDER_FIT, **changes: Any) -> list[Outcome]:
    return [*segment_folder(photos, output, config, BatchConfig(**changes), HERE)]


def label_files(output: Path) -> dict[str, bytes]:
    return files_below(output / "labels")


def stop_after(count: int) -> tuple[Callable[[FitProgress], None], threading.Event]:
    """A watcher, and the event that it sets when so much progress was told."""
    stop, told = threading.Event(), 0

    def watch(progress: FitProgress) -> None:
        nonlocal told
        told += 1
        if told == count:
            stop.set()

    return watch, stop


def interrupted(
    photos: Path, output: Path, after: int, config: SegmentConfig = TINY_FOLDER_FIT, **changes: Any
) -> None:
    """A fit that is stopped once so many mosaics were seen; there are two an epoch."""
    watch, stop = stop_after(after)
    with pytest.raises(InterruptedWorkError):
        fit_folder(planned(photos, output, config, BatchConfig(**changes)), watch, stop)


def epochs_done(output: Path) -> int:
    with safetensors.safe_open(output / CHECKPOINT_NAME, framework="pt") as content:
        return int(json.loads(content.metadata()[STATE_KEY])["done"])


# The model


def test_model_is_written_and_is_that_of_the_plan(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = fit_folder(planned(photos, out))
    model = plan.segment.model
    assert model is not None
    assert read_model(out / MODEL_NAME).model == model
    assert plan.segment == dataclasses.replace(TINY_FOLDER_FIT, model=model)
    assert set(files_below(out)) == {MODEL_NAME, "outcomes.jsonl"}, "no checkpoint stays"


def test_model_of_a_relative_folder_is_found_from_anywhere(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = fit_folder(planned(photos, Path("out")))
    assert plan.segment.model is not None
    assert plan.segment.model.path == str(tmp_path / "out" / MODEL_NAME)


def test_model_depends_on_images_options_and_seed_alone(photos: Path, tmp_path: Path) -> None:
    model = fitted(photos, tmp_path / "one")
    torch.rand(3)
    np.random.default_rng().random()
    assert fitted(photos, tmp_path / "two") == model
    assert fitted(photos, tmp_path / "more", dataclasses.replace(TINY_FOLDER_FIT, seed=1)) != model
    assert fitted(photos, tmp_path / "longer", dataclasses.replace(TINY_FOLDER_FIT, epochs=4)) != model


def test_raw_labels_are_numbered_by_area_over_the_folder(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert {outcome.status for outcome in segmented(photos, out)} == {"done"}
    maps = [read_pixels(path) for path in sorted((out / ".raw").rglob("*.png"))]
    areas = sum(np.bincount(labels.reshape(-1), minlength=8) for labels in maps)
    assert isinstance(areas, np.ndarray)
    assert len(maps) == 11
    assert (np.diff(areas) <= 0).all()
    assert np.count_nonzero(areas) > 2
    rising = [np.diff(np.bincount(labels.reshape(-1), minlength=8)).max() > 0 for labels in maps]
    assert any(rising), "not within an image"


def test_statistics_of_the_folder_are_those_of_the_label_files(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segmented(photos, out)
    document = json.loads((out / "clusters.json").read_text())
    maps = {path.stem: read_pixels(path) for path in sorted((out / "labels").rglob("*.png"))}
    assert document["images"] == len(maps)
    assert document["pixels"] == sum(labels.size for labels in maps.values())
    for cluster in document["clusters"]:
        shares = {name: float((labels == cluster["label"]).mean()) for name, labels in maps.items()}
        assert cluster["pixels"] == sum(int((labels == cluster["label"]).sum()) for labels in maps.values())
        assert cluster["images"] == sum(share > 0 for share in shares.values())
        for example in cluster["examples"]:
            assert shares[Path(example["path"]).stem] == example["fraction"]
        assert cluster["examples"][0]["fraction"] == max(shares.values())
    assert sum(cluster["pixels"] for cluster in document["clusters"]) == document["pixels"]


def test_documents_are_valid_by_their_schemas(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segmented(photos, out)
    refined = dataclasses.replace(read_model(out / MODEL_NAME), refine=2)
    segmented(photos, tmp_path / "refined", refined)
    for room, kind, paths in (
        ("batch", "stats", [*tmp_path.glob("*/stats/*.json")]),
        ("folder", "clusters", [out / "clusters.json"]),
    ):
        schema = json.loads((files(f"dynaseg_cli.{room}") / f"{kind}.schema.json").read_text())
        assert paths
        for path in paths:
            jsonschema.validate(json.loads(path.read_text()), schema)


def test_loaded_model_gives_the_same_labels(photos: Path, tmp_path: Path) -> None:
    segmented(photos, tmp_path / "out")
    loaded = read_model(tmp_path / "out" / MODEL_NAME)
    segmented(photos, tmp_path / "again", loaded)
    assert label_files(tmp_path / "again") == label_files(tmp_path / "out")
    assert not (tmp_path / "again" / MODEL_NAME).exists()
    fit = json.loads((tmp_path / "again/stats/00.json").read_text())["fit"]
    assert (fit["stop_reason"], fit["iterations"]) == ("model", 0)


def test_refined_images_begin_with_the_model(photos: Path, tmp_path: Path) -> None:
    fitted(photos, tmp_path / "out")
    loaded = dataclasses.replace(read_model(tmp_path / "out" / MODEL_NAME), refine=3)
    (photos / "point.png").write_bytes((save_photo(tmp_path / "point.png", 0, 1, 1)).read_bytes())
    outcomes = segmented(photos, tmp_path / "refined", loaded)
    assert {outcome.status for outcome in outcomes} == {"done"}
    fits = {path.stem: json.loads(path.read_text())["fit"] for path in (tmp_path / "refined/stats").glob("*.json")}
    assert fits.pop("point")["stop_reason"] == "model", "one pixel is nothing to refine on"
    assert {fit["iterations"] for fit in fits.values()} <= {1, 2, 3}
    assert max(fit["iterations"] for fit in fits.values()) == 3


def test_label_of_a_single_pixel_is_the_models(photos: Path, tmp_path: Path) -> None:
    """Refined or not: label 0 would be a thing of its own choice."""
    save_photo(photos / "point.png", 3, 1, 1)
    segmented(photos, tmp_path / "out")
    loaded = read_model(tmp_path / "out" / MODEL_NAME)
    segmented(photos, tmp_path / "refined", dataclasses.replace(loaded, refine=2))
    for name in ("out", "refined"):
        assert read_pixels(tmp_path / name / "labels/point.png").shape == (1, 1)
    assert label_files(tmp_path / "out")["point.png"] == label_files(tmp_path / "refined")["point.png"]


@pytest.mark.slow
def test_workers_and_shards_give_the_files_that_one_process_does(photos: Path, tmp_path: Path) -> None:
    segmented(photos, tmp_path / "one")
    two = WorkersConfig(device="cpu", workers=2, threads=1)
    assert {o.status for o in segment_folder(photos, tmp_path / "two", TINY_FOLDER_FIT, BatchConfig(), two)} == {"done"}
    for index in (1, 2, 3):
        segmented(photos, tmp_path / "shards", shard=(index, 3))
    for name in ("two", "shards"):
        assert (tmp_path / name / MODEL_NAME).read_bytes() == (tmp_path / "one" / MODEL_NAME).read_bytes()
        assert label_files(tmp_path / name) == label_files(tmp_path / "one")


def test_shard_fits_to_all_images_and_labels_its_own(photos: Path, whole: bytes, tmp_path: Path) -> None:
    outcomes = segmented(photos, tmp_path / "shard", shard=(2, 4))
    assert [Path(outcome.path).stem for outcome in outcomes] == ["01", "05", "09"]
    assert (tmp_path / "shard" / MODEL_NAME).read_bytes() == whole


# What goes by


class Seen:
    """Mosaics in the order in which they are fitted and measured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mosaics: list[NDArray[np.uint8]] = []
        for name in ("improve", "measure"):
            monkeypatch.setattr(FolderFitter, name, self._watching(getattr(FolderFitter, name)))

    def _watching(self, work: Callable[[FolderFitter, NDArray[np.uint8]], Any]) -> Any:
        def watched(fitter: FolderFitter, mosaic: NDArray[np.uint8]) -> Any:
            self.mosaics.append(mosaic)
            return work(fitter, mosaic)

        return watched


def plain_folder(folder: Path, count: int) -> Path:
    """Images of one colour each, 10 times their number."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((20, 20, 3), 10 * number, np.uint8)).save(folder / f"{number:02}.png")
    return folder


def order_of(mosaics: list[NDArray[np.uint8]]) -> list[int]:
    return [int(value) // 10 for mosaic in mosaics for value in mosaic[::16, ::16, 0].flat]


def test_every_epoch_sees_every_image_in_a_seeded_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plain_folder(tmp_path / "plain", 11)
    seen = Seen(monkeypatch)
    fitted(folder, tmp_path / "out")
    passes = [order_of(seen.mosaics[start : start + 2]) for start in range(0, 8, 2)]
    assert len(seen.mosaics) == 8, "three epochs and the statistics, two mosaics each"
    assert [sorted(one[:11]) for one in passes] == [[*range(11)]] * 4
    assert all(one[11:] == one[:5] for one in passes), "the first fill up the last mosaic"
    assert len({tuple(one) for one in passes}) == 4
    before, seen.mosaics = seen.mosaics, []
    fitted(folder, tmp_path / "other", dataclasses.replace(TINY_FOLDER_FIT, seed=1))
    assert order_of(seen.mosaics) != order_of(before)


def test_crops_of_an_image_differ_between_epochs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(photos.iterdir())[1:]:
        path.unlink()
    save_photo(photos / "00.png", 0, 40, 40)
    seen = Seen(monkeypatch)
    fitted(photos, tmp_path / "out", dataclasses.replace(TINY_FOLDER_FIT, max_size=40))
    assert len(seen.mosaics) == 4
    assert len({mosaic.tobytes() for mosaic in seen.mosaics}) > 1


def test_memory_does_not_grow_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images that are alive at any time, of a folder of 30 and of one of 90."""
    alive = most = 0
    lock = threading.Lock()

    class Decoded(np.ndarray):  # type: ignore[type-arg]
        counted = False

        def __del__(self) -> None:
            nonlocal alive
            if self.counted:
                with lock:
                    alive -= 1

    def counting(content: bytes, *_: object) -> Photo:
        nonlocal alive, most
        image = noise(len(content) % 7, 20, 20).view(Decoded)
        image.counted = True  # type: ignore[attr-defined]
        with lock:
            alive += 1
            most = max(most, alive)
        return Photo(image)

    monkeypatch.setattr(pages, "decode_photo", counting)
    held = []
    for count in (30, 90):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").write_bytes(b"x" * (number + 1))
        alive = most = 0
        fitted(folder, tmp_path / f"out{count}", dataclasses.replace(TINY_FOLDER_FIT, epochs=1))
        held.append(most)
    assert max(held) <= 4 * CROPS
    assert held[1] <= held[0] + 2


def test_progress_counts_images_through_epochs_and_after_them(photos: Path, tmp_path: Path) -> None:
    told: list[FitProgress] = []
    plan = planned(photos, tmp_path / "out")
    fit_folder(plan, told.append)
    assert plan.fit_visits == 11 * 5
    assert [progress.seen for progress in told] == [8, 11, 19, 22, 30, 33, 41, 44, *range(45, 56)]
    assert [progress.step for progress in told[:6:2]] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert [progress.step for progress in told[6:9]] == ["statistics", "statistics", "areas"]
    assert {progress.before for progress in told} == {0}
    assert all(progress.labels and 1 <= progress.labels <= 8 for progress in told[:6])


def test_progress_of_few_images_never_runs_ahead(photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.iterdir())[2:]:
        path.unlink()
    told: list[FitProgress] = []
    fit_folder(planned(photos, tmp_path / "out"), told.append)
    assert [progress.seen for progress in told] == [2, 4, 6, 8, 9, 10]


# Images that cannot be read, and small ones


def test_unreadable_images_among_good_ones_change_nothing_for_these(photos: Path, tmp_path: Path) -> None:
    (photos / "05.png").write_bytes(b"no image")
    (photos / "07.png").write_bytes(b"")
    (photos / "08.png").unlink()
    (photos / "08.png").symlink_to("nowhere.png")
    outcomes = segmented(photos, tmp_path / "out")
    failed = {Path(outcome.path).stem for outcome in outcomes if outcome.status == "failed"}
    assert failed >= {"05", "07"}
    assert len(label_files(tmp_path / "out")) == 8


def test_folder_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.png").write_bytes(b"no image")
    out = tmp_path / "out"
    message = r"^no image can be read, so that no network can be fitted: .*[ab]\.png: not an image"
    with pytest.raises(UsageError, match=message):
        fit_folder(planned(folder, out))
    assert not (out / MODEL_NAME).exists()
    assert not (out / CHECKPOINT_NAME).exists()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (300, 2), (24, 20)])
def test_folder_of_a_single_image_is_fitted(width: int, height: int, tmp_path: Path) -> None:
    save_photo(tmp_path / "one/a.png", 0, width, height)
    (outcome,) = segmented(tmp_path / "one", tmp_path / "out")
    assert outcome.status == "done"
    raw, labels = (read_pixels(tmp_path / "out" / name / "a.png") for name in (".raw", "labels"))
    assert raw.shape == labels.shape == (height, width)
    assert (np.diff(np.bincount(raw.reshape(-1), minlength=8)) <= 0).all()
    assert np.isin(labels, raw).all()


@pytest.mark.parametrize(
    ("mode", "advice"), [("scf", "a smaller `alpha`"), ("fsf", "a larger `alpha`"), ("fixed", "a smaller `mu`")]
)
def test_folder_that_keeps_few_labels_is_warned_of(
    mode: Mode, advice: str, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = plain_folder(tmp_path / "plain", 1)
    fitted(folder, tmp_path / "out", dataclasses.replace(TINY_FOLDER_FIT, mode=mode, min_labels=7))
    assert re.search(rf"only [1-7] of 8 labels are left .* 100% .*, fewer `epochs` or {advice} may keep", caplog.text)
    caplog.clear()
    fitted(photos, tmp_path / "many", dataclasses.replace(TINY_FOLDER_FIT, mode=mode))
    assert caplog.text == ""


# Interrupted, and continued


@pytest.mark.parametrize(("after", "done"), [(2, 1), (3, 1), (5, 2), (7, 3), (10, 3)])
def test_interrupted_fit_continues_to_the_very_same_model(
    after: int, done: int, photos: Path, whole: bytes, tmp_path: Path
) -> None:
    """In an epoch, between two, in the statistics and among the areas."""
    out = tmp_path / "out"
    interrupted(photos, out, after)
    assert epochs_done(out) == done
    assert not (out / MODEL_NAME).exists()
    told: list[FitProgress] = []
    fit_folder(planned(photos, out), told.append)
    assert {progress.before for progress in told} == {11 * done}
    assert told[0].seen == 11 * done + 8
    assert (out / MODEL_NAME).read_bytes() == whole
    assert set(files_below(out)) == {MODEL_NAME, "outcomes.jsonl"}


def test_fit_that_is_stopped_in_its_first_epoch_begins_again(photos: Path, whole: bytes, tmp_path: Path) -> None:
    interrupted(photos, tmp_path / "out", 1)
    assert set(files_below(tmp_path / "out")) == {"outcomes.jsonl"}
    assert fitted(photos, tmp_path / "out") == whole


def not_continued(
    photos: Path, out: Path, caplog: pytest.LogCaptureFixture, config: SegmentConfig = TINY_FOLDER_FIT
) -> None:
    """A fit begins anew, with a warning that names the checkpoint, and ends well."""
    told: list[FitProgress] = []
    with caplog.at_level(logging.WARNING):
        fit_folder(planned(photos, out, config), told.append)
    assert f"{out / CHECKPOINT_NAME} is not continued" in caplog.text
    assert {progress.before for progress in told} == {0}
    assert set(files_below(out)) == {MODEL_NAME, "outcomes.jsonl"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"no checkpoint",
        lambda content: safetensors.torch.save({"a": torch.zeros(1)}),
        lambda content: safetensors.torch.save({"a": torch.zeros(1)}, {STATE_KEY: "{"}),
        lambda content: safetensors.torch.save({"a": torch.zeros(1)}, {STATE_KEY: "null"}),
        lambda content: safetensors.torch.save({"a": torch.zeros(1)}, {STATE_KEY: "[]"}),
        lambda content: content.replace(b"network.classifier.bias", b"network.classifier.bia5"),
    ],
    ids=["empty", "cut", "half", "text", "foreign", "no JSON", "null", "list", "another network"],
)
def test_damaged_checkpoint_is_not_continued(
    spoil: Callable[[bytes], bytes], photos: Path, whole: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    interrupted(photos, out, 3)
    path = out / CHECKPOINT_NAME
    path.write_bytes(spoil(path.read_bytes()))
    not_continued(photos, out, caplog)
    assert (out / MODEL_NAME).read_bytes() == whole


def add_image(photos: Path) -> None:
    save_photo(photos / "new.png")


def change_image(photos: Path) -> None:
    save_photo(photos / "03.png", 99)


def remove_image(photos: Path) -> None:
    (photos / "03.png").unlink()


@pytest.mark.parametrize("change", [add_image, change_image, remove_image])
def test_checkpoint_of_other_images_is_not_continued(
    change: Callable[[Path], None], photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    interrupted(photos, out, 3)
    change(photos)
    not_continued(photos, out, caplog)
    assert (out / MODEL_NAME).read_bytes() == fitted(photos, tmp_path / "whole")


@pytest.mark.parametrize("change", [{"seed": 1}, {"mode": "fsf"}, {"epochs": 2}, {"features": 9}], ids=str)
def test_checkpoint_of_other_options_is_not_continued(
    change: dict[str, Any], photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(photos, tmp_path / "out", 3)
    not_continued(photos, tmp_path / "out", caplog, dataclasses.replace(TINY_FOLDER_FIT, **change))


FIT = """
import sys
from pathlib import Path
from dynaseg_cli.folder.stream import fit_network
from dynaseg_cli.workers.messages import FitProgress
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.config import BatchConfig, SegmentConfig
import json, logging, os, threading
import torch
logging.basicConfig()
torch.set_num_threads(1)
photos, output, options, overwrite, fork = sys.argv[1:]
while fork == "1" and (child := os.fork()):
    print(child, flush=True)
    sys.stdin.readline()
    print("ended by", os.waitpid(child, 0)[1], flush=True)
config = SegmentConfig.from_options(json.loads(options))
plan = plan_batch([Path(photos)], Path(output), config, BatchConfig(overwrite=overwrite == "1"))
plan.folder.mark()
def told(message):
    if isinstance(message, FitProgress):
        print(message.step, flush=True)
fit_network(plan.found, plan.folder, config, plan.batch, "cpu", told, threading.Event())
print("fitted", flush=True)
"""


@contextmanager
def process(
    photos: Path, output: Path, config: SegmentConfig = TINY_FOLDER_FIT, overwrite: bool = False, fork: bool = False
) -> Iterator[Any]:
    """A fit in a process of its own, which ends with the test's need for it, stopped or not.

    With `fork`, fits one after another, in processes whose numbers it prints. A line that it reads says that one has
    ended. All share one import of torch, which takes longer than a fit.
    """
    options = json.dumps(config.as_options())
    command = [sys.executable, "-c", FIT, str(photos), str(output), options, str(int(overwrite)), str(int(fork))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_for(child: Any, line: str) -> None:
    for found in child.stdout:
        if found.strip() == line:
            return
    raise AssertionError(child.stderr.read())


@pytest.mark.slow
def test_killed_fit_loses_an_epoch_at_most_and_leaves_nothing_behind(photos: Path, tmp_path: Path) -> None:
    long = dataclasses.replace(TINY_FOLDER_FIT, epochs=12)
    out = tmp_path / "out"
    with process(photos, out, long, fork=True) as fits:
        for step in ("epoch 2 of 12", "epoch 5 of 12", "epoch 6 of 12", "statistics", "areas"):
            fit = int(fits.stdout.readline())
            wait_for(fits, step)
            os.kill(fit, signal.SIGKILL)
            if step != "areas":  # it may have got to its end
                assert epochs_done(out) >= (int(step.split()[1]) - 1 if "epoch" in step else 12)
            print(file=fits.stdin, flush=True)
            wait_for(fits, f"ended by {int(signal.SIGKILL)}")
    assert fitted(photos, out, long) == fitted(photos, tmp_path / "whole", long)
    assert set(files_below(out)) <= {MODEL_NAME, "outcomes.jsonl", CHECKPOINT_NAME}


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_second_process_waits_for_the_model_of_the_first(
    overwrite: bool, photos: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    told: list[FitProgress] = []
    said: list[str] = []

    def wake_first(message: str) -> None:
        said.append(message)
        os.kill(first.pid, signal.SIGCONT)

    monkeypatch.setattr(logging.getLogger(module.__name__), "warning", wake_first)
    with process(photos, out, overwrite=overwrite) as first:
        wait_for(first, "epoch 1 of 3")
        os.kill(first.pid, signal.SIGSTOP)
        fit_folder(planned(photos, out, batch=BatchConfig(overwrite=overwrite)), told.append)
        assert first.wait(300) == 0
    assert said == ["another dynaseg fits a network to this folder: waiting for it"]
    assert told == [], "this one fits nothing itself"
    assert (out / MODEL_NAME).read_bytes() == whole


def test_fit_that_waits_can_be_interrupted(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    (tmp_path / "out").mkdir()
    stop = threading.Event()
    with OutputFolder(tmp_path / "out") as other:
        assert other.claim(MODEL_NAME)
        threading.Timer(0.2, stop.set).start()
        started = time.monotonic()
        with pytest.raises(InterruptedWorkError):
            fit_folder(planned(photos, tmp_path / "out"), None, stop)
        assert time.monotonic() - started < 5


def test_fit_whose_forerunner_gave_up_continues_its_checkpoint(
    photos: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    out = tmp_path / "out"
    interrupted(photos, out, 3)
    with OutputFolder(out) as other:
        assert other.claim(MODEL_NAME)
        threading.Timer(0.2, lambda: other.release(MODEL_NAME)).start()
        assert fitted(photos, out) == whole


# Another run with the same output folder


def test_later_images_get_the_model_that_is_there(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segmented(photos, out)
    model = (out / MODEL_NAME).read_bytes()
    before = label_files(out)
    save_photo(photos / "later.png", 5)
    outcomes = segmented(photos, out)
    assert {Path(o.path).stem for o in outcomes if o.status == "done"} == {"later"}
    assert (out / MODEL_NAME).read_bytes() == model
    after = label_files(out)
    assert after.keys() - before.keys() == {"later.png"}
    assert {name: after[name] for name in before} == before


def test_overwrite_fits_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    segmented(photos, out)
    save_photo(photos / "later.png", 5)
    outcomes = segmented(photos, out, overwrite=True)
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert (out / MODEL_NAME).read_bytes() == fitted(photos, tmp_path / "fresh")
    segmented(photos, out, dataclasses.replace(TINY_FOLDER_FIT, clusters=5), overwrite=True)
    assert read_model(out / MODEL_NAME).clusters == 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"clusters": 5}, "clusters was 8, now 5"),
        ({"epochs": 2}, "epochs was 3, now 2"),
        ({"min_region": 9}, "min-region was 0, now 9"),
        ({"mode": "fsf"}, "mode was scf, now fsf"),
    ],
    ids=str,
)
def test_model_of_other_options_is_refused(change: dict[str, Any], named: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = fitted(photos, out)
    with pytest.raises(UsageError, match=re.escape(f"{out / MODEL_NAME} was made with other options (") + f".*{named}"):
        planned(photos, out, dataclasses.replace(TINY_FOLDER_FIT, **change))
    assert (out / MODEL_NAME).read_bytes() == model


def test_results_of_images_by_themselves_are_not_mixed_with_those_of_a_folder(photos: Path, tmp_path: Path) -> None:
    alone = SegmentConfig(iterations=2, min_labels=3, max_size=16, precision="float32", features=8, clusters=8)
    out = tmp_path / "out"
    segmented(photos, out, alone)
    with pytest.raises(UsageError, match="fit was image, now folder"):
        segmented(photos, out)
    assert not (out / MODEL_NAME).exists()


def test_damaged_model_in_the_output_folder_is_named(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = fitted(photos, out)
    (out / MODEL_NAME).write_bytes(model[:-5])
    with pytest.raises(UsageError, match="^" + re.escape(f"the model {out / MODEL_NAME}: not a safetensors file")):
        planned(photos, out)
    assert fitted(photos, out, overwrite=True) == model


def test_model_that_is_replaced_after_planning_is_not_applied(photos: Path, tmp_path: Path) -> None:
    fitted(photos, tmp_path / "out")
    path = tmp_path / "out" / MODEL_NAME
    run = segment_folder(photos, tmp_path / "out", TINY_FOLDER_FIT, BatchConfig(), HERE)
    path.write_bytes(fitted(photos, tmp_path / "other", dataclasses.replace(TINY_FOLDER_FIT, seed=1)))
    with pytest.raises(UsageError, match="another one than it was"):
        list(run)
    assert label_files(tmp_path / "out") == {}


def test_disk_that_is_full_leaves_no_half_of_a_model(photos: Path, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        fit_folder(planned(photos, small_disk / "out", dataclasses.replace(TINY_FOLDER_FIT, features=64)))
    assert set(files_below(small_disk / "out")) == {"outcomes.jsonl"}


# On a frozen backbone


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> SegmentConfig:
    """A fit beside what timm's smallest network sees, which has learned nothing."""
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(timm.create_model("test_resnet").state_dict(), path)
    return dataclasses.replace(TINY_FOLDER_FIT, backbone="timm:test_resnet", weights=identify(path))


def images_done(output: Path) -> int:
    with safetensors.safe_open(output / CHECKPOINT_NAME, framework="pt") as content:
        return int(json.loads(content.metadata()[STATE_KEY])["done"])


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """The images that a fit looked at, in order."""
    found: list[NDArray[np.uint8]] = []
    describe = RegionFitter.describe

    def describe_and_note(fitter: RegionFitter, image: NDArray[np.uint8]) -> None:
        found.append(image)
        describe(fitter, image)

    monkeypatch.setattr(RegionFitter, "describe", describe_and_note)
    return found


def test_regions_of_each_image_are_looked_at_once(
    photos: Path, tmp_path: Path, frozen: SegmentConfig, described: list[NDArray[np.uint8]]
) -> None:
    told: list[FitProgress] = []
    plan = planned(photos, tmp_path / "out", frozen)
    fit_folder(plan, told.append)
    assert plan.fit_visits == 11
    assert [progress.seen for progress in told] == [*range(1, 12)]
    assert {progress.step for progress in told} == {"regions"}
    assert {progress.before for progress in told} == {0}
    assert len({image.tobytes() for image in described}) == len(described) == 11
    assert set(files_below(tmp_path / "out")) == {MODEL_NAME, "outcomes.jsonl"}, "no checkpoint stays"


def test_model_on_a_frozen_backbone_depends_on_images_options_and_seed_alone(
    photos: Path, tmp_path: Path, frozen: SegmentConfig
) -> None:
    model = fitted(photos, tmp_path / "one", frozen)
    torch.rand(3)
    np.random.default_rng().random()
    assert fitted(photos, tmp_path / "two", frozen) == model
    assert fitted(photos, tmp_path / "more", dataclasses.replace(frozen, seed=1)) != model


@pytest.mark.parametrize(("after", "done"), [(3, 3), (5, 3), (6, 6), (10, 9), (11, 9)])
def test_interrupted_look_at_the_regions_continues_to_the_very_same_model(
    after: int,
    done: int,
    photos: Path,
    tmp_path: Path,
    frozen: SegmentConfig,
    described: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_IMAGES", 3)
    out = tmp_path / "out"
    interrupted(photos, out, after, frozen)
    assert images_done(out) == done
    assert not (out / MODEL_NAME).exists()
    told: list[FitProgress] = []
    described.clear()
    fit_folder(planned(photos, out, frozen), told.append)
    assert len(described) == 11 - done, "what was seen is not looked at again"
    assert [progress.seen for progress in told] == [*range(done + 1, 12)]
    assert {progress.before for progress in told} == {done}
    assert (out / MODEL_NAME).read_bytes() == fitted(photos, tmp_path / "whole", frozen)
    assert set(files_below(out)) == {MODEL_NAME, "outcomes.jsonl"}


def test_fit_that_had_seen_every_region_needs_no_image_again(
    photos: Path,
    tmp_path: Path,
    frozen: SegmentConfig,
    described: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_IMAGES", 11)
    interrupted(photos, tmp_path / "out", 11, frozen)
    described.clear()
    model = fitted(photos, tmp_path / "out", frozen)
    assert described == []
    assert model == fitted(photos, tmp_path / "whole", frozen)


def test_stop_before_the_first_checkpoint_leaves_nothing(photos: Path, tmp_path: Path, frozen: SegmentConfig) -> None:
    interrupted(photos, tmp_path / "out", 5, frozen)
    assert set(files_below(tmp_path / "out")) == {"outcomes.jsonl"}


def test_checkpoint_may_be_of_unreadable_images_alone(
    photos: Path, tmp_path: Path, frozen: SegmentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_IMAGES", 1)
    first = int(np.random.default_rng(frozen.seed).permutation(11)[0])
    (photos / f"{first:02}.png").write_bytes(b"no image")
    interrupted(photos, tmp_path / "out", 1, frozen)
    assert images_done(tmp_path / "out") == 1
    assert fitted(photos, tmp_path / "out", frozen) == fitted(photos, tmp_path / "whole", frozen)


@pytest.mark.parametrize("change", [{"seed": 1}, {"backbone": "cnn", "weights": None}], ids=["seed", "cnn"])
def test_checkpoint_of_regions_is_not_continued_with_other_options(
    change: dict[str, Any],
    photos: Path,
    tmp_path: Path,
    frozen: SegmentConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_IMAGES", 3)
    interrupted(photos, tmp_path / "out", 4, frozen)
    not_continued(photos, tmp_path / "out", caplog, dataclasses.replace(frozen, **change))


def test_unreadable_images_are_left_out_of_the_regions(
    photos: Path, tmp_path: Path, frozen: SegmentConfig, described: list[NDArray[np.uint8]]
) -> None:
    (photos / "05.png").write_bytes(b"no image")
    outcomes = segmented(photos, tmp_path / "out", frozen)
    assert {Path(outcome.path).stem for outcome in outcomes if outcome.status == "failed"} == {"05"}
    assert len(described) == 10
    assert len(label_files(tmp_path / "out")) == 10


def test_folder_without_a_readable_image_is_refused_on_a_frozen_backbone(tmp_path: Path, frozen: SegmentConfig) -> None:
    folder, out = tmp_path / "bad", tmp_path / "out"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.png").write_bytes(b"no image")
    message = r"^no image can be read, so that no network can be fitted: .*[ab]\.png: not an image"
    with pytest.raises(UsageError, match=message):
        fit_folder(planned(folder, out, frozen))
    assert not (out / MODEL_NAME).exists()


def test_of_many_images_some_are_drawn(
    photos: Path,
    tmp_path: Path,
    frozen: SegmentConfig,
    described: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_FITTED", 4)
    monkeypatch.setattr(config_module, "MOST_FITTED", 4)
    told: list[FitProgress] = []
    plan = planned(photos, tmp_path / "out", frozen)
    fit_folder(plan, told.append)
    assert plan.fit_visits == told[-1].seen == len(told) == len(described) == 4
    drawn = {image.tobytes() for image in described}
    described.clear()
    fit_folder(planned(photos, tmp_path / "other", dataclasses.replace(frozen, seed=1)))
    assert drawn != {image.tobytes() for image in described}
    monkeypatch.setattr(config_module, "MOST_FITTED", 99)
    assert planned(photos, tmp_path / "more", frozen).fit_visits == 11


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (300, 2), (24, 20)])
def test_folder_of_a_single_image_is_fitted_on_a_frozen_backbone(
    width: int, height: int, tmp_path: Path, frozen: SegmentConfig
) -> None:
    save_photo(tmp_path / "one/a.png", 0, width, height)
    (outcome,) = segmented(tmp_path / "one", tmp_path / "out", frozen)
    assert outcome.status == "done"
    assert read_pixels(tmp_path / "out/labels/a.png").shape == (height, width)


def test_model_on_a_frozen_backbone_labels_photos_as_the_run_did(
    photos: Path, tmp_path: Path, frozen: SegmentConfig
) -> None:
    """Without the file of weights: the model has them."""
    path = tmp_path / "own.pth"
    assert isinstance(frozen.weights, WeightsFile)
    path.write_bytes(Path(frozen.weights.path).read_bytes())
    out = tmp_path / "out"
    segmented(photos, out, dataclasses.replace(frozen, weights=identify(path)))
    raw = files_below(out / ".raw")
    assert len(raw) == 11
    assert len(np.unique([read_pixels(one) for one in sorted((out / ".raw").iterdir())])) > 2
    path.unlink()
    model = read_model(out / MODEL_NAME)
    segmented(photos, tmp_path / "again", model)
    assert files_below(tmp_path / "again/.raw") == raw
    assert label_files(tmp_path / "again") == label_files(out)


# With masks


@pytest.mark.parametrize("backbone", ["cnn", "frozen"])
def test_what_masks_leave_out_has_no_part_in_the_network_and_the_labels(
    photos: Path, tmp_path: Path, frozen: SegmentConfig, backbone: str
) -> None:
    config = frozen if backbone == "frozen" else TINY_FOLDER_FIT
    found = []
    for name in ("one", "other"):
        counts = np.zeros((24, 30), dtype=bool)
        counts[5:20, 4:22], counts[5:9, 4:9] = True, False
        for seed, path in enumerate(sorted(photos.iterdir())):
            masked = np.where(counts[..., None], read_pixels(path), noise(seed + len(name), 30, 24))
            Image.fromarray(masked).save(path)
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(counts).save(tmp_path / "masks" / path.name)
        batch = BatchConfig(mask=tmp_path / "masks")
        outcomes = [*segment_folder(photos, tmp_path / name, config, batch, HERE)]
        assert {outcome.status for outcome in outcomes} == {"done"}
        clusters = json.loads((tmp_path / name / "clusters.json").read_text())
        labels = files_below(tmp_path / name / "labels")
        found.append(((tmp_path / name / MODEL_NAME).read_bytes(), clusters, labels))
        assert clusters["pixels"] == len(labels) * counts.sum()
        for path in (tmp_path / name / "labels").iterdir():
            assert np.array_equal(read_pixels(path) == 255, ~counts)
    assert found[0] == found[1]


def test_checkpoint_belongs_to_its_masks(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks/00.png"
    Image.fromarray(np.eye(24, 30) > 0).save(mask)
    identities = []
    for batch in (None, BatchConfig(mask=tmp_path / "masks"), BatchConfig(mask="alpha")):
        plan, stop = planned(photos, tmp_path / "out", batch=batch), threading.Event()

        def stop_later(progress: FitProgress, stop: threading.Event = stop) -> None:
            if progress.step.startswith("epoch 2"):
                stop.set()

        with pytest.raises(InterruptedWorkError):
            fit_folder(plan, stop_later, stop)
        with safetensors.safe_open(tmp_path / "out" / CHECKPOINT_NAME, framework="pt") as content:
            identities.append(json.loads(content.metadata()[STATE_KEY]))
    assert len({json.dumps(identity) for identity in identities}) == 3

"""A whole run: its events and their order, the files that it writes, and `segment_folder`, which passes it on."""

from __future__ import annotations

import gc
import itertools
import json
import re
import subprocess
import sys
import threading
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from samples import TINY, photo_folder, read_pixels, save_photo
from scenes import TINY_FOLDER_FIT, scene_folder

from dynaseg_cli import FOLDER_FIT, BatchConfig, CutConfig, Engine, Run, SegmentConfig, WorkersConfig, segment_folder
from dynaseg_cli import run as module
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.errors import ImageError, UsageError, WorkerError
from dynaseg_cli.export.exporting import Exported, ExportFailure
from dynaseg_cli.files.output_folder import CLUSTERS_NAME, OutputFolder
from dynaseg_cli.run import Event, FileFailed, FileWritten, ModelReady, RunFinished, run
from dynaseg_cli.workers.messages import FitProgress
from dynaseg_cli.workers.pool import ImageProgress

HERE = WorkersConfig(device="cpu", workers=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.bmp", "sub/c.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# The events


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return scene_folder(tmp_path / "photos", "a.png", "b.png", "sub/c.png")


def planned(photos: Path, out: Path, config: SegmentConfig = TINY, **batch: Any) -> Plan:
    return plan_batch([photos], out, config, BatchConfig(**batch))


def kinds(events: list[Event]) -> list[type[Event]]:
    """The kinds of events in their order, each once for several in a row. The progress of images is left out."""
    return [kind for kind, _ in groupby(type(event) for event in events if not isinstance(event, ImageProgress))]


def written(events: list[Event]) -> list[Path]:
    return [event.path for event in events if isinstance(event, FileWritten)]


def failed(events: list[Event]) -> list[Path]:
    return [event.path for event in events if isinstance(event, FileFailed)]


def last(events: list[Event]) -> RunFinished:
    assert isinstance(events[-1], RunFinished)
    return events[-1]


def content(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_images_are_followed_by_the_end(photos: Path, out: Path) -> None:
    plan = planned(photos, out)
    events = list(run(plan, HERE))
    assert kinds(events) == [Outcome, FileWritten, RunFinished]
    progress = events[0]
    assert isinstance(progress, ImageProgress)
    assert (progress.job, progress.iteration) == (plan.jobs[0], 1)
    assert sum(isinstance(event, Outcome) for event in events) == 3
    assert last(events).summary.done == 3
    assert last(events).document == content(out / "run.json")


def test_events_of_a_folder_fit_come_in_order(scenes: Path, out: Path) -> None:
    save_photo(scenes / " d.png")  # a name that VOC's list cannot hold
    asked: dict[str, Any] = {"report": True, "export": ("voc", "coco-rle")}
    plan = planned(scenes, out, TINY_FOLDER_FIT, **asked)
    events = list(run(plan, HERE))
    end = [Outcome, FileWritten, ExportFailure, Exported, FileWritten, RunFinished]
    assert kinds(events) == [FitProgress, ModelReady, *end]
    assert written(events) == [out / name for name in ("run.json", "clusters.json", "report.html", "export")]
    _, clusters = (event for event in events if isinstance(event, FileWritten) and event.document)
    assert clusters.document == content(out / "clusters.json")
    (progress, *_), (ready,) = ([e for e in events if isinstance(e, kind)] for kind in (FitProgress, ModelReady))
    assert isinstance(progress, FitProgress)
    assert isinstance(ready, ModelReady)
    assert (progress.seen, plan.fit_visits) == (4, 4 * 5)
    assert ready.fitted
    assert last(events).summary.plan.segment.model == ready.model
    again = list(run(planned(scenes, out, TINY_FOLDER_FIT, **asked), HERE))
    assert kinds(again) == [ModelReady, *end]
    assert again[0] == ModelReady(ready.model, fitted=False)


def test_stop_midway_ends_in_order(tmp_path: Path, out: Path) -> None:
    photos = photo_folder(tmp_path / "many", *(f"{index:02}.png" for index in range(40)))
    stop, events = threading.Event(), []
    for event in run(planned(photos, out, report=True, export=("voc",)), HERE, stop):
        events.append(event)
        if isinstance(event, Outcome):
            stop.set()
    done = sum(isinstance(event, Outcome) for event in events)
    assert 1 <= done < 40
    assert (last(events).document["interrupted"], last(events).document["done"]) == (True, done)
    assert content(out / "run.json") == last(events).document
    assert written(events) == [out / "run.json", out / "report.html"], "exports are written when the run is continued"


def test_stop_during_the_folder_fit_leaves_the_images(scenes: Path, out: Path) -> None:
    stop, events = threading.Event(), []
    for event in run(planned(scenes, out, TINY_FOLDER_FIT, report=True), HERE, stop):
        events.append(event)
        stop.set()
    assert kinds(events) == [FitProgress, FileWritten, RunFinished]
    assert written(events) == [out / "run.json", out / "report.html"]
    assert content(out / "run.json")["interrupted"] is True


# Files that cannot be written


ALL: dict[str, Any] = {"report": True, "export": ("voc",)}


@pytest.mark.parametrize("name", ["run.json", "clusters.json", "report.html"])
def test_file_that_cannot_be_written_costs_no_other(scenes: Path, out: Path, name: str) -> None:
    (out / name).mkdir(parents=True)
    events = list(run(planned(scenes, out, TINY_FOLDER_FIT, **ALL), HERE))
    assert failed(events) == [out / name]
    others = [out / other for other in ("run.json", "clusters.json", "report.html", "export") if other != name]
    assert written(events) == others
    assert last(events).summary.done == 3


def test_export_through_a_link_is_refused_and_told(photos: Path, out: Path, tmp_path: Path) -> None:
    OutputFolder(out).mark()
    (out / "export").symlink_to(tmp_path)
    events = list(run(planned(photos, out, export=("voc",)), HERE))
    (event,) = (event for event in events if isinstance(event, FileFailed))
    assert event.path == out / "export"
    assert isinstance(event.error, ImageError)


def test_folder_that_hangs_is_not_waited_for_nor_written_to_again(
    scenes: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(module, "_write_run_now", lambda *_: answers.wait(60))
    monkeypatch.setattr(module, "WRITE_TIMEOUT_S", 0.1)
    events = list(run(planned(scenes, out, TINY_FOLDER_FIT, **ALL), HERE))
    answers.set()
    assert failed(events) == [out / "run.json", out / "report.html", out / "export"]
    assert written(events) == []


def test_python_is_told_of_the_first_file_after_the_last_outcome(photos: Path, out: Path) -> None:
    for name in ("run.json", "report.html"):
        (out / name).mkdir(parents=True)
    outcomes = segment_folder(photos, out, TINY, BatchConfig(**ALL), HERE)
    assert [next(outcomes).status for _ in range(3)] == ["done"] * 3
    with pytest.raises(OSError, match="Is a directory") as raised:
        next(outcomes)
    assert str(out / "run.json") in str(raised.value)
    assert (out / "export/voc").is_dir()


# The model and its labels


def test_copy_of_the_model_is_saved(scenes: Path, out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "kept.safetensors"
    assert kinds(list(run(planned(scenes, out, TINY_FOLDER_FIT, save_model=copy), HERE)))[-1] is RunFinished
    assert copy.read_bytes() == (out / "model.safetensors").read_bytes()


def test_copy_that_cannot_be_written_ends_the_run_with_the_fit_kept(scenes: Path, out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "kept.safetensors"
    events = run(planned(scenes, out, TINY_FOLDER_FIT, save_model=copy), HERE)
    with pytest.raises(WorkerError, match=r"`save_model=.*kept\.safetensors` cannot be written: Is a directory"):
        for event in events:
            if isinstance(event, ModelReady):
                copy.mkdir()
    assert (out / "model.safetensors").is_file()
    assert content(out / "run.json")["interrupted"] is True


def test_statistics_count_what_other_shards_finish_meanwhile(scenes: Path, out: Path, tmp_path: Path) -> None:
    """The shard that writes last has seen the images of all; otherwise an older count would replace a newer one."""
    list(run(planned(scenes, out, TINY_FOLDER_FIT), HERE))
    finished_later = (out / "stats/b.json").rename(tmp_path / "b.json")
    events = run(planned(scenes, out, TINY_FOLDER_FIT, shard=(1, 2)), HERE)
    for _ in range(2):
        next(event for event in events if isinstance(event, Outcome))
    with OutputFolder(out) as other:
        assert other.claim(CLUSTERS_NAME)
        waiting = threading.Thread(target=list, args=(events,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        finished_later.rename(out / "stats/b.json")
    waiting.join()
    assert content(out / CLUSTERS_NAME)["images"] == 3


# From Python


def test_unusable_input_is_refused_at_the_call(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        segment_folder(tmp_path / "missing", out)
    assert not out.exists()


def test_weights_that_cannot_be_had_are_refused_at_the_call(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(out.parent))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(UsageError, match="ImageNet weights cannot be downloaded"):
        segment_folder(photos, out, SegmentConfig(backbone="resnet18-fpn"))
    assert not out.exists()


def test_missing_ray_is_found_before_a_folder_is_fitted(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "dynaseg_cli.workers.ray", raising=False)
    with pytest.raises(UsageError, match="`executor=ray` needs Ray"):
        segment_folder(photos, out, SegmentConfig(**FOLDER_FIT), workers=WorkersConfig(executor="ray"))
    assert not out.exists()


def test_folder_and_file_are_segmented_from_python(photos: Path, out: Path) -> None:
    inputs = [str(photos), str(save_photo(out.parent / "d.png"))]
    outcomes = list(segment_folder(inputs, str(out), TINY, workers=HERE))
    assert [(Path(outcome.path).name, outcome.status) for outcome in outcomes] == [
        ("a.png", "done"),
        ("b.bmp", "done"),
        ("d.png", "done"),
        ("c.png", "done"),
    ]
    assert (out / "labels/sub/c.png").exists()


def test_labels_are_cut_as_python_says(photos: Path, out: Path) -> None:
    outcomes = list(segment_folder(photos, out, TINY, BatchConfig(cut=CutConfig(regions=1)), HERE))
    assert [outcome.num_labels for outcome in outcomes] == [1, 1, 1]
    outcomes = list(segment_folder(photos, out, TINY, BatchConfig(cut=CutConfig(regions="raw")), HERE))
    assert [outcome.segmented for outcome in outcomes] == [False] * 3
    raw = Engine(TINY, "cpu").segment(read_pixels(photos / "a.png")).labels
    np.testing.assert_array_equal(read_pixels(out / "labels/a.png"), raw)


def test_report_and_exports_are_written_from_python(photos: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_photo(photos / " d.png", 7)  # a name that VOC's list cannot hold
    batch = BatchConfig(report=True, export=("voc", "coco-rle"))
    outcomes = segment_folder(photos, out, TINY, batch, HERE)
    assert next(outcomes).status == "done"
    assert not (out / "report.html").exists()
    assert len(list(outcomes)) == 3
    assert b"sub/c.png" in (out / "report.html").read_bytes()
    assert len(json.loads((out / "export/coco-rle.json").read_bytes())["images"]) == 4
    (told,) = caplog.messages
    assert told.startswith("not exported as voc:  d: a line of the list of images cannot hold")


def test_run_json_is_written_as_by_the_command(photos: Path, out: Path) -> None:
    save_photo(photos / ".hidden.png")
    (photos / "b.bmp").write_bytes(b"")
    list(segment_folder(photos, out, TINY, workers=HERE))
    document = content(out / "run.json")
    assert [document[key] for key in ("output", "images", "done", "skipped", "failed")] == [str(out), 3, 2, 0, 1]
    assert (document["interrupted"], document["passed_over"]) == (False, {"hidden": 1})
    assert document["options"] == TINY.as_options()
    assert document["device"].startswith("cpu")


def test_run_that_is_closed_midway_counts_as_interrupted(photos: Path, out: Path) -> None:
    outcomes = segment_folder(photos, out, TINY, workers=HERE)
    next(outcomes)
    outcomes.close()
    document = content(out / "run.json")
    assert (document["interrupted"], document["done"], document["images"]) == (True, 1, 3)


def test_run_that_cannot_begin_writes_nothing(photos: Path, out: Path) -> None:
    with pytest.raises(UsageError):
        list(segment_folder(photos, out, TINY, workers=WorkersConfig("cuda:99", workers=0)))
    assert not out.exists()


def test_statistics_of_a_folder_are_written_from_python(photos: Path, out: Path) -> None:
    """So that `evaluate` knows what they mean."""
    list(segment_folder(photos, out, TINY_FOLDER_FIT, workers=HERE))
    clusters = content(out / "clusters.json")
    assert clusters["images"] == 3
    assert content(out / "run.json")["options"]["model"] == clusters["options"]["model"] is not None


def test_other_options_are_refused_until_they_are_to_overwrite(photos: Path, out: Path) -> None:
    list(segment_folder(photos, out, TINY, workers=HERE))
    other = TINY.__class__(**{**vars(TINY), "seed": 5})
    with pytest.raises(UsageError, match="seed was 0, now 5"):
        segment_folder(photos, out, other, workers=HERE)
    redone = segment_folder(photos, out, other, BatchConfig(overwrite=True), HERE)
    assert {outcome.status for outcome in redone} == {"done"}


def test_runs_in_several_threads_do_not_meet(photos: Path, tmp_path: Path) -> None:
    found: dict[str, list[Outcome]] = {}

    def segment(name: str) -> None:
        found[name] = list(segment_folder(photos, tmp_path / name, TINY, workers=HERE))

    threads = [threading.Thread(target=segment, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all([outcome.status for outcome in found[name]] == ["done"] * 3 for name in ("one", "two", "three"))


def test_no_thread_is_left(photos: Path, out: Path) -> None:
    before = set(threading.enumerate())
    outcomes = segment_folder(photos, out, TINY, workers=HERE)
    next(outcomes)
    outcomes.close()
    assert set(threading.enumerate()) <= before


def test_run_has_a_length_and_goes_once_through_the_images(photos: Path, out: Path) -> None:
    made = segment_folder(photos, out, TINY, workers=HERE)
    assert isinstance(made, Run)
    assert not out.exists(), "nothing is done before it is asked for"
    assert (len(made), made.output, made.summary.done, made.paths) == (3, out, 0, ())
    assert repr(made).startswith(f"Run({out}: 0 of 3 images written, ")
    for outcome in made:
        assert outcome.status == "done"
        break
    assert len(list(made)) == 2, "a second loop continues"
    assert list(made) == []
    assert len(made) == 3


def test_run_is_done_to_its_end(photos: Path, out: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    made = segment_folder(photos, out, TINY, workers=HERE)
    summary = made.run()
    assert (summary.images, summary.done, summary.reused, summary.skipped) == (3, 2, 0, 0)
    ((path, reason),) = ((failure.path, failure.reason) for failure in summary.failures)
    assert (path, reason) == (str(photos / "b.bmp"), "the file is empty")
    assert summary.device == content(out / "run.json")["device"]
    assert repr(made) == f"Run({out}: 2 of 3 images written, 1 failed, {summary.seconds:.1f} s)"
    assert made.run() == made.summary == summary, "it is over, and so is its time"
    recut = segment_folder(photos, out, TINY, BatchConfig(cut=CutConfig(regions=2)), HERE).run()
    assert str(recut).startswith("2 of 3 images written, 2 from earlier labels, 1 failed, ")
    again = segment_folder(photos, out, TINY, BatchConfig(cut=CutConfig(regions=2)), HERE).run()
    assert str(again).startswith("0 of 3 images written, 2 complete already, 1 failed, ")


def test_summary_does_not_change_later(photos: Path, out: Path) -> None:
    made = segment_folder(photos, out, TINY, workers=HERE)
    next(made)
    early = made.summary
    made.run()
    assert (early.done, made.summary.done) == (1, 3)


def test_time_is_that_of_the_run(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(1000, 10)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("dynaseg_cli.batch.summary.time", clock)
    made = segment_folder(photos, out, TINY, workers=HERE)
    assert made.summary.seconds == 0, "it has not begun"
    next(made)
    first, second = made.summary.seconds, made.summary.seconds
    assert 0 < first < second, "it goes on"
    made.close()
    assert made.summary.seconds == made.summary.seconds > second, "it is over"


def test_paths_are_those_of_what_was_written(photos: Path, out: Path) -> None:
    (photos / "b.bmp").write_bytes(b"")
    batch = BatchConfig(report=True, export=("voc",), save=("labels", "regions", "stats"))
    made = segment_folder(photos, out, TINY, batch, HERE)
    first, failure, last = made
    of_first = {
        name: out / f"{name}/a.{'json' if name == 'stats' else 'png'}" for name in ("labels", "regions", "stats")
    }
    assert (first.path, made.files(first)) == (str(photos / "a.png"), of_first)
    assert made.files(failure) == {}
    whole = tuple(out / name for name in ("run.json", "report.html", "export"))
    assert made.paths == (*of_first.values(), *made.files(last).values(), *whole)
    assert all(path.exists() for path in made.paths)
    again = segment_folder(photos, out, TINY, batch, HERE)
    assert again.files(next(again)) == of_first, "complete already"
    again.run()
    assert again.paths == whole


def test_map_of_many_regions_is_found_under_its_other_name(photos: Path, out: Path) -> None:
    batch = BatchConfig(save=("labels", "regions", "stats"))
    made = segment_folder(photos, out, TINY, batch, HERE)
    outcome, *_ = made
    (out / "regions/a.png").rename(out / "regions/a.tif")
    assert made.files(outcome)["regions"] == out / "regions/a.tif"


def test_model_and_its_copy_are_among_the_paths(scenes: Path, out: Path, tmp_path: Path) -> None:
    batch = BatchConfig(save=("labels", "stats"), save_model=tmp_path / "kept.safetensors")
    made = segment_folder(scenes, out, TINY_FOLDER_FIT, batch, HERE)
    made.run()
    whole = [tmp_path / "kept.safetensors", out / "run.json", out / "clusters.json"]
    assert made.paths[-4:] == (out / "model.safetensors", *whole)
    again = segment_folder(scenes, out, TINY_FOLDER_FIT, batch, HERE)
    again.run()
    assert again.paths == tuple(whole)


@pytest.mark.parametrize("ended", ["dropped", "with"])
def test_run_that_nobody_keeps_ends_at_once(photos: Path, out: Path, ended: str) -> None:
    before = set(threading.enumerate())
    gc.disable()
    try:
        if ended == "dropped":
            assert next(segment_folder(photos, out, TINY, workers=HERE)).status == "done"
        else:
            with segment_folder(photos, out, TINY, workers=HERE) as made:
                next(made)
        assert set(threading.enumerate()) <= before
        assert content(out / "run.json")["interrupted"] is True
    finally:
        gc.enable()


# The bar


def bar_of(text: str) -> list[str]:
    """What a bar showed, one after another."""
    return [shown.strip() for shown in re.split(r"[\r\n]+", text) if shown.strip()]


def test_bar_counts_images_and_failures(
    photos: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "b.bmp").write_bytes(b"")
    paces = itertools.count()
    monkeypatch.setattr("dynaseg_cli.counting.Counts.pace", lambda counts: f"pace {next(paces)} at {counts.done}")
    segment_folder(photos, out, TINY, workers=HERE, progress=True).run()
    streams = capsys.readouterr()
    assert streams.out == ""
    shown = bar_of(streams.err)
    assert shown[0].startswith("0%|")
    assert re.fullmatch(r"100%\|.*\| 3/3 images, pace \d+ at 3, 1 failed", shown[-1])


def test_bar_shows_the_fit_of_a_folder_first(scenes: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment_folder(scenes, out, TINY_FOLDER_FIT, workers=HERE, progress=True).run()
    shown = bar_of(capsys.readouterr().err)
    fits = [text for text in shown if text.startswith("fitting: ")]
    assert re.fullmatch(r"fitting: 100%\|.*\| 15/15 images, .* left, areas", fits[-1])
    assert shown.index(fits[-1]) < shown.index(next(text for text in shown if "/3 images" in text))
    assert re.fullmatch(r"100%\|.*\| 3/3 images, .* left", shown[-1])


def test_without_progress_nothing_is_shown(photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment_folder(photos, out, TINY, workers=HERE).run()
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import sys
from dynaseg_cli import SegmentConfig, WorkersConfig, segment_folder
config = SegmentConfig(iterations=2, min_labels=3, max_size=16, precision="float32", features=8, clusters=8)
for outcome in segment_folder(sys.argv[1], sys.argv[2], config, workers=WorkersConfig(device="cpu", workers=2)):
    print(outcome.status)
print(sorted({"torch", "tqdm"} & set(sys.modules)))
"""


def test_script_needs_no_guard_and_loads_neither_torch_nor_a_bar(photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", photos, out]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("done\ndone\ndone\n[]\n", "")

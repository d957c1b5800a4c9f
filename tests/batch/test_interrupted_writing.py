"""An image whose writing is cut off after each step in turn: by a kill, which cleans nothing up, or by a power cut."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from samples import TINY, files_below, photo_folder

from dynaseg_cli import BatchConfig, CutConfig, Engine
from dynaseg_cli.batch.planning import plan_batch
from dynaseg_cli.batch.stages import run_stream
from dynaseg_cli.config import Product
from dynaseg_cli.files.output_folder import OutputFolder
from dynaseg_cli.report.page import ENTRY_FILES

ALL: tuple[Product, ...] = ("labels", "color", "stats", "overlay", "regions", "hierarchy", "raw")
CUTS = CutConfig(), CutConfig(regions=2)


class _KilledError(BaseException):
    pass


@contextmanager
def killed_before(step: int) -> Iterator[list[str]]:
    """Nothing is synced, renamed or removed from this step on, not even to clean up; yields the steps before it."""
    done: list[str] = []
    number = itertools.count()

    def until_killed(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(number) >= step:
                raise _KilledError
            done.append(name)
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", until_killed("sync", os.fsync))
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, until_killed(name, getattr(Path, name)))
        yield done


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine(TINY, "cpu")
    segment, made = engine.segment, {}

    def segment_once(image: Any, *arguments: Any) -> Any:
        key = image.tobytes()
        if key not in made:
            made[key] = segment(image, *arguments)
        return made[key]

    engine.segment = segment_once  # type: ignore[method-assign]
    return engine


def run(engine: Engine, photos: Path, out: Path, **batch: Any) -> list[str]:
    plan = plan_batch([photos], out, TINY, BatchConfig(save=ALL, **batch))
    plan.folder.mark()
    outcomes = run_stream(plan.jobs, plan.folder, plan.batch, [engine])
    return [outcome.status for _, outcome in outcomes if outcome is not None]


def results(out: Path) -> dict[str, bytes]:
    """All files but the log; leftovers too."""
    return {name: content for name, content in files_below(out).items() if name != "outcomes.jsonl"}


@pytest.mark.parametrize(("before", "report"), [("nothing", False), ("another photo", True), ("another cut", False)])
def test_a_kill_at_any_step_leaves_statistics_only_beside_the_files_that_they_tell_of(
    engine: Engine, tmp_path: Path, before: str, report: bool
) -> None:
    photos = photo_folder(tmp_path / "photos", "0.png", "a.png")
    photo = photos / "a.png"
    old, new = tmp_path / "old", tmp_path / "new"
    if before == "another cut":
        run(engine, photo, old, cut=CUTS[1], report=report)
    elif before == "another photo":
        content = photo.read_bytes()
        shutil.copyfile(photos / "0.png", photo)
        run(engine, photo, old, cut=CUTS[0], report=report)
        photo.write_bytes(content)
    else:
        OutputFolder(old).mark()
    run(engine, photo, new, cut=CUTS[0], report=report)
    whole = results(new)
    for step in itertools.count():
        out = tmp_path / f"out{step}"
        shutil.copytree(old, out)
        with killed_before(step) as done, suppress(_KilledError):
            assert run(engine, photo, out, cut=CUTS[0], report=report) == ["done"]
            break
        found = {name: content for name, content in results(out).items() if not name.endswith(".tmp")}
        stats = json.loads(found.get("stats/a.json", b"{}"))
        if "regions" in stats:  # otherwise they tell of no more than the raw labels
            assert found in (results(old), whole), f"after {done}"
        assert run(engine, photo, out, cut=CUTS[0], report=report) in (["done"], ["skipped"])
        assert results(out) == whole, f"after {done}"
    assert results(out) == whole
    # Another cut writes statistics of the raw labels first, and replaces what depends on the cut.
    assert done.count("replace") == (2 + 4 if before == "another cut" else len(ALL)) + len(ENTRY_FILES) * report


def test_a_power_cut_never_loses_what_has_a_name(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has its name only once it is on disk, and statistics are written only once all others have theirs."""
    replace, sync = Path.replace, os.fsync
    synced: set[int] = set()
    named: list[Path] = []

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def note_name(path: Path, target: Path) -> Path:
        assert path.stat().st_ino in synced
        if target.suffix == ".json":
            assert set(ALL) - {"stats"} == {earlier.parent.name for earlier in named}
        else:
            assert not list((out / "stats").glob("*")), "begun too early"
        named.append(target)
        return replace(path, target)

    out = tmp_path / "out"
    photo = photo_folder(tmp_path / "photos", "a.png") / "a.png"
    run(engine, photo, out)
    synced.clear()
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    run(engine, photo, out, overwrite=True)
    assert named[-1] == out / "stats/a.json"
    assert len(named) == len(ALL)

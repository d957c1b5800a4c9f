"""A folder of results taken up again: that no more is begun than is wanted. `report` and `export` show the rest."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from samples import photo_folder

from dynaseg_cli.batch import results
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan, plan_batch
from dynaseg_cli.config import BatchConfig, SegmentConfig, WorkersConfig
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.run import report_results, run


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Of a folder with one image that is finished."""
    monkeypatch.chdir(tmp_path)
    photo_folder(tmp_path / "photos", "a.png")
    config = SegmentConfig(iterations=1, max_size=16, min_labels=3, features=8, clusters=8, precision="float32")
    list(run(plan_batch([Path("photos")], Path("out"), config), WorkersConfig(workers=0, device="cpu")))
    return results.plan_of_results(Path("out"), report=True)


def test_plan_is_that_of_the_run(plan: Plan) -> None:
    assert plan.jobs == [Job("photos/a.png", "a")]
    assert plan.segment == SegmentConfig(
        iterations=1, max_size=16, min_labels=3, features=8, clusters=8, precision="float32", alpha=50.0
    )
    assert sorted(plan.batch.save) == sorted(BatchConfig.save)
    assert [job for job, _ in plan.complete()] == plan.jobs


def test_no_image_is_begun_once_the_iteration_is_broken_off(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, begun = threading.Event(), []

    def complete(job: Job, plan: Plan) -> Outcome:
        begun.append(job)
        if len(begun) > 1:
            assert stop.wait(60)
        return Outcome(job.path, "skipped")

    monkeypatch.setattr(results, "_complete", complete)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    outcomes = results.complete_entries(dataclasses.replace(plan, jobs=plan.jobs * 100), stop)
    assert next(outcomes).status == "skipped"
    outcomes.close()
    assert stop.is_set()
    assert len(begun) <= 2


def test_page_is_not_written_by_a_run_that_is_stopped(plan: Plan) -> None:
    stop = threading.Event()
    stop.set()
    assert list(report_results(plan, stop)) == []
    assert not plan.folder.report.exists()

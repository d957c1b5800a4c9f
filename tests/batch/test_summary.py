from __future__ import annotations

from pathlib import Path

from samples import TINY

from dynaseg_cli import BatchConfig, __version__
from dynaseg_cli.batch.outcomes import Outcome
from dynaseg_cli.batch.planning import Plan
from dynaseg_cli.batch.summary import RunSummary
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.files.user_files import PassedOver

DONE = Outcome("a.jpg", "done", num_labels=4, iterations=9, stop_reason="threshold", seconds=0.5)
FAILED = Outcome("b\n\udce9.jpg", "failed", "the file is empty")


def summary(output: Path, *outcomes: Outcome) -> RunSummary:
    jobs = [Job(f"{index}.jpg", str(index)) for index in range(4)]
    folder = Outcome("folder", "failed", "cannot be listed")
    passed_over = PassedOver()
    for name in (".a.jpg", ".b.jpg"):
        passed_over.add("hidden", Path(name))
    made = RunSummary(Plan(jobs, jobs, OutputFolder(output), TINY, BatchConfig(), [folder], passed_over))
    for outcome in outcomes:
        made.add(outcome)
    return made


def test_summary_counts_outcomes_by_status(tmp_path: Path) -> None:
    made = summary(tmp_path, DONE, DONE, FAILED, Outcome("c.jpg", "skipped"))
    assert (made.done, made.skipped, len(made.failures), made.finished, made.labels) == (2, 1, 1, 4, [4, 4])


def test_run_document_has_the_promised_keys(tmp_path: Path) -> None:
    warned = Outcome("c.tif", "done", num_labels=2, warnings=("first of 3 pages, 2 left out",))
    made = summary(tmp_path, DONE, FAILED, warned)
    made.device = "cpu (a processor)"
    document = made.document(interrupted=True)
    seconds, versions = document.pop("seconds"), document.pop("versions")
    assert seconds >= 0
    assert versions["dynaseg"] == __version__
    assert {"python", "torch", "numpy", "pillow"} < set(versions)
    assert document == {
        "output": str(tmp_path),
        "passed_over": {"hidden": 2},
        "images": 5,
        "done": 2,
        "skipped": 0,
        "failed": 1,
        "interrupted": True,
        "shard": "1/1",
        "failures": [{"path": "b\n\udce9.jpg", "reason": "the file is empty"}],
        "warnings": [{"path": "c.tif", "warning": "first of 3 pages, 2 left out"}],
        "options": TINY.as_options(),
        "cut": {"regions": "auto", "granularity": None},
        "colors": "calm",
        "device": "cpu (a processor)",
    }

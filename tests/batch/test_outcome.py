from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from samples import TINY

from dynaseg_cli import __version__
from dynaseg_cli.batch.outcome import Outcome, RunSummary, append_outcome

DONE = Outcome("a.jpg", "done", num_labels=4, iterations=9, stop_reason="threshold", seconds=0.5)
FAILED = Outcome("b\n\udce9.jpg", "failed", "the file is empty")


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "outcomes.jsonl").read_text().splitlines()]


def test_each_outcome_is_one_line_of_what_is_known(tmp_path: Path) -> None:
    append_outcome(tmp_path, DONE)
    append_outcome(tmp_path, FAILED)
    done, failed = lines(tmp_path)
    assert done.pop("time") <= failed.pop("time")
    assert done == {name: value for name, value in vars(DONE).items() if name != "reason"}
    assert failed == {"path": "b\n\udce9.jpg", "status": "failed", "reason": "the file is empty"}


def test_line_that_a_killed_run_left_half_written_spoils_no_other(tmp_path: Path) -> None:
    append_outcome(tmp_path, DONE)
    with (tmp_path / "outcomes.jsonl").open("a") as stream:
        stream.write('{"path": "half')
    append_outcome(tmp_path, FAILED)
    first, half, last = (tmp_path / "outcomes.jsonl").read_text().splitlines()
    assert json.loads(first)["path"] == "a.jpg"
    assert half == '{"path": "half'
    assert json.loads(last)["status"] == "failed"


def test_line_is_appended_in_a_single_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = os.write

    def watch(descriptor: int, content: bytes) -> int:
        written.append(content)
        return write(descriptor, content)

    monkeypatch.setattr("os.write", watch)
    append_outcome(tmp_path, DONE)
    assert len(written) == 1
    assert written[0].endswith(b"}\n")


def summary(output: Path, *outcomes: Outcome) -> RunSummary:
    made = RunSummary(output, images=5)
    for outcome in outcomes:
        made.add(outcome)
    return made


def test_summary_counts_outcomes_by_status(tmp_path: Path) -> None:
    made = summary(tmp_path, DONE, DONE, FAILED, Outcome("c.jpg", "skipped"))
    assert (made.done, made.skipped, len(made.failures), made.finished, made.labels) == (2, 1, 1, 4, [4, 4])


def test_run_document_has_the_promised_keys(tmp_path: Path) -> None:
    document = summary(tmp_path, DONE, FAILED).write(TINY, "cpu (a processor)", interrupted=True)
    assert json.loads((tmp_path / "run.json").read_text()) == document
    seconds, versions = document.pop("seconds"), document.pop("versions")
    assert seconds >= 0
    assert versions["dynaseg"] == __version__
    assert {"python", "torch", "numpy", "pillow"} < set(versions)
    assert document == {
        "output": str(tmp_path),
        "images": 5,
        "done": 1,
        "skipped": 0,
        "failed": 1,
        "interrupted": True,
        "failures": [{"path": "b\n\udce9.jpg", "reason": "the file is empty"}],
        "options": TINY.as_options(),
        "device": "cpu (a processor)",
    }

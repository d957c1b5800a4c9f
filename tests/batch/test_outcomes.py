from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynaseg_cli.batch.outcomes import Outcome, OutcomeLog
from dynaseg_cli.files.output_folder import OutputFolder

DONE = Outcome("a.jpg", "done", num_labels=4, iterations=9, stop_reason="threshold", seconds=0.5)
FAILED = Outcome("b\n\udce9.jpg", "failed", "the file is empty")


def append_outcome(output: Path, *outcomes: Outcome) -> None:
    with OutcomeLog(OutputFolder(output)) as log:
        for outcome in outcomes:
            log.add(outcome)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "outcomes.jsonl").read_text().splitlines()]


def test_each_outcome_is_one_line_of_what_is_known(tmp_path: Path) -> None:
    append_outcome(tmp_path, DONE, FAILED)
    done, failed = lines(tmp_path)
    assert done.pop("time") <= failed.pop("time")
    assert done == {name: value for name, value in vars(DONE).items() if value not in (None, ())}
    assert failed == {"path": "b\n\udce9.jpg", "status": "failed", "reason": "the file is empty"}


def test_warnings_of_an_image_are_in_its_line(tmp_path: Path) -> None:
    append_outcome(tmp_path, dataclasses.replace(DONE, warnings=("first of 3 pages",)))
    assert lines(tmp_path)[0]["warnings"] == ["first of 3 pages"]


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


# A folder that hangs


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set once the folder answers: writing waits for it."""
    event = threading.Event()
    write = os.write
    monkeypatch.setattr("os.write", lambda *arguments: (event.wait(60), write(*arguments))[1])
    monkeypatch.setattr("dynaseg_cli.batch.outcomes.PATIENCE_S", 0.1)
    monkeypatch.setattr("dynaseg_cli.batch.outcomes.LAST_PATIENCE_S", 0.1)
    yield event
    event.set()


def test_folder_that_hangs_holds_nobody(
    tmp_path: Path, answers: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    append_outcome(tmp_path, DONE, FAILED, DONE)
    log = tmp_path / "outcomes.jsonl"
    assert caplog.messages == [
        f"{log} does not answer; its lines wait until it does",
        f"{log} does not answer; it lacks 3 lines",
    ]


def test_lines_are_written_once_the_folder_answers(tmp_path: Path, answers: threading.Event) -> None:
    with OutcomeLog(OutputFolder(tmp_path)) as log:
        log.add(DONE)
        log.add(FAILED)
        answers.set()
    deadline = time.monotonic() + 60
    while len(lines(tmp_path)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [line["status"] for line in lines(tmp_path)] == ["done", "failed"]

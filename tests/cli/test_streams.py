"""Where stdout and stderr lead, in real processes: to nobody, to a full disk, to a log, or nowhere at all."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from samples import photo_folder

from dynaseg_cli.cli.console import collected_stdout, print_json

DYNASEG = [sys.executable, "-m", "dynaseg_cli"]
FIT = [
    "--iterations",
    "2",
    "--max-size",
    "16",
    "--min-labels",
    "3",
    "--precision",
    "float32",
    "--device",
    "cpu",
    "--workers",
    "0",
]
PRINTING = {
    "version": ["--version"],
    "help": ["--help"],
    "help of a command": ["segment", "--help"],
    "plan": ["segment", "photos", "--dry-run", "--json", "-q"],
    "scores": ["evaluate", "photos", "photos", "--json", "-q", "--protocol", "regions"],
}
"""Commands that print on stdout, and are quick."""
FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def photos(here: Path) -> None:
    for name in ("photos", "maps"):
        photo_folder(here / name, "a.png")


def shell(script: str, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command, as "$@", in a script of bash."""
    return subprocess.run(["bash", "-c", script, "bash", *DYNASEG, *command], capture_output=True, check=False)


def nobody_reads(*command: str) -> tuple[int, bytes]:
    """The exit code, and stderr, of a command whose reader has gone before anything was written."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = subprocess.run([*DYNASEG, *command], stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    return process.returncode, process.stderr


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_reader_that_goes_away_is_no_failure(command: list[str]) -> None:
    assert nobody_reads(*command) == (0, b"")


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_closed_stdout_is_no_failure(command: list[str]) -> None:
    result = shell('"$@" >&-', *command)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_full_disk_is_one_line(command: list[str]) -> None:
    result = shell('"$@" >/dev/full', *command)
    assert (result.returncode, result.stderr) == (1, b"error: stdout cannot be written: No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_full_disk_hides_no_greater_trouble() -> None:
    result = shell('"$@" >/dev/full', "--mode", "scf")
    assert result.returncode == 2


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("command", "code"),
    [(["segment", "photos", "--dry-run"], 0), (["segment", "nothing"], 2), (["segment", "--mode", "abc"], 2)],
)
def test_exit_code_does_not_depend_on_stderr(command: list[str], code: int, stderr: str) -> None:
    result = shell(f'"$@" {stderr}', *command)
    assert (result.returncode, result.stdout) == (code, b"")


@pytest.mark.slow
def test_run_whose_summary_nobody_reads_has_its_own_exit_code(here: Path) -> None:
    (here / "photos" / "b.png").write_bytes(b"no image")
    code, stderr = nobody_reads("segment", "photos", *FIT, "--json")
    assert code == 1
    assert b"failed: photos/b.png" in stderr
    assert not {b"Broken", b"Traceback", b"unexpected"} & set(stderr.split())
    assert json.loads((here / "photos-dynaseg" / "run.json").read_text())["done"] == 1


def progress_on(stderr: int | None, **environment: str) -> bytes:
    """What is written on stderr by something that shows progress."""
    script = "from dynaseg_cli.cli.progress import CountProgress\nwith CountProgress(2, 'images', quiet=False) as bar:"
    script += "\n bar.advance('a')\n bar.advance('b')"
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "TERM"}}
    process = subprocess.run(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE if stderr is None else stderr,
        env={**clean, "TERM": "xterm", **environment},
        check=True,
    )
    return process.stderr or b""


@pytest.mark.parametrize(
    "environment", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"TTY_INTERACTIVE": "1"}], ids=str
)
def test_log_gets_no_live_progress(environment: dict[str, str]) -> None:
    assert progress_on(None, **environment) == b""


@pytest.mark.parametrize(
    ("environment", "live"), [({}, True), ({"TERM": "dumb"}, False), ({"TTY_COMPATIBLE": "0"}, False)]
)
def test_terminal_gets_live_progress_if_it_can_draw_over_lines(environment: dict[str, str], live: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        progress_on(theirs, **environment)
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 100_000)
        except BlockingIOError:
            shown = b""
    finally:
        os.close(ours)
        os.close(theirs)
    assert (b"\x1b[" in shown) == live


@pytest.mark.parametrize(("environment", "colour"), [({"FORCE_COLOR": "1"}, True), ({}, False)])
def test_log_is_coloured_only_when_asked(environment: dict[str, str], colour: bool) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    command = [*DYNASEG, "segment", "nothing"]
    result = subprocess.run(command, capture_output=True, env={**clean, "TERM": "xterm", **environment}, check=False)
    assert (b"\x1b[" in result.stderr) == colour


def test_no_colour_is_honoured() -> None:
    command = [*DYNASEG, "segment", "nothing"]
    environment = {**os.environ, "TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}
    result = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert b"\x1b[31m" not in result.stderr
    assert b"error: " in result.stderr


def test_document_is_delivered_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with collected_stdout():
        print_json({"a": 1})
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == '{"a": 1}\n'

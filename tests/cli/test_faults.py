"""What may go wrong with processes, signals and disks while a batch runs: the real command, real faults."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from samples import files_below, photo_folder, save_photo
from typer.testing import CliRunner, Result

from dynaseg_cli.cli import app
from dynaseg_cli.files.output_folder import OutputFolder

FIT = ("--iterations", "2", "--max-size", "16", "--min-labels", "3", "--precision", "float32", "--device", "cpu")
ENDLESS = ("--iterations", "1000000", "--patience", "0", "--mode", "fixed", "--mu", "1e-6", "--min-labels", "1")
"""An optimisation that no test waits for."""
DEADLINE_S = 600

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", *(f"{name}.png" for name in "abcdef"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def start(*arguments: object, sabotage: Path | None = None) -> subprocess.Popen[str]:
    """Start ``dynaseg segment``; `sabotage` is a folder whose ``sitecustomize.py`` each of its processes loads."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have this process ignore it
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "dynaseg_cli", "segment", *map(str, arguments), "--json", "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(sabotage), *sys.path])} if sabotage else None,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    try:
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    return process.returncode, json.loads(stdout) if stdout else {}, stderr


def run_here(*arguments: object) -> Result:
    """As `start` and `end`, for what no other process is needed: each imports torch, which takes seconds."""
    return CliRunner().invoke(app, ["segment", *map(str, arguments), "--json", "--workers", "0"])


def sabotaged(folder: Path, fault: str) -> Path:
    """Have the worker run `fault` whenever it is about to read the file ``c.png``."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import ctypes, os, signal, time\n"
        "from dynaseg_cli.images import pages\n"
        "read_job = pages.read_job\n"
        "def read_job_or_fail(job, *arguments):\n"
        "    if job.source.name == 'c.png':\n"
        f"        {fault}\n"
        "    return read_job(job, *arguments)\n"
        "pages.read_job = read_job_or_fail\n"
    )
    return folder


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pixels(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_below(out).items() if name.endswith(".png")}


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


# Workers


def test_crash_of_a_worker_costs_its_image_alone(photos: Path, out: Path, tmp_path: Path) -> None:
    sabotage = sabotaged(tmp_path / "sabotage", "ctypes.string_at(0)")
    code, run, stderr = end(start(photos, "-o", out, *FIT, sabotage=sabotage))
    assert code == 1
    assert (run["done"], run["failed"]) == (5, 1)
    reason = "its worker was ended by SIGSEGV, like the one before, when it was read"
    assert run["failures"] == [{"path": str(photos / "c.png"), "reason": reason}]
    assert f"failed: {photos / 'c.png'}: {reason}" in stderr
    assert "Fatal Python error" not in stderr


def test_worker_that_is_killed_once_costs_nothing(photos: Path, out: Path, tmp_path: Path) -> None:
    """As the kernel does when memory runs out."""
    once = tmp_path / "once"
    fault = f"os.path.exists({str(once)!r}) or (open({str(once)!r}, 'x'), os.kill(os.getpid(), signal.SIGKILL))"
    code, run, stderr = end(start(photos, "-o", out, *FIT, sabotage=sabotaged(tmp_path / "sabotage", fault)))
    assert (code, run["done"]) == (0, 6)
    assert "a worker was ended by SIGKILL; was there memory enough?; another one takes its place" in stderr


def test_file_that_hangs_is_given_up(photos: Path, out: Path, tmp_path: Path) -> None:
    sabotage = sabotaged(tmp_path / "sabotage", "time.sleep(3600)")
    code, run, _ = end(start(photos, "-o", out, *FIT, "--timeout", 5, sabotage=sabotage))
    assert (code, run["done"]) == (1, 5)
    assert [failure["reason"] for failure in run["failures"]] == ["it was not read within 5 seconds (`timeout`)"]


def test_two_workers_write_the_files_that_one_writes(photos: Path, out: Path, tmp_path: Path) -> None:
    code, run, _ = end(start(photos, "-o", out, *FIT, "--workers", 2))
    assert (code, run["done"]) == (0, 6)
    assert run_here(photos, "-o", tmp_path / "one", *FIT).exit_code == 0
    assert pixels(out) == pixels(tmp_path / "one")


def test_each_device_has_a_worker_of_its_own(photos: Path, out: Path, tmp_path: Path) -> None:
    """Devices that the machine lacks are stood for by its CPU. Each waits with its first image for the others."""
    sabotage, arrived = tmp_path / "sabotage", tmp_path / "arrived"
    sabotage.mkdir()
    arrived.mkdir()
    (sabotage / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "def describe_and_wait(where):\n"
        f"    open(os.path.join({str(arrived)!r}, str(os.getpid())), 'w').close()\n"
        "    return f'{where}:{os.getpid()}'\n"
        "def read_together(*arguments):\n"
        f"    while len(os.listdir({str(arrived)!r})) < 3:\n"
        "        time.sleep(0.01)\n"
        "    return read_job(*arguments)\n"
        "if '-c' in sys.orig_argv:  # a worker\n"
        "    from dynaseg_cli.images import pages\n"
        "    from dynaseg_cli.engine import device\n"
        "    read_job, pages.read_job = pages.read_job, read_together\n"
        "    device.resolve_devices = lambda names: ['cpu', 'cpu', 'cpu']\n"
        "    device.describe_device = describe_and_wait\n"
    )
    code, run, _ = end(start(photos, "-o", out, *FIT, sabotage=sabotage))
    assert (code, run["done"]) == (0, 6)
    devices = set(run["device"].split(", "))
    assert len(devices) == 3
    assert {json.loads(path.read_text())["device"] for path in out.glob("stats/*.json")} <= devices


def test_two_runs_of_one_folder_share_the_work(photos: Path, out: Path, tmp_path: Path) -> None:
    assert run_here(photos, "-o", tmp_path / "alone", *FIT).exit_code == 0
    processes = [start(photos, "-o", out, *FIT) for _ in range(2)]
    (first, run, _), (second, other, _) = map(end, processes)
    assert (first, second) == (0, 0)
    assert run["done"] + other["done"] == 6
    assert run["skipped"] + other["skipped"] == 6
    assert pixels(out) == pixels(tmp_path / "alone")
    lines = (out / "outcomes.jsonl").read_text().splitlines()
    assert sorted(Path(json.loads(line)["path"]).name for line in lines) == [f"{name}.png" for name in "abcdef"]


def test_closed_standard_streams_are_no_hindrance(photos: Path, out: Path) -> None:
    """Whoever starts a daemon may have closed them: their numbers are free, and the worker's connection gets one."""
    command = [sys.executable, "-m", "dynaseg_cli", "segment", str(photos), "-o", str(out), *FIT]
    assert subprocess.run(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], check=False).returncode == 0
    assert json.loads((out / "run.json").read_text())["done"] == 6


# Signals


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_signal_ends_a_run_that_can_be_continued(
    photos: Path, out: Path, number: signal.Signals, expected: int
) -> None:
    process = start(photos, "-o", out, *FIT, *ENDLESS)
    wait_for(out / "outcomes.jsonl", process)
    time.sleep(0.5)
    workers = children(process)
    process.send_signal(number)
    code, run, stderr = end(process)
    assert code == expected
    assert "Traceback" not in stderr
    assert run == json.loads((out / "run.json").read_text()) | {"seconds": run["seconds"]}
    assert (run["interrupted"], run["images"], run["done"]) == (True, 6, 0)
    assert workers
    assert not any(worker.is_running() for worker in workers)
    assert set(files_below(out)) == {"run.json", "outcomes.jsonl"}
    assert run_here(photos, "-o", out, *FIT).exit_code == 0


def test_second_signal_does_not_wait(photos: Path, out: Path) -> None:
    """The first image is so large that its worker does not get to its next iteration for long."""
    save_photo(photos / "a.png", 0, 1500, 1500)
    literal = ("--preset", "paper", "--min-labels", "1", "--device", "cpu")
    process = start(photos, "-o", out, *literal)
    wait_for(out / "outcomes.jsonl", process)
    time.sleep(3)
    workers = children(process)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    code, _, stderr = end(process)
    assert (code, time.monotonic() - started < 9) == (130, True)
    assert "Traceback" not in stderr
    assert workers
    assert not any(worker.is_running() for worker in workers)


def test_workers_end_when_the_command_is_killed(photos: Path, out: Path) -> None:
    process = start(photos, "-o", out, *FIT, *ENDLESS)
    wait_for(out / "outcomes.jsonl", process)
    time.sleep(0.5)
    workers = children(process)
    assert workers
    process.kill()
    process.communicate()
    assert psutil.wait_procs(workers, timeout=60)[1] == []


# Disks and folders


def test_output_folder_that_hangs_holds_neither_the_run_nor_ctrl_c(photos: Path, out: Path, tmp_path: Path) -> None:
    """Every process hangs that would write results, and the command itself in its log and summary.

    Of these it waits for a second each, not for ten.
    """
    sabotage = tmp_path / "sabotage"
    sabotage.mkdir()
    (sabotage / "sitecustomize.py").write_text(
        "import time\n"
        "from dynaseg_cli.files import output_folder\n"
        "from dynaseg_cli.batch import outcomes\n"
        "def hang(*_, **__):\n"
        "    time.sleep(3600)\n"
        "outcomes.open_log = output_folder.FileBatch.open = hang\n"
        "from dynaseg_cli import run\n"
        "outcomes.LAST_PATIENCE_S = run.WRITE_TIMEOUT_S = 1\n"
    )
    process = start(photos, "-o", out, *FIT, "--report", "--timeout", 4, sabotage=sabotage)
    assert process.stderr is not None
    while "outcomes.jsonl does not answer" not in (line := process.stderr.readline()):
        assert line, "the command has ended"
    process.send_signal(signal.SIGINT)
    code, run, stderr = end(process)
    assert code == 130
    assert 1 <= run["failed"] <= 6
    assert {failure["reason"] for failure in run["failures"]} == {"it was not written within 4 seconds (`timeout`)"}
    assert "run.json cannot be written: the folder does not answer" in stderr


def test_full_disk_fails_what_has_no_room_and_a_re_run_makes_it_good(photos: Path, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(48_000))
    code, run, stderr = end(start(photos, "-o", small_disk / "out", *FIT))
    assert (code, run["done"] + run["failed"]) == (1, 6)
    assert run["failed"] > 0
    assert all("No space left on device" in failure["reason"] for failure in run["failures"])
    assert "Traceback" not in stderr
    filler.unlink()
    assert [name for name in files_below(small_disk) if "tmp" in name] == []
    (small_disk / "out").rename(small_disk / "again")
    run = json.loads(run_here(photos, "-o", small_disk / "again", *FIT).stdout)
    assert run["skipped"] + run["done"] + run["failed"] == 6


def test_result_folder_that_leads_elsewhere_is_not_followed(photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    OutputFolder(out).mark()
    (out / "color").symlink_to(tmp_path / "elsewhere")
    result = run_here(photos, "-o", out, *FIT)
    run = json.loads(result.stdout)
    assert (result.exit_code, run["failed"]) == (1, 6)
    assert all(re.search("color leads out of the output folder", item["reason"]) for item in run["failures"])
    assert files_below(tmp_path / "elsewhere") == {}


def test_log_that_leads_elsewhere_is_not_written(photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    OutputFolder(out).mark()
    (out / "outcomes.jsonl").symlink_to(tmp_path / "precious")
    result = run_here(photos, "-o", out, *FIT)
    assert (result.exit_code, json.loads(result.stdout)["done"]) == (0, 6)
    assert "outcomes.jsonl cannot be locked" in result.stderr
    assert (tmp_path / "precious").read_text() == "mine"


def test_messages_that_go_to_a_full_disk_cost_no_image(photos: Path, out: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    (photos / "a.png").write_bytes(b"")
    (photos / "b.png").write_bytes(b"")
    command = [sys.executable, "-m", "dynaseg_cli", "segment", photos, "-o", out, *FIT, "--workers", "0"]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(command, stderr=full, check=False).returncode == 1
    run = json.loads((out / "run.json").read_text())
    assert (run["done"], run["failed"]) == (4, 2)


def test_messages_that_nobody_reads_any_more_cost_no_image(photos: Path, out: Path) -> None:
    """As after ``2>&1 | head -1``."""
    (photos / "a.png").write_bytes(b"")
    process = start(photos, "-o", out, *FIT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.close()
    with process.stdout:
        process.wait(DEADLINE_S)
    assert json.loads((out / "run.json").read_text())["done"] == 5

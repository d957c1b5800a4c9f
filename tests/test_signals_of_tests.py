"""Processes that tests start do not ignore signals, even if pytest itself does, as under nohup."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = (
    "import signal; print(*(signal.getsignal(n) != signal.SIG_IGN for n in"
    " (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))"
)
TEST = f"""
import subprocess, sys
def test_child():
    shown = subprocess.run([sys.executable, "-c", {SHOW!r}], capture_output=True, text=True).stdout
    assert shown.split() == ["True"] * 3
"""


def test_processes_of_tests_ignore_no_signals() -> None:
    assert (
        subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True).stdout.split()
        == ["True"] * 3
    )


@pytest.mark.slow
def test_processes_of_tests_ignore_no_signals_under_nohup(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    conftest = (Path(__file__).parent / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(conftest)
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
    ignoring += (
        " signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", ignoring, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stdout


def test_signals_of_this_process_are_not_ignored() -> None:
    assert signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

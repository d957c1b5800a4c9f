from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dynaseg_cli.files import claims as module
from dynaseg_cli.files.claims import Claims
from dynaseg_cli.files.user_files import LOG_NAME

HOLD = """
import sys
from pathlib import Path
from dynaseg_cli.files.claims import Claims

claims = Claims(Path(sys.argv[1]))
print(claims.take(sys.argv[2]), flush=True)
for line in sys.stdin:
    claims.release(line.strip("\\n"))
    print("released", flush=True)
"""
NAMES = ("a", "sub/a", "größe \udce9\n", "x" * 300)


class Holder:
    """Another process, which has claimed a name."""

    def __init__(self, log: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(log), os.fsencode(name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.granted = self._read() == b"True"

    def release(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(os.fsencode(name).replace(b"\n", b"") + b"\n")
        self.process.stdin.flush()
        assert self._read() == b"released"

    def _read(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / LOG_NAME


@pytest.fixture
def holder(log: Path) -> Iterator[Holder]:
    held = Holder(log, "a")
    assert held.granted
    yield held
    held.process.kill()
    held.process.communicate()


@pytest.mark.parametrize("name", NAMES)
def test_free_name_is_granted(log: Path, name: str) -> None:
    with closing(Claims(log)) as claims:
        assert claims.take(name)
        assert claims.exclusive
        claims.release(name)


def test_name_that_another_process_has_is_not_granted_and_others_are(log: Path, holder: Holder) -> None:
    with closing(Claims(log)) as claims:
        assert not claims.take("a")
        assert all(claims.take(name) for name in NAMES[1:])


def test_released_name_is_granted(log: Path, holder: Holder) -> None:
    with closing(Claims(log)) as claims:
        holder.release("a")
        assert claims.take("a")


def test_name_of_a_process_that_was_killed_is_granted(log: Path, holder: Holder) -> None:
    with closing(Claims(log)) as claims:
        holder.process.kill()
        assert claims.take("a", wait=True)


def test_claims_end_when_they_are_closed(log: Path) -> None:
    with closing(Claims(log)) as claims:
        claims.take("a")
    other = Holder(log, "a")
    other.process.communicate()
    assert other.granted


def test_without_locks_every_claim_is_granted_and_a_warning_says_so(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module, "_lock", no_locks)
    with closing(Claims(log)) as claims:
        assert claims.take("a")
        assert claims.take("b")
        assert not claims.exclusive
        claims.release("a")
    assert caplog.messages == [
        f"{log} cannot be locked (No locks available): let only one dynaseg at a time write there"
    ]


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_log_that_cannot_be_opened_is_done_without(log: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "folder":
        log.mkdir()
    else:
        log.symlink_to(log.with_name("elsewhere"))
    with caplog.at_level(logging.WARNING), closing(Claims(log)) as claims:
        assert claims.take("a")
        assert not claims.exclusive
    assert "cannot be locked" in caplog.text
    assert not log.with_name("elsewhere").exists()


# Within one process


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="here locks belong to a whole process")
def test_claim_is_granted_to_one_until_it_is_released(log: Path) -> None:
    with closing(Claims(log)) as ours, closing(Claims(log)) as theirs:
        assert ours.take("a")
        assert not theirs.take("a")
        assert theirs.take("b")
        theirs.release("a")  # which is not theirs
        assert not theirs.take("a")
        ours.release("a")
        assert theirs.take("a")


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="here locks belong to a whole process")
def test_claim_ends_with_its_owner(log: Path) -> None:
    with closing(Claims(log)) as theirs:
        with closing(Claims(log)) as ours:
            assert ours.take("a")
        assert theirs.take("a", wait=True)


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="here locks belong to a whole process")
def test_claim_outlasts_other_readers_of_the_log(log: Path) -> None:
    """A caller of the Python API may read it while its own process works."""
    with closing(Claims(log)) as ours, closing(Claims(log)) as theirs:
        assert ours.take("a")
        log.read_text()
        with closing(Claims(log)):
            pass
        assert not theirs.take("a")

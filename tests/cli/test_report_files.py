from __future__ import annotations

from pathlib import Path

import pytest

from dynaseg_cli.cli.report_files import write_each
from dynaseg_cli.errors import DynasegError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "error: a.json cannot be written: No space left on device\n"),
        (OSError("odd"), "error: a.json cannot be written: odd\n"),
        (MemoryError(), "error: a.json cannot be written: out of memory\n"),
        (DynasegError("a.json: no"), "error: a.json: no\n"),
    ],
    ids=repr,
)
def test_file_that_cannot_be_written_costs_none_of_the_others(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Path] = []

    def fail(path: Path) -> None:
        raise error

    assert not write_each([(Path("a.json"), fail), (None, fail), (Path("b.md"), written.append)])
    assert written == [Path("b.md")]
    assert capsys.readouterr().err == said


def test_all_written_is_said_with_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    written: list[Path] = []
    assert write_each([(Path("a"), written.append), (Path("b"), written.append)])
    assert written == [Path("a"), Path("b")]
    assert capsys.readouterr().err == ""

"""Lists of paths that are read, and reports that are written, as options name them."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from dynaseg_cli.cli import named_files
from dynaseg_cli.cli.named_files import read_list, write_each
from dynaseg_cli.errors import DynasegError, UsageError

NAMES = ["a.png", "sub/ä b.png", "日本.png"]


def listed(content: bytes, *, null: bool | None = False) -> list[str]:
    Path("list").write_bytes(content)
    return read_list("--files-from", "list", null=null)


def refusal(content: bytes, *, null: bool | None = False) -> str:
    with pytest.raises(UsageError) as caught:
        listed(content, null=null)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_of_any_origin_is_read(encoding: str, end: str) -> None:
    assert listed(end.join([*NAMES, "", " ", ""]).encode(encoding)) == NAMES


def test_big_endian_text_is_read() -> None:
    assert listed(b"\xfe\xff" + "\n".join(NAMES).encode("utf-16-be")) == NAMES


def test_last_line_needs_no_end() -> None:
    assert listed(b"a\nb") == ["a", "b"]


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    assert [os.fsencode(name) for name in listed(b"\xef\xbb\xbfcaf\xe9.png\n\xff\n")] == [b"caf\xe9.png", b"\xff"]


def test_names_between_nul_may_have_lines_and_blanks() -> None:
    assert listed(b"a\nb\0 \0c\r\0", null=True) == ["a\nb", " ", "c\r"]


def test_one_name_with_lines_needs_no_nul_if_there_is_such_a_file() -> None:
    Path("a\nb").touch()
    assert listed(b"a\nb", null=True) == ["a\nb"]


def test_lines_where_nul_is_asked_for_are_refused_with_the_remedy() -> None:
    assert "leave -0 out" in refusal(b"a\nb\n", null=True)


def test_nul_where_lines_are_asked_for_is_refused_with_the_remedy() -> None:
    assert refusal(b"a\0b\0").endswith("NUL bytes, as a list of find -print0 does: add -0")
    assert "one name per line" in refusal(b"a\0b\0", null=None)


def test_text_in_16_bits_without_a_mark_is_refused_with_the_remedy() -> None:
    assert "UTF-16 without a byte-order mark; save it as UTF-8" in refusal("a.png\nb.png\n".encode("utf-16-le"))


def test_half_a_character_after_a_mark_is_refused() -> None:
    assert "save it as UTF-8" in refusal(b"\xff\xfea")


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(100), b"\xff\xfe\0\0\xff\xfe\0\0\0\0\0\0a"]
)
def test_binary_data_is_refused(content: bytes) -> None:
    assert "binary data" in refusal(content) or "UTF-32" in refusal(content)


def test_empty_list_is_one() -> None:
    assert listed(b"") == listed(b"\n\n") == listed(b"\0", null=True) == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("folder", "Is a directory"),
        ("missing", "No such file"),
        ("x" * 5000, "File name too long"),
        ("loop", "Too many"),
    ],
)
def test_what_cannot_be_read_is_named(here: Path, source: str, reason: str) -> None:
    (here / "folder").mkdir()
    (here / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=f"--image-list .*{reason}") as caught:
        read_list("--image-list", source)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("null", [True, False])
def test_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch, null: bool) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no endless device")
    monkeypatch.setattr(named_files, "MOST_LIST_BYTES", 1 << 21)
    with pytest.raises(UsageError, match="not a list"):
        read_list("--files-from", "/dev/zero", null=null)


def test_list_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_files, "MOST_LIST_BYTES", 10)
    assert "so not a list of files" in refusal(b"a\n" * 6)


def test_closed_stdin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        read_list("--files-from", "-")


def test_dash_is_stdin_which_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\nb\n")))
    assert read_list("--files-from", "-", null=False) == ["a", "b"]
    assert not sys.stdin.closed


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

    assert not write_each([(Path("a.json"), fail), (None, fail), (Path("b.md"), written.append)], quiet=True)
    assert written == [Path("b.md")]
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("quiet", "said"), [(False, "wrote a, b\n"), (True, "")])
def test_written_files_are_named(quiet: bool, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    written: list[Path] = []
    assert write_each([(Path("a"), written.append), (None, written.append), (Path("b"), written.append)], quiet=quiet)
    assert written == [Path("a"), Path("b")]
    assert capsys.readouterr().err == said


def test_only_what_was_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(path: Path) -> None:
        raise MemoryError

    assert not write_each([(Path("a"), fail)], quiet=False)
    assert "wrote" not in capsys.readouterr().err

"""Files that a person names: lists of paths to read, and reports to write without replacing any other file."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..errors import DynasegError, UsageError
from ..fields import quoted
from ..files.writing import refuse_unwritable_file
from .console import say

MOST_LIST_BYTES = 1 << 28
"""Limit on the size of a list; a million long paths take less."""
PART = 1 << 20
"""Bytes read at a time."""
PATH_SHOWN = 500
"""Longest path of the list itself that a message shows in full."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_TEXT = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b\0")

MOST_REPORT_BYTES = 256 << 20
"""A larger file is taken to be the user's."""


def read_list(option: str, source: str, *, null: bool | None = None) -> list[str]:
    """The non-empty entries of a list in the file `source`, or on stdin if that is ``-``.

    Bytes that are not UTF-8 are kept in paths. UTF-16 and UTF-32 are recognised by their byte-order marks.

    Parameters
    ----------
    option : the option that names the list, for messages.
    null : whether entries are separated by NUL instead of newlines; None if the command has no such option.

    Raises
    ------
    UsageError
        If it cannot be read, or is not such a list.
    """
    named = f"{option} {quoted(source) if len(source) > PATH_SHOWN else source}"
    content = _content(named, source, null=null)
    text, marked = _text(named, content)
    if null:
        entries = text.split("\0")
        if len(entries) == 1 and "\n" in text and not os.path.lexists(text):
            raise UsageError(f"{named}: it contains newlines and no NUL: leave -0 out")
        return [entry for entry in entries if entry]
    if "\0" in text:
        raise UsageError(f"{named}: {_why_nul(text.encode(errors='surrogateescape'), null=null, marked=marked)}")
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line.strip()]


def _content(named: str, source: str, *, null: bool | None) -> bytes:
    """Read the list, but stop early if it cannot be one."""
    parts: list[bytes] = []
    size = 0
    try:
        if source == "-" and sys.stdin is None:
            raise UsageError(f"{named}: stdin is closed")
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as stream:
            while part := stream.read(PART):
                parts.append(part)
                size += len(part)
                if size > MOST_LIST_BYTES:
                    raise UsageError(f"{named}: larger than {MOST_LIST_BYTES >> 20} MB, so not a list of files")
                if not null and b"\0" in part and not parts[0].startswith(tuple(mark for mark, _ in _BYTE_ORDER_MARKS)):
                    raise UsageError(f"{named}: {_why_nul(part, null=null, marked=False)}")
    except OSError as error:
        raise UsageError(f"{named}: {error.strerror or error}; name a file with one path a line") from None
    return b"".join(parts)


def _text(named: str, content: bytes) -> tuple[str, bool]:
    """The list decoded as file names are, and whether it had a byte-order mark."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            if encoding == "utf-8":
                return os.fsdecode(content.removeprefix(mark)), True
            try:
                return content.decode(encoding), True
            except UnicodeDecodeError:
                raise UsageError(
                    f"{named}: it has a byte-order mark of {encoding.upper()} but is not valid; save it as UTF-8"
                ) from None
    return os.fsdecode(content), False


def _why_nul(part: bytes, *, null: bool | None, marked: bool) -> str:
    if not _NOT_IN_TEXT.isdisjoint(part) or not part.strip(b"\0") or marked:
        return "this is binary data and not a list of paths; give image files as INPUT"
    if b"\n" in part and not (any(part[0:64:2]) and any(part[1:64:2])):
        return "it seems to be UTF-16 without a byte-order mark; save it as UTF-8"
    if null is None:
        return "it contains NUL bytes, as a list of find -print0 does; write one name per line"
    return "it contains NUL bytes, as a list of find -print0 does: add -0"


def refuse_reports(reports: dict[str, Path | None]) -> None:
    """Raise UsageError if one of these files (field: path) cannot be written, or if two are the same file.

    An existing file is replaced only if it is empty or a report that dynaseg wrote.
    """
    taken: dict[Path, str] = {}
    for field, path in reports.items():
        if path is None:
            continue
        refuse_unwritable_file(field, path, is_report)
        other = taken.setdefault(path.resolve(), field)
        if other != field:
            raise UsageError(f"`{other}` and `{field}` both name {path}; name two files")


def is_report(path: Path) -> bool:
    """Whether a file is one that `evaluate` or `benchmark` writes: their CSV, JSON, Markdown or picture.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_REPORT_BYTES + 1)
    return len(content) <= MOST_REPORT_BYTES and any(
        belongs(content) for belongs in (_is_picture, _is_csv, _is_markdown, _is_json)
    )


def _is_picture(content: bytes) -> bool:
    from ..plots.style import MARKS

    return any(content.startswith(starts) and mark in content for starts, mark in MARKS)


def _is_csv(content: bytes) -> bool:
    columns = content.partition(b"\n")[0].strip().split(b",")
    known = {b"covering", b"pri", b"voi", b"segments", b"labels", b"truth_labels"} <= set(columns)
    return known and columns[0] == b"image" and columns[-1] in (b"truth_labels", b"ignored_fraction")


def _is_markdown(content: bytes) -> bool:
    """Whether it is a table and nothing else, so not a text into which a table was pasted."""
    head, *rest = content.rstrip(b"\n").split(b"\n")
    return (
        head.startswith(b"| method |")
        and rest[:1] != []
        and rest[0].startswith(b"| --- |")
        and all(line.startswith(b"| `") and line.endswith(b" |") for line in rest[1:])
    )


def _is_json(content: bytes) -> bool:
    if not content.lstrip().startswith(b"{"):
        return False
    try:
        document: dict[str, Any] = json.loads(content)
    except (ValueError, RecursionError):
        return False
    versions = document.get("versions")
    return isinstance(versions, dict) and "dynaseg" in versions and {"methods", "repeats"} <= document.keys()


def write_each(files: Iterable[tuple[Path | None, Callable[[Path], None]]], *, quiet: bool) -> bool:
    """Write each file that was asked for, and name it, or why it failed. Returns whether all could be written.

    Parameters
    ----------
    quiet : whether to name only what failed.
    """
    whole = True
    written: list[str] = []
    for path, write in files:
        if path is None:
            continue
        try:
            write(path)
            written.append(str(path))
        except (OSError, MemoryError) as error:
            whole = False
            reason = "out of memory" if isinstance(error, MemoryError) else error.strerror or error
            say(f"error: {path} cannot be written: {reason}", "red")
        except DynasegError as error:
            whole = False
            say(f"error: {error}", "red")
    if written and not quiet:
        say(f"wrote {', '.join(written)}")
    return whole

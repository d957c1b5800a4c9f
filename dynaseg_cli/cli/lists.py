"""Lists of files: whatever wrote them, they are read, or it is said what they are instead and what to do about it."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from ..errors import UsageError
from .console import quoted

MOST_BYTES = 1 << 28
"""A list of a million long paths has less."""
PART = 1 << 20
"""Bytes that are read at a time."""
PATH_SHOWN = 500
"""Characters of a list's own path that a message shows."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_TEXT = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b\0")


def read_list(option: str, source: str, *, null: bool | None = None) -> list[str]:
    """The entries of the list in the file `source`, or on stdin if that is ``-``; none is empty.

    Bytes that are not UTF-8 stay as they are in a path. UTF-16 and UTF-32 are known by their marks.

    Parameters
    ----------
    option : how the list is given, for messages.
    null : entries are separated by NUL, not lines; None if there is no choice.

    Raises
    ------
    UsageError
        If it cannot be read, or is no such list.
    """
    named = f"{option} {quoted(source) if len(source) > PATH_SHOWN else source}"
    content = _content(named, source, null=null)
    text, marked = _text(named, content)
    if null:
        entries = text.split("\0")
        if len(entries) == 1 and "\n" in text and not os.path.lexists(text):
            raise UsageError(f"{named}: there is no NUL in it, but there are lines: leave -0 out")
        return [entry for entry in entries if entry]
    if "\0" in text:
        raise UsageError(f"{named}: {_why_nul(text.encode(errors='surrogateescape'), null=null, marked=marked)}")
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line.strip()]


def _content(named: str, source: str, *, null: bool | None) -> bytes:
    """Read no more of it than it takes to know that it is no list."""
    parts: list[bytes] = []
    size = 0
    try:
        if source == "-" and sys.stdin is None:
            raise UsageError(f"{named}: stdin is closed")
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as stream:
            while part := stream.read(PART):
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise UsageError(f"{named}: more than {MOST_BYTES >> 20} MB, which is no list of files")
                if not null and b"\0" in part and not parts[0].startswith(tuple(mark for mark, _ in _MARKS)):
                    raise UsageError(f"{named}: {_why_nul(part, null=null, marked=False)}")
    except OSError as error:
        raise UsageError(f"{named}: {error.strerror or error}; name a file with one path a line") from None
    return b"".join(parts)


def _text(named: str, content: bytes) -> tuple[str, bool]:
    """As a file system's names are text, and whether a mark said how it is written."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            if encoding == "utf-8":
                return os.fsdecode(content.removeprefix(mark)), True
            try:
                return content.decode(encoding), True
            except UnicodeDecodeError:
                raise UsageError(
                    f"{named}: it begins as {encoding.upper()} does, and is not: save it as UTF-8"
                ) from None
    return os.fsdecode(content), False


def _why_nul(part: bytes, *, null: bool | None, marked: bool) -> str:
    if not _NOT_IN_TEXT.isdisjoint(part) or not part.strip(b"\0") or marked:
        return "this is no list of paths but binary data; image files are given as they are, without a list"
    if b"\n" in part and not (any(part[0:64:2]) and any(part[1:64:2])):
        return "it seems to be UTF-16 without its mark: save it as UTF-8"
    if null is None:
        return "there are NUL bytes in it, as in a list of find -print0: write one name a line"
    return "there are NUL bytes in it, as in a list of find -print0: add -0"

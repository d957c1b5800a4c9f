"""Reading lists of files in common encodings, and refusing what is no list with a hint."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from ..errors import UsageError
from .console import quoted

MOST_BYTES = 1 << 28
"""Limit on the size of a list; a million long paths take less."""
PART = 1 << 20
"""Bytes read at a time."""
PATH_SHOWN = 500
"""Longest path of the list itself that a message shows in full."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_IN_TEXT = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b\0")


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
                if size > MOST_BYTES:
                    raise UsageError(f"{named}: larger than {MOST_BYTES >> 20} MB, so not a list of files")
                if not null and b"\0" in part and not parts[0].startswith(tuple(mark for mark, _ in _MARKS)):
                    raise UsageError(f"{named}: {_why_nul(part, null=null, marked=False)}")
    except OSError as error:
        raise UsageError(f"{named}: {error.strerror or error}; name a file with one path a line") from None
    return b"".join(parts)


def _text(named: str, content: bytes) -> tuple[str, bool]:
    """The list decoded as file names are, and whether it had a byte-order mark."""
    for mark, encoding in _MARKS:
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

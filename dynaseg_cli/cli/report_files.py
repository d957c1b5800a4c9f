"""Files named by options such as ``--per-image``: checked before any work, so that no other file is replaced."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import DynasegError, UsageError
from .console import say

_MOST_BYTES = 256 << 20
"""A larger file is taken to be the user's."""


def refuse_reports(reports: dict[str, Path | None]) -> None:
    """Raise UsageError if one of these files (option: path) cannot be written, or if two are the same file.

    An existing file is replaced only if it is empty or a report that dynaseg wrote.
    """
    taken: dict[Path, str] = {}
    for option, path in reports.items():
        if path is None:
            continue
        refuse_unwritable(option, path, is_report)
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{other} and {option} both name {path}; name two files")


def refuse_unwritable(option: str, path: Path, is_own: Callable[[Path], bool] | None = None) -> None:
    """Raise UsageError if `path`, the value of an option, cannot become or replace a regular file.

    Parameters
    ----------
    is_own : tells whether dynaseg wrote an existing file that is not empty. Others are not replaced.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{option} {path} is there already, and is no regular file")
        if is_own is not None and status.st_size and not is_own(path):
            raise UsageError(f"{option} {path} exists and was not written by dynaseg; choose another name")
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}") from None
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path} cannot be written: {path.parent} does not allow it")


def is_report(path: Path) -> bool:
    """Whether a file is one that `evaluate` or `benchmark` writes: their CSV, JSON, Markdown or picture.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    return len(content) <= _MOST_BYTES and any(
        belongs(content) for belongs in (_is_picture, _is_csv, _is_markdown, _is_json)
    )


def _is_picture(content: bytes) -> bool:
    from ..figures import MARKS

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


def write_each(files: Iterable[tuple[Path | None, Callable[[Path], None]]]) -> bool:
    """Write each file that was asked for, and report those that failed. Returns whether all could be written."""
    whole = True
    for path, write in files:
        if path is None:
            continue
        try:
            write(path)
        except (OSError, MemoryError) as error:
            whole = False
            reason = "out of memory" if isinstance(error, MemoryError) else error.strerror or error
            say(f"error: {path} cannot be written: {reason}", "red")
        except DynasegError as error:
            whole = False
            say(f"error: {error}", "red")
    return whole

"""Which files are a user's: none that is hidden, that a system left beside photos, or that dynaseg itself wrote."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Literal

MARK = ".dynaseg"
"""File that an output folder bears from its first moment: what lies below is dynaseg's, and never input."""
LOG_NAME, RUN_NAME = "outcomes.jsonl", "run.json"
"""By which the output folders of versions that left no mark are known."""

SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir"))
"""Left by macOS in its zip files and by network drives beside photos: they hold thumbnails and attributes."""
SIDECAR = "._"
"""Prefix of the files in which macOS keeps a file's attributes on a disk that has no place for them."""

Kind = Literal["hidden", "sidecar", "system folder"]


def kind_passed_over(name: str) -> Kind | None:
    """Why the file or folder called `name` (one part of a path) is not a user's by its name; None if it may be."""
    if name.startswith(SIDECAR):
        return "sidecar"
    if name.startswith(".") and name not in (".", ".."):
        return "hidden"
    return "system folder" if name in SYSTEM_FOLDERS else None


def is_output_folder(folder: Path, names: Container[str] | None = None) -> bool:
    """Whether dynaseg wrote a folder.

    Parameters
    ----------
    names : of what is in the folder, where they are known: then most folders cost no system call.
    """
    if names is None:
        names = _Names(folder)
    if MARK in names:
        return True
    return (RUN_NAME in names and _is_run(folder / RUN_NAME)) or (LOG_NAME in names and _is_log(folder / LOG_NAME))


class _Names:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, name: object) -> bool:
        try:
            return (self._folder / str(name)).is_file()
        except (OSError, ValueError):
            return False


def _is_run(path: Path) -> bool:
    try:
        return path.is_file() and "dynaseg" in json.loads(path.read_bytes())["versions"]  # a pipe would be waited for
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _is_log(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as log:
            return bool({"path", "status"} <= json.loads(log.readline(1 << 16)).keys())
    except (OSError, ValueError, AttributeError, RecursionError):
        return False

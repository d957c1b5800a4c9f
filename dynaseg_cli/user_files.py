"""Which files are the user's: not hidden ones, not what systems leave beside photos, not what dynaseg wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Literal

MARK = ".dynaseg"
"""File in every output folder, from its first moment: nothing below such a folder is input."""
LOG_NAME, RUN_NAME = "outcomes.jsonl", "run.json"
"""Files that identify the output folders of earlier versions, which left no mark."""

MOST_BYTES = 1 << 28
"""Limit on the size of a run's summary."""

SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir"))
"""Folders of thumbnails and attributes that macOS puts into zip files and network drives put beside photos."""
SIDECAR = "._"
"""Prefix of files in which macOS keeps attributes on disks that cannot store them."""

Kind = Literal["hidden", "sidecar", "system folder"]


def kind_passed_over(name: str) -> Kind | None:
    """Why a file or folder with this name (one part of a path) is not the user's; None if it may be."""
    if name.startswith(SIDECAR):
        return "sidecar"
    if name.startswith(".") and name not in (".", ".."):
        return "hidden"
    return "system folder" if name in SYSTEM_FOLDERS else None


RESULTS, DUPLICATE, LINK = "results", "duplicate", "link"
"""Further kinds of what is passed over. A kind that is not listed here is the name of a format that cannot be read."""
_WORDS = {
    "hidden": ("hidden file or folder", "hidden files or folders"),
    "sidecar": ("sidecar", "sidecars"),
    "system folder": ("system folder", "system folders"),
    RESULTS: ("folder that dynaseg wrote", "folders that dynaseg wrote"),
    DUPLICATE: ("file named twice", "files named twice"),
    LINK: ("link out of the input", "links out of the input"),
}


class PassedOver(Counter[str]):
    """How many files and folders are not input, by kind, with the first of each kind as an example."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, Path] = {}

    def add(self, kind: str, path: Path) -> None:
        """Count a file or folder."""
        self[kind] += 1
        self.first.setdefault(kind, path)

    def describe(self) -> str:
        """The counts in words, with what to do about them; empty if nothing was passed over.

        Example: ``2 sidecars (photos/._a.jpg first), 1 HEIC file (photos/b.heic); convert HEIC to JPEG, PNG or TIFF``.
        """
        formats = sorted(self.keys() - _WORDS.keys())
        parts = []
        for kind in (*(kind for kind in _WORDS if self[kind]), *formats):
            several = self[kind] > 1
            words = _WORDS.get(kind, (f"{kind} file", f"{kind} files"))[several]
            parts.append(f"{self[kind]} {words} ({self.first[kind]}{' first' if several else ''})")
        remedies = [f"convert {' and '.join(formats)} to JPEG, PNG or TIFF"] if formats else []
        if self[LINK]:
            remedies.append("--follow-symlinks follows links")
        return "; ".join([", ".join(parts), *remedies])


def is_output_folder(folder: Path, names: Container[str] | None = None) -> bool:
    """Whether dynaseg wrote a folder.

    Parameters
    ----------
    names : names of the files in the folder, if known: most folders then cost no system call.
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
        # Reading a pipe would hang.
        is_small = path.is_file() and path.stat().st_size <= MOST_BYTES
        return is_small and "dynaseg" in json.loads(path.read_bytes())["versions"]
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

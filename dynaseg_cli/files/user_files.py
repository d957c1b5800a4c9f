"""The user's files: not hidden, not left by operating systems beside photos, not written by dynaseg."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Literal

from .reading import EXTRAS

MARK = ".dynaseg"
"""The first file in every output folder; nothing below such a folder is input."""
LOG_NAME, RUN_NAME = "outcomes.jsonl", "run.json"
"""Files that identify the output folders of earlier versions, which left no mark."""

MOST_BYTES = 1 << 28
"""Limit on the size of a run's summary."""

SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir"))
"""Folders of attributes and thumbnails, in zip files of macOS and on network drives."""
SIDECAR = "._"
"""Prefix of files with attributes, which macOS writes to disks that cannot store these."""

Kind = Literal["hidden", "sidecar", "system folder"]


def kind_passed_over(name: str) -> Kind | None:
    """Why a file or folder with this name (one part of a path) is not input; None if it may be."""
    if name.startswith(SIDECAR):
        return "sidecar"
    if name.startswith(".") and name not in (".", ".."):
        return "hidden"
    return "system folder" if name in SYSTEM_FOLDERS else None


RESULTS, DUPLICATE, LINK, FEW_PAGES = "results", "duplicate", "link", "few pages"
"""Further kinds. Any other kind is the name of a format that cannot be read."""
_WORDS = {
    "hidden": ("hidden file or folder", "hidden files or folders"),
    "sidecar": ("sidecar", "sidecars"),
    "system folder": ("system folder", "system folders"),
    RESULTS: ("folder that dynaseg wrote", "folders that dynaseg wrote"),
    DUPLICATE: ("file named twice", "files named twice"),
    LINK: ("link out of the input", "links out of the input"),
    FEW_PAGES: ("file without such a page", "files without such pages"),
}


class PassedOver(Counter[str]):
    """Counts of files and folders that are not input, by kind, with the first of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, Path] = {}

    def add(self, kind: str, path: Path) -> None:
        """Count a file or folder of this kind."""
        self[kind] += 1
        self.first.setdefault(kind, path)

    def describe(self) -> str:
        """The counts in words, with what to do about them; empty if nothing was passed over.

        Example: ``2 sidecars (photos/._a.jpg first), 1 SVG file (photos/b.svg); convert SVG to JPEG, PNG or TIFF``.
        """
        formats = sorted(self.keys() - _WORDS.keys())
        parts = []
        for kind in (*(kind for kind in _WORDS if self[kind]), *formats):
            several = self[kind] > 1
            words = _WORDS.get(kind, (f"{kind} file", f"{kind} files"))[several]
            parts.append(f"{self[kind]} {words} ({self.first[kind]}{' first' if several else ''})")
        extras = [kind for kind in formats if kind in EXTRAS]
        others = [kind for kind in formats if kind not in EXTRAS]
        remedies = []
        if extras:
            names = ",".join(EXTRAS[kind] for kind in extras)
            remedies.append(f"pip install 'dynaseg[{names}]' reads {' and '.join(extras)}")
        remedies += [f"convert {' and '.join(others)} to JPEG, PNG or TIFF"] if others else []
        if self[LINK]:
            remedies.append("`follow_symlinks=True` follows links")
        return "; ".join([", ".join(parts), *remedies])


def is_output_folder(folder: Path, names: Container[str] | None = None) -> bool:
    """Whether dynaseg wrote a folder. The `names` of the files in it, if known, save system calls."""

    def has(name: str) -> bool:
        return _is_file(folder / name) if names is None else name in names

    return has(MARK) or (has(RUN_NAME) and _is_run(folder / RUN_NAME)) or (has(LOG_NAME) and _is_log(folder / LOG_NAME))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_run(path: Path) -> bool:
    try:
        # A pipe would block.
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

"""Finding the user's label files below a folder, by their path without extension."""

from __future__ import annotations

import os
import shlex
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import get_args

from ..config import Product, Use
from ..errors import UsageError
from ..images import PHOTO_SUFFIXES
from ..user_files import RESULTS, PassedOver, is_output_folder, kind_passed_over
from .label_files import SUFFIXES

PRODUCTS = get_args(Product)
"""Folders that `segment` writes below an output folder."""


def maps_folder(prediction: Path, use: Use) -> Path:
    """The folder of the maps to `use` in what `segment` wrote, else the folder itself."""
    maps = prediction / use
    if maps.is_dir():
        return maps
    # Below the folder of the maps itself are the folders of the photos, which may be called anything.
    itself = prediction.resolve().name == use
    written = () if use == "labels" else ("labels", "stats")
    if not itself and (is_output_folder(prediction) or any((prediction / folder).is_dir() for folder in written)):
        saved = ",".join(dict.fromkeys(("labels", "color", "stats", use)))
        raise UsageError(f"{prediction} has no {use}/, which segment writes with --save {saved}")
    return prediction


def label_files(
    folder: Path,
    passed: PassedOver | None = None,
    command: Callable[[Path], str] | None = None,
    *,
    segmentable: bool = False,
) -> dict[str, Path]:
    """Label files below a folder, by their path there without extension, as `composed` writes it.

    Parameters
    ----------
    passed : counts what is passed over.
    command : gives the command with another folder in place of this one, for hints.
    segmentable : whether to hint at `segment` if the folder holds photos.
    """
    if is_file(folder):
        raise UsageError(f"{folder} is a file and the other a folder: give two folders, or two files")
    found: dict[str, Path] = {}
    passed = PassedOver() if passed is None else passed
    outputs: list[Path] = []
    photo: Path | None = None
    for path in _walk(folder, passed, outputs):
        if path.suffix.lower() not in SUFFIXES:
            if photo is None and path.suffix.lower() in PHOTO_SUFFIXES:
                photo = path
            continue
        name = composed(path.relative_to(folder).as_posix().removesuffix(path.suffix))
        other = found.setdefault(name, path)
        if other != path:
            raise UsageError(f"{other} and {path} are both named {name}; keep one of them in the folder")
    if not found:
        said = f"no label files in {folder}: looked for names ending in {' '.join(SUFFIXES)}"
        if passed:
            said += f"; passed over: {passed.describe()}"
        hint = _instead(folder, outputs, command)
        if not hint and photo is not None:
            hint = f"; it holds photos such as {photo}"
            hint += f", and label maps are needed: dynaseg segment {quoted(folder)}" if segmentable else ""
        raise UsageError(said + hint)
    return found


def _instead(folder: Path, outputs: Sequence[Path], command: Callable[[Path], str] | None) -> str:
    """The end of a message: which folder to name instead of one without label files."""
    output = folder.resolve().parent
    if command is not None and folder.resolve().name in PRODUCTS and is_output_folder(output):
        return f"; did you mean: {command(parent_folder(folder))}"
    if outputs:
        return f"; to take one of them: {command(outputs[0])}" if command is not None else f"; name {outputs[0]}"
    return ""


def _walk(folder: Path, passed: PassedOver, outputs: list[Path]) -> Iterator[Path]:
    """The user's files below a folder. Folders below it that dynaseg wrote are left out and added to `outputs`."""

    def surface(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be listed: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=surface, followlinks=True):
        here = Path(place)
        if here != folder and is_output_folder(here, {*folders, *files}):
            passed.add(RESULTS, here)
            outputs.append(here)
            folders.clear()
            continue
        for name in (*folders, *(file for file in files if PurePosixPath(file).suffix.lower() in SUFFIXES)):
            if (kind := kind_passed_over(name)) is not None:
                passed.add(kind, here / name)
        folders[:] = sorted(
            name for name in folders if kind_passed_over(name) is None and not _leads_back(here / name, folder)
        )
        yield from (here / file for file in sorted(files) if kind_passed_over(file) is None)


def _leads_back(link: Path, top: Path) -> bool:
    """Whether a folder below `top` is a link to one that was passed on the way to it, and so has no end."""
    if not link.is_symlink():
        return False
    target = link.resolve()
    passed = takewhile(lambda folder: folder != top, link.parents)
    return any(folder.resolve() == target for folder in (*passed, top))


def is_file(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def parent_folder(path: Path) -> Path:
    return path.parent if path.name not in ("", "..") else path.resolve().parent


def quoted(path: Path) -> str:
    return shlex.quote(str(path))


def composed(name: str) -> str:
    """A name with its accents as one character each (NFC): some systems store them apart, and mean the same name."""
    return unicodedata.normalize("NFC", name)

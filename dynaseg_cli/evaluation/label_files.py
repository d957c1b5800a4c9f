"""The user's label files below a folder, and the names by which they belong to photos."""

from __future__ import annotations

import os
import re
import shlex
import stat
import unicodedata
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath

from ..errors import UsageError
from ..files.reading import PHOTO_SUFFIXES
from ..files.user_files import RESULTS, PassedOver, is_output_folder, kind_passed_over
from ..images.label_maps import SUFFIXES
from .segment_output import PRODUCTS

_KINDS = ("labelTrainIds", "labelIds", "instanceTrainIds", "instanceIds", "color")
"""Cityscapes' maps of a photo, best first: labelTrainIds marks the pixels that its benchmark ignores by 255."""
_SOURCES = ("_gtFine", "_gtCoarse", "_gt", "")
_CITYSCAPES = re.compile(rf"({'|'.join(_SOURCES[:-1])}|)_({'|'.join(_KINDS)})$")
_TRUTH = re.compile(
    r"(?i:[_\-. ](?:pixelmaps?|seg|segm|segmentations?|masks?|labels?|labelmaps?|gt|ground_?truth|annotations?|anno))$"
    r"|_[LP]$"  # CamVid
)
_PHOTO = re.compile(r"(?i:_(?:leftImg8bit|rightImg8bit|rgb_anon|rgb|images?|img|im|photo|sat))$")

Rank = tuple[int, int]


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

    Raises
    ------
    UsageError
        If it is no folder, cannot be listed or holds no label files, or two of them have one name.
    """
    if is_file(folder):
        raise UsageError(f"{folder} is a file and the other a folder: give two folders, or two files")
    found: dict[str, Path] = {}
    passed = PassedOver() if passed is None else passed
    outputs: list[Path] = []
    photo: Path | None = None
    for path in _walk(folder, passed, outputs):
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            photo = photo or (path if suffix in PHOTO_SUFFIXES else None)
            continue
        name = composed(path.relative_to(folder).as_posix().removesuffix(path.suffix))
        other = found.setdefault(name, path)
        if other != path:
            raise UsageError(f"{other} and {path} are both named {name}; keep one of them in the folder")
    if found:
        return found
    said = f"no label files in {folder}: looked for names ending in {' '.join(SUFFIXES)}"
    if passed:
        said += f"; passed over: {passed.describe()}"
    if command is not None and folder.resolve().name in PRODUCTS and is_output_folder(folder.resolve().parent):
        said += f"; did you mean: {command(parent_folder(folder))}"
    elif outputs:
        said += f"; to take one of them: {command(outputs[0])}" if command is not None else f"; name {outputs[0]}"
    elif photo is not None:
        said += f"; it holds photos such as {photo}"
        said += f", and label maps are needed: dynaseg segment {shlex.quote(str(folder))}" if segmentable else ""
    raise UsageError(said)


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
    """Whether a path is no folder; UsageError if there is nothing, or it cannot be found out."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def parent_folder(path: Path) -> Path:
    return path.parent if path.name not in ("", "..") else path.resolve().parent


def composed(name: str) -> str:
    """A name with its accents as one character each (NFC): some systems store them apart, and mean the same name."""
    return unicodedata.normalize("NFC", name)


def without_truth_suffix(name: str) -> tuple[str, str, Rank]:
    """The name of a ground truth without its data set's suffix, the suffix, and its rank (lower is better)."""
    found = _CITYSCAPES.search(name)
    if found is not None:
        rank = _KINDS.index(found[2]), _SOURCES.index(found[1])
    else:
        found, rank = _TRUTH.search(name), (0, 0)
    if found is None or not PurePosixPath(name[: found.start()]).name or name[: found.start()].endswith("/"):
        return name, "", (-1, 0)
    return name[: found.start()], found[0], rank


def names_of_photo(name: str) -> list[str]:
    """The name of a photo: as it is, without a kept extension, and without its data set's suffix."""
    suffix = PurePosixPath(name).suffix
    names = [name, *([name.removesuffix(suffix)] if suffix.lower() in PHOTO_SUFFIXES else [])]
    shorter = _PHOTO.sub("", names[-1])
    return [*names, shorter] if shorter not in names and not shorter.endswith("/") and shorter else names


def shortest(name: str) -> str:
    """A name without the suffixes that data sets add to photos or to ground truths."""
    return names_of_photo(without_truth_suffix(name)[0])[-1]

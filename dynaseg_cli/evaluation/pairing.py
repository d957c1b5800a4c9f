"""Which prediction belongs to which ground truth: by the path below their folders, without extension."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from ..config import Use
from ..errors import UsageError
from ..images import PHOTO_SUFFIXES
from .label_files import SUFFIXES


@dataclass(frozen=True)
class Pair:
    """An image's two files; `name` is their common path without extension."""

    name: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """The pairs, sorted by name, and the files that found no partner."""

    pairs: list[Pair]
    predictions_alone: list[Path]
    truths_alone: list[Path]


def pair_files(prediction: Path, truth: Path, names: Sequence[str] | None = None, use: Use = "labels") -> Pairing:
    """Pair the label files below two folders, or two files; `names` restricts it to the images of a list.

    A `prediction` folder that `segment` wrote stands for the folder below it of the maps to `use`.

    Raises
    ------
    UsageError
        If a path does not exist, holds no label files, or not those to `use`, two files of one side have one name,
        nothing pairs, or the list names an image that has no ground truth, or more than one.
    """
    files = [_is_file(path) for path in (prediction, truth)]
    if all(files):
        if names is not None:
            raise UsageError("--image-list chooses among the files of two folders, and these are two files")
        return Pairing([Pair(prediction.stem, prediction, truth)], [], [])
    predictions, truths = label_files(maps_folder(prediction, use)), label_files(truth)
    _drop_photo_suffixes(predictions, truths)
    if names is not None:
        wanted = _listed(names, truths)
        predictions = {name: path for name, path in predictions.items() if name in wanted}
        truths = {name: path for name, path in truths.items() if name in wanted}
    common = sorted(set(predictions) & set(truths))
    if not common:
        raise UsageError(
            f"no file of {prediction} has the name of one of {truth}: files pair by their path below the folder,"
            f" without extension ({_example(predictions)} here, {_example(truths)} there)"
        )
    return Pairing(
        pairs=[Pair(name, predictions[name], truths[name]) for name in common],
        predictions_alone=[predictions[name] for name in sorted(set(predictions) - set(truths))],
        truths_alone=[truths[name] for name in sorted(set(truths) - set(predictions))],
    )


def maps_folder(prediction: Path, use: Use) -> Path:
    """The folder of the maps to `use` in what `segment` wrote, else the folder itself."""
    maps = prediction / use
    if maps.is_dir():
        return maps
    # Below the folder of the maps itself are the folders of the photos, which may be called anything.
    itself = use == "labels" or prediction.resolve().name == use
    if not itself and any((prediction / written).is_dir() for written in ("labels", "stats")):
        raise UsageError(f"{prediction} has no {use}/, which segment writes with --save labels,color,stats,{use}")
    return prediction


def label_files(folder: Path) -> dict[str, Path]:
    """Label files below a folder, by their path there without extension, as `composed` writes it."""
    if _is_file(folder):
        raise UsageError(f"{folder} is a file and the other a folder: give two folders, or two files")
    found: dict[str, Path] = {}
    for path in _walk(folder):
        name = composed(path.relative_to(folder).as_posix().removesuffix(path.suffix))
        other = found.setdefault(name, path)
        if other != path:
            raise UsageError(f"{other} and {path} are both named {name}; keep one of them in the folder")
    if not found:
        raise UsageError(f"no label files in {folder}: looked for names ending in {' '.join(SUFFIXES)}")
    return found


def composed(name: str) -> str:
    """A name with its accents as one character each (NFC): some systems store them apart, and mean the same name."""
    return unicodedata.normalize("NFC", name)


def _walk(folder: Path) -> Iterator[Path]:
    def surface(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be listed: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=surface, followlinks=True):
        here = Path(place)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _leads_back(here / name, folder)
        )
        for file in sorted(files):
            path = here / file
            if path.suffix.lower() in SUFFIXES and not file.startswith("."):
                yield path


def _leads_back(link: Path, top: Path) -> bool:
    """Whether a folder below `top` is a link to one that was passed on the way to it, and so has no end."""
    if not link.is_symlink():
        return False
    target = link.resolve()
    passed = takewhile(lambda folder: folder != top, link.parents)
    return any(folder.resolve() == target for folder in (*passed, top))


def _is_file(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _drop_photo_suffixes(predictions: dict[str, Path], truths: dict[str, Path]) -> None:
    """Give what `segment --keep-extension` wrote, ``a.jpg.png``, the name of its ground truth, ``a``."""
    for name in sorted(set(predictions) - set(truths)):
        suffix = PurePosixPath(name).suffix
        shorter = name.removesuffix(suffix)
        if suffix.lower() not in PHOTO_SUFFIXES or shorter not in truths:
            continue
        if shorter in predictions:
            raise UsageError(
                f"{predictions[shorter]} and {predictions[name]} are both predictions of {truths[shorter]};"
                " keep one of them in the folder"
            )
        predictions[shorter] = predictions.pop(name)


def _listed(lines: Sequence[str], truths: Iterable[str]) -> set[str]:
    """Names below the folder that a list means."""
    by_last: dict[str, list[str]] = {}
    for name in truths:
        by_last.setdefault(PurePosixPath(name).name, []).append(name)
    meant = {line: _meant(line, by_last) for line in lines}
    missing = [line for line, name in meant.items() if name is None]
    if missing:
        raise UsageError(f"{len(missing)} images of the list have no ground truth, the first is {missing[0]}")
    return {name for name in meant.values() if name is not None}


def _meant(line: str, by_last: dict[str, list[str]]) -> str | None:
    """The name that shares the last part of a line's path, with or without extension, and most of the parts before."""
    for written in map(composed, (line, line.removesuffix(PurePosixPath(line).suffix))):
        path = PurePosixPath(written)
        names = by_last.get(path.name, [])
        if path.as_posix() in names:
            return path.as_posix()
        shared = {name: _shared_end(path.parts, PurePosixPath(name).parts) for name in names}
        nearest = [name for name in names if shared[name] == max(shared.values())]
        if len(nearest) > 1:
            raise UsageError(f"{line} of the list may be {nearest[0]} or {nearest[1]}; give more of its path")
        if nearest:
            return nearest[0]
    return None


def _shared_end(parts: Sequence[str], others: Sequence[str]) -> int:
    pairs = zip(reversed(parts), reversed(others), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _example(files: dict[str, Path]) -> str:
    return repr(min(files)) if files else "nothing"

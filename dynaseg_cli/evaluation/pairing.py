"""Which prediction belongs to which ground truth: by the path below their folders, without extension."""

from __future__ import annotations

import os
import shlex
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, get_args

from ..config import Product, Use
from ..errors import DecodeError, UsageError
from ..images import PHOTO_SUFFIXES
from ..user_files import Kind, is_output_folder, kind_passed_over
from .dataset_names import Rank, names_of_photo, without_truth_suffix
from .label_files import SUFFIXES, is_bsds500

PRODUCTS = get_args(Product)
"""Folders that `segment` writes below an output folder."""
_NO_TRUTH = frozenset(("color", "images", "img", "imgs", "jpegimages", "leftimg8bit", "overlay", "photos", "rgb"))
"""Names of folders that hold photos or pictures, in lower case."""
MOST_LOOKED_AT = 1000
"""Names that are looked at to find out what would pair."""


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
    notes: list[str] = field(default_factory=list)
    """What was passed over, and how names were understood, in whole sentences."""


class PassedOver:
    """What a walk has left out because it is no file of the user's, by kind."""

    _WORDS: ClassVar[dict[str, tuple[str, str]]] = {
        "hidden": ("hidden file or folder", "hidden files or folders"),
        "sidecar": ("sidecar", "sidecars"),
        "system folder": ("system folder", "system folders"),
        "results": ("folder that dynaseg wrote", "folders that dynaseg wrote"),
    }

    def __init__(self) -> None:
        self._paths: dict[str, list[Path]] = {}

    def add(self, kind: Kind | Literal["results"], path: Path) -> None:
        self._paths.setdefault(kind, []).append(path)

    @property
    def results(self) -> list[Path]:
        """Folders that dynaseg wrote."""
        return self._paths.get("results", [])

    def __str__(self) -> str:
        """The kinds, how many there are of each, and an example; empty if nothing was passed over."""
        return ", ".join(
            f"{len(paths)} {self._WORDS[kind][len(paths) > 1]} ({paths[0]}{' first' if len(paths) > 1 else ''})"
            for kind, paths in sorted(self._paths.items(), key=lambda passed: list(self._WORDS).index(passed[0]))
        )


def pair_files(prediction: Path, truth: Path, names: Sequence[str] | None = None, use: Use = "labels") -> Pairing:
    """Pair the label files below two folders, or two files; `names` restricts it to the images of a list.

    A `prediction` folder that `segment` wrote stands for the folder below it of the maps to `use`. Where names differ,
    what data sets add to them is taken off, such as Cityscapes' ``_gtFine_labelIds``.

    Raises
    ------
    UsageError
        If a path does not exist, holds no label files, or not those to `use`, two files of one side have one name,
        nothing pairs, the arguments seem to be swapped, or the list names an image that has no ground truth, or more
        than one.
    """
    files = [_is_file(path) for path in (prediction, truth)]
    if all(files):
        if names is not None:
            raise UsageError("--image-list chooses among the files of two folders, and these are two files")
        return Pairing([Pair(prediction.stem, prediction, truth)], [], [])
    _refuse_hierarchy(prediction, truth, use)
    maps = maps_folder(prediction, use)
    passed = PassedOver()
    predictions = label_files(maps, passed, lambda folder: _command(folder, truth), segmentable=True)
    truths = _truth_files(prediction, truth, passed)
    _refuse_swapped(prediction, truth, predictions, truths)
    _drop_photo_suffixes(predictions, truths)
    notes = [f"Passed over: {passed}."] if str(passed) else []
    notes += _notes_about_products(prediction, truth)
    notes += pair_by_suffix(predictions, truths)
    if names is not None:
        wanted = _listed(names, truths)
        predictions = {name: path for name, path in predictions.items() if name in wanted}
        truths = {name: path for name, path in truths.items() if name in wanted}
    common = sorted(set(predictions) & set(truths))
    if not common:
        raise UsageError(
            f"no file of {prediction} has the name of one of {truth}: files pair by their path below the folder,"
            f" without extension ({_example(predictions)} here, {_example(truths)} there)"
            f"{_what_would_pair(maps, truth, predictions, truths)}"
        )
    return Pairing(
        pairs=[Pair(name, predictions[name], truths[name]) for name in common],
        predictions_alone=[predictions[name] for name in sorted(set(predictions) - set(truths))],
        truths_alone=[truths[name] for name in sorted(set(truths) - set(predictions))],
        notes=notes,
    )


def scorable(images: Iterable[str], truth: Path) -> set[str]:
    """Which of the images, by their path below the folder of photos without extension, have a ground truth.

    Raises
    ------
    UsageError
        As `pair_files`.
    """
    named = {composed(name): Path(name) for name in images}
    truths = label_files(truth)
    pair_by_suffix(named, truths)
    return set(named) & set(truths)


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
    passed : takes what was left out.
    command : that which would take another folder in place of this one, for a message.
    segmentable : whether label maps of the photos in the folder would serve.
    """
    if _is_file(folder):
        raise UsageError(f"{folder} is a file and the other a folder: give two folders, or two files")
    found: dict[str, Path] = {}
    passed = PassedOver() if passed is None else passed
    before = len(passed.results)
    photo: Path | None = None
    for path in _walk(folder, passed):
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
        if str(passed):
            said += f"; passed over: {passed}"
        hint = _instead(folder, passed.results[before:], command)
        if not hint and photo is not None:
            hint = f"; it holds photos such as {photo}"
            hint += f", and label maps are needed: dynaseg segment {_quoted(folder)}" if segmentable else ""
        raise UsageError(said + hint)
    return found


def _instead(folder: Path, results: Sequence[Path], command: Callable[[Path], str] | None) -> str:
    """What to name in place of a folder without label files, as the end of a message."""
    output = folder.resolve().parent
    if command is not None and folder.resolve().name in PRODUCTS and is_output_folder(output):
        return f"; did you mean: {command(_parent(folder))}"
    if results:
        return f"; to take one of them: {command(results[0])}" if command is not None else f"; name {results[0]}"
    return ""


def _truth_files(prediction: Path, truth: Path, passed: PassedOver) -> dict[str, Path]:
    """Those of the ground truth, which may be any folder, less what `segment` wrote there."""
    truths = label_files(truth, passed, lambda folder: _command(prediction, folder))
    if not is_output_folder(truth):
        return truths
    truths = {name: path for name, path in truths.items() if path.relative_to(truth).parts[0] not in PRODUCTS}
    if truths:
        return truths
    said = f"{truth} is a folder that dynaseg wrote, and no ground truth"
    if not _is_of_output(prediction):
        raise UsageError(f"{said}; did you mean: {_command(truth, prediction)}")
    if (truth / "labels").is_dir():
        said += f"; to compare with its labels: {_command(prediction, truth / 'labels')}"
    raise UsageError(said)


def _is_of_output(prediction: Path) -> bool:
    """Whether a folder is one that dynaseg wrote, or lies below one."""
    here = prediction.resolve()
    return any(is_output_folder(folder) for folder in (here, *here.parents))


def _refuse_hierarchy(prediction: Path, truth: Path, use: Use) -> None:
    if use != "hierarchy" and prediction.resolve().name == "hierarchy":
        output = _parent(prediction)
        if is_output_folder(output):
            raise UsageError(
                f"{prediction} holds hierarchies, and no labels; did you mean:"
                f" {_command(output, truth)} --use hierarchy"
            )


def _refuse_swapped(prediction: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> None:
    """Raise UsageError if the predictions are BSDS500's annotations, and the ground truth is not."""
    suffixes = [{path.suffix.lower() for path in side.values()} for side in (predictions, truths)]
    if suffixes[0] == {".mat"} and ".mat" not in suffixes[1] and _is_annotated(min(predictions.values())):
        raise UsageError(
            f"{prediction} holds the ground truth of BSDS500, and {truth} does not; did you mean:"
            f" {_command(truth, prediction)}"
        )


def _is_annotated(path: Path) -> bool:
    try:
        return is_bsds500(path)
    except (DecodeError, OSError):
        return False


def _notes_about_products(prediction: Path, truth: Path) -> list[str]:
    """What to name in place of a folder below an output folder that is not what it is taken for."""
    output, wrote_truth = _parent(prediction), _parent(truth)
    if prediction.resolve().name == "color" and is_output_folder(output):
        return [f"{prediction} holds the labels' colours; the labels themselves: {_command(output, truth)}"]
    if truth.resolve().name in PRODUCTS and is_output_folder(wrote_truth) and not _is_of_output(prediction):
        return [f"{truth} is taken for the ground truth, and dynaseg wrote it; or: {_command(wrote_truth, prediction)}"]
    return []


def _what_would_pair(maps: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> str:
    """The folders further down whose files would pair, as the end of a message; empty if there are none."""
    by_last: dict[str, list[PurePosixPath]] = {}
    for name in truths:
        path = PurePosixPath(_shortest(name))
        by_last.setdefault(path.name, []).append(path)
    folders: Counter[tuple[PurePosixPath, PurePosixPath]] = Counter()
    for name in list(predictions)[:MOST_LOOKED_AT]:
        path = PurePosixPath(_shortest(name))
        for other in by_last.get(path.name, [])[:MOST_LOOKED_AT]:
            shared = _shared_end(path.parts, other.parts)
            folders[PurePosixPath(*path.parts[:-shared]), PurePosixPath(*other.parts[:-shared])] += 1
    if not folders:
        return ""
    below, below_truth = max(
        folders, key=lambda pair: (folders[pair], pair[1].name == "labels", pair[1].name.lower() not in _NO_TRUTH)
    )
    return f"; did you mean: {_command(maps / below, truth / below_truth)}"


def _command(prediction: Path, truth: Path) -> str:
    return f"dynaseg evaluate {_quoted(prediction)} {_quoted(truth)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _parent(path: Path) -> Path:
    return path.parent if path.name not in ("", "..") else path.resolve().parent


def composed(name: str) -> str:
    """A name with its accents as one character each (NFC): some systems store them apart, and mean the same name."""
    return unicodedata.normalize("NFC", name)


def _walk(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """The user's files below a folder, and not what lies below a folder in it that dynaseg wrote."""

    def surface(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be listed: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=surface, followlinks=True):
        here = Path(place)
        if here != folder and is_output_folder(here, {*folders, *files}):
            passed.add("results", here)
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


def pair_by_suffix(predictions: Iterable[str], truths: dict[str, Path]) -> list[str]:
    """Give each ground truth that no prediction has the name of, but for what data sets add, that prediction's name.

    Other maps of the same photo, such as Cityscapes' colours, are taken out of `truths`. What was done is returned, in
    whole sentences.

    Raises
    ------
    UsageError
        If two predictions, or two ground truths of one kind, would be of one image.
    """
    predictions = set(predictions)
    candidates: dict[str, list[tuple[Rank, str, str]]] = {}
    for truth in set(truths) - predictions:
        name, suffix, rank = without_truth_suffix(truth)
        candidates.setdefault(name, []).append((rank, truth, suffix))
    taken: dict[str, str] = {}
    kinds, others = set(), Counter[str]()
    example = ""
    for prediction in sorted(predictions - set(truths)):
        names = [name for name in names_of_photo(prediction) if name in candidates]
        if not names:
            continue
        name = names[0]
        if name in taken:
            raise UsageError(
                f"{taken[name]} and {prediction} are both predictions of {name}; keep one of them in the folder"
            )
        taken[name] = prediction
        (rank, chosen, suffix), *rest = sorted(candidates[name])
        if rest and rest[0][0] == rank:
            raise UsageError(
                f"{truths[chosen]} and {truths[rest[0][1]]} are both ground truths of {prediction};"
                " keep one of them in the folder"
            )
        example = example or f"{truths[chosen].name} is that of {PurePosixPath(prediction).name}"
        truths[prediction] = truths.pop(chosen)
        kinds.add(suffix)
        for _, other, kind in rest:
            del truths[other]
            others[kind] += 1
    if not taken:
        return []
    said = " and ".join(sorted(kinds - {""}))
    notes = [f"Names pair without what data sets add to them{f', {said}' if said else ''}: {example}."]
    if others:
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(others.items()))
        notes.append(f"Other ground truths of the same images are passed over: {listed}.")
    return notes


def _listed(lines: Sequence[str], truths: Iterable[str]) -> set[str]:
    """Names below the folder that a list means."""
    known = {name: name for name in truths}
    for name in sorted(known, key=lambda name: without_truth_suffix(name)[2]):
        known.setdefault(_shortest(name), name)
    by_last: dict[str, list[str]] = {}
    for name in known:
        by_last.setdefault(PurePosixPath(name).name, []).append(name)
    meant = {line: _meant(line, by_last) for line in lines}
    missing = [line for line, name in meant.items() if name is None]
    if missing:
        raise UsageError(f"{len(missing)} images of the list have no ground truth, the first is {missing[0]}")
    return {known[name] for name in meant.values() if name is not None}


def _meant(line: str, by_last: dict[str, list[str]]) -> str | None:
    """The name that shares the last part of a line's path, with or without extension, and most of the parts before."""
    stem = line.removesuffix(PurePosixPath(line).suffix)
    for written in map(composed, (line, stem, _shortest(stem))):
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


def _shortest(name: str) -> str:
    """A name without anything that data sets add to names of photos, or of ground truths."""
    return names_of_photo(without_truth_suffix(name)[0])[-1]


def _shared_end(parts: Sequence[str], others: Sequence[str]) -> int:
    pairs = zip(reversed(parts), reversed(others), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _example(files: dict[str, Path]) -> str:
    return repr(min(files)) if files else "nothing"

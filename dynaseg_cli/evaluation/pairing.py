"""Pairs of predictions and ground truths, by the path below their folders, and hints at what was probably meant."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

from ..config import Use
from ..errors import DecodeError, UsageError
from ..files.reading import PHOTO_SUFFIXES
from ..files.user_files import PassedOver, is_output_folder
from ..images.label_maps import is_bsds500
from .label_files import (
    Rank,
    composed,
    is_file,
    label_files,
    names_of_photo,
    parent_folder,
    shortest,
    without_truth_suffix,
)
from .segment_output import PRODUCTS, lies_in_output, maps_folder

_NO_TRUTH = frozenset(("color", "images", "img", "imgs", "jpegimages", "leftimg8bit", "overlay", "photos", "rgb"))
"""Lower-case names of folders that hold photos or pictures."""
MOST_LOOKED_AT = 1000
"""Names that are compared to find out what would pair."""


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
    """Notes on what was passed over and how names were matched, in whole sentences."""


def pair_files(prediction: Path, truth: Path, names: Sequence[str] | None = None, use: Use = "labels") -> Pairing:
    """Pair the label files below two folders, or two files; `names` restricts it to the images of a list.

    If `segment` wrote the folder `prediction`, the maps to `use` are taken from its subfolder. Names that find no
    partner are matched without the suffixes of data sets, such as Cityscapes' ``_gtFine_labelIds``.

    Raises
    ------
    UsageError
        If a path does not exist, holds no label files, or not those to `use`, two files of one side have one name,
        nothing pairs, the arguments seem to be swapped, or the list names an image that has no ground truth, or more
        than one.
    """
    files = [is_file(path) for path in (prediction, truth)]
    if all(files):
        if names is not None:
            raise UsageError("`image_list` chooses among the files of two folders, and these are two files")
        return Pairing([Pair(prediction.stem, prediction, truth)], [], [])
    _refuse_hierarchy(prediction, truth, use)
    maps = maps_folder(prediction, use)
    passed = PassedOver()
    predictions = label_files(maps, passed, lambda folder: _evaluate_command(folder, truth), segmentable=True)
    truths = _truth_files(prediction, truth, passed)
    _refuse_swapped(prediction, truth, predictions, truths)
    _drop_photo_suffixes(predictions, truths)
    notes = [f"Passed over: {passed.describe()}."] if passed else []
    notes += _notes_about_products(prediction, truth)
    notes += _pair_by_suffix(predictions, truths)
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
    """The images, by their path below the folder of photos without extension, that have a ground truth."""
    named = {composed(name): Path(name) for name in images}
    truths = label_files(truth)
    _pair_by_suffix(named, truths)
    return set(named) & set(truths)


def _truth_files(prediction: Path, truth: Path, passed: PassedOver) -> dict[str, Path]:
    """Label files of the ground truth, without any that `segment` wrote there."""
    truths = label_files(truth, passed, lambda folder: _evaluate_command(prediction, folder))
    if not is_output_folder(truth):
        return truths
    truths = {name: path for name, path in truths.items() if path.relative_to(truth).parts[0] not in PRODUCTS}
    if truths:
        return truths
    said = f"{truth} is a folder that dynaseg wrote, and no ground truth"
    if not lies_in_output(prediction):
        raise UsageError(f"{said}; did you mean: {_evaluate_command(truth, prediction)}")
    if (truth / "labels").is_dir():
        said += f"; to compare with its labels: {_evaluate_command(prediction, truth / 'labels')}"
    raise UsageError(said)


def _drop_photo_suffixes(predictions: dict[str, Path], truths: dict[str, Path]) -> None:
    """Give predictions that kept the photo's extension, ``a.jpg.png``, the name of their ground truth, ``a``."""
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


def _pair_by_suffix(predictions: Iterable[str], truths: dict[str, Path]) -> list[str]:
    """Rename, in `truths`, ground truths that match a prediction only without the suffixes of data sets.

    Other maps of the same photo, such as Cityscapes' colours, are removed from `truths`. Returns notes. UsageError if
    two predictions, or two ground truths of the same kind, belong to one image.
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
        known.setdefault(shortest(name), name)
    by_last = _by_last_part(known)
    meant = {line: _meant(line, by_last) for line in lines}
    missing = [line for line, name in meant.items() if name is None]
    if missing:
        raise UsageError(f"{len(missing)} images of the list have no ground truth, the first is {missing[0]}")
    return {known[name] for name in meant.values() if name is not None}


def _meant(line: str, by_last: dict[str, list[str]]) -> str | None:
    """The name that shares the last part of a line's path, with or without extension, and most of the parts before."""
    stem = line.removesuffix(PurePosixPath(line).suffix)
    for written in map(composed, (line, stem, shortest(stem))):
        path = PurePosixPath(written)
        names = by_last.get(path.name, [])
        if path.as_posix() in names:
            return path.as_posix()
        shared = {name: _shared_end(path, PurePosixPath(name)) for name in names}
        nearest = [name for name in names if shared[name] == max(shared.values())]
        if len(nearest) > 1:
            raise UsageError(f"{line} of the list may be {nearest[0]} or {nearest[1]}; give more of its path")
        if nearest:
            return nearest[0]
    return None


def _example(files: dict[str, Path]) -> str:
    return repr(min(files)) if files else "nothing"


def _evaluate_command(prediction: Path, truth: Path) -> str:
    return f"dynaseg evaluate {shlex.quote(str(prediction))} {shlex.quote(str(truth))}"


def _refuse_hierarchy(prediction: Path, truth: Path, use: Use) -> None:
    output = parent_folder(prediction)
    if use != "hierarchy" and prediction.resolve().name == "hierarchy" and is_output_folder(output):
        raise UsageError(
            f"{prediction} holds hierarchies, and no labels; did you mean:"
            f" {_evaluate_command(output, truth)} `use=hierarchy`"
        )


def _refuse_swapped(prediction: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> None:
    """Raise UsageError if the predictions are BSDS500's annotations, and the ground truth is not."""
    suffixes = [{path.suffix.lower() for path in side.values()} for side in (predictions, truths)]
    if suffixes[0] == {".mat"} and ".mat" not in suffixes[1] and _is_annotated(min(predictions.values())):
        raise UsageError(
            f"{prediction} holds the ground truth of BSDS500, and {truth} does not; did you mean:"
            f" {_evaluate_command(truth, prediction)}"
        )


def _is_annotated(path: Path) -> bool:
    try:
        return is_bsds500(path)
    except (DecodeError, OSError):
        return False


def _notes_about_products(prediction: Path, truth: Path) -> list[str]:
    """A note about a product folder that may have been given by mistake."""
    output, wrote_truth = parent_folder(prediction), parent_folder(truth)
    if prediction.resolve().name == "color" and is_output_folder(output):
        return [f"{prediction} holds the labels' colours; the labels themselves: {_evaluate_command(output, truth)}"]
    if truth.resolve().name in PRODUCTS and is_output_folder(wrote_truth) and not lies_in_output(prediction):
        return [
            f"{truth} is taken for the ground truth, and dynaseg wrote it; or:"
            f" {_evaluate_command(wrote_truth, prediction)}"
        ]
    return []


def _what_would_pair(maps: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> str:
    """The end of a message: folders further down whose files would pair. Empty if there are none."""
    by_last = _by_last_part(map(shortest, truths))
    folders: Counter[tuple[PurePosixPath, PurePosixPath]] = Counter()
    for name in map(shortest, list(predictions)[:MOST_LOOKED_AT]):
        path = PurePosixPath(name)
        for other in map(PurePosixPath, by_last.get(path.name, [])[:MOST_LOOKED_AT]):
            shared = _shared_end(path, other)
            folders[PurePosixPath(*path.parts[:-shared]), PurePosixPath(*other.parts[:-shared])] += 1
    if not folders:
        return ""
    below, below_truth = max(
        folders, key=lambda pair: (folders[pair], pair[1].name == "labels", pair[1].name.lower() not in _NO_TRUTH)
    )
    return f"; did you mean: {_evaluate_command(maps / below, truth / below_truth)}"


def _by_last_part(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(PurePosixPath(name).name, []).append(name)
    return found


def _shared_end(path: PurePosixPath, other: PurePosixPath) -> int:
    """How many last parts two paths have in common."""
    pairs = zip(reversed(path.parts), reversed(other.parts), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

"""Which prediction belongs to which ground truth: by the path below their folders, without extension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..config import Use
from ..errors import UsageError
from ..images import PHOTO_SUFFIXES
from ..user_files import PassedOver, is_output_folder
from .dataset_names import Rank, names_of_photo, without_truth_suffix
from .label_folders import PRODUCTS, composed, is_file, label_files, maps_folder
from .pairing_hints import (
    evaluate_command,
    is_of_output,
    notes_about_products,
    refuse_hierarchy,
    refuse_swapped,
    shared_end,
    shortest,
    what_would_pair,
)


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
    """What was passed over and how names were matched, in whole sentences."""


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
            raise UsageError("--image-list chooses among the files of two folders, and these are two files")
        return Pairing([Pair(prediction.stem, prediction, truth)], [], [])
    refuse_hierarchy(prediction, truth, use)
    maps = maps_folder(prediction, use)
    passed = PassedOver()
    predictions = label_files(maps, passed, lambda folder: evaluate_command(folder, truth), segmentable=True)
    truths = _truth_files(prediction, truth, passed)
    refuse_swapped(prediction, truth, predictions, truths)
    _drop_photo_suffixes(predictions, truths)
    notes = [f"Passed over: {passed.describe()}."] if passed else []
    notes += notes_about_products(prediction, truth)
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
            f"{what_would_pair(maps, truth, predictions, truths)}"
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


def _truth_files(prediction: Path, truth: Path, passed: PassedOver) -> dict[str, Path]:
    """Label files of the ground truth, without any that `segment` wrote there."""
    truths = label_files(truth, passed, lambda folder: evaluate_command(prediction, folder))
    if not is_output_folder(truth):
        return truths
    truths = {name: path for name, path in truths.items() if path.relative_to(truth).parts[0] not in PRODUCTS}
    if truths:
        return truths
    said = f"{truth} is a folder that dynaseg wrote, and no ground truth"
    if not is_of_output(prediction):
        raise UsageError(f"{said}; did you mean: {evaluate_command(truth, prediction)}")
    if (truth / "labels").is_dir():
        said += f"; to compare with its labels: {evaluate_command(prediction, truth / 'labels')}"
    raise UsageError(said)


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
    """Rename, in `truths`, ground truths that match a prediction only without the suffixes of data sets.

    Other maps of the same photo, such as Cityscapes' colours, are removed from `truths`. Returns notes, in whole
    sentences.

    Raises
    ------
    UsageError
        If two predictions, or two ground truths of the same kind, belong to one image.
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
    for written in map(composed, (line, stem, shortest(stem))):
        path = PurePosixPath(written)
        names = by_last.get(path.name, [])
        if path.as_posix() in names:
            return path.as_posix()
        shared = {name: shared_end(path.parts, PurePosixPath(name).parts) for name in names}
        nearest = [name for name in names if shared[name] == max(shared.values())]
        if len(nearest) > 1:
            raise UsageError(f"{line} of the list may be {nearest[0]} or {nearest[1]}; give more of its path")
        if nearest:
            return nearest[0]
    return None


def _example(files: dict[str, Path]) -> str:
    return repr(min(files)) if files else "nothing"

"""Mistakes in the arguments of `evaluate`, and the command that was probably meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from ..config import Use
from ..errors import DecodeError, UsageError
from ..user_files import is_output_folder
from .dataset_names import names_of_photo, without_truth_suffix
from .label_files import is_bsds500
from .label_folders import PRODUCTS, parent_folder, quoted

_NO_TRUTH = frozenset(("color", "images", "img", "imgs", "jpegimages", "leftimg8bit", "overlay", "photos", "rgb"))
"""Lower-case names of folders that hold photos or pictures."""
MOST_LOOKED_AT = 1000
"""Names that are compared to find out what would pair."""


def evaluate_command(prediction: Path, truth: Path) -> str:
    return f"dynaseg evaluate {quoted(prediction)} {quoted(truth)}"


def refuse_hierarchy(prediction: Path, truth: Path, use: Use) -> None:
    if use != "hierarchy" and prediction.resolve().name == "hierarchy":
        output = parent_folder(prediction)
        if is_output_folder(output):
            raise UsageError(
                f"{prediction} holds hierarchies, and no labels; did you mean:"
                f" {evaluate_command(output, truth)} --use hierarchy"
            )


def refuse_swapped(prediction: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> None:
    """Raise UsageError if the predictions are BSDS500's annotations, and the ground truth is not."""
    suffixes = [{path.suffix.lower() for path in side.values()} for side in (predictions, truths)]
    if suffixes[0] == {".mat"} and ".mat" not in suffixes[1] and _is_annotated(min(predictions.values())):
        raise UsageError(
            f"{prediction} holds the ground truth of BSDS500, and {truth} does not; did you mean:"
            f" {evaluate_command(truth, prediction)}"
        )


def _is_annotated(path: Path) -> bool:
    try:
        return is_bsds500(path)
    except (DecodeError, OSError):
        return False


def notes_about_products(prediction: Path, truth: Path) -> list[str]:
    """Notes about a product folder that may have been given by mistake."""
    output, wrote_truth = parent_folder(prediction), parent_folder(truth)
    if prediction.resolve().name == "color" and is_output_folder(output):
        return [f"{prediction} holds the labels' colours; the labels themselves: {evaluate_command(output, truth)}"]
    if truth.resolve().name in PRODUCTS and is_output_folder(wrote_truth) and not is_of_output(prediction):
        return [
            f"{truth} is taken for the ground truth, and dynaseg wrote it; or:"
            f" {evaluate_command(wrote_truth, prediction)}"
        ]
    return []


def what_would_pair(maps: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> str:
    """The end of a message: folders further down whose files would pair. Empty if there are none."""
    by_last: dict[str, list[PurePosixPath]] = {}
    for name in truths:
        path = PurePosixPath(shortest(name))
        by_last.setdefault(path.name, []).append(path)
    folders: Counter[tuple[PurePosixPath, PurePosixPath]] = Counter()
    for name in list(predictions)[:MOST_LOOKED_AT]:
        path = PurePosixPath(shortest(name))
        for other in by_last.get(path.name, [])[:MOST_LOOKED_AT]:
            shared = shared_end(path.parts, other.parts)
            folders[PurePosixPath(*path.parts[:-shared]), PurePosixPath(*other.parts[:-shared])] += 1
    if not folders:
        return ""
    below, below_truth = max(
        folders, key=lambda pair: (folders[pair], pair[1].name == "labels", pair[1].name.lower() not in _NO_TRUTH)
    )
    return f"; did you mean: {evaluate_command(maps / below, truth / below_truth)}"


def is_of_output(prediction: Path) -> bool:
    """Whether dynaseg wrote a folder or one above it."""
    here = prediction.resolve()
    return any(is_output_folder(folder) for folder in (here, *here.parents))


def shared_end(parts: Sequence[str], others: Sequence[str]) -> int:
    pairs = zip(reversed(parts), reversed(others), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def shortest(name: str) -> str:
    """A name without the suffixes that data sets add to photos or to ground truths."""
    return names_of_photo(without_truth_suffix(name)[0])[-1]

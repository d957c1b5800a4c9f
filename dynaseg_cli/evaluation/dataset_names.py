"""Suffixes that data sets add to the names of photos and of ground truths."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ..images import PHOTO_SUFFIXES

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


def without_truth_suffix(name: str) -> tuple[str, str, Rank]:
    """The name of a ground truth without its suffix, the suffix, and its rank among several (lower is better)."""
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

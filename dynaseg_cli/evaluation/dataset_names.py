"""How data sets name a photo and its ground truth: what to take off either name so that they become one."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ..images import PHOTO_SUFFIXES

_KINDS = ("labelTrainIds", "labelIds", "instanceTrainIds", "instanceIds", "color")
"""Cityscapes' maps of one photo, the one to score first: in labelTrainIds, 255 is what the benchmark ignores."""
_SOURCES = ("_gtFine", "_gtCoarse", "_gt", "")
_CITYSCAPES = re.compile(rf"({'|'.join(_SOURCES[:-1])}|)_({'|'.join(_KINDS)})$")
_TRUTH = re.compile(
    r"(?i:[_\-. ](?:pixelmaps?|seg|segm|segmentations?|masks?|labels?|labelmaps?|gt|ground_?truth|annotations?|anno))$"
    r"|_[LP]$"  # CamVid
)
_PHOTO = re.compile(r"(?i:_(?:leftImg8bit|rightImg8bit|rgb_anon|rgb|images?|img|im|photo|sat))$")

Rank = tuple[int, int]


def without_truth_suffix(name: str) -> tuple[str, str, Rank]:
    """The name of a ground truth without what its data set adds; that suffix; and which of several comes first."""
    found = _CITYSCAPES.search(name)
    if found is not None:
        rank = _KINDS.index(found[2]), _SOURCES.index(found[1])
    else:
        found, rank = _TRUTH.search(name), (0, 0)
    if found is None or not PurePosixPath(name[: found.start()]).name or name[: found.start()].endswith("/"):
        return name, "", (-1, 0)
    return name[: found.start()], found[0], rank


def names_of_photo(name: str) -> list[str]:
    """The name of a photo, and its names without an extension that was kept and without what its data set adds."""
    suffix = PurePosixPath(name).suffix
    names = [name, *([name.removesuffix(suffix)] if suffix.lower() in PHOTO_SUFFIXES else [])]
    shorter = _PHOTO.sub("", names[-1])
    return [*names, shorter] if shorter not in names and not shorter.endswith("/") and shorter else names

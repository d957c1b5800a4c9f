"""The protocols: which one suits the files, and how each takes a pair of label maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import EvaluateConfig, Protocol
from ..errors import DecodeError, ImageError
from ..images.label_maps import LabelMap, is_bsds500, read_annotations, read_label_map
from ..resampling import nearest_indices
from . import coco_stuff
from .pairing import Pair

VOID = 255
"""By convention, the 8-bit value of pixels without a label."""
WIDEST = int(np.iinfo(np.int64).max)
"""Largest value of a class or label."""


def recognise(pairs: Iterable[Pair], config: EvaluateConfig) -> tuple[Protocol, str]:
    """The protocol that suits the first ground truth that can be read, and the reason in words."""
    if config.num_things is not None:
        return "classes", "`num_things` tells classes apart"
    for pair in pairs:
        try:
            truths = read_annotations(pair.truth, config.max_pixels)
        except DecodeError:
            continue
        if is_bsds500(pair.truth):
            return "bsds500", "the ground truth is in .mat files with several annotators' maps"
        if config.use != "hierarchy" and coco_stuff.looks_like_stuffthingmap(pair.truth.stem, truths[0]):
            return "coco-stuff27", "the ground truth is named and numbered as COCO-Stuff's stuffthingmaps"
        break
    return "regions", "one map an image, whose values are taken for regions of that image alone"


@dataclass(frozen=True)
class PairReader:
    """Reads the two files of a pair as a protocol and the options have it."""

    protocol: Protocol
    config: EvaluateConfig

    @property
    def of_classes(self) -> bool:
        """Whether values mean the same in every image."""
        return self.protocol in ("classes", "coco-stuff27")

    @property
    def ignores_by_custom(self) -> bool:
        """Whether each ground truth is looked at to find out if its value 255 is to be ignored."""
        return self.config.ignore_index == "auto" and self.protocol in ("regions", "classes")

    def truths(self, path: Path) -> list[LabelMap]:
        """All annotations of a file, (H, W) each.

        Raises
        ------
        DecodeError
            If they cannot be read, or the protocol cannot score them.
        """
        truths = read_annotations(path, self.config.max_pixels)
        if self.protocol != "bsds500" and len(truths) > 1:
            raise DecodeError(f"{path}: {len(truths)} annotations, which only `protocol=bsds500` can score")
        if self.protocol == "coco-stuff27":
            try:
                return [coco_stuff.to_coarse(truth) for truth in truths]
            except ValueError as error:
                raise DecodeError(f"{path}: {error}") from None
        if self.protocol == "classes":
            _refuse_wide(truths[0], path)
        return truths

    def labels(self, path: Path) -> LabelMap:
        """A predicted (H, W) label map.

        Raises
        ------
        DecodeError
            If it cannot be read, or its values are too large for the protocol.
        """
        labels = read_label_map(path, self.config.max_pixels)
        if self.of_classes:
            _refuse_wide(labels, path)
        return labels

    def ignored_value(self, truths: Sequence[LabelMap]) -> int | None:
        """The value to ignore in the annotations of one image, as `truths` returns them; None for none."""
        if self.config.ignore_index != "auto":
            return self.config.ignore_index
        if self.protocol == "coco-stuff27":
            return coco_stuff.UNLABELED
        # A mask of 0 and 255 has an object of that value, and deeper maps number objects past it.
        by_custom = self.ignores_by_custom and truths[0].dtype == np.uint8 and not values_of_mask(truths[0])
        return VOID if by_custom else None

    def sized(self, pair: Pair, labels: LabelMap, truths: list[LabelMap]) -> tuple[LabelMap, list[LabelMap]]:
        """A prediction and its annotations in one size, resized and cropped if the options ask for it.

        Raises
        ------
        ImageError
            If the sizes differ and nothing is to be resized.
        """
        crop, size = self.config.center_crop, truths[0].shape
        if labels.shape != size and not (crop and labels.shape == (crop, crop)):
            if not self.config.resize:
                raise ImageError(
                    f"{pair.prediction}: {labels.shape[1]} x {labels.shape[0]} pixels, but {pair.truth} has"
                    f" {size[1]} x {size[0]}; `resize=True` brings it to that size"
                )
            labels = resized(labels, *size)
        if crop:
            labels, truths = coco_stuff.center_crop(labels, crop), [coco_stuff.center_crop(one, crop) for one in truths]
        return labels, truths


def resized(labels: LabelMap, height: int, width: int) -> LabelMap:
    """An (H, W) map as (height, width), by nearest neighbour, since labels cannot be mixed."""
    return labels[np.ix_(nearest_indices(labels.shape[0], height), nearest_indices(labels.shape[1], width))]


def values_of_mask(truth: LabelMap) -> set[int]:
    """The values of an 8-bit map that has no others than 0 and 255; empty for every other map."""
    if truth.dtype != np.uint8:
        return set()
    values = set(np.flatnonzero(np.bincount(truth.reshape(-1), minlength=VOID + 1)).tolist())
    return values if values <= {0, VOID} else set()


def _refuse_wide(labels: LabelMap, path: Path) -> None:
    if int(labels.max()) > WIDEST:
        raise DecodeError(f"{path}: the value {labels.max()} is too large for a class; renumber the classes from 0")

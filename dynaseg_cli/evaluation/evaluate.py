"""A whole evaluation: two folders in, scores out, one pair of label maps in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..config import EvaluateConfig, Protocol
from ..errors import DecodeError, ImageError
from . import coco_stuff
from .agreement import Row
from .class_scores import ClassScore, ClassScores
from .hierarchy_scores import HierarchyScores, Reading
from .ignored import counts_void, void_of
from .label_counts import LabelCounts
from .label_files import LabelMap, is_bsds500, is_color, read_annotations, read_hierarchy, read_label_map
from .pairing import Pair, Pairing, pair_files
from .region_scores import RegionScores
from .resizing import center_crop, resized
from .segment_output import options_of_run

SAMPLED = 1_000_000
"""Pixels examined to tell a photo from a label map."""
MOST_COLORS, MOST_COLORS_A_PIXEL = 1000, 0.05
"""A colour image with more distinct colours than this, in total and per pixel, seems to be a photo."""
WIDEST = int(np.iinfo(np.int64).max)
"""Largest value of a class or label."""


@dataclass(frozen=True)
class Scored:
    """A pair that was dealt with: `reason` says why it could not be scored."""

    pair: Pair
    reason: str | None = None


class Evaluation:
    """Predictions against ground truth. Everything is decided when it is made; `run` does the work.

    Raises
    ------
    UsageError
        If nothing can be paired, or the options contradict what the files are.
    """

    def __init__(
        self, prediction: Path, truth: Path, config: EvaluateConfig, names: Sequence[str] | None = None
    ) -> None:
        self.prediction, self.truth = prediction, truth
        self.pairing: Pairing = pair_files(prediction, truth, names, config.use)
        self.config = config
        self.notes: list[str] = list(self.pairing.notes)
        """What a reader of the figures must know, in whole sentences."""
        self.doubts: list[str] = []
        """Those notes that say why the figures may mean nothing."""
        self.failures: list[Scored] = []
        self.images = 0
        """Images that were scored."""
        self.protocol = self._choose_protocol()
        # One image has one assignment: whatever its labels mean, they mean it everywhere.
        if self.of_classes and len(self.pairing.pairs) > 1:
            self.doubts = self._doubts_about_labels(options_of_run(prediction))
            self.notes += self.doubts
        first = self.pairing.pairs[0]
        for path in (first.truth,) if config.use == "hierarchy" else (first.prediction, first.truth):
            if is_color(path):
                self.notes.append(f"Colours are labels: every distinct colour of {path} is taken for one.")
                self.notes += self._notes_about_photos(path)
        if self.config.ignore_index == "auto" and self.protocol in ("regions", "classes") and is_color(first.truth):
            self.notes.append("No colour of the ground truth is ignored (--ignore-index 0xRRGGBB names one).")
        self._maps_counting_void = 0
        self._scores = self._make_scores()

    @property
    def of_classes(self) -> bool:
        """Whether values mean the same in every image."""
        return self.protocol in ("classes", "coco-stuff27")

    @property
    def num_things(self) -> int | None:
        """Classes below this are things, the others stuff; None where they are not told apart."""
        return coco_stuff.NUM_THINGS if self.protocol == "coco-stuff27" else self.config.num_things

    @property
    def main_metric(self) -> str:
        """The one that images are compared by."""
        return "miou_mean" if self.protocol == "bsds500" else "miou"

    def run(self) -> Iterator[Scored]:
        """Score every pair; a pair that cannot be read or compared is a failure, and the rest goes on."""
        for pair in self.pairing.pairs:
            try:
                scored = Scored(pair, self._score(pair))
            except MemoryError:
                scored = Scored(pair, f"{pair.prediction} and {pair.truth}: out of memory")
            if scored.reason is None:
                self.images += 1
            else:
                self.failures.append(scored)
            yield scored
        self.notes += self._notes_about_ignored()

    @property
    def ignored_fraction(self) -> float:
        """Share of ignored pixels in all ground truths scored so far, 0..1."""
        counts = [(one.ignored, one.pixels) for _, one in self.label_counts()]
        pixels = sum(total for _, total in counts)
        return sum(ignored for ignored, _ in counts) / pixels if pixels else 0.0

    def metrics(self) -> Row:
        """The metrics of all images scored so far; None where there was nothing."""
        return self._scores.metrics()

    def per_image(self) -> Iterator[tuple[str, Row]]:
        """The metrics of each image scored so far."""
        return self._scores.per_image()

    def label_counts(self) -> Iterator[tuple[str, LabelCounts]]:
        """How many labels each image scored so far has, in the order of `per_image`."""
        return self._scores.label_counts()

    def per_class(self) -> list[ClassScore]:
        """Each class's IoU; empty unless classes were scored."""
        return self._scores.per_class() if isinstance(self._scores, ClassScores) else []

    def readings(self) -> dict[str, Reading]:
        """How good hierarchies are at one granularity and at each image's best; empty unless they were scored."""
        return self._scores.readings() if isinstance(self._scores, HierarchyScores) else {}

    def read_truths(self, pair: Pair) -> list[LabelMap]:
        """A pair's annotations, (H, W) each, as the protocol takes them.

        Raises
        ------
        DecodeError
            If they cannot be read, or the protocol cannot score them.
        """
        truths = read_annotations(pair.truth, self.config.max_pixels)
        if self.protocol != "bsds500" and len(truths) > 1:
            raise DecodeError(f"{pair.truth}: {len(truths)} annotations, which only --protocol bsds500 can score")
        if self.protocol == "coco-stuff27":
            truths = [_coarse(truth, pair.truth) for truth in truths]
        elif self.protocol == "classes":
            _refuse_wide(truths[0], pair.truth)
        return truths

    def ignored_value(self, truths: Sequence[LabelMap]) -> int | None:
        """The value to ignore in the annotations of one image, as `read_truths` returns them; None for none."""
        if self.config.ignore_index != "auto":
            return self.config.ignore_index
        if self.protocol == "coco-stuff27":
            return coco_stuff.UNLABELED
        return None if self.protocol == "bsds500" else void_of(truths[0])

    def sized(self, pair: Pair, labels: LabelMap, truths: list[LabelMap]) -> tuple[LabelMap, list[LabelMap]]:
        """A prediction and its annotations in one size, as the options have it.

        Raises
        ------
        ImageError
            If the sizes differ and they have it that nothing is resized.
        """
        crop, size = self.config.center_crop, truths[0].shape
        if labels.shape != size and not (crop and labels.shape == (crop, crop)):
            if not self.config.resize:
                raise ImageError(
                    f"{pair.prediction}: {labels.shape[1]} x {labels.shape[0]} pixels, but {pair.truth} has"
                    f" {size[1]} x {size[0]}; --resize brings it to that size"
                )
            labels = resized(labels, *size)
        if crop:
            labels, truths = center_crop(labels, crop), [center_crop(truth, crop) for truth in truths]
        return labels, truths

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "protocol": self.protocol,
            "images": self.images,
            "unmatched": {
                "predictions": [str(path) for path in self.pairing.predictions_alone],
                "ground_truth": [str(path) for path in self.pairing.truths_alone],
            },
            "failures": [
                {
                    "path": str(failure.pair.prediction),
                    "ground_truth": str(failure.pair.truth),
                    "reason": failure.reason,
                }
                for failure in self.failures
            ],
            "ignored_fraction": self.ignored_fraction,
            "metrics": self.metrics(),
            **({"classes": [vars(score) for score in self.per_class()]} if self.per_class() else {}),
            **({"hierarchy": _curve(self._scores)} if isinstance(self._scores, HierarchyScores) else {}),
            "notes": self.notes,
            "options": {**vars(self.config), "protocol": self.protocol},
        }

    def _doubts_about_labels(self, options: dict[str, Any] | None) -> list[str]:
        """Why one assignment of labels to classes may not serve all images of a run."""
        if options is None:
            return []
        if self.config.use == "regions":
            return [
                f"The figures of {self.protocol} mean nothing here: regions are numbered by their area, image by image,"
                " and one assignment of numbers to classes serves them all."
            ]
        if options.get("fit") != "folder":
            return [
                f"The figures of {self.protocol} mean nothing here: each image was segmented by itself, so that a label"
                " means something else in every image, and one assignment of labels to classes serves them all"
                " (segment --fit folder makes labels that mean the same)."
            ]
        if options.get("refine"):
            return [
                "Each image was refined by itself (--refine): labels may have drifted from what they mean elsewhere."
            ]
        return []

    def _notes_about_photos(self, path: Path) -> list[str]:
        """A note if a colour image has too many colours for a label map."""
        try:
            labels = read_label_map(path, self.config.max_pixels)
        except DecodeError:
            return []
        colors = len(np.unique(labels.reshape(-1)[:SAMPLED]))
        if colors < max(MOST_COLORS, MOST_COLORS_A_PIXEL * min(labels.size, SAMPLED)):
            return []
        return [f"{path} seems to be a photo: it has {colors} distinct colours. Both folders should hold label maps."]

    def _notes_about_ignored(self) -> list[str]:
        """Notes on what was ignored by default, what was not, and what was given but not found."""
        maps = sum(one.ignored > 0 for _, one in self.label_counts())
        value = self.config.ignore_index
        if value != "auto":
            vain = value is not None and self.images and not maps
            return [f"No pixel of the ground truth has the value {value} of --ignore-index."] if vain else []
        notes = []
        if maps and self.protocol != "coco-stuff27":  # always ignores 255
            notes.append(
                f"255 is ignored in {maps} of {_maps(self.images)}, {self.ignored_fraction:.1%} of all"
                " pixels (--ignore-index none counts it)."
            )
        if self._maps_counting_void:
            notes.append(
                f"255 is counted in {self._maps_counting_void} of {_maps(self.images)}, which have no other values than"
                " 0 and 255 (--ignore-index 255 ignores it)."
            )
        return notes

    def _choose_protocol(self) -> Protocol:
        if self.config.protocol != "auto":
            return self.config.protocol
        chosen, because = self._recognise()
        self.notes.append(f"Protocol {chosen}: {because} (--protocol asks for another).")
        return chosen

    def _recognise(self) -> tuple[Protocol, str]:
        """By the first ground truth that can be read."""
        if self.config.num_things is not None:
            return "classes", "--num-things tells classes apart"
        for pair in self.pairing.pairs:
            try:
                truths = read_annotations(pair.truth, self.config.max_pixels)
            except DecodeError:
                continue
            if is_bsds500(pair.truth):
                return "bsds500", "the ground truth is in .mat files with several annotators' maps"
            if self.config.use != "hierarchy" and coco_stuff.looks_like_stuffthingmap(pair.truth.stem, truths[0]):
                return "coco-stuff27", "the ground truth is named and numbered as COCO-Stuff's stuffthingmaps"
            break
        return "regions", "one map an image, whose values are taken for regions of that image alone"

    def _make_scores(self) -> RegionScores | ClassScores | HierarchyScores:
        connected = self.config.connected
        if self.config.use == "hierarchy":
            return HierarchyScores(annotators=self.protocol == "bsds500")
        if self.protocol == "coco-stuff27":
            return ClassScores(
                connected=connected,
                num_things=self.num_things,
                class_names=coco_stuff.CLASS_NAMES,
            )
        if self.protocol == "classes":
            return ClassScores(connected=connected, num_things=self.num_things)
        return RegionScores(annotators=self.protocol == "bsds500", connected=connected)

    def _score(self, pair: Pair) -> str | None:
        """Why it could not be done."""
        try:
            truths, score = self._read(pair)
        except ImageError as error:
            return str(error)
        try:
            score()
        except ImageError as error:
            return f"{pair.truth}: {error}"
        by_custom = self.config.ignore_index == "auto" and self.protocol in ("regions", "classes")
        self._maps_counting_void += by_custom and counts_void(truths[0])
        return None

    def _read(self, pair: Pair) -> tuple[list[LabelMap], Callable[[], None]]:
        """Read a pair's files. Returns its annotations and a function that scores the pair."""
        truths = self.read_truths(pair)
        ignore = self.ignored_value(truths)
        if isinstance(self._scores, HierarchyScores):
            hierarchy = read_hierarchy(pair.prediction, self.config.max_pixels)
            sized = self.sized(pair, hierarchy.fragments, truths)
            return truths, partial(self._scores.add, pair.name, hierarchy, *sized, ignore)
        labels = read_label_map(pair.prediction, self.config.max_pixels)
        if self.of_classes:
            _refuse_wide(labels, pair.prediction)
        return truths, partial(self._scores.add, pair.name, *self.sized(pair, labels, truths), ignore)


def _refuse_wide(labels: LabelMap, path: Path) -> None:
    if int(labels.max()) > WIDEST:
        raise DecodeError(f"{path}: the value {labels.max()} is too large for a class; renumber the classes from 0")


def _maps(number: int) -> str:
    return f"{number} ground-truth map{'' if number == 1 else 's'}"


def _coarse(truth: LabelMap, path: Path) -> LabelMap:
    try:
        return coco_stuff.to_coarse(truth)
    except ValueError as error:
        raise DecodeError(f"{path}: {error}") from None


def _curve(scores: HierarchyScores) -> dict[str, Any]:
    granularities = {metric: reading.ods_granularity for metric, reading in scores.readings().items()}
    return {"granularity": granularities, "curve": scores.curve()}

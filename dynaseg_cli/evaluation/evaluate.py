"""A whole evaluation: two folders in, scores out, one pair of label maps in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..config import EvaluateConfig
from ..errors import DecodeError, ImageError
from ..images.label_maps import LabelMap, is_color, read_hierarchy, read_label_map
from . import coco_stuff
from .class_scores import ClassScore, ClassScores
from .headings import Row
from .hierarchy_scores import HierarchyScores
from .pairing import Pair, Pairing, pair_files
from .pooling import LabelCounts
from .protocols import VOID, PairReader, recognise, values_of_mask
from .region_scores import RegionScores
from .segment_output import options_of_run

SAMPLED = 1_000_000
"""Pixels examined to tell a photo from a label map."""
MOST_COLORS, MOST_COLORS_A_PIXEL = 1000, 0.05
"""A colour image with more distinct colours than this, in total and per pixel, seems to be a photo."""


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
        self, prediction: Path, truth: Path, config: EvaluateConfig, image_list: Sequence[str] | None = None
    ) -> None:
        self.prediction, self.truth = prediction, truth
        self.pairing: Pairing = pair_files(prediction, truth, image_list, config.use)
        self.config = config
        self.notes: list[str] = list(self.pairing.notes)
        """Notes for readers of the figures, in whole sentences."""
        self.doubts: list[str] = []
        """The notes that say why the figures may mean nothing."""
        self.failures: list[Scored] = []
        self.images = 0
        """Images that were scored."""
        self.protocol = config.protocol
        if config.protocol == "auto":
            self.protocol, because = recognise(self.pairing.pairs, config)
            self.notes.append(f"Protocol {self.protocol}: {because} (`protocol` asks for another).")
        self.reader = PairReader(self.protocol, config)
        # One image has one assignment: whatever its labels mean, they mean it everywhere.
        if self.of_classes and len(self.pairing.pairs) > 1:
            self.doubts = self._doubts_about_labels(options_of_run(prediction))
            self.notes += self.doubts
        first = self.pairing.pairs[0]
        for path in (first.truth,) if config.use == "hierarchy" else (first.prediction, first.truth):
            if is_color(path):
                self.notes.append(f"Colours are labels: every distinct colour of {path} is taken for one.")
                self.notes += self._notes_about_photos(path)
        if self.reader.ignores_by_custom and is_color(first.truth):
            self.notes.append("No colour of the ground truth is ignored (`ignore_index=0xRRGGBB` names one).")
        self._maps_counting_void = 0
        self._scores = self._make_scores()

    @property
    def of_classes(self) -> bool:
        """Whether values mean the same in every image."""
        return self.reader.of_classes

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
        ignored = pixels = 0
        for _, one in self.label_counts():
            ignored, pixels = ignored + one.ignored, pixels + one.pixels
        return ignored / pixels if pixels else 0.0

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

    def readings(self) -> dict[str, Row]:
        """How good hierarchies are at one granularity and at each image's best; empty unless they were scored."""
        return self._scores.readings() if isinstance(self._scores, HierarchyScores) else {}

    def curve(self) -> list[Row]:
        """The metrics of all hierarchies at each granularity; empty unless they were scored."""
        return self._scores.curve() if isinstance(self._scores, HierarchyScores) else []

    def document(self) -> dict[str, Any]:
        """All figures as JSON."""
        more: dict[str, Any] = {}
        if classes := self.per_class():
            more["classes"] = [vars(score) for score in classes]
        if curve := self.curve():
            granularities = {metric: reading["ods_granularity"] for metric, reading in self.readings().items()}
            more["hierarchy"] = {"granularity": granularities, "curve": curve}
        return {
            "protocol": self.protocol,
            "images": self.images,
            "unmatched": {
                "predictions": [str(path) for path in self.pairing.predictions_alone],
                "ground_truth": [str(path) for path in self.pairing.truths_alone],
            },
            "failures": [
                {"path": str(one.pair.prediction), "ground_truth": str(one.pair.truth), "reason": one.reason}
                for one in self.failures
            ],
            "ignored_fraction": self.ignored_fraction,
            "metrics": self.metrics(),
            **more,
            "notes": self.notes,
            "options": {**vars(self.config), "protocol": self.protocol},
        }

    def _make_scores(self) -> RegionScores | ClassScores | HierarchyScores:
        if self.config.use == "hierarchy":
            return HierarchyScores(annotators=self.protocol == "bsds500")
        if self.of_classes:
            names = coco_stuff.CLASS_NAMES if self.protocol == "coco-stuff27" else ()
            return ClassScores(connected=self.config.connected, num_things=self.num_things, class_names=names)
        return RegionScores(annotators=self.protocol == "bsds500", connected=self.config.connected)

    def _score(self, pair: Pair) -> str | None:
        """Score a pair. Returns why it could not be done."""
        try:
            truths, score = self._read(pair)
        except ImageError as error:
            return str(error)
        try:
            score()
        except ImageError as error:
            return f"{pair.truth}: {error}"
        self._maps_counting_void += self.reader.ignores_by_custom and VOID in values_of_mask(truths[0])
        return None

    def _read(self, pair: Pair) -> tuple[list[LabelMap], Callable[[], None]]:
        """Read a pair's files. Returns its annotations and a function that scores the pair."""
        truths = self.reader.truths(pair.truth)
        ignore = self.reader.ignored_value(truths)
        if isinstance(self._scores, HierarchyScores):
            hierarchy = read_hierarchy(pair.prediction, self.config.max_pixels)
            sized = self.reader.sized(pair, hierarchy.fragments, truths)
            return truths, partial(self._scores.add, pair.name, hierarchy, *sized, ignore)
        sized = self.reader.sized(pair, self.reader.labels(pair.prediction), truths)
        return truths, partial(self._scores.add, pair.name, *sized, ignore)

    def _doubts_about_labels(self, options: dict[str, Any] | None) -> list[str]:
        """Why one assignment of labels to classes may not serve all images of a run."""
        if options is None:
            return []
        nothing = f"The figures of {self.protocol} mean nothing here:"
        if self.config.use == "regions":
            return [
                f"{nothing} regions are numbered by their area, image by image, and one assignment of numbers to"
                " classes serves them all."
            ]
        if options.get("fit") != "folder":
            return [
                f"{nothing} each image was segmented by itself, so that a label means something else in every image,"
                " and one assignment of labels to classes serves them all (segment --fit folder makes labels that mean"
                " the same)."
            ]
        if options.get("refine"):
            return [
                "Each image was refined by itself (segment --refine): labels may have drifted from what they mean"
                " elsewhere."
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
            return [f"No pixel of the ground truth has the value {value} of `ignore_index`."] if vain else []
        total = f"{self.images} ground-truth map{'' if self.images == 1 else 's'}"
        notes = []
        if maps and self.protocol != "coco-stuff27":  # always ignores 255
            notes.append(
                f"255 is ignored in {maps} of {total}, {self.ignored_fraction:.1%} of all pixels"
                " (`ignore_index=None` counts it)."
            )
        if self._maps_counting_void:
            notes.append(
                f"255 is counted in {self._maps_counting_void} of {total}, which have no other values than 0 and 255"
                " (`ignore_index=255` ignores it)."
            )
        return notes

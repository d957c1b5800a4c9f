"""The files of one image: which are made, from what, and in which order they appear."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, CutConfig, Product
from ..engine.segmentation import Segmentation
from ..errors import DecodeError
from ..evaluation.label_files import read_hierarchy, read_label_map
from ..pictures.overlay import overlay
from ..pictures.recording import Frame, recording
from ..regions.hierarchy import Hierarchy, boundary_map, build_hierarchy
from ..report.entry import report_entry
from ..writing import (
    refuse_unwritable,
    write_colors,
    write_content,
    write_json,
    write_labels,
    write_picture,
    write_wide,
)
from .job import EXTENSIONS, Job
from .report_entry import ReportEntry
from .resume import IN_COLORS, OF_CUT, Stats, cut_of, is_colored_otherwise, is_cut_otherwise
from .statistics import REGION_ENTRIES, color_table, in_colors, region_entries
from .stats_shape import is_whole

Labels = NDArray[np.uint8] | NDArray[np.uint16]

OF_HIERARCHY: frozenset[Product] = OF_CUT | {"hierarchy"}
"""What a hierarchy is built for."""
OF_ITERATIONS: frozenset[Product] = frozenset(("recording",))
"""What can be made only while the network is fitted."""


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left of an image, with the options of this one: all that is asked for can be made of it."""

    stats: Stats
    labels: Labels


def read_earlier(job: Job, output: Path, stats: Stats, batch: BatchConfig, size: tuple[int, ...]) -> Earlier | None:
    """The labels that belong to `stats`, None if they are not there as they were written, or are not enough.

    Parameters
    ----------
    size : height and width of the image.
    """
    if not is_whole(stats):
        return None
    for product in OF_ITERATIONS:
        there = job.has(output, product)
        # Its colours change with those of the other pictures, asked for or not.
        if (product in batch.save and not there) or (there and is_colored_otherwise(stats, batch)):
            return None
    try:
        labels = read_label_map(job.result(output, "labels"), size[0] * size[1])
    except DecodeError:
        return None
    if labels.shape != size or labels.max() >= 1 << 16:
        return None
    if np.count_nonzero(np.bincount(labels.reshape(-1))) != stats.get("num_labels"):
        return None
    return Earlier(stats, labels.astype(np.uint8) if labels.dtype == np.uint8 else labels.astype(np.uint16))


class Products:
    """Writes the files of one image. Each is whole or absent, and `stats`, which comes last, says that they agree.

    Parameters
    ----------
    claimed : whether no other process writes them now.
    """

    def __init__(self, job: Job, output: Path, batch: BatchConfig, *, claimed: bool) -> None:
        self._job = job
        self._output = output
        self._batch = batch
        self._claimed = claimed
        self._report = ReportEntry(job, output)

    @property
    def has_recording(self) -> bool:
        """Whether the image has a recording, or is to have one."""
        return "recording" in self._batch.save or self._has("recording")

    def refuse_unwritable(self) -> None:
        """Find out before the work whether all files can be written; raises as `writing.refuse_unwritable` does."""
        for product in EXTENSIONS:
            refuse_unwritable(self._path(product), self._output)
        if self._batch.report or self._report.is_there:
            self._report.refuse_unwritable()

    def write(
        self,
        segmentation: Segmentation,
        image: NDArray[np.uint8],
        stats: Stats,
        frames: Sequence[Frame] = (),
        cut: CutConfig | None = None,
    ) -> None:
        """All that are asked for, of new labels; of the `frames` of their iterations, if the image `has_recording`.

        What an earlier run left is made anew, too, asked for or not: all files of an image are of one segmentation.
        Regions are cut as `cut` says, or as is asked for.
        """
        products = {product for product in EXTENSIONS if product in self._batch.save or self._has(product)}
        # No stats while other files are replaced.
        self._path("stats").unlink(missing_ok=True)
        labels = segmentation.labels
        if "labels" in products:
            write_labels(self._path("labels"), labels, claimed=self._claimed)
        if "recording" in products:
            colors, means = color_table(stats["clusters"], labels), self._batch.colors == "mean"
            content = recording(image, frames, segmentation.numbers, labels, colors, means=means)
            write_content(self._path("recording"), content, claimed=self._claimed)
        stats = self._make(products, labels, image, stats, cut or self._batch.cut, reuse=False)
        if "stats" in products:
            self._write_stats(stats)

    def complete(self, earlier: Earlier, image: NDArray[np.uint8]) -> None:
        """Those that are asked for and not there, or not as they are asked for, of the labels and hierarchy that are.

        With them, what was not asked for and would no longer agree.
        """
        stats, batch = earlier.stats, self._batch
        stale: set[Product] = set()
        outdated: set[str] = set()
        # Without an entry, a run that was to change what it tells of did not end: how that was made is not known.
        if is_colored_otherwise(stats, batch) or "colors" not in stats:
            stale |= IN_COLORS - OF_ITERATIONS
            outdated.add("colors")
        if is_cut_otherwise(stats, batch):
            stale |= OF_CUT
            outdated.update(REGION_ENTRIES)
        elif "cut" not in stats:
            stale |= OF_CUT
        if outdated:
            # Until they are replaced, stats vouch for the rest alone.
            stats = {name: entry for name, entry in stats.items() if name not in outdated}
            self._write_stats(stats)
        if "colors" in outdated:
            stats = {**stats, "colors": batch.colors, "clusters": in_colors(stats["clusters"], batch.colors)}
        products = {product for product in batch.save if not self._has(product)}
        products |= {product for product in stale if product in batch.save or self._has(product)}
        self._write_stats(self._make(products, earlier.labels, image, stats, cut_of(stats, batch), reuse=True))

    def _make(
        self,
        products: Set[Product],
        labels: Labels,
        image: NDArray[np.uint8],
        stats: Stats,
        cut: CutConfig,
        *,
        reuse: bool,
    ) -> Stats:
        """Write those that are made of the labels alone, and what the report shows; return the stats that say so.

        With `reuse` a hierarchy that is there is taken for that of these labels.
        """
        colors = color_table(stats["clusters"], labels)
        if "color" in products:
            write_colors(self._path("color"), labels, colors, claimed=self._claimed)
        reported = self._batch.report or self._report.is_there
        if not reported and OF_HIERARCHY.isdisjoint(products):
            return stats
        hierarchy = self._earlier_hierarchy(labels) if reuse else None
        if hierarchy is None:
            hierarchy = build_hierarchy(labels, image)
            if "hierarchy" in self._batch.save or self._has("hierarchy"):
                write_labels(self._path("hierarchy"), boundary_map(hierarchy), claimed=self._claimed)
        if not reported and OF_CUT.isdisjoint(products):
            return stats | region_entries(hierarchy, None, cut, labels, image)
        regions = cut_regions(hierarchy, cut)
        stats = stats | region_entries(hierarchy, regions, cut, labels, image)
        if "regions" in products:
            self._write_regions(regions)
        if "overlay" in products:
            in_color = colors[[entry["label"] for entry in stats["regions"]]]
            write_picture(self._path("overlay"), overlay(image, regions, in_color), claimed=self._claimed)
        if reported:
            any_cut = hierarchy if self._has("hierarchy") else None
            entry = report_entry(self._report.key, image, labels, colors, regions, any_cut, stats)
            self._report.write(entry, claimed=self._claimed)
        return stats

    def _earlier_hierarchy(self, labels: Labels) -> Hierarchy | None:
        if not self._has("hierarchy"):
            return None
        try:
            hierarchy = read_hierarchy(self._path("hierarchy"), labels.size)
        except DecodeError:
            return None
        return hierarchy if hierarchy.fragments.shape == labels.shape else None

    def _write_regions(self, regions: NDArray[np.int32]) -> None:
        usual, many = self._path("regions"), self._job.many_regions(self._output)
        if regions.max() < 1 << 16:
            write_labels(usual, regions.astype(np.uint16), claimed=self._claimed)
            many.unlink(missing_ok=True)
        else:
            write_wide(many, regions, claimed=self._claimed)
            usual.unlink(missing_ok=True)

    def _write_stats(self, stats: Stats) -> None:
        write_json(self._path("stats"), stats, claimed=self._claimed)

    def _has(self, product: Product) -> bool:
        return self._job.has(self._output, product)

    def _path(self, product: Product) -> Path:
        return self._job.result(self._output, product)


def cut_regions(hierarchy: Hierarchy, cut: CutConfig) -> NDArray[np.int32]:
    """The regions that `--regions` and `--granularity` ask for, (H, W) int32, 0..R-1 by falling area."""
    if cut.regions != "auto":
        return hierarchy.cut_to(cut.regions)
    return hierarchy.cut() if cut.granularity is None else hierarchy.cut(cut.granularity)

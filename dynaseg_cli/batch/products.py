"""The files of one image: which ones are made, from what, and in which order they appear."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, CutConfig, Product
from ..engine.segmentation import Segmentation
from ..errors import DecodeError
from ..files.encoding import json_text, palette_png, png, wide_tiff
from ..files.output_folder import EXTENSIONS, Job, OutputFolder
from ..images.label_maps import read_hierarchy, read_label_map
from ..pictures.overlay import overlay
from ..pictures.recording import Frame, recording
from ..regions.hierarchy import Hierarchy, boundary_map, build_hierarchy
from ..report.entry import report_entry
from .report_files import ReportEntry
from .resume import (
    PRODUCTS_NEEDING_COLORS,
    PRODUCTS_NEEDING_REGIONS,
    Stats,
    cut_of,
    is_colored_otherwise,
    is_cut_otherwise,
)
from .statistics import REGION_ENTRIES, color_table, in_colors, region_entries
from .stats_shape import is_whole

Labels = NDArray[np.uint8] | NDArray[np.uint16]

PRODUCTS_NEEDING_HIERARCHY: frozenset[Product] = PRODUCTS_NEEDING_REGIONS | {"hierarchy"}


@dataclass(frozen=True)
class Earlier:
    """Results of an earlier run with the same options, from which everything requested can be made."""

    stats: Stats
    labels: Labels


class Products:
    """Writes the files of one image. Each is complete or absent; `stats` is written last and vouches for the others."""

    def __init__(self, job: Job, folder: OutputFolder, batch: BatchConfig) -> None:
        self._job = job
        self._folder = folder
        self._batch = batch
        self._report = ReportEntry(job, folder)

    @property
    def has_recording(self) -> bool:
        """Whether the image has a recording, or is to have one."""
        return "recording" in self._batch.save or self._has("recording")

    def refuse_unwritable(self) -> None:
        """Find out before the work whether all files can be written; raises like `OutputFolder.refuse_unwritable`."""
        for product in EXTENSIONS:
            self._folder.refuse_unwritable(self._path(product))
        if self._batch.report or self._report.exists:
            self._report.refuse_unwritable()

    def read_earlier(self, stats: Stats, size: tuple[int, ...]) -> Earlier | None:
        """The labels that belong to `stats`; None if they are not there as written, or do not suffice.

        Parameters
        ----------
        size : height and width of the image.
        """
        if not is_whole(stats):
            return None
        # A recording is made during the fit alone, and its colours change with those of the other pictures.
        is_there = self._has("recording")
        if ("recording" in self._batch.save and not is_there) or (
            is_there and is_colored_otherwise(stats, self._batch)
        ):
            return None
        try:
            labels = read_label_map(self._path("labels"), size[0] * size[1])
        except DecodeError:
            return None
        if labels.shape != size or labels.max() >= 1 << 16:
            return None
        if np.count_nonzero(np.bincount(labels.reshape(-1))) != stats.get("num_labels"):
            return None
        return Earlier(stats, labels.astype(np.uint8) if labels.dtype == np.uint8 else labels.astype(np.uint16))

    def write(
        self,
        segmentation: Segmentation,
        image: NDArray[np.uint8],
        stats: Stats,
        frames: Sequence[Frame] = (),
        cut: CutConfig | None = None,
    ) -> None:
        """Write everything requested for new labels.

        Files that an earlier run left are replaced even if not requested, so that all belong to one segmentation.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB.
        frames : the label maps of the iterations, if the image `has_recording`.
        cut : where regions are cut; None is as requested.
        """
        products = {product for product in EXTENSIONS if product in self._batch.save or self._has(product)}
        # There is no stats file while other files are replaced.
        self._path("stats").unlink(missing_ok=True)
        labels = segmentation.labels
        if "labels" in products:
            self._folder.write(self._path("labels"), png(labels))
        if "recording" in products:
            colors, means = color_table(stats["clusters"], labels), self._batch.colors == "mean"
            content = recording(image, frames, segmentation.numbers, labels, colors, means=means)
            self._folder.write(self._path("recording"), content)
        stats = self._make(products, labels, image, stats, cut or self._batch.cut, reuse=False)
        if "stats" in products:
            self._write_stats(stats)

    def complete(self, earlier: Earlier, image: NDArray[np.uint8]) -> None:
        """Make what is missing or outdated from an earlier run's labels and hierarchy, without segmenting again.

        Files that were not requested are replaced, too, if they would contradict the requested ones.
        """
        stats, batch = earlier.stats, self._batch
        stale: set[Product] = set()
        outdated: set[str] = set()
        # An entry is missing where a run that was to change it did not end: how its files were made is not known.
        if is_colored_otherwise(stats, batch) or "colors" not in stats:
            stale |= PRODUCTS_NEEDING_COLORS - {"recording"}
            outdated.add("colors")
        if is_cut_otherwise(stats, batch):
            stale |= PRODUCTS_NEEDING_REGIONS
            outdated.update(REGION_ENTRIES)
        elif "cut" not in stats:
            stale |= PRODUCTS_NEEDING_REGIONS
        if outdated:
            # Until the files are replaced, stats vouches for the others alone.
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
        """Write what is made from labels alone, and the report's files; return `stats` with the entries of regions.

        With `reuse`, an existing hierarchy belongs to these labels.
        """
        colors = color_table(stats["clusters"], labels)
        if "color" in products:
            self._folder.write(self._path("color"), palette_png(labels, colors))
        reported = self._batch.report or self._report.exists
        if not reported and PRODUCTS_NEEDING_HIERARCHY.isdisjoint(products):
            return stats
        hierarchy = self._earlier_hierarchy(labels) if reuse else None
        if hierarchy is None:
            hierarchy = build_hierarchy(labels, image)
            if "hierarchy" in self._batch.save or self._has("hierarchy"):
                self._folder.write(self._path("hierarchy"), png(boundary_map(hierarchy)))
        if not reported and PRODUCTS_NEEDING_REGIONS.isdisjoint(products):
            return stats | region_entries(hierarchy, None, cut, labels, image)
        regions = cut_regions(hierarchy, cut)
        stats = stats | region_entries(hierarchy, regions, cut, labels, image)
        if "regions" in products:
            self._write_regions(regions)
        if "overlay" in products:
            in_color = colors[[entry["label"] for entry in stats["regions"]]]
            self._folder.write(self._path("overlay"), png(overlay(image, regions, in_color)))
        if reported:
            any_cut = hierarchy if self._has("hierarchy") else None
            self._report.write(report_entry(self._report.key, image, labels, colors, regions, any_cut, stats))
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
        usual, many = self._path("regions"), self._folder.many_regions(self._job)
        if regions.max() < 1 << 16:
            self._folder.write(usual, png(regions.astype(np.uint16)))
            many.unlink(missing_ok=True)
        else:
            self._folder.write(many, wide_tiff(regions))
            usual.unlink(missing_ok=True)

    def _write_stats(self, stats: Stats) -> None:
        self._folder.write(self._path("stats"), json_text(stats))

    def _has(self, product: Product) -> bool:
        return self._folder.has(self._job, product)

    def _path(self, product: Product) -> Path:
        return self._folder.result(self._job, product)


def cut_regions(hierarchy: Hierarchy, cut: CutConfig) -> NDArray[np.int32]:
    """The requested regions, (H, W) int32, 0..R-1 by falling area."""
    if cut.regions != "auto":
        return hierarchy.cut_to(cut.regions)
    return hierarchy.cut() if cut.granularity is None else hierarchy.cut(cut.granularity)

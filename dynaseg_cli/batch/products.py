"""The files of one image: which ones are made, from what, and in which order they appear."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, Colors, Product
from ..engine.segmentation import Segmentation
from ..errors import DecodeError
from ..files.encoding import jpeg, jpeg_step, json_text, palette_png, png, regions_file
from ..files.output_folder import EXTENSIONS, Job, OutputFolder
from ..files.writing import FileBatch
from ..images.label_maps import read_hierarchy, read_label_map
from ..pictures.overlay import overlay
from ..pictures.recording import Frame, recording
from ..regions.area import Area
from ..regions.hierarchy import Hierarchy, boundary_map, build_hierarchy
from ..regions.tidying import Labels, Tidied, tidy
from ..report.entry import report_entry
from .report_files import ReportEntry
from .resume import PRODUCTS_NEEDING_COLORS, Stats, colors_of, is_colored_otherwise, is_cut_otherwise
from .statistics import OF_LABELS, SCHEMA_VERSION, color_table, stats_of_labels
from .stats_shape import has_fit, is_of_version_1

PRODUCTS_OF_LABELS: frozenset[Product] = frozenset(("labels", "color", "overlay", "regions"))
"""What another cut changes, and is made without the network."""


@dataclass(frozen=True)
class Earlier:
    """Results of an earlier run with the same options, from which everything requested can be made."""

    stats: Stats
    raw: Labels
    """(H, W), as the network gave them."""
    hierarchy: Hierarchy | None
    """Over these labels, of the area's box; None if there is none yet."""
    area: Area | None
    """The pixels that count; None if these are all."""


class Products:
    """Writes the files of one image. Each is complete or absent; `stats` is written last and vouches for the others.

    The others are synced to disk at the same time, since a disk does that in fewer writes than one after another.
    """

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
        products = [product for product in EXTENSIONS if product != "raw" or "raw" in self._batch.save]
        kept = self._folder.kept_raw(self._job), self._folder.kept_hierarchy(self._job)
        for path in (*map(self._path, products), *kept):
            self._folder.refuse_unwritable(path)
        if self._batch.report or self._report.exists:
            self._report.refuse_unwritable()

    def read_earlier(self, stats: Stats, size: tuple[int, ...], area: Area | None = None) -> Earlier | None:
        """The raw labels that belong to `stats`; None if they are not there as written, or do not suffice.

        Parameters
        ----------
        size : height and width of the image.
        area : the pixels of it that count; None if these are all.
        """
        if not has_fit(stats):
            return None
        # A recording is made during the fit alone, and ends with the labels and colours of the other pictures.
        is_there = self._has("recording")
        if ("recording" in self._batch.save and not is_there) or (
            is_there and (is_cut_otherwise(stats, self._batch) or is_colored_otherwise(stats, self._batch))
        ):
            return None
        if is_of_version_1(stats):
            path, count = self._path("labels"), stats.get("num_labels")
        else:
            path = self._path("raw") if self._has("raw") else self._folder.kept_raw(self._job)
            count = stats.get("raw_labels")
        try:
            raw = read_label_map(path, size[0] * size[1])
        except DecodeError:
            return None
        if raw.shape != size or raw.max() >= 1 << 16 or np.count_nonzero(np.bincount(raw.reshape(-1))) != count:
            return None
        hierarchy = self._earlier_hierarchy(size, area)
        if hierarchy is None and self._needs_hierarchy and stats["options"].get("backbone", "cnn") != "cnn":
            return None  # a new one would lack what the pretrained network saw
        labels: Labels = raw.astype(np.uint8) if raw.dtype == np.uint8 else raw.astype(np.uint16)
        return Earlier(stats, labels, hierarchy, area)

    def write(
        self,
        segmentation: Segmentation,
        stats: Stats,
        frames: Sequence[Frame] = (),
    ) -> Stats:
        """Write everything requested for new labels, and return the statistics.

        Files that an earlier run left are replaced even if not requested, so that all belong to one segmentation.

        Parameters
        ----------
        stats : the part that `stats_of_fit` makes.
        frames : the label maps of the iterations, if the image `has_recording`.
        """
        image, area = segmentation.image, segmentation.area
        products = {product for product in EXTENSIONS if product in self._batch.save or self._has(product)}
        # There is no stats file while other files are replaced.
        self._path("stats").unlink(missing_ok=True)
        self._folder.kept_hierarchy(self._job).unlink(missing_ok=True)
        with self._folder.batch() as files:
            if not {"raw", "stats"}.isdisjoint(products):
                self._write_raw(files, segmentation.labels)
            hierarchy = None
            if self._needs_hierarchy:
                hierarchy = segmentation.hierarchy
                kept = "stats" in products and bool(segmentation.features)
                self._write_hierarchy(files, hierarchy, area, kept=kept)
            tidied = self._tidy(segmentation.labels, image, stats, segmentation.scribbles, hierarchy, area)
            stats = self._with_outside(stats) | stats_of_labels(tidied, image, self._batch.cut, self._batch.colors)
            if "recording" in products:
                colors = color_table(stats["clusters"], tidied.labels, tidied.outside)
                numbers, means = _joined(segmentation.numbers, tidied.numbers), self._batch.colors == "mean"
                shown, labels = image, tidied.labels
                if area is not None:  # frames are of its box
                    shown, labels = area.filled(image), labels[area.box]
                content = recording(shown, frames, numbers, labels, colors, means=means)
                files.write(self._path("recording"), content)
            self._write_pictures(files, products, tidied, image, stats)
        self._write_report(tidied, image, stats)
        if "stats" in products:
            self._write_stats(stats)
        return stats

    def complete(self, earlier: Earlier, image: NDArray[np.uint8], scribbles: NDArray[np.uint8] | None = None) -> Stats:
        """Make what is missing or outdated from an earlier run's raw labels and hierarchy, without segmenting again.

        Files that were not requested are replaced, too, if they would contradict the requested ones. Returns the
        statistics.
        """
        batch, before = self._batch, earlier.stats
        hierarchy = earlier.hierarchy if self._needs_hierarchy else None
        if self._needs_hierarchy and (hierarchy is None or (self._has_hierarchy and not self._has("hierarchy"))):
            hierarchy = hierarchy or _build_hierarchy(earlier, image)
            with self._folder.batch() as files:
                self._write_hierarchy(files, hierarchy, earlier.area, kept=False)
        tidied = self._tidy(earlier.raw, image, before, scribbles, hierarchy, earlier.area)
        stats = self._with_outside({name: entry for name, entry in before.items() if name not in OF_LABELS})
        stats |= {"schema_version": SCHEMA_VERSION, "raw_labels": before.get("raw_labels", before.get("num_labels"))}
        colors: Colors = colors_of(before, batch)
        entries = stats_of_labels(tidied, image, batch.cut, colors)
        stale: Set[Product] = set()
        if is_cut_otherwise(before, batch) or _sizes(before) != _sizes(entries):
            stale = PRODUCTS_OF_LABELS
        elif before.get("colors") != colors:
            stale = PRODUCTS_NEEDING_COLORS & PRODUCTS_OF_LABELS
        if is_of_version_1(before) or ("raw" in batch.save and not self._has("raw")):
            with self._folder.batch() as files:
                self._write_raw(files, earlier.raw)
        if stale:
            # Until the files are replaced, stats vouches for the raw labels alone.
            self._write_stats(stats)
        products = {product for product in batch.save if not self._has(product)}
        products |= {product for product in stale if product in batch.save or self._has(product)}
        stats |= entries
        with self._folder.batch() as files:
            self._write_pictures(files, products, tidied, image, stats)
        self._write_report(tidied, image, stats)
        self._write_stats(stats)
        return stats

    def _tidy(
        self,
        raw: Labels,
        image: NDArray[np.uint8],
        stats: Stats,
        scribbles: NDArray[np.uint8] | None,
        hierarchy: Hierarchy | None,
        area: Area | None,
    ) -> Tidied:
        # The labels of a folder, or of a sequence, mean the same in every image.
        renumber = stats["options"].get("fit") != "folder" and not stats["options"].get("sequence")
        background = self._batch.outside == "background"
        cut = self._batch.cut
        return tidy(raw, image, cut, hierarchy, scribbles, renumber=renumber, area=area, background=background)

    def _with_outside(self, stats: Stats) -> Stats:
        """Statistics that tell which label is outside the mask, if there is one."""
        source = stats["source"]
        if "mask" not in source:
            return stats
        return {**stats, "source": {**source, "mask": {**source["mask"], "outside": self._batch.outside}}}

    def _write_pictures(
        self, files: FileBatch, products: Set[Product], tidied: Tidied, image: NDArray[np.uint8], stats: Stats
    ) -> None:
        """Write what is made of labels and regions."""
        labels, regions = tidied.labels, tidied.regions
        colors = color_table(stats["clusters"], labels, tidied.outside)
        if "labels" in products:
            files.write(self._path("labels"), png(labels))
        if "color" in products:
            files.write(self._path("color"), palette_png(labels, colors))
        if "regions" in products:
            self._write_regions(files, np.where(regions < 0, 0, regions + 1) if tidied.first else regions)
        if "overlay" in products:
            self._write_overlay(files, image, regions, colors[[entry["label"] for entry in stats["regions"]]])

    def _write_report(self, tidied: Tidied, image: NDArray[np.uint8], stats: Stats) -> None:
        """Write the report's files, which name the other ones that there are."""
        labels, regions = tidied.labels, tidied.regions
        if self._batch.report or self._report.exists:
            colors = color_table(stats["clusters"], labels, tidied.outside)
            # The page cuts whole photos alone.
            any_cut = tidied.hierarchy if self._has("hierarchy") and tidied.outside is None else None
            urls = self._report.product_urls(), self._report.photo_url(stats["source"])
            self._report.write(report_entry(self._report.key, image, labels, colors, regions, any_cut, stats, *urls))

    @property
    def _needs_hierarchy(self) -> bool:
        return not self._batch.cut.is_raw or self._has_hierarchy

    @property
    def _has_hierarchy(self) -> bool:
        """Whether the image has a file with its hierarchy, or is to have one."""
        return "hierarchy" in self._batch.save or self._has("hierarchy")

    def _earlier_hierarchy(self, size: tuple[int, ...], area: Area | None) -> Hierarchy | None:
        path = self._path("hierarchy") if self._has("hierarchy") else self._folder.kept_hierarchy(self._job)
        try:
            hierarchy = read_hierarchy(path, size[0] * size[1])
        except DecodeError:
            return None
        if hierarchy.fragments.shape != size:
            return None
        return hierarchy if area is None else area.hierarchy_of_box(hierarchy)

    def _write_hierarchy(self, files: FileBatch, hierarchy: Hierarchy, area: Area | None, *, kept: bool) -> None:
        """Write the file if there is to be one; or else one that another cut is made from, if it is to be `kept`."""
        if area is not None and (kept or self._has_hierarchy):
            hierarchy = area.continued_hierarchy(hierarchy)
        keep = self._folder.kept_hierarchy(self._job)
        if self._has_hierarchy:
            files.write(self._path("hierarchy"), png(boundary_map(hierarchy)))
            files.remove(keep)
        elif kept:
            files.write(keep, png(boundary_map(hierarchy)))

    def _write_raw(self, files: FileBatch, raw: Labels) -> None:
        kept = self._folder.kept_raw(self._job)
        if "raw" in self._batch.save or self._has("raw"):
            files.write(self._path("raw"), png(raw))
            files.remove(kept)
        else:
            files.write(kept, png(raw))

    def _write_regions(self, files: FileBatch, regions: NDArray[np.int32]) -> None:
        usual, many = self._path("regions"), self._folder.many_regions(self._job)
        suffix, content = regions_file(regions)
        path, other = (usual, many) if suffix == usual.suffix else (many, usual)
        files.write(path, content)
        files.remove(other)

    def _write_overlay(
        self, files: FileBatch, image: NDArray[np.uint8], regions: NDArray[np.int32], colors: NDArray[np.uint8]
    ) -> None:
        step = jpeg_step(*regions.shape)
        picture = overlay(image[::step, ::step], regions[::step, ::step], colors)
        files.write(self._path("overlay"), jpeg(picture))
        files.remove(self._folder.old_overlay(self._job))

    def _write_stats(self, stats: Stats) -> None:
        self._folder.write(self._path("stats"), json_text(stats))

    def _has(self, product: Product) -> bool:
        return self._folder.has(self._job, product)

    def _path(self, product: Product) -> Path:
        return self._folder.result(self._job, product)


def _build_hierarchy(earlier: Earlier, image: NDArray[np.uint8]) -> Hierarchy:
    area, raw = earlier.area, earlier.raw
    return build_hierarchy(raw, image) if area is None else build_hierarchy(raw[area.box], area.filled(image))


def _sizes(stats: Stats) -> list[list[int]]:
    """Pixels of each label and region."""
    return [[entry["pixels"] for entry in stats.get(name, [])] for name in ("clusters", "regions")]


def _joined(numbers: NDArray[np.int32], renumbered: NDArray[np.int32]) -> NDArray[np.int32]:
    """(C,) the label of each channel: its raw label by `numbers`, whose label is in `renumbered` if it occurs."""
    return np.where(numbers < len(renumbered), renumbered[np.minimum(numbers, len(renumbered) - 1)], numbers)

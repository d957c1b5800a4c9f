"""The files of one image: which are made, from what, and in which order they appear."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, CutConfig, Product
from ..errors import DecodeError
from ..evaluation.label_files import read_hierarchy, read_label_map
from ..regions.hierarchy import Hierarchy, boundary_map, build_hierarchy
from ..writing import write_colors, write_json, write_labels, write_wide
from .job import EXTENSIONS, Job
from .resume import Stats
from .statistics import REGION_ENTRIES, region_entries

Labels = NDArray[np.uint8] | NDArray[np.uint16]

OF_HIERARCHY: frozenset[Product] = frozenset(("regions", "hierarchy"))
"""What a hierarchy is built for."""


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left of an image, with the options of this one: all else can be made of it."""

    stats: Stats
    labels: Labels


def read_earlier(job: Job, output: Path, stats: Stats, size: tuple[int, ...]) -> Earlier | None:
    """The labels that belong to `stats`, None if they are not there as they were written.

    Parameters
    ----------
    size : height and width of the image.
    """
    fit = stats.get("fit")
    if not (isinstance(fit, dict) and {"iterations", "stop_reason"} <= fit.keys()):
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
        self._save = batch.save
        self._cut = batch.cut
        self._claimed = claimed

    def write(self, labels: Labels, image: NDArray[np.uint8], stats: Stats) -> None:
        """All that are asked for, of new labels.

        What an earlier run left is made anew, too, asked for or not: all files of an image are of one segmentation.
        """
        products = {product for product in EXTENSIONS if product in self._save or self._job.has(self._output, product)}
        # No stats while other files are replaced.
        self._path("stats").unlink(missing_ok=True)
        if "labels" in products:
            write_labels(self._path("labels"), labels, claimed=self._claimed)
        if "color" in products:
            write_colors(self._path("color"), labels, claimed=self._claimed)
        if not products.isdisjoint(OF_HIERARCHY):
            hierarchy = build_hierarchy(labels, image)
            if "hierarchy" in products:
                write_labels(self._path("hierarchy"), boundary_map(hierarchy), claimed=self._claimed)
            regions = self._write_regions(hierarchy) if "regions" in products else None
            stats = stats | region_entries(hierarchy, regions, self._cut, labels, image)
        if "stats" in products:
            self._write_stats(stats)

    def complete(self, earlier: Earlier, image: NDArray[np.uint8]) -> None:
        """Those that are asked for and not there, of the labels and the hierarchy that are."""
        stats, labels = earlier.stats, earlier.labels
        if "color" in self._save and not self._job.has(self._output, "color"):
            write_colors(self._path("color"), labels, claimed=self._claimed)
        if not OF_HIERARCHY.isdisjoint(self._save):
            hierarchy = self._earlier_hierarchy(labels)
            if hierarchy is None:
                hierarchy = build_hierarchy(labels, image)
                if "hierarchy" in self._save:
                    write_labels(self._path("hierarchy"), boundary_map(hierarchy), claimed=self._claimed)
            regions = None
            if "regions" in self._save:
                # Until they are replaced, stats vouch for the labels alone.
                stats = {name: entry for name, entry in stats.items() if name not in REGION_ENTRIES}
                self._write_stats(stats)
                regions = self._write_regions(hierarchy)
            stats = stats | region_entries(hierarchy, regions, self._cut, labels, image)
        self._write_stats(stats)

    def _earlier_hierarchy(self, labels: Labels) -> Hierarchy | None:
        if not self._job.has(self._output, "hierarchy"):
            return None
        try:
            hierarchy = read_hierarchy(self._path("hierarchy"), labels.size)
        except DecodeError:
            return None
        return hierarchy if hierarchy.fragments.shape == labels.shape else None

    def _write_regions(self, hierarchy: Hierarchy) -> NDArray[np.int32]:
        regions = cut_regions(hierarchy, self._cut)
        usual, many = self._path("regions"), self._job.many_regions(self._output)
        if regions.max() < 1 << 16:
            write_labels(usual, regions.astype(np.uint16), claimed=self._claimed)
            many.unlink(missing_ok=True)
        else:
            write_wide(many, regions, claimed=self._claimed)
            usual.unlink(missing_ok=True)
        return regions

    def _write_stats(self, stats: Stats) -> None:
        write_json(self._path("stats"), stats, claimed=self._claimed)

    def _path(self, product: Product) -> Path:
        return self._job.result(self._output, product)


def cut_regions(hierarchy: Hierarchy, cut: CutConfig) -> NDArray[np.int32]:
    """The regions that `--regions` and `--granularity` ask for, (H, W) int32, 0..R-1 by falling area."""
    if cut.regions != "auto":
        return hierarchy.cut_to(cut.regions)
    return hierarchy.cut() if cut.granularity is None else hierarchy.cut(cut.granularity)

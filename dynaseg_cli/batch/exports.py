"""Exports the finished images of an output folder to formats of other tools, in ``OUT/export``."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

import numpy as np

from ..config import Outside
from ..errors import DecodeError
from ..export.exporting import Exported, ExportFailure, write_exports
from ..export.folder import ExportFolder
from ..export.source import ExportImage, Map, Segments, labels_as_segments
from ..files.output_folder import EXPORT_FOLDER, Job, OutputFolder
from ..files.tiles import Tile
from .planning import Plan
from .resume import read_again, read_stats, seen_as
from .stats_shape import is_whole


def export_folder(plan: Plan) -> Generator[Exported | ExportFailure, None, None]:
    """Export all complete images of the plan, including those of other shards and earlier runs.

    Yields each image when it is done, and those that are missing in a format.

    Raises
    ------
    ImageError
        If a link leads out of the output folder.
    OSError
        If a file cannot be written.
    """
    folder = plan.folder
    folder.refuse_unwritable(folder.export / "any")
    regions = "regions" in plan.batch.save
    with folder:
        folder.claim(EXPORT_FOLDER, wait=True)
        images, num_labels = [], plan.segment.clusters if plan.segment.fit == "folder" else 0
        for job, stats in plan.complete():
            if not is_whole(stats):
                continue
            read = partial(_segments, job, folder, regions=regions)
            tile = job.page if isinstance(job.page, Tile) else None
            path = job.source if job.page is None or tile is not None else None
            photo = partial(_photo, job, plan)
            images.append(ExportImage(job.name, job.file_name, read, photo, *seen_as(stats), path=path, tile=tile))
            num_labels = max(num_labels, *(entry["label"] + 1 for entry in stats["clusters"]))
        yield from write_exports(
            plan.batch.export,
            images,
            num_labels,
            ExportFolder(folder),
            plan.batch.export_config,
            regions=regions,
            names=plan.names,
        )


def _segments(job: Job, folder: OutputFolder, *, regions: bool) -> Segments:
    """The regions of an image, each with its label, or its labels.

    Raises
    ------
    DecodeError
        If they cannot be read, or do not belong to the statistics.
    """
    from ..images.label_maps import read_label_map  # noqa: PLC0415 - loads scipy

    stats = read_stats(job, folder)
    if stats is None or not is_whole(stats):
        raise DecodeError(f"{folder.result(job, 'stats')} is gone")
    source = stats["source"]
    pixels = source["width"] * source["height"]
    mask = source.get("mask")
    outside = None if mask is None or mask["pixels"] == pixels else mask["outside"]
    if not regions:
        labels = read_label_map(folder.result(job, "labels"), pixels)
        return labels_as_segments(_without(outside, labels))
    path = folder.result(job, "regions")
    found = read_label_map(path if path.is_file() else folder.many_regions(job), pixels)
    found = _without(outside, found)
    labels = np.array([entry["label"] for entry in stats.get("regions", [])])
    if outside == "background":
        labels = np.append(0, labels)  # regions begin with 1
    if len(labels) != found.max() + 1:
        raise DecodeError(
            f"{path} has {found.max() + 1} regions, and its statistics {len(labels)}; use `overwrite=True`"
        )
    return Segments(found, labels)


def _without(outside: Outside | None, numbers: Map) -> Map:
    """An (H, W) map as files have it, with -1 `outside` a mask; None if there is none."""
    if outside is None:
        return numbers
    left_out = 0 if outside == "background" else numbers.max()
    return np.where(numbers == left_out, -1, numbers.astype(np.int32))


def _photo(job: Job, plan: Plan) -> bytes:
    """The content of the file of the photo; raises as `read_again` does, and ImageError if the statistics are gone."""
    stats = read_stats(job, plan.folder)
    if stats is None:
        raise DecodeError(f"{plan.folder.result(job, 'stats')} is gone")
    source = stats["source"]
    return read_again(job, stats, max(plan.batch.max_pixels, source["width"] * source["height"]))

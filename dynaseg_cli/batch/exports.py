"""Exports the finished images of an output folder to formats of other tools, in ``OUT/export``."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial

import numpy as np

from ..errors import DecodeError
from ..export.exporting import Exported, ExportFailure, write_exports
from ..export.folder import ExportFolder
from ..export.source import ExportImage, Segments, labels_as_segments
from ..files.output_folder import EXPORT_FOLDER, Job, OutputFolder
from ..files.tiles import Tile
from .planning import Plan
from .resume import read_again, read_stats
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
            photo = partial(_photo, job, plan)
            images.append(ExportImage(job.name, job.file_name, read, photo, job.source, tile))
            num_labels = max(num_labels, *(entry["label"] + 1 for entry in stats["clusters"]))
        yield from write_exports(
            plan.batch.export, images, num_labels, ExportFolder(folder), plan.batch.export_config, regions=regions
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
    pixels = stats["source"]["width"] * stats["source"]["height"]
    if not regions:
        return labels_as_segments(read_label_map(folder.result(job, "labels"), pixels))
    path = folder.result(job, "regions")
    found = read_label_map(path if path.is_file() else folder.many_regions(job), pixels)
    labels = np.array([entry["label"] for entry in stats.get("regions", [])])
    if len(labels) != found.max() + 1:
        raise DecodeError(
            f"{path} has {found.max() + 1} regions, and its statistics {len(labels)}; use `overwrite=True`"
        )
    return Segments(found, labels)


def _photo(job: Job, plan: Plan) -> bytes:
    """The content of the file of the photo; raises as `read_again` does, and ImageError if the statistics are gone."""
    stats = read_stats(job, plan.folder)
    if stats is None:
        raise DecodeError(f"{plan.folder.result(job, 'stats')} is gone")
    source = stats["source"]
    return read_again(job, stats, max(plan.batch.max_pixels, source["width"] * source["height"]))

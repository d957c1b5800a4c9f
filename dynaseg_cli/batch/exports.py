"""The finished images of a folder, as what is handed on to other tools, in ``OUT/export``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DecodeError
from ..evaluation.label_files import read_label_map
from ..export.exporting import Failure, write_exports
from ..export.images import ExportImage, Segments, labels_as_segments
from ..writing import refuse_unwritable
from .claims import Claims
from .job import Job
from .output_folder import EXPORT_FOLDER
from .planning import Plan
from .resume import read_stats
from .stats_shape import is_whole


def export_folder(plan: Plan, on_image: Callable[[str], None] = lambda name: None) -> list[Failure]:
    """Write all images of the plan that are complete, those of other shards and of earlier runs among them.

    Parameters
    ----------
    on_image : called with the name of each image as it is done.

    Returns
    -------
    What could not be handed on, in which format, and why.

    Raises
    ------
    ImageError
        If a link leads out of the output folder.
    OSError
        If a file cannot be written.
    """
    folder = plan.output / EXPORT_FOLDER
    refuse_unwritable(folder / "any", plan.output)
    regions = "regions" in plan.batch.save
    with Claims(plan.output) as claims:
        claims.take(EXPORT_FOLDER, wait=True)
        images, num_labels = [], plan.segment.clusters if plan.segment.fit == "folder" else 0
        for job, stats in plan.complete():
            if not is_whole(stats):
                continue
            images.append(ExportImage(job.name, job.file_name, partial(_segments, job, plan.output, regions=regions)))
            num_labels = max(num_labels, *(entry["label"] + 1 for entry in stats["clusters"]))
        formats, claimed = plan.batch.export, claims.exclusive
        return write_exports(formats, images, num_labels, folder, on_image, regions=regions, claimed=claimed)


def _segments(job: Job, output: Path, *, regions: bool) -> Segments:
    """The regions of an image, each with its label, or its labels.

    Raises
    ------
    DecodeError
        If they cannot be read, or are not those that the statistics tell of.
    """
    stats = read_stats(job.result(output, "stats"))
    if stats is None or not is_whole(stats):
        raise DecodeError(f"{job.result(output, 'stats')} is gone")
    pixels = stats["source"]["width"] * stats["source"]["height"]
    if not regions:
        return labels_as_segments(read_label_map(job.result(output, "labels"), pixels))
    path = job.result(output, "regions")
    found = read_label_map(path if path.is_file() else job.many_regions(output), pixels)
    labels = np.array([entry["label"] for entry in stats.get("regions", [])])
    if len(labels) != found.max() + 1:
        raise DecodeError(f"{path} has {found.max() + 1} regions, and its statistics {len(labels)}; use --overwrite")
    return Segments(found, labels)

"""A folder of results taken up again: everything is read from its statistics, and nothing is segmented."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..config import (
    BatchConfig,
    CutConfig,
    ExportConfig,
    Format,
    SegmentConfig,
    WeightsFile,
)
from ..errors import DecodeError, ImageError, UsageError, reason
from ..export.exporting import refuse_uninstalled
from ..files.output_folder import (
    EXPORT_FOLDER,
    EXTENSIONS,
    NAMES_NAME,
    REPORT_FOLDER,
    REPORT_NAME,
    Job,
    OutputFolder,
)
from ..files.reading import read_file
from ..files.tiles import part_of
from ..files.user_files import MOST_BYTES, is_output_folder
from ..images.decoding import decode_photo, read_source
from ..images.masks import read_mask_again
from ..images.scribbles import ScribbleFile, decode_scribbles
from ..regions.area import area_of
from .outcomes import Outcome
from .planning import Plan, named_labels
from .products import Products
from .report_files import ReportEntry
from .resume import Stats, read_again, read_stats, seen_as
from .stats_shape import is_whole

TITLE = b"<title>dynaseg report</title>"
MARKED_WITHIN = 1000
"""Bytes of a page within which its title stands."""


def plan_of_results(
    output: Path,
    *,
    report: bool = False,
    export: tuple[Format, ...] = (),
    export_config: ExportConfig = BatchConfig.export_config,
    names: Path | None = None,
) -> Plan:
    """The plan of the run that made a folder, as its statistics tell it, for a report or exports.

    Raises
    ------
    UsageError
        If dynaseg did not write the folder, no image in it is finished, what a format needs is not installed, or names
        or labels are unusable.
    """
    refuse_uninstalled(export)
    if not output.is_dir():
        raise UsageError(f"{output} is not a folder; name one that segment wrote")
    if not is_output_folder(output):
        raise UsageError(f"{output} was not written by dynaseg; name a folder that segment wrote")
    folder = OutputFolder(output)
    targets = [REPORT_NAME, f"{REPORT_FOLDER}/"] if report else []
    targets += [NAMES_NAME] if names is not None else []
    folder.refuse_foreign([*targets, *([f"{EXPORT_FOLDER}/"] if export else [])])
    jobs, first, scribbled = [], None, False
    for name in _names(output / "stats"):
        stats = read_stats(Job("", name), folder)
        if stats is not None and is_whole(stats):
            jobs.append(Job(stats["source"]["path"], name, part_of(stats["source"])))
            first = first or stats
            scribbled = scribbled or "scribbles" in stats["source"]
    if first is None:
        raise UsageError(f"no image in {output} is finished; continue the run that segments them")
    saved = tuple(product for product in EXTENSIONS if all(folder.has(job, product) for job in jobs))
    if export and "labels" not in saved:
        raise UsageError(f"exports are made of labels, which not all images in {output} have: segment them with labels")
    cut, colors = CutConfig(**first.get("cut", {})), first.get("colors", BatchConfig.colors)
    batch = BatchConfig(
        save=saved, cut=cut, colors=colors, report=report, export=export, export_config=export_config, names=names
    )
    config = _config(first, folder)
    known, doubts = named_labels(folder, config, batch, scribbled=scribbled)
    return Plan(jobs, jobs, folder, config, batch, unlistable=[], doubts=doubts, names=known)


def refuse_other_page(folder: OutputFolder) -> None:
    """Refuse to write a comparison in place of a file that is none: marks of earlier versions do not tell.

    Raises
    ------
    UsageError
        If there is such a file, or it cannot be read.
    """
    path = folder.comparison
    try:
        begin = path.read_bytes()[:MARKED_WITHIN] if path.exists() else TITLE
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if TITLE not in begin:
        raise UsageError(f"{path} exists and was not written by dynaseg: no result may replace it; move it elsewhere")


def _names(statistics: Path) -> list[str]:
    """The names of the jobs that have statistics, sorted."""
    extension = EXTENSIONS["stats"]
    found = (path.relative_to(statistics).as_posix() for path in statistics.rglob(f"*{extension}"))
    return sorted(name.removesuffix(extension) for name in found)


def _config(stats: Stats, folder: OutputFolder) -> SegmentConfig:
    options = stats["options"]
    try:
        config = SegmentConfig.from_options(options)
    except (TypeError, UsageError) as error:
        raise UsageError(f"{folder} was made by another version of dynaseg: {error}") from None
    if options.get("model") is None:
        return config
    model = WeightsFile(str(folder.model), options["model"])
    return dataclasses.replace(config, model=model, refine=options.get("refine", 0))


def read_run(folder: OutputFolder) -> dict[str, Any] | None:
    """The document of ``run.json``; None after a run that was killed, or if dynaseg did not write it."""
    try:
        document = json.loads(read_file(folder.run, MOST_BYTES, "the summary of a run has"))
    except (OSError, DecodeError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("failures"), list) else None


def complete_entries(plan: Plan, stop: threading.Event) -> Generator[Outcome, None, None]:
    """Make the report's files of each image that lacks them; an outcome for every image of the plan.

    They show the photo, which must be where it was when it was segmented, with the same content. Once `stop` is set, by
    the caller or because the iteration is broken off, no image is begun.
    """

    def complete(job: Job) -> Outcome | None:
        return None if stop.is_set() else _complete(job, plan)

    with plan.folder, ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            yield from filter(None, threads.map(complete, plan.jobs))
        except BaseException:
            stop.set()
            raise


def _complete(job: Job, plan: Plan) -> Outcome:
    folder = plan.folder
    if ReportEntry(job, folder).exists:
        return Outcome(job.path, "skipped", page=job.page)
    if not folder.claim(job.name):
        return Outcome(job.path, "failed", "another dynaseg is working on it", page=job.page)
    try:
        stats = read_stats(job, folder)
        if stats is None:
            raise ImageError(f"{folder.result(job, 'stats')} is gone")
        made = _make_entry(job, plan, stats)
    except (ImageError, OSError, MemoryError) as error:
        return Outcome(job.path, "failed", reason(error), page=job.page)
    finally:
        folder.release(job.name)
    return Outcome(job.path, "done", num_labels=made["num_labels"], segmented=False, page=job.page)


def _make_entry(job: Job, plan: Plan, stats: Stats) -> Stats:
    folder, batch, source = plan.folder, plan.batch, stats["source"]
    pixels = max(batch.max_pixels, source["width"] * source["height"])
    content = read_again(job, stats, pixels)
    kept = source.get("mask")
    mask = None if kept is None else read_mask_again(kept, pixels)
    decoded = decode_photo(content, pixels, *seen_as(stats), mask)
    photo, area = decoded.pixels, area_of(decoded.counts)
    drawn, scribbles = source.get("scribbles"), None
    if drawn is not None:
        content, sha256 = read_source(Path(drawn["path"]), pixels)
        if sha256 != drawn["sha256"]:
            raise ImageError(f"{drawn['path']} has changed since the photo was segmented; segment it again")
        file = ScribbleFile(drawn["path"], content, sha256)
        scribbles = decode_scribbles(file, photo.shape[:2], plan.segment.clusters, pixels)
    # An image may have been cut otherwise than the others.
    batch = dataclasses.replace(batch, cut=CutConfig(**stats["cut"]), colors=stats["colors"])
    if kept is not None:
        batch = dataclasses.replace(batch, mask=kept.get("from") or Path(kept["path"]).parent, outside=kept["outside"])
    products = Products(job, folder, batch)
    products.refuse_unwritable()
    earlier = products.read_earlier(stats, photo.shape[:2], area)
    if earlier is None:
        raise ImageError(f"{folder.kept_raw(job)}, of which its regions are made, is gone; segment it again")
    return products.complete(earlier, photo, scribbles)

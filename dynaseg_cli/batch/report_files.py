"""The report of an output folder: the files of each image in ``OUT/report``, and the rows of ``OUT/report.html``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..files.output_folder import EXTENSIONS, REPORT_FOLDER, Job, OutputFolder, shown_image
from ..files.tiles import part_of
from ..report.page import ENTRY_FILES, OLD_DETAILS, page_row, report_page
from .stats_shape import is_whole

if TYPE_CHECKING:
    from .planning import Plan

_CHANGED = frozenset(("range", "frames", "page", "tile"))
"""Entries about a file that a browser would show otherwise than it was segmented."""
SHOWN_BY_BROWSERS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"))


class ReportEntry:
    """The files of one image. Their names are a hash of the job's name, plain characters whatever that contains."""

    def __init__(self, job: Job, folder: OutputFolder) -> None:
        self.key = hashlib.sha256(os.fsencode(job.name)).hexdigest()[:16]
        """Identifies the image on the page."""
        self.files = f"{REPORT_FOLDER}/{self.key[:2]}/{self.key}"
        """Path of the files below the output folder, without their suffixes."""
        self._job = job
        self._folder = folder

    @property
    def exists(self) -> bool:
        """Whether all files exist."""
        return all(self._path(suffix).is_file() for suffix in ENTRY_FILES)

    def refuse_unwritable(self) -> None:
        """Find out before the work whether the files can be written; raises like `OutputFolder.refuse_unwritable`."""
        self._folder.refuse_unwritable(self._path(ENTRY_FILES[-1]))

    def write(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write (suffix, content) in order. An entry without the last file does not count."""
        self._path(ENTRY_FILES[-1]).unlink(missing_ok=True)
        with self._folder.batch() as batch:
            for suffix, content in files:
                batch.write(self._path(suffix), content)
            batch.remove(self._path(OLD_DETAILS))

    def product_urls(self) -> dict[str, str]:
        """URL, relative to the page, of the file of each product that there is.

        Statistics are written after the entry, and no entry is shown without them.
        """
        found = {product: self._folder.find(self._job, product) for product in EXTENSIONS}
        found["stats"] = self._folder.result(self._job, "stats")
        return {product: self._url(str(path)) for product, path in found.items() if path is not None}

    def photo_url(self, source: dict[str, Any]) -> str | None:
        """URL, relative to the page, of the image file; None if a browser would not show it as it was segmented.

        Parameters
        ----------
        source : what the statistics say of the file.
        """
        if Path(self._job.path).suffix.lower() not in SHOWN_BY_BROWSERS or source.keys() & _CHANGED:
            return None
        try:
            return self._url(self._job.path)
        except ValueError:  # on another drive
            return None

    def _url(self, path: str) -> str:
        return _url_from(self._folder.path, path)

    def _path(self, suffix: str) -> Path:
        return self._folder.path / (self.files + suffix)


def report_content(plan: Plan, run: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> Iterator[bytes]:
    """The page, part by part, with all complete images, including those of other shards and earlier runs.

    Parameters
    ----------
    run : the document of ``run.json``.
    outcomes : result of `last_outcomes`.
    """
    rows, cuts = [], []
    for job, stats in plan.complete():
        entry = ReportEntry(job, plan.folder)
        # Regions are missing while another run cuts them anew, or after such a run was killed.
        if "regions" in stats and "cut" in stats and is_whole(stats) and entry.exists:
            rows.append(page_row(job.file_name, entry.files, stats))
            cuts += [stats["cut"]] if stats["cut"] not in cuts else []
    # Not the cut that this run was asked for: regions of an earlier run may have stayed as they were.
    shown = {**run, "cut": cuts[0] if len(cuts) == 1 else None, **_names(plan)}
    return report_page(rows, _failures(plan, run, {row.name for row in rows}, outcomes), shown)


def comparison_content(plan: Plan, other: Plan, run: dict[str, Any]) -> Iterator[bytes]:
    """The page that shows the results of a plan beside those of another one, part by part: of photos that both have.

    Parameters
    ----------
    run : the document of ``run.json`` of the first one.
    """
    theirs = {}
    for job, stats in other.complete():
        entry = ReportEntry(job, other.folder)
        if is_whole(stats) and entry.exists:
            files = _url_from(plan.folder.path, str(other.folder.path / entry.files))
            theirs[job.file_name] = page_row(job.file_name, files, stats)
    rows, found = [], 0
    for job, stats in plan.complete():
        entry = ReportEntry(job, plan.folder)
        if is_whole(stats) and entry.exists:
            found += 1
            same = theirs.get(job.file_name)
            size = stats["source"]["width"], stats["source"]["height"]
            if same is not None and (same.width, same.height) == size:
                rows.append(page_row(job.file_name, entry.files, stats, same))
    unpaired = found + len(theirs) - 2 * len(rows)
    compared = {"with": str(other.folder), "unpaired": unpaired}
    return report_page(rows, [], {**run, "compared": compared, **_names(plan)})


def _names(plan: Plan) -> dict[str, dict[str, str]]:
    """The names of labels as the page takes them; nothing if there are none."""
    return {"names": {str(label): name for label, name in plan.names.items()}} if plan.names else {}


def _url_from(folder: Path, path: str) -> str:
    """URL of a file relative to pages in a folder."""
    return quote(os.fsencode(os.path.relpath(path, folder)).replace(os.fsencode(os.sep), b"/"))


def _failures(
    plan: Plan, run: dict[str, Any], complete: set[str], outcomes: dict[str, dict[str, Any]]
) -> list[dict[str, str]]:
    """The failures of this run and, by their last outcome, of other shards."""
    failures = [
        {"path": shown_image(failure["path"], part_of(failure)), "reason": failure["reason"]}
        for failure in run["failures"]
    ]
    mine = {job.shown for job in plan.jobs}
    for job in plan.found:
        outcome = outcomes.get(job.shown, {})
        if job.shown not in mine and job.file_name not in complete and outcome.get("status") == "failed":
            failures.append({"path": job.shown, "reason": str(outcome.get("reason"))})
    return failures


def last_outcomes(log: Path) -> dict[str, dict[str, Any]]:
    """The last outcome of each image, by `Job.shown`, in ``outcomes.jsonl``, which all runs append to."""
    outcomes: dict[str, dict[str, Any]] = {}
    try:
        lines = log.read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            outcome = json.loads(line)
        except (ValueError, RecursionError):  # left half-written by a killed run
            continue
        if isinstance(outcome, dict) and isinstance(outcome.get("path"), str):
            outcomes[shown_image(outcome["path"], part_of(outcome))] = outcome
    return outcomes

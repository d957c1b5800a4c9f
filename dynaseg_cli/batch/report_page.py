"""The report: ``OUT/report.html``, over all images of the folder that are complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..report.page import page_row, report_page
from ..user_files import LOG_NAME
from ..writing import write_atomically
from .claims import Claims
from .output_folder import REPORT_NAME
from .planning import Plan
from .report_entry import ReportEntry
from .stats_shape import is_whole


def write_report(plan: Plan, run: dict[str, Any]) -> Path:
    """Write the page and return where it is.

    Images of other shards and of earlier runs are on it, as far as they are complete.

    Parameters
    ----------
    run : the document of `run.json`.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = plan.output / REPORT_NAME
    # Not within the claim: where locks belong to processes, closing the log gives it up.
    outcomes = {} if plan.batch.shard[1] == 1 else _last_outcomes(plan.output / LOG_NAME)
    with Claims(plan.output) as claims:
        claims.take(REPORT_NAME, wait=True)
        # Read only now: of shards that end together, the last to write has seen the images of all.
        rows, cuts = [], []
        for job, stats in plan.complete():
            entry = ReportEntry(job, plan.output)
            # Without regions, they are being cut otherwise, or a run that was to do so did not end.
            if "regions" in stats and "cut" in stats and is_whole(stats) and entry.is_there:
                rows.append(page_row(job.file_name, entry.files, stats))
                cuts += [stats["cut"]] if stats["cut"] not in cuts else []
        # Not as it was asked of this run: regions that were there before may have stayed as they were.
        shown = {**run, "cut": cuts[0] if len(cuts) == 1 else None}
        page = report_page(rows, _failures(plan, run, {row.name for row in rows}, outcomes), shown)

        def write(stream: Any) -> None:
            for part in page:
                stream.write(part)

        write_atomically(path, write, claimed=claims.exclusive)
    return path


def _failures(
    plan: Plan, run: dict[str, Any], complete: set[str], outcomes: dict[str, dict[str, Any]]
) -> list[dict[str, str]]:
    """Those of this run and, by the last `outcomes` of all runs, of other shards."""
    failures: list[dict[str, str]] = list(run["failures"])
    mine = {job.path for job in plan.jobs}
    for job in plan.found:
        outcome = outcomes.get(job.path, {})
        if job.path not in mine and job.file_name not in complete and outcome.get("status") == "failed":
            failures.append({"path": job.path, "reason": str(outcome.get("reason"))})
    return failures


def _last_outcomes(log: Path) -> dict[str, dict[str, Any]]:
    """What the log of all runs says last of each path."""
    outcomes: dict[str, dict[str, Any]] = {}
    try:
        lines = log.read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            outcome = json.loads(line)
        except (ValueError, RecursionError):  # of a killed run
            continue
        if isinstance(outcome, dict) and isinstance(outcome.get("path"), str):
            outcomes[outcome["path"]] = outcome
    return outcomes

"""Carries out a plan for the command: renders the events of the run, and turns its result into an exit code."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType

from ..batch.outcomes import Outcome
from ..batch.planning import Plan
from ..config import SegmentConfig, WorkersConfig
from ..export.exporting import Exported, ExportFailure
from ..files.tiles import part_entry
from ..files.weights import IMAGENET_URL, imagenet_path, lacks_weights
from ..run import Event, FileFailed, FileWritten, ModelReady, RunFinished, fetch_weights, run
from ..workers.messages import FitProgress
from ..workers.pool import ImageProgress, check_executor
from .console import ExitCode, is_verbose, print_json, say, stderr
from .progress import CountProgress
from .run_summary import MOST_WARNED, open_page, show_how_to_look, show_summary
from .signals import TERMINATING, first_signal_calls

MOST_NAMED = 5
"""Images missing from an export that are named; further ones are counted."""
NOTABLE = 0.01
"""Share of all pixels from which a label of the folder is counted."""


def run_plan(plan: Plan, workers: WorkersConfig, *, as_json: bool, quiet: bool, opens_page: bool = False) -> ExitCode:
    """Do what the plan says and show it on stderr; afterwards, open the page if that is wanted and there is one."""
    check_executor(workers)
    _fetch_weights(plan.segment, quiet=quiet)
    if not quiet:
        show_notes(plan)
        for what, unused in (("scribbles", plan.unused_scribbles), ("masks", plan.unused_masks)):
            if unused:
                say(f"{what} that belong to no image, by their names: {len(unused)}, first {unused[0]}", "yellow")
    stop = threading.Event()
    with (
        first_signal_calls(stop.set) as signals,
        closing(run(plan, workers, stop)) as events,
        RunDisplay(plan, quiet=quiet) as display,
    ):
        for event in events:
            display.show(event)
    finished = display.finished
    assert finished is not None
    if not quiet:
        show_summary(finished.summary, display.written)
        if finished.summary.done or finished.summary.skipped or not signals:
            show_how_to_look(plan)
    if as_json:
        print_json(finished.document)
    if opens_page and not signals and plan.folder.report.exists():
        open_page(plan.folder.report, plan.folder.path)
    return exit_code_of(signals, complete=display.complete and not display.failures)


def exit_code_of(signals: Sequence[int], *, complete: bool) -> ExitCode:
    """The exit code of a command that was sent these signals, or did all it was asked for, or not."""
    if signals:
        say("interrupted; the same command continues", "yellow")
        return ExitCode.TERMINATED if signals[0] in TERMINATING else ExitCode.INTERRUPTED
    return ExitCode.DONE if complete else ExitCode.SOME_FAILED


class RunDisplay:
    """Shows the events of a run: progress, failures at once, and what was written."""

    def __init__(self, plan: Plan, *, quiet: bool) -> None:
        self.complete = True
        """Whether the report and all exports that were asked for could be written."""
        self.finished: RunFinished | None = None
        self.failures: list[Outcome] = []
        self.written: list[Path] = []
        """Files of the whole run that no line of their own names."""
        self._plan = plan
        self._quiet = quiet
        self._progress: CountProgress | None = None
        self._seen_before = 0
        """Images that a folder fit had read in an earlier run."""
        self._warned = 0
        self._not_exported = 0
        self._empty = 0
        """Images of which no segment is exported."""

    def __enter__(self) -> RunDisplay:
        if self._plan.lacks_model:
            self._show_progress(self._plan.fit_visits, "images")
        else:
            self._show_progress_of_images()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hide_progress()

    def show(self, event: Event) -> None:
        if isinstance(event, ImageProgress):
            assert self._progress is not None
            self._progress.describe(
                Path(event.job.file_name).name, f"  iteration {event.iteration}, {event.labels} labels"
            )
        elif isinstance(event, Outcome):
            self._show_outcome(event)
        elif isinstance(event, FitProgress):
            self._show_fit(event)
        elif isinstance(event, ModelReady):
            if event.fitted:
                self.written.append(self._plan.folder.model)
            elif not self._quiet:
                say(f"applying the network of {event.model.path}")
            if self._plan.batch.save_model is not None:
                self.written.append(self._plan.batch.save_model)
            self._show_progress_of_images()
        elif isinstance(event, (Exported, ExportFailure)):
            self._show_export(event)
        else:
            self._hide_progress()
            self._show_file(event)

    def _show_export(self, event: Exported | ExportFailure) -> None:
        if self._progress is None:
            self._show_progress(len(self._plan.found), "exported")
        assert self._progress is not None
        if isinstance(event, Exported):
            self._empty += event.empty
            self._progress.advance(event.name)
            return
        self.complete = False
        self._not_exported += 1
        if self._not_exported <= MOST_NAMED:
            say(f"not exported as {event.format}: {event.name}: {event.reason}", "red")

    def _show_file(self, event: FileWritten | FileFailed | RunFinished) -> None:
        if isinstance(event, RunFinished):
            self.finished = event
        elif isinstance(event, FileFailed):
            # Results do not depend on the other files: without them, the exit code is the same.
            self.complete &= event.path in (self._plan.folder.run, self._plan.folder.clusters)
            say(f"error: {_reason(event)}", "red")
        elif event.path == self._plan.folder.export and self._not_exported > MOST_NAMED:
            say(f"and {self._not_exported - MOST_NAMED} more were not exported", "red")
        if isinstance(event, FileWritten):
            if event.document is not None:
                self.written.append(event.path)
            if not self._quiet:
                for line in self._lines_about(event):
                    say(line)

    def _lines_about(self, event: FileWritten) -> list[str]:
        folder = self._plan.folder
        if event.path in (folder.report, folder.comparison):
            return [f"reported in {event.path}"]
        if event.path == folder.export:
            lines = [f"exported as {', '.join(self._plan.batch.export)} to {event.path}"]
            if self._empty:
                lines.append(f"of {self._empty} of {len(self._plan.found)} images no segment was left to export")
            return lines
        clusters = (event.document or {}).get("clusters", [])  # absent in run.json
        notable = sum(cluster["fraction"] >= NOTABLE for cluster in clusters)
        most = self._plan.segment.clusters
        text = f"labels over the folder: {len(clusters)} of {most}, {notable} with {NOTABLE:.0%} of it or more"
        return [text] if clusters else []

    def _show_fit(self, event: FitProgress) -> None:
        assert self._progress is not None
        labels = "" if event.labels is None else f", {event.labels} labels"
        self._progress.describe("fitting", f": {event.step}{labels}")
        self._progress.reach(event.seen, f"{event.step}{labels}", event.seen - event.before)

    def _show_outcome(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            self.failures.append(outcome)
            say(f"failed: {outcome.shown}: {outcome.reason}", "red")
        elif is_verbose() and not self._quiet:
            say(_line_of(outcome), "dim" if outcome.status == "skipped" else "")
        if not self._quiet:
            for warning in outcome.warnings[: max(0, MOST_WARNED - self._warned)]:
                say(f"warning: {outcome.shown}: {warning}", "yellow")
            self._warned += len(outcome.warnings)
        assert self._progress is not None
        self._progress.advance(outcome.shown, worked=outcome.status != "skipped")

    def _show_progress_of_images(self) -> None:
        self._show_progress(len(self._plan.jobs) + len(self._plan.unlistable), "images")

    def _show_progress(self, total: int, unit: str) -> None:
        self._hide_progress()
        self._progress = CountProgress(total, unit, quiet=self._quiet).__enter__()

    def _hide_progress(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None


def _line_of(outcome: Outcome) -> str:
    """An image that did not fail, as `-v` shows it."""
    if outcome.status == "skipped":
        return f"skipped: {outcome.shown}: complete already"
    how = "from earlier labels" if outcome.segmented is False else f"{outcome.seconds:.1f} s"
    return f"done: {outcome.shown}: {outcome.num_labels} labels, {how}"


def _reason(event: FileFailed) -> str:
    error = event.error
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename2 or event.path} cannot be written: {error.strerror or error}"


def show_plan(plan: Plan, *, as_json: bool) -> ExitCode:
    """Show what a run would do."""
    folder = plan.folder
    results = [[str(folder.result(job, product)) for product in plan.batch.save] for job in plan.jobs]
    failures = [{"path": outcome.path, "reason": outcome.reason} for outcome in plan.unlistable]
    if as_json:
        jobs = [
            {"path": job.path, **part_entry(job.page), "results": paths}
            for job, paths in zip(plan.jobs, results, strict=True)
        ]
        document = {"output": str(folder), "images": len(jobs), "jobs": jobs, "failures": failures}
        print_json({**document, "passed_over": dict(sorted(plan.passed_over.items()))})
    else:
        for job, paths in zip(plan.jobs, results, strict=True):
            say(f"{job.shown} -> {', '.join(paths)}")
        if plan.batch.report:
            say(f"all of it -> {folder.report}")
        if plan.batch.export:
            say(f"all of it, as {', '.join(plan.batch.export)} -> {folder.export}")
        show_notes(plan)
        say(f"{len(results)} images; nothing was written")
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE


def show_notes(plan: Plan) -> None:
    """Show what may be a mistake in the options and the input of a command."""
    for doubt in plan.doubts:
        say(doubt, "yellow")
    if plan.passed_over:
        say(f"passed over: {plan.passed_over.describe()}", "yellow")


def _fetch_weights(config: SegmentConfig, *, quiet: bool) -> None:
    if lacks_weights(config) and not quiet:
        say(f"downloading {IMAGENET_URL} to {imagenet_path()}")
    fetch_weights(config, progress=stderr.is_live and not quiet)

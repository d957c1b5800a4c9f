"""Progress of a batch: live on a terminal, else a plain line now and then; failures at once, a table at the end."""

from __future__ import annotations

import statistics
import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..batch.job import Job
from ..batch.outcome import Outcome, RunSummary
from .console import printable, say, stderr

LINE_EVERY_S = 10.0
"""Seconds between the plain lines of a log."""
NAME_WIDTH = 40


class BatchProgress:
    """Shows a running batch; a context manager around it. Quiet, it only names what failed."""

    def __init__(self, summary: RunSummary, *, quiet: bool) -> None:
        self._summary = summary
        self._quiet = quiet
        self._last_line = time.monotonic()
        self._live: Progress | None = None
        if stderr.is_terminal and not quiet:
            self._live = _bar(TextColumn("{task.fields[pace]}", style="cyan"))
            self._task = self._live.add_task("starting", total=summary.images, pace="")

    def __enter__(self) -> BatchProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def iterate(self, job: Job, iteration: int, labels: int) -> None:
        """An iteration of the image at hand; called from the engine's thread."""
        if self._live is not None:
            progress = f"{_short(job.source.name)}  iteration {iteration}, {labels} labels"
            self._live.update(self._task, description=progress)

    def finish(self, outcome: Outcome) -> None:
        """An image is finished; it is in the summary already."""
        if outcome.status == "failed":
            say(f"failed: {outcome.path}: {outcome.reason}", "red")
        if self._live is not None:
            self._live.update(self._task, completed=self._summary.finished, pace=self._pace())
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            say(f"{self._summary.finished}/{self._summary.images} images, {self._pace()}, last {outcome.path}")

    def _pace(self) -> str:
        worked = self._summary.done + len(self._summary.failures)
        if not worked:
            return ""
        each = self._summary.seconds / worked
        left = each * (self._summary.images - self._summary.finished)
        rate = f"{1 / each:.1f} images/s" if each < 1 else f"{each:.1f} s an image"
        return f"{rate}, {_duration(left)} left"


class CountProgress:
    """Shows how many of a number of things are done; a context manager around them."""

    def __init__(self, total: int, of: str, *, quiet: bool) -> None:
        self._total = total
        self._of = of
        self._quiet = quiet
        self._done = 0
        self._last_line = time.monotonic()
        self._live: Progress | None = None
        if stderr.is_terminal and not quiet:
            self._live = _bar(TimeRemainingColumn())
            self._task = self._live.add_task("", total=total)

    def __enter__(self) -> CountProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def advance(self, name: str) -> None:
        """One more is done, `name`."""
        self._done += 1
        if self._live is not None:
            self._live.update(self._task, completed=self._done, description=_short(name))
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            say(f"{self._done}/{self._total} {self._of}, last {name}")


def show_summary(summary: RunSummary, products: str) -> None:
    """The closing table, and where the results are."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    counts = [f"{summary.done} segmented"]
    if summary.skipped:
        counts.append(f"{summary.skipped} complete already")
    missing = summary.images - summary.finished
    if missing:
        counts.append(f"{missing} not started")
    table.add_row("images", ", ".join(counts))
    table.add_row("failures", Text(str(len(summary.failures)), style="red" if summary.failures else ""))
    each = f", {summary.seconds / summary.done:.1f} an image" if summary.done else ""
    table.add_row("seconds", f"{summary.seconds:.1f}{each}")
    if summary.labels:
        least, most = min(summary.labels), max(summary.labels)
        table.add_row("labels per image", f"{statistics.median(summary.labels):.0f} in the median, {least} to {most}")
    stderr.print(table)
    say(f"{products} are in {summary.output}")


def _bar(pace: ProgressColumn) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        pace,
        TextColumn("{task.description}", markup=False),
        console=stderr,
        transient=True,
    )


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"

"""Progress: live on a terminal, else a plain line now and then; failures at once, a table at the end."""

from __future__ import annotations

import statistics
import time
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ..batch.job import Job
from ..batch.outcome import Outcome
from ..batch.summary import RunSummary
from ..names import printable
from .console import say, stderr

if TYPE_CHECKING:
    from ..batch.messages import FitProgress

LINE_EVERY_S = 10.0
"""Seconds between the plain lines of a log."""
NAME_WIDTH = 40
MOST_WARNED = 5
"""Warnings about images that are shown; further ones are counted."""

Self = TypeVar("Self", bound="CountProgress")


class CountProgress:
    """Shows how many of a number of things are done, and how fast; a context manager around them."""

    def __init__(self, total: int, of: str, *, quiet: bool) -> None:
        self._total = total
        self._of = of
        self._quiet = quiet
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._live: Progress | None = None
        if stderr.is_live and not quiet:
            self._live = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}", style="cyan"),
                TextColumn("{task.description}", markup=False),
                console=stderr,
                transient=True,
            )
            self._task = self._live.add_task("starting", total=total, pace="")

    def __enter__(self: Self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def describe(self, name: str, doing: str = "") -> None:
        """What is being worked on, on the live line; safe to call from any thread."""
        if self._live is not None:
            self._live.update(self._task, description=f"{_short(name)}{doing}")

    def advance(self, name: str) -> None:
        """One more is done, `name`."""
        self.reach(self._done + 1, f"last {name}")

    def reach(self, done: int, now: str) -> None:
        """So many are done, `now`."""
        self._done = done
        pace = self._pace(*self._work())
        if self._live is not None:
            self._live.update(self._task, completed=self._done, pace=pace)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            say(f"{self._done}/{self._total} {self._of}, {pace}, {now}")

    def _work(self) -> tuple[int, float]:
        """How many took time, and the seconds they took."""
        return self._done, time.monotonic() - self._started

    def _pace(self, worked: int, seconds: float) -> str:
        if not worked:
            return ""
        each = seconds / worked
        rate = f"{1 / each:.1f} {self._of}/s" if each < 1 else f"{each:.1f} s each"
        return f"{rate}, {_duration(each * (self._total - self._done))} left"


class FitProgressBar(CountProgress):
    """Shows a folder fit, in images that went by."""

    def __init__(self, visits: int, *, quiet: bool) -> None:
        super().__init__(visits, "images", quiet=quiet)
        self._before = 0
        """Images that went by in an earlier run."""

    def show(self, progress: FitProgress) -> None:
        self._before = progress.before
        labels = "" if progress.labels is None else f", {progress.labels} labels"
        self.describe("fitting", f": {progress.step}{labels}")
        self.reach(progress.seen, f"{progress.step}{labels}")

    def _work(self) -> tuple[int, float]:
        seen, seconds = super()._work()
        return seen - self._before, seconds


class BatchProgress(CountProgress):
    """Shows a running batch, names what failed, and counts what was complete already as no work."""

    def __init__(self, summary: RunSummary, *, quiet: bool) -> None:
        super().__init__(summary.images, "images", quiet=quiet)
        self._summary = summary
        self._warned = 0

    def iterate(self, job: Job, iteration: int, labels: int) -> None:
        """An iteration of the image at hand; called from the engine's thread."""
        self.describe(job.source.name, f"  iteration {iteration}, {labels} labels")

    def finish(self, outcome: Outcome) -> None:
        """An image is finished; it is in the summary already."""
        if outcome.status == "failed":
            say(f"failed: {outcome.path}: {outcome.reason}", "red")
        if not self._quiet:
            for warning in outcome.warnings[: max(0, MOST_WARNED - self._warned)]:
                say(f"warning: {outcome.path}: {warning}", "yellow")
            self._warned += len(outcome.warnings)
        self.advance(outcome.path)

    def _work(self) -> tuple[int, float]:
        return self._summary.done + len(self._summary.failures), super()._work()[1]


def show_summary(summary: RunSummary) -> None:
    """The closing table, and where the results are."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    counts = [f"{summary.done - summary.reused} segmented"]
    if summary.reused:
        counts.append(f"{summary.reused} written from earlier labels")
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
        table.add_row("labels per image", f"{statistics.median(summary.labels):g} in the median, {least} to {most}")
    stderr.print(table)
    if len(summary.warnings) > MOST_WARNED:
        more = len(summary.warnings) - MOST_WARNED
        say(f"and {more} more warnings; {summary.plan.output}/run.json has all", "yellow")
    if summary.done or summary.skipped:
        saved = summary.plan.batch.save
        one = len(saved) == 1 and not saved[0].endswith("s")
        say(f"{', '.join(saved)} {'is' if one else 'are'} in {summary.plan.output}")


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"

"""Progress: live on a terminal, otherwise one plain line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from ..counting import Counts
from ..files.names import printable
from .console import say, stderr

LINE_EVERY_S = 10.0
"""Seconds between the plain lines of a log."""
NAME_WIDTH = 40

Self = TypeVar("Self", bound="CountProgress")


class CountProgress:
    """A context manager that shows how many of a number of things are done, and how fast."""

    def __init__(self, total: int, unit: str, *, quiet: bool) -> None:
        self._counts = Counts(total, unit)
        self._quiet = quiet
        self._last_line = time.monotonic()
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
        """Name the current item on the live line; safe to call from any thread."""
        if self._live is not None:
            self._live.update(self._task, description=f"{_short(name)}{doing}")

    def advance(self, name: str, *, worked: bool = True) -> None:
        """Count one more item as done; `worked` says whether it took time, which the pace depends on."""
        self._counts.advance(worked=worked)
        self._show(f"last {name}")

    def reach(self, done: int, now: str, worked: int | None = None) -> None:
        """Set how many items are done, and how many of them took time; `now` describes the current one."""
        self._counts.reach(done, worked)
        self._show(now)

    def _show(self, now: str) -> None:
        if self._live is not None:
            self._live.update(self._task, completed=self._counts.done, pace=self._counts.pace())
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            say(self._counts.line(now))


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"

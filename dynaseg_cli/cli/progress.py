"""Progress: live on a terminal, otherwise one plain line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.table import Column
from rich.text import Text

from ..counting import Counts, duration
from ..files.names import printable
from .console import say, stderr

LINE_EVERY_S = 10.0
"""Seconds between the plain lines of a log."""
NAME_WIDTH = 40
BAR_WIDTH, LEAST_BAR = 24, 5
LEAST_NAME = 12
"""Characters of a name that are worth showing."""

Self = TypeVar("Self", bound="CountProgress")


class CountProgress:
    """A context manager that shows how many of a number of things are done, and how fast."""

    def __init__(self, total: int, unit: str, *, quiet: bool) -> None:
        self._counts = Counts(total, unit)
        self._quiet = quiet
        self._last_line = time.monotonic()
        self._live: Progress | None = None
        if stderr.is_live and not quiet:
            count = 2 * len(str(total)) + 1
            bar = max(LEAST_BAR, min(BAR_WIDTH, stderr.width - count - 20))
            self._live = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=bar),
                MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=count)),
                _Details(stderr.width - len("s ") - bar - len(" ") - count - len(" ")),
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

    def advance(self, name: str, *, worked: bool = True, left: float | None = None) -> None:
        """Count one more item as done.

        Parameters
        ----------
        worked : whether it took time, which the pace depends on.
        left : seconds until all is done, where items differ too much for a pace.
        """
        self._counts.advance(worked=worked, left=left)
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


class _Details(ProgressColumn):
    """What there is room for beside bar and count: the time, the pace with what is left, and the current item."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def render(self, task: Task) -> Text:
        return details(duration(task.elapsed or 0), task.fields["pace"], task.description, self._room)


def details(elapsed: str, pace: str, description: str, room: int) -> Text:
    """Time, pace and description in at most `room` characters; of what does not fit, the last go first."""
    text = Text(no_wrap=True)
    for part, style in ((elapsed, ""), (pace, "cyan")):
        if part and len(text) + 2 * bool(text) + len(part) > room:
            return text
        text.append("  " if text and part else "").append(part, style)
    left = room - len(text) - 2
    if len(description) <= left:
        text.append(f"  {description}")
    elif left >= LEAST_NAME:
        text.append(f"  {description[: left - 1]}…")
    return text


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"

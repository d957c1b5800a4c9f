"""A bar of tqdm for the events of a run: a widget in a notebook, a line of text in a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .batch.outcomes import Outcome
from .batch.planning import Plan
from .counting import Counts
from .files.names import printable
from .run import Event, ModelReady
from .workers.messages import FitProgress
from .workers.pool import ImageProgress

LAYOUT = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{postfix}"
"""Without the speed and the time left of tqdm, which takes skipped images for work: these are in the postfix."""


class RunBar:
    """One bar at a time: for the fit of the folder's network, if there is one, then for the images."""

    def __init__(self, plan: Plan) -> None:
        self._images = len(plan.jobs) + len(plan.unlistable)
        self._failed = 0
        self._bar: Any = None
        if plan.lacks_model:
            self._open("fitting: ", plan.fit_visits)
        else:
            self._open("", self._images)

    def show(self, event: Event) -> None:
        """Show an event; files of the whole run are not shown."""
        if isinstance(event, FitProgress):
            self._counts.reach(event.seen, event.seen - event.before)
            self._update(event.step)
        elif isinstance(event, ModelReady):
            self._open("", self._images)
        elif isinstance(event, ImageProgress):
            self._update(Path(event.job.file_name).name)
        elif isinstance(event, Outcome):
            self._failed += event.status == "failed"
            self._counts.advance(worked=event.status != "skipped")
            self._update("")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _open(self, doing: str, total: int) -> None:
        if self._bar is not None:
            self._bar.close()
        self._counts = Counts(total, "images")
        # With no least number of steps, each update may draw, but not more often than tqdm's interval.
        self._bar = tqdm(total=total, unit=self._counts.unit, desc=doing, bar_format=LAYOUT, miniters=0)
        self._update("")

    def _update(self, now: str) -> None:
        failed = f"{self._failed} failed" if self._failed else ""
        told = ", ".join(part for part in (self._counts.pace(), failed, printable(now)) if part)
        self._bar.set_postfix_str(told, refresh=False)
        self._bar.update(self._counts.done - self._bar.n)

"""How far a run is and how long the rest will take, for whatever shows it: a terminal, a log or a notebook."""

from __future__ import annotations

import time


class Counts:
    """How many of a number of things are done, and how fast.

    Parameters
    ----------
    total : how many there are.
    unit : what they are, in the plural.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self._worked = 0
        """How many of these took time."""
        self._left: float | None = None
        self._started = time.monotonic()

    def advance(self, *, worked: bool = True, left: float | None = None) -> None:
        """Count one more thing as done.

        Parameters
        ----------
        worked : whether it took time, which the pace depends on.
        left : seconds until all is done, where things differ too much for a pace.
        """
        self._left = left
        self.reach(self.done + 1, self._worked + worked)

    def reach(self, done: int, worked: int | None = None) -> None:
        """Set how many things are done, and how many of them took time: all, unless `worked` says."""
        self.done = done
        self._worked = done if worked is None else worked

    def pace(self) -> str:
        """The speed and the time left, "2.0 images/s, 5 s left"; empty while nothing that took time is done."""
        if self._left is not None:
            return f"{duration(self._left)} left"
        if not self._worked:
            return ""
        each = (time.monotonic() - self._started) / self._worked
        rate = f"{1 / each:.1f} {self.unit}/s" if each < 1 else f"{each:.1f} s each"
        return f"{rate}, {duration(each * (self.total - self.done))} left"

    def line(self, now: str) -> str:
        """A line of a log: "3/8 images, 2 s elapsed, 2.0 images/s, 2 s left, last c.png"; `now` is the last part."""
        elapsed = f"{duration(time.monotonic() - self._started)} elapsed"
        return ", ".join(part for part in (f"{self.done}/{self.total} {self.unit}", elapsed, self.pace(), now) if part)


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "2 min 05 s", "1 h 11 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"

"""How far a run is: counts, pace and the time left, on a clock of the test's own."""

from __future__ import annotations

import pytest

from dynaseg_cli import counting
from dynaseg_cli.counting import Counts


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(counting, "time", made)
    return made


def test_pace_is_that_of_what_took_time(clock: Clock) -> None:
    counts = Counts(10, "images")
    assert counts.pace() == ""
    counts.advance(worked=False)
    clock.now += 4
    assert (counts.done, counts.pace()) == (1, ""), "nothing has taken time"
    counts.advance()
    assert counts.pace() == "4.0 s each, 32 s left"
    for _ in range(7):
        counts.advance()
    assert (counts.done, counts.pace()) == (9, "2.0 images/s, 0 s left")


@pytest.mark.parametrize(
    ("seconds", "left"), [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3725, "1 h 02 min")]
)
def test_time_left_is_told_in_two_units_at_most(clock: Clock, seconds: int, left: str) -> None:
    counts = Counts(1 + seconds, "images")
    clock.now += 1
    counts.advance()
    assert counts.pace() == f"1.0 s each, {left} left"


def test_counts_can_be_set(clock: Clock) -> None:
    counts = Counts(40, "images")
    clock.now += 10
    counts.reach(30, 10)  # 20 were done earlier
    assert counts.pace() == "1.0 s each, 10 s left"
    counts.reach(40)
    assert counts.pace() == "4.0 images/s, 0 s left"


def test_line_has_no_holes(clock: Clock) -> None:
    counts = Counts(3, "images")
    assert counts.line("last a.png") == "0/3 images, 0 s elapsed, last a.png"
    clock.now += 1.5
    counts.advance()
    assert counts.line("last b.png") == "1/3 images, 2 s elapsed, 1.5 s each, 3 s left, last b.png"


def test_time_left_can_be_told_where_things_differ_too_much_for_a_pace(clock: Clock) -> None:
    counts = Counts(3, "steps")
    clock.now += 1
    counts.advance(left=90)
    assert (counts.done, counts.pace()) == (1, "1 min 30 s left")
    counts.advance()
    assert counts.pace() == "2.0 steps/s, 0 s left", "only for as long as it is told"

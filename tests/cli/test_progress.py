"""Progress as it is seen, on terminals of several widths and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dynaseg_cli import counting
from dynaseg_cli.cli import progress
from dynaseg_cli.cli.console import stderr
from dynaseg_cli.cli.progress import CountProgress, details

NAME = "a_rather_long_name_of_a_photo_2024.jpg"


def live_line(monkeypatch: pytest.MonkeyPatch, width: int, total: int = 12_000) -> str:
    """The line after all of the images but one, on a terminal of that width."""
    monkeypatch.setattr(type(stderr), "is_live", True)
    monkeypatch.setattr(stderr, "width", width)
    bar = CountProgress(total, "images", quiet=False)
    bar.reach(total - 1, NAME)
    bar.describe(NAME, "  iteration 123, 45 labels")
    assert bar._live is not None
    bar._live.update(bar._task, pace="2.0 s each, 10 s left")
    screen = Console(width=width, file=io.StringIO())
    screen.print(bar._live.get_renderable())
    return str(screen.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [120, 80, 50, 40, 30, 20])
def test_bar_and_count_are_whole_on_a_terminal_of_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    line = live_line(monkeypatch, width)
    assert "\n" not in line
    assert len(line) <= width
    assert "11999/12000" in line
    assert line.count("━") + line.count("╸") >= 4
    assert ("0 s" in line) == (width > 20)
    assert ("left" in line) == (width >= 80)
    assert (NAME[: progress.LEAST_NAME - 1] in line) == (width >= 80)


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (60, "9 s  2.0 s each, 10 s left  cat.jpg  iteration 3"),
        (46, "9 s  2.0 s each, 10 s left  cat.jpg  iteratio…"),
        (39, "9 s  2.0 s each, 10 s left"),
        (26, "9 s  2.0 s each, 10 s left"),
        (25, "9 s"),
        (3, "9 s"),
        (2, ""),
    ],
)
def test_details_that_do_not_fit_go_from_the_last_one_on(room: int, shown: str) -> None:
    text = details("9 s", "2.0 s each, 10 s left", "cat.jpg  iteration 3", room).plain
    assert text == shown
    assert len(text) <= room


def test_item_is_shown_before_there_is_a_pace() -> None:
    assert details("9 s", "", "cat.jpg", 40).plain == "9 s  cat.jpg"


def test_lines_of_a_log_have_the_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(counting, "duration", lambda seconds: "1 h 02 min")
    with CountProgress(2, "images", quiet=False) as bar:
        bar.advance("a.png")
    assert capsys.readouterr().err.startswith("1/2 images, 1 h 02 min elapsed, ")

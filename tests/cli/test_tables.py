"""Tables at the widths that terminals have."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dynaseg_cli.cli.tables import ARROWS, ASCII_ARROWS, arrows_for, heading, metrics_table
from dynaseg_cli.evaluation.headings import HEADINGS, HIGHER_IS_BETTER, LOWER_IS_BETTER, Row

METRICS = ("miou_all", "miou_fine", "miou_coarse", "miou_mean", "covering", "pri", "voi", "segments")
ROWS: list[tuple[str, Row]] = [
    ("all 12", dict.fromkeys(METRICS, 0.5)),
    ("the 10 worst:", {}),
    ("holidays/beach-0001", dict.fromkeys(METRICS, 0.25)),
]


def drawn(room: int | None, rows: list[tuple[str, Row]] = ROWS) -> tuple[list[str], list[str]]:
    """The lines of a table, and the columns that it leaves out."""
    table, left_out = metrics_table("images", rows, room, ARROWS)
    screen = Console(width=room or 1000, file=io.StringIO())
    screen.print(table)
    return screen.file.getvalue().splitlines(), left_out  # type: ignore[attr-defined]


@pytest.mark.parametrize("room", [120, 100])
def test_what_fits_is_all_there(room: int) -> None:
    lines, left_out = drawn(room)
    assert left_out == []
    assert lines[0].split() == ["images", *(heading(metric, ARROWS) for metric in METRICS)]


@pytest.mark.parametrize("room", [60, 50, 40])
def test_narrow_terminal_loses_the_last_columns_and_no_name_or_number(room: int) -> None:
    lines, left_out = drawn(room)
    shown = lines[0].split()[1:]
    assert shown + left_out == [heading(metric, ARROWS) for metric in METRICS]
    assert left_out
    assert shown
    assert max(map(len, lines)) <= room
    assert "…" not in "".join(lines)
    assert lines[1].split() == ["all", "12", *["0.500"] * len(shown)]
    # The name may be on several lines, and is whole.
    width = lines[0].index(shown[0][0], 6)
    assert "".join(line[:width].split(" ")[0] for line in lines[3:]) == "holidays/beach-0001"
    assert lines[3].split()[1:] == ["0.250"] * len(shown)


def test_first_metric_stays_on_any_terminal() -> None:
    lines, left_out = drawn(12)
    assert lines[0].split() == ["images", "All↑"]
    assert len(left_out) == len(METRICS) - 1
    assert "0.500" in lines[1]


def test_long_names_are_folded_before_a_metric_is_left_out() -> None:
    name = "scf:iterations=2:min_labels=3:max_size=16"
    lines, left_out = drawn(80, [(name, dict.fromkeys(METRICS, 0.5))])
    assert left_out == []
    assert len(lines) > 2
    assert "".join(line.split(" ")[0] for line in lines[1:]) == name


def test_file_has_no_width() -> None:
    lines, left_out = drawn(None, [("x" * 300, dict.fromkeys(METRICS, 0.5))])
    assert (len(lines), left_out) == (2, [])


def test_arrows_say_which_way_is_better_in_what_the_stream_can_show() -> None:
    assert [heading(metric, arrows_for("utf-8")) for metric in ("miou", "voi", "segments")] == [
        "mIoU↑",
        "VoI↓",
        "segments",
    ]
    for encoding in ("ascii", "latin-1"):
        assert arrows_for(encoding) == ASCII_ARROWS
    assert heading("voi", ASCII_ARROWS) == "VoI v"


def test_metrics_with_a_better_way_are_columns() -> None:
    assert set(HEADINGS) >= HIGHER_IS_BETTER | LOWER_IS_BETTER
    assert not HIGHER_IS_BETTER & LOWER_IS_BETTER

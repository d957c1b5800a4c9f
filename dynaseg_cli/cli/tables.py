"""Tables of metrics that fit the terminal: the first column is whole, and columns are left out from the right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from ..evaluation.headings import HEADINGS, Better, Row, better, columns_of, written
from ..files.names import printable
from .console import say, stderr

ROOMY, TIGHT = 2, 1
"""Spaces between columns, and where there is not enough room for these."""
LEAST_NAME = 10
"""Characters that longer names are folded to before any metric is left out."""
UNLIMITED = 100_000
"""Characters of a line that is written to a file."""
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓"}
ASCII_ARROWS: dict[Better, str] = {"higher": " ^", "lower": " v"}


def show_metrics(of: str, rows: Sequence[tuple[str, Row]]) -> None:
    """Print a table on stderr, and a line about columns that the terminal is too narrow for."""
    room = stderr.room
    table, left_out = metrics_table(of, rows, room, arrows_for(stderr.encoding))
    # rich lays tables out for 80 characters where there is no terminal.
    stderr.print(table if room is not None else Segments(stderr.render(table, stderr.options.update(width=UNLIMITED))))
    if left_out:
        say(f"left out: {', '.join(left_out)} (a wider terminal shows them, --json has all)", "dim")


def metrics_table(
    of: str, rows: Sequence[tuple[str, Row]], room: int | None, arrows: dict[Better, str]
) -> tuple[Table, list[str]]:
    """One row for each name and its metrics; without metrics, the name is a heading. Empty columns are left out.

    Parameters
    ----------
    of : heading of the names.
    room : characters of a line; None if there is no limit.
    arrows : what follows the heading of a metric that is better higher, or lower.

    Returns
    -------
    The table, and the headings of the columns that it had no room for.
    """
    columns = columns_of(row for _, row in rows)
    cells = [[written(column, row.get(column)) for column in columns] for _, row in rows]
    heads = [heading(column, arrows) for column in columns]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    name_width = max(len(printable(name)) for name in (of, *(name for name, _ in rows)))
    gap, shown = _fitting(name_width, widths, room)
    if room is not None:
        name_width = min(name_width, max(1, room - sum(widths[:shown]) - gap * shown))

    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(of, overflow="fold", width=name_width)
    for head, width in zip(heads[:shown], widths, strict=False):
        table.add_column(head, justify="right", no_wrap=True, width=width)
    for (name, row), numbers in zip(rows, cells, strict=True):
        table.add_row(Text(printable(name), "" if row else "italic"), *numbers[:shown])
    return table, heads[shown:]


def _fitting(name_width: int, widths: Sequence[int], room: int | None) -> tuple[int, int]:
    """The gap between columns, and how many metrics there is room for: at least the first."""
    if room is None:
        return ROOMY, len(widths)
    for name in (name_width, min(name_width, LEAST_NAME)):
        for gap in (ROOMY, TIGHT):
            if name + sum(widths) + gap * len(widths) <= room:
                return gap, len(widths)
    name, shown = min(name_width, max(LEAST_NAME, room // 3)), len(widths)
    while shown > 1 and name + sum(widths[:shown]) + TIGHT * shown > room:
        shown -= 1
    return TIGHT, shown


def heading(metric: str, arrows: dict[Better, str]) -> str:
    """How a metric is called, and which way is better."""
    way = better(metric)
    return HEADINGS[metric] + (arrows[way] if way else "")


def arrows_for(encoding: str) -> dict[Better, str]:
    """Arrows that a stream can show."""
    try:
        "".join(ARROWS.values()).encode(encoding)
    except UnicodeEncodeError:
        return ASCII_ARROWS
    return ARROWS

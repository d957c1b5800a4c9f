"""Metrics as a table for people: mIoU never without covering, variation of information and segments beside it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ..evaluation.agreement import Row
from ..evaluation.headings import HEADINGS, columns_of, written
from ..names import printable

ROOMY = 8
"""Columns up to which there is space to spare between them on a terminal of 80 characters."""


def metrics_table(of: str, rows: Sequence[tuple[str, Row]]) -> Table:
    """One row for each name and its metrics; without metrics, the name is a heading. Empty columns are left out."""
    columns = columns_of(row for _, row in rows)
    table = Table(box=None, padding=(0, 2 if len(columns) <= ROOMY else 1, 0, 0), header_style="bold")
    table.add_column(of, overflow="fold")
    for column in columns:
        table.add_column(HEADINGS[column], justify="right", no_wrap=True, min_width=len(HEADINGS[column]))
    for name, row in rows:
        style = "" if row else "italic"
        table.add_row(Text(printable(name), style), *(written(column, row.get(column)) for column in columns))
    return table

"""The table of a benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.agreement import Row
from ..evaluation.headings import HEADINGS, columns_of, written


def markdown_table(rows: Sequence[tuple[str, Row]]) -> str:
    """One line for each name and its metrics."""
    columns = columns_of(row for _, row in rows)
    lines = [
        ["method", *(HEADINGS[column] for column in columns)],
        ["---", *("---:" for _ in columns)],
        *([f"`{name}`", *(written(column, row.get(column)) for column in columns)] for name, row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

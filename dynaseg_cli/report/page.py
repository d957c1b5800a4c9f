"""The page of a report: one file with all that it needs but the images' own, and every name in it as data."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from ..names import shown, shown_all

ROWS_AT_ONCE = 500
"""Rows that are made into bytes at a time."""
_PLACE = re.compile(r"\{\{(\w+)\}\}")
"""In ``page.html``, where something goes."""
_MARKUP = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""In JSON these occur within strings alone, where escapes mean the same."""


@dataclass(frozen=True)
class Row:
    """What the page shows of an image before anyone looks at it closely."""

    name: str
    """As people know it: sub/cat.jpg. Whatever characters it holds."""
    files: str
    """URL of its files, relative to the page, up to where `ENTRY_FILES` go on."""
    width: int
    height: int
    labels: int
    regions: int
    stop_reason: str
    seconds: float
    """Wall time of the optimisation."""
    iterations: int


def page_row(name: str, files: str, stats: dict[str, Any]) -> Row:
    """The row of an image, of its document of ``stats.schema.json`` with its regions."""
    source, fit = stats["source"], stats["fit"]
    return Row(
        name=name,
        files=files,
        width=source["width"],
        height=source["height"],
        labels=stats["num_labels"],
        regions=len(stats["regions"]),
        stop_reason=fit["stop_reason"],
        seconds=fit["seconds"],
        iterations=fit["iterations"],
    )


def report_page(rows: Iterable[Row], failures: Sequence[dict[str, Any]], run: dict[str, Any]) -> Iterator[bytes]:
    """The content of ``report.html``, piece by piece.

    Parameters
    ----------
    rows : of all images that have files.
    failures : path and reason of each image that has none.
    run : the document of ``run.json``.
    """
    others = {name: value for name, value in run.items() if name != "failures"}
    parts: dict[str, Iterable[bytes]] = {
        "style": [_asset("report.css")],
        "script": [_asset("report.js")],
        "run": [_json(shown_all(others))],
        "failures": [_json([{name: shown(failure[name]) for name in ("path", "reason")} for failure in failures])],
        "fields": [_json([field.name for field in fields(Row)])],
        "rows": _rows(rows),
    }
    for index, piece in enumerate(_PLACE.split(_asset("page.html").decode())):
        if index % 2:
            yield from parts[piece]
        else:
            yield piece.encode()


def _rows(rows: Iterable[Row]) -> Iterator[bytes]:
    """A JSON array of arrays, with a line each."""
    iterator = iter(rows)
    before = b""
    while some := list(itertools.islice(iterator, ROWS_AT_ONCE)):
        yield before + b",\n".join(_json([*_values(row)]) for row in some)
        before = b",\n"


def _values(row: Row) -> Iterator[Any]:
    for field in fields(row):
        value = getattr(row, field.name)
        yield shown(value) if isinstance(value, str) else value


def _json(value: Any) -> bytes:
    """JSON that can stand in a script element, whatever its strings hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_MARKUP).encode()


def _asset(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()

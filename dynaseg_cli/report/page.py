"""The page of a report: one file with everything except for the files of the images; all names are data in it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from ..files.names import shown, shown_all

SCRIPTS = (
    "common",
    "run",
    "view",
    "layers",
    "grid",
    "packing",
    "labelmap",
    "hierarchy",
    "clusters",
    "charts",
    "detail",
    "zoom",
    "start",
)
"""The files in ``scripts``. They are one module of the page; what runs at once may need the files before it."""
ENTRY_FILES: tuple[str, ...] = ("-photo.webp", "-labels.webp", "-regions.webp", "-overlay.webp", "-details.js")
"""Ends of the names of the files of an image; its details are last."""
OLD_DETAILS = ".js"
"""That of the details in earlier versions, which this version's page cannot read."""
ROWS_AT_ONCE = 500
"""Rows that are encoded at a time."""
_PLACE = re.compile(r"\{\{(\w+)\}\}")
"""A placeholder in ``page.html``."""
_MARKUP = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""Escapes of characters that occur in JSON only within strings."""


@dataclass(frozen=True)
class Row:
    """The data of an image that the page has from the start."""

    name: str
    """Path below the input, with any characters: ``sub/cat.jpg``."""
    files: str
    """URL of its files relative to the page, without the ends in `ENTRY_FILES`."""
    width: int
    height: int
    labels: int
    regions: int
    stop_reason: str
    seconds: float
    """Wall time of the optimisation."""
    iterations: int
    other: tuple[str, int, int] | None = None
    """Files, labels and regions of the same photo in the folder that this one is compared with."""


def page_row(name: str, files: str, stats: dict[str, Any], other: Row | None = None) -> Row:
    """The row of an image with these statistics (``stats.schema.json``), which include regions.

    Parameters
    ----------
    other : the row of the same photo in another folder, with URLs relative to this page, for a comparison.
    """
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
        other=None if other is None else (other.files, other.labels, other.regions),
    )


def report_page(rows: Iterable[Row], failures: Sequence[dict[str, Any]], run: dict[str, Any]) -> Iterator[bytes]:
    """The content of ``report.html``, piece by piece.

    Parameters
    ----------
    rows : one for each image that has files.
    failures : path and reason of each image that has none.
    run : the content of ``run.json``.
    """
    others = {name: value for name, value in run.items() if name != "failures"}
    parts: dict[str, Iterable[bytes]] = {
        "style": [_asset("report.css")],
        "script": [_asset(f"scripts/{name}.js") for name in SCRIPTS],
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
    """The items of a JSON array, a line each."""
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
    """JSON that may stand in a script element, whatever its strings hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_MARKUP).encode()


def _asset(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()

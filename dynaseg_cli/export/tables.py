"""Measurements of all segments of all images as one table: CSV (RFC 4180, in UTF-8) or Apache Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..config import PixelSize
from ..errors import ImageError
from .folder import ExportFolder
from .source import ExportSettings, Prepare, Source

CSV_FILE, PARQUET_FILE = "measurements.csv", "measurements.parquet"
ROWS_AT_ONCE = 1 << 16
"""Rows that are collected for a row group of Parquet."""

COLUMNS: dict[str, type] = {
    **{"file": str, "region": int, "label": int, "label_name": str},
    **{"area": int, "perimeter": float, "centroid-0": float, "centroid-1": float},
    **{"bbox-0": int, "bbox-1": int, "bbox-2": int, "bbox-3": int},
    **{"orientation": float, "axis_major_length": float, "axis_minor_length": float},
    **{"eccentricity": float, "solidity": float},
    **{f"intensity_{name}-{channel}": float for name in ("mean", "std") for channel in range(3)},
    **{"num_neighbors": int, "neighbors": list, "touches_border": bool},
    **{"unit": str, "pixel_size-0": float, "pixel_size-1": float},
    **{"physical_area": float, "physical_perimeter": float},
    **{"physical_axis_major_length": float, "physical_axis_minor_length": float},
}
"""What a table holds, and of which type. Lists are of numbers of segments."""


@contextmanager
def csv_table(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``measurements.csv``. What is not defined is an empty cell, and a list has spaces between its numbers."""
    with folder.open(CSV_FILE) as stream:

        def prepare(source: Source) -> Callable[[], object]:
            columns = _columns(source, settings)
            columns["neighbors"] = [" ".join(map(str, numbers)) for numbers in columns["neighbors"]]
            content = _lines(zip(*columns.values(), strict=True))
            return lambda: stream.write(content)

        stream.write(_lines([COLUMNS]))
        yield prepare


@contextmanager
def parquet_table(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``measurements.parquet``. What is not defined is null."""
    import pyarrow  # noqa: PLC0415 - an extra
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

    types = {
        **{int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_(), str: pyarrow.string()},
        list: pyarrow.list_(pyarrow.int64()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with folder.open(PARQUET_FILE) as stream, ParquetWriter(stream, schema) as writer:
        waiting: list[Any] = []

        def write() -> None:
            writer.write_table(pyarrow.Table.from_batches(waiting, schema))
            waiting.clear()

        def prepare(source: Source) -> Callable[[], object]:
            batch = pyarrow.RecordBatch.from_pydict(_columns(source, settings), schema)

            def add() -> None:
                waiting.append(batch)
                if sum(map(len, waiting)) >= ROWS_AT_ONCE:
                    write()

            return add

        yield prepare
        if waiting:
            write()


def _columns(source: Source, settings: ExportSettings) -> dict[str, list[Any]]:
    """The rows of an image: each of `COLUMNS` with a value for each segment, None for what is not defined.

    Raises ImageError if the name of the image is not UTF-8, besides what measuring raises.
    """
    file = source.image.file_name
    try:
        file.encode()
    except UnicodeEncodeError:
        raise ImageError(f"a table holds UTF-8, and the name {file!r} is not: rename the photo") from None
    measured, given = source.measurements, settings.config.pixel_size
    size = measured.pixel_size if given is None else PixelSize.parse(given)
    found = source.runs.segments
    count, labels = len(found), source.segments.labels[found].tolist()
    columns: dict[str, Any] = {
        **measured.columns,
        "file": [file] * count,
        "label": labels,
        "label_name": [settings.names[label] for label in labels],
    }
    if settings.things:
        columns["region"] = found
    if size is not None:
        columns |= measured.in_units(size)
        columns |= {"unit": [size.unit] * count, "pixel_size-0": [size.height] * count}
        columns["pixel_size-1"] = [size.width] * count
    return {name: _defined(columns[name]) if name in columns else [None] * count for name in COLUMNS}


def _defined(column: Any) -> list[Any]:
    """Python's numbers, None for NaN."""
    if isinstance(column, np.ndarray):
        return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124
    return list(column)


def _lines(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()

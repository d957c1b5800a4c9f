"""ROIs of ImageJ: a zip file for each photo, for its ROI manager."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pictures.palette import label_color
from .folder import ExportFolder, encode_zip
from .source import ExportSettings, Prepare, Source, file_per_photo

MOVE_TO, LINE_TO, CLOSE = 0, 1, 4
"""Segments of a path (ij.gui.ShapeRoi)."""


def roi(folder: ExportFolder, settings: ExportSettings) -> AbstractContextManager[Prepare]:
    """Write ``roi/``: each part of a segment is a ROI in the colour of its label, a composite one if it has holes."""

    def encode(source: Source) -> bytes:
        labels, outlines = source.labels.tolist(), source.outlines
        return encode_zip(
            {
                f"{name}.roi": _encode_roi(part, name, labels[owner])
                for part, owner, name in zip(
                    outlines.parts, outlines.owners.tolist(), _names(source, settings), strict=True
                )
            }
        )

    return file_per_photo(folder, "roi", ".zip", encode)


def _names(source: Source, settings: ExportSettings) -> Iterator[str]:
    """``label-region`` for each part, with the number of the part if there are more; ``label-part`` without regions."""
    labels, numbers = source.labels.tolist(), source.runs.segments.tolist()
    owners = source.outlines.owners.tolist()
    parts, seen = Counter(owners), Counter[int]()
    for owner in owners:
        number = seen[owner]
        seen[owner] += 1
        if not settings.things:
            yield f"{labels[owner]}-{number}"
        else:
            yield f"{labels[owner]}-{numbers[owner]}" + (f"-{number}" if parts[owner] > 1 else "")


def _encode_roi(part: Any, name: str, label: int) -> bytes:
    from roifile import ROI_TYPE, ImagejRoi  # noqa: PLC0415 - an extra

    found = ImagejRoi.frompoints(np.array(part.exterior.coords[:-1], dtype=np.int64), name=name)
    found.roitype = ROI_TYPE.POLYGON
    if part.interiors:
        path = np.concatenate([_path(ring) for ring in (part.exterior, *part.interiors)])
        found.roitype = ROI_TYPE.RECT
        found.integer_coordinates, found.n_coordinates = None, 0
        found.multi_coordinates, found.shape_roi_size = path, len(path)
    found.stroke_color = bytes((255, *label_color(label)))
    content: bytes = found.tobytes()
    return content


def _path(ring: Any) -> NDArray[np.float32]:
    """A closed ring: each command is followed by its point."""
    points = np.array(ring.coords[:-1], dtype=np.float32)
    commands = np.full(len(points), LINE_TO, dtype=np.float32)
    commands[0] = MOVE_TO
    return np.append(np.column_stack([commands, points]), np.float32(CLOSE))

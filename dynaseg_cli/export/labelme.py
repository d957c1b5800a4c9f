"""labelme: a JSON file for each photo, with a polygon for each part of a segment."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from .folder import ExportFolder, encode_json
from .source import ExportImage, ExportSettings, Prepare, Source, file_per_photo, refuse_unreadable_name

FOLDER = "labelme"
VERSION = "5.5.0"
"""The version of labelme whose files these are like; those of 6 have the same members."""


def labelme(folder: ExportFolder, settings: ExportSettings) -> AbstractContextManager[Prepare]:
    """Write ``labelme/``. Holes are joined to what is around them by bridges, as labelme has none.

    The parts of a segment have its number as their group.
    """

    def encode(source: Source) -> bytes:
        place = folder.path / FOLDER / f"{source.image.name}.json"
        photo = _way_to_photo(source.image, place)
        refuse_unreadable_name(photo)
        labels, numbers, outlines = source.labels.tolist(), source.runs.segments.tolist(), source.outlines
        shapes = [
            {
                "label": settings.names[labels[owner]],
                "points": ring.tolist(),
                "group_id": numbers[owner],
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for owner, ring in zip(outlines.owners.tolist(), outlines.rings, strict=True)
        ]
        return encode_json(
            {
                "version": VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": photo,
                "imageData": None,
                "imageHeight": source.runs.height,
                "imageWidth": source.runs.width,
            }
        )

    return file_per_photo(folder, FOLDER, ".json", encode)


def _way_to_photo(image: ExportImage, place: Path) -> str:
    """The path of a photo from the folder of its file; as if they lay together if the photo is not where it was."""
    if image.path is None or not image.path.is_file():
        return os.path.basename(image.file_name)  # noqa: PTH119 - text, like the name
    return os.path.relpath(image.path.resolve(), place.parent.resolve())

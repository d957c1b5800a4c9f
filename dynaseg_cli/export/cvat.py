"""CVAT: a zip file for its importer "Segmentation mask 1.1", and the labels that its task needs to have.

The importer (cvat/apps/dataset_manager/formats/mask.py) unpacks the file and reads it as VOC. It finds the frame of
each image by its name without extension, folders included, and the label of each mask by its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from ..writing import write_atomically, write_content
from .categories import Categories
from .masks import CLASSES, LABEL_MAP, LIST, OBJECTS, ImageList, label_map, voc_colors
from .png import SUFFIX
from .source import Source
from .writer import Fill, Write

FILE = "cvat.zip"
LABELS = "cvat-labels.json"
FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The time of all members, the first that a zip file knows: equal results are equal files."""
MODE = 0o644 << 16


def write_cvat(folder: Path, categories: Categories, fill: Fill, *, claimed: bool = False) -> None:
    """Write ``cvat.zip`` and ``cvat-labels.json``."""
    write_content(folder / LABELS, _raw_labels(categories).encode(), claimed=claimed)
    write_atomically(folder / FILE, lambda stream: _write_zip(stream, categories, fill), claimed=claimed)


def _write_zip(stream: BinaryIO, categories: Categories, fill: Fill) -> None:
    with ZipFile(stream, "w") as archive:
        _add(archive, LABEL_MAP, label_map(categories.names).encode(), ZIP_DEFLATED)
        writer = _CvatWriter(archive)
        fill(writer)
        _add(archive, LIST, writer.images.content, ZIP_DEFLATED)


class _CvatWriter:
    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self.images = ImageList()

    def prepare(self, source: Source) -> Write:
        name, masks = self.images.name(source.image), source.masks

        def write() -> None:
            for kind, content in zip((CLASSES, OBJECTS), masks, strict=True):
                _add(self._archive, f"{kind}/{name}{SUFFIX}", content, ZIP_STORED)  # it is compressed
            self.images.append(name)

        return write


def _add(archive: ZipFile, name: str, content: bytes, compression: int) -> None:
    member = ZipInfo(name, FIRST_DAY)
    member.external_attr = MODE
    archive.writestr(member, content, compression)


def _raw_labels(categories: Categories) -> str:
    """The labels as CVAT's editor takes them, on its page "Raw", where a task is created.

    Any shape may have them: a mask is imported as a mask or as polygons, as the user of CVAT decides.
    """
    colors = voc_colors(categories.count + 1)[1:].tolist()
    labels = [
        {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color), "type": "any", "attributes": []}
        for name, color in zip(categories.names, colors, strict=True)
    ]
    return json.dumps(labels, indent=2) + "\n"

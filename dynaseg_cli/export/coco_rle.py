"""COCO's instances: each segment an annotation, its mask as a compressed run-length encoding."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ..writing import write_atomically
from .categories import Categories
from .coco import Document, Entry, as_text, image_entry
from .source import Source
from .writer import Fill, Write

FILE = "coco-rle.json"


def write_coco_rle(folder: Path, categories: Categories, fill: Fill, *, claimed: bool = False) -> None:
    """Write ``coco-rle.json``."""
    entries: list[Entry] = [
        {"id": number, "name": name, "supercategory": "label"} for number, name in enumerate(categories.names, 1)
    ]

    def write(stream: BinaryIO) -> None:
        document = Document(stream, entries)
        fill(_CocoRleWriter(document))
        document.finish()

    write_atomically(folder / FILE, write, claimed=claimed)


class _CocoRleWriter:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._annotations = 0

    def prepare(self, source: Source) -> Write:
        image = image_entry(source)
        annotations = _annotations(source, self._annotations + 1)
        text = as_text(annotations)

        def write() -> None:
            self._document.append(image, text)
            self._annotations += len(annotations)

        return write


def _annotations(source: Source, first: int) -> list[Entry]:
    """One for each segment that occurs, numbered from `first`."""
    runs = source.runs
    size = [runs.height, runs.width]
    columns = (source.categories.tolist(), runs.compressed(), runs.areas().tolist(), runs.boxes().tolist())
    return [
        {
            "id": number,
            "image_id": source.number,
            "category_id": category,
            "segmentation": {"size": size, "counts": counts},
            "area": area,
            "bbox": box,
            "iscrowd": 0,
        }
        for number, (category, counts, area, box) in enumerate(zip(*columns, strict=True), first)
    ]

"""COCO's panoptic format: a PNG whose colour is the segment of each pixel, and a JSON document about the segments."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from ..pictures.palette import label_color
from ..writing import refuse_unwritable, write_atomically
from .categories import Categories
from .coco import Document, Entry, as_text, image_entry
from .images import Map
from .png import SUFFIX, encode_png, remove_leftovers, write_png
from .source import Source
from .writer import Fill, Write

FOLDER = "coco-panoptic"
FILE = "coco-panoptic.json"
MOST = (1 << 24) - 1
"""Segments that a colour can number; black is void."""


def write_coco_panoptic(folder: Path, categories: Categories, fill: Fill, *, claimed: bool = False) -> None:
    """Write ``coco-panoptic.json`` and ``coco-panoptic/``; what an earlier export left of other images is removed."""
    pictures, file = folder / FOLDER, folder / FILE
    refuse_unwritable(pictures / "any", folder)
    # No document while pictures are replaced.
    file.unlink(missing_ok=True)

    def write(stream: BinaryIO) -> None:
        document = Document(stream, _entries(categories))
        writer = _CocoPanopticWriter(document, pictures, claimed=claimed)
        fill(writer)
        document.finish()
        remove_leftovers(pictures, writer.files)

    write_atomically(file, write, claimed=claimed)


def _entries(categories: Categories) -> list[Entry]:
    return [
        {
            "id": label + 1,
            "name": name,
            "supercategory": "label",
            "isthing": int(categories.things),
            "color": list(label_color(label)),
        }
        for label, name in enumerate(categories.names)
    ]


class _CocoPanopticWriter:
    def __init__(self, document: Document, pictures: Path, *, claimed: bool) -> None:
        self._document = document
        self._pictures = pictures
        self._claimed = claimed
        self.files: set[str] = set()
        """Of all images, below the folder of pictures."""

    def prepare(self, source: Source) -> Write:
        image = image_entry(source)
        file = source.image.name + SUFFIX
        text = as_text([{"image_id": source.number, "file_name": file, "segments_info": _segments_info(source)}])
        colors = segment_colors(source.segments.of_pixel)
        write_png(self._pictures, file, encode_png(Image.fromarray(colors)), claimed=self._claimed)

        def write() -> None:
            self._document.append(image, text)
            self.files.add(file)

        return write


def _segments_info(source: Source) -> list[Entry]:
    """One entry for each segment that occurs; its id is its number + 1, as 0 is void."""
    runs = source.runs
    if runs.segments[-1] >= MOST:
        raise ImageError(f"has segment {runs.segments[-1]}, and a colour of 24 bits numbers them up to {MOST - 1}")
    columns = (runs.segments.tolist(), source.categories.tolist(), runs.areas().tolist(), runs.boxes().tolist())
    return [
        {"id": segment + 1, "category_id": category, "area": area, "bbox": box, "iscrowd": 0}
        for segment, category, area, box in zip(*columns, strict=True)
    ]


def segment_colors(segments: Map) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of (H, W) segments: segment + 1 = R + 256 G + 65536 B."""
    numbers = segments.astype("<u4") + 1
    return np.ascontiguousarray(numbers[..., np.newaxis].view(np.uint8)[..., :3])

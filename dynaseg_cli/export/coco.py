"""COCO: instances with masks as run lengths or polygons, and panoptic PNGs. JSON documents, written as images come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import __version__
from ..errors import ImageError
from ..pictures.palette import label_color
from .folder import ExportFolder, encode_png
from .source import ExportSettings, Map, Prepare, Source, refuse_unreadable_name

RLE_FILE, POLYGONS_FILE = "coco-rle.json", "coco-polygons.json"
PANOPTIC_FILE, PANOPTIC_FOLDER = "coco-panoptic.json", "coco-panoptic"
MOST_SEGMENTS = (1 << 24) - 1
"""Segments that the colours of a panoptic PNG can number; black is void."""

Entry = dict[str, Any]


def coco_rle(folder: ExportFolder, settings: ExportSettings) -> AbstractContextManager[Prepare]:
    """Write ``coco-rle.json``: each segment is an annotation, its mask a compressed run-length encoding."""

    def masks(source: Source) -> Iterator[Entry]:
        size = [source.runs.height, source.runs.width]
        return ({"size": size, "counts": counts} for counts in source.runs.compressed())

    return _instances(folder, settings, RLE_FILE, masks)


def coco_polygons(folder: ExportFolder, settings: ExportSettings) -> AbstractContextManager[Prepare]:
    """Write ``coco-polygons.json``: each segment is an annotation, its mask a polygon for each of its parts.

    A list of polygons has no holes: bridges join these to what is around them. Areas and boxes are those of the pixels.
    """

    def masks(source: Source) -> list[list[list[float]]]:
        polygons: list[list[list[float]]] = [[] for _ in source.labels]
        for owner, ring in zip(source.outlines.owners.tolist(), source.outlines.rings, strict=True):
            polygons[owner].append(ring.ravel().tolist())
        return polygons

    return _instances(folder, settings, POLYGONS_FILE, masks)


@contextmanager
def _instances(
    folder: ExportFolder, settings: ExportSettings, file: str, masks: Callable[[Source], Iterable[object]]
) -> Iterator[Prepare]:
    entries = [_category(number, name) for number, name in enumerate(settings.names, 1)]
    with folder.open(file) as stream:
        document = _Document(stream, entries)

        def prepare(source: Source) -> Callable[[], object]:
            both = zip(_segment_entries(source), masks(source), strict=True)
            annotations = [
                {
                    "id": number,
                    "image_id": source.number,
                    "category_id": segment["category_id"],
                    "segmentation": mask,
                    **{name: segment[name] for name in ("area", "bbox", "iscrowd")},
                }
                for number, (segment, mask) in enumerate(both, document.annotations + 1)
            ]
            return document.add(source, annotations)

        yield prepare
        document.finish()


@contextmanager
def coco_panoptic(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``coco-panoptic.json``, and ``coco-panoptic/`` with a PNG for each image, whose colours are its segments.

    PNGs of other images that an earlier export left are removed.
    """
    folder.refuse_unwritable(f"{PANOPTIC_FOLDER}/any")
    # No document while pictures are replaced.
    folder.remove(PANOPTIC_FILE)
    entries = [
        {**_category(label + 1, name), "isthing": int(settings.things), "color": list(label_color(label))}
        for label, name in enumerate(settings.names)
    ]
    with folder.open(PANOPTIC_FILE) as stream:
        document = _Document(stream, entries)
        files: set[str] = set()

        def prepare(source: Source) -> Callable[[], object]:
            last = source.runs.segments.max(initial=0)
            if last >= MOST_SEGMENTS:
                raise ImageError(f"has segment {last}, and a colour of 24 bits numbers them up to {MOST_SEGMENTS - 1}")
            file = f"{source.image.name}.png"
            info = {"image_id": source.number, "file_name": file, "segments_info": _segment_entries(source)}
            add = document.add(source, [info])
            picture = Image.fromarray(segment_colors(source.segments.of_pixel))
            folder.write(f"{PANOPTIC_FOLDER}/{file}", encode_png(picture))
            files.add(file)
            return add

        yield prepare
        document.finish()
        folder.remove_pngs(PANOPTIC_FOLDER, files)


def segment_colors(segments: Map) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of (H, W) segments: segment + 1 = R + 256 G + 65536 B, so that -1 is black, void."""
    numbers = segments.astype("<u4") + 1
    return np.ascontiguousarray(numbers[..., np.newaxis].view(np.uint8)[..., :3])


def _category(number: int, name: str) -> Entry:
    return {"id": number, "name": name, "supercategory": "label"}


def _segment_entries(source: Source) -> list[Entry]:
    """One entry for each segment that occurs; its id is its number + 1, as 0 is void."""
    runs = source.runs
    columns = (runs.segments.tolist(), source.categories.tolist(), runs.areas().tolist(), runs.boxes().tolist())
    return [
        {"id": segment + 1, "category_id": category, "area": area, "bbox": box, "iscrowd": 0}
        for segment, category, area, box in zip(*columns, strict=True)
    ]


class _Document:
    """A data set as JSON. Annotations go to the stream at once, and the images, which are few, at the end."""

    def __init__(self, stream: BinaryIO, categories: list[Entry]) -> None:
        self._stream = stream
        self._images: list[Entry] = []
        self.annotations = 0
        """How many were added."""
        head = {
            "info": {"description": "Segments found by dynaseg", "version": __version__},
            "licenses": [],
            "categories": categories,
            "annotations": [],
        }
        self._write(json.dumps(head).removesuffix("]}") + "\n")

    def add(self, source: Source, annotations: list[Entry]) -> Callable[[], None]:
        """Encode an image and its annotations, and return what writes them.

        Raises ImageError if the name of the image is not text: JSON can hold it, but most readers refuse the whole
        document then.
        """
        name, runs = source.image.file_name, source.runs
        refuse_unreadable_name(name)
        text = _lines(annotations)

        def write() -> None:
            self._write((",\n" if self.annotations else "") + text)
            self.annotations += len(annotations)
            self._images.append({"id": source.number, "file_name": name, "width": runs.width, "height": runs.height})

        return write

    def finish(self) -> None:
        self._write(f'\n], "images": [\n{_lines(self._images)}\n]}}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text.encode())


def _lines(entries: list[Entry]) -> str:
    return ",\n".join(json.dumps(entry) for entry in entries)

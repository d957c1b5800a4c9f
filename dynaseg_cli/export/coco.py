"""What COCO's two formats have in common: one JSON document, written as the images come."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, BinaryIO

from .. import __version__
from ..errors import ImageError
from .source import Source

Entry = dict[str, Any]


class Document:
    """A data set as JSON: the annotations go to the stream at once, and the images, which are few, at the end."""

    def __init__(self, stream: BinaryIO, categories: list[Entry]) -> None:
        self._stream = stream
        self._images: list[Entry] = []
        self._annotated = False
        head = {
            "info": {"description": "Segments found by dynaseg", "version": __version__},
            "licenses": [],
            "categories": categories,
            "annotations": [],
        }
        self._write(json.dumps(head).removesuffix("]}") + "\n")

    def append(self, image: Entry, annotations: str) -> None:
        """Add an image and the text of its annotations, as `as_text` gives it."""
        self._write((",\n" if self._annotated else "") + annotations)
        self._annotated = True
        self._images.append(image)

    def finish(self) -> None:
        self._write(f'\n], "images": [\n{as_text(self._images)}\n]}}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text.encode())


def as_text(entries: Iterable[Entry]) -> str:
    """Entries of a list in JSON, one in each line."""
    return ",\n".join(json.dumps(entry) for entry in entries)


def image_entry(source: Source) -> Entry:
    """The image in a document.

    Raises
    ------
    ImageError
        If its name is no text: JSON could hold it, and most of its readers refuse the whole document then.
    """
    name = source.image.file_name
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ImageError(f"readers of JSON refuse the name {name!r}, which is not UTF-8: rename the photo") from None
    return {"id": source.number, "file_name": name, "width": source.runs.width, "height": source.runs.height}

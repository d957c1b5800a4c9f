"""VOC: a folder of palette PNGs, of classes and of objects, with a list of the images and a label map."""

from __future__ import annotations

from pathlib import Path

from ..writing import write_content
from .categories import Categories
from .masks import CLASSES, LABEL_MAP, LIST, OBJECTS, ImageList, label_map
from .png import SUFFIX, remove_leftovers, write_png
from .source import Source
from .writer import Fill, Write

FOLDER = "voc"


def write_voc(folder: Path, categories: Categories, fill: Fill) -> None:
    """Write ``voc/``; what an earlier export left there of other images is removed."""
    voc = folder / FOLDER
    # No list while masks are replaced.
    (voc / LIST).unlink(missing_ok=True)
    text = label_map(categories.names).encode()
    write_content(voc / LABEL_MAP, text)
    writer = _VocWriter(voc)
    fill(writer)
    for kind in (CLASSES, OBJECTS):
        remove_leftovers(voc / kind, writer.images.files)
    write_content(voc / LIST, writer.images.content)


class _VocWriter:
    def __init__(self, voc: Path) -> None:
        self._voc = voc
        self.images = ImageList()

    def prepare(self, source: Source) -> Write:
        name = self.images.name(source.image)
        for kind, content in zip((CLASSES, OBJECTS), source.masks, strict=True):
            write_png(self._voc / kind, name + SUFFIX, content)
        return lambda: self.images.append(name)

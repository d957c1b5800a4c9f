"""VOC: a folder of palette PNGs, of classes and of objects, with a list of the images and a label map."""

from __future__ import annotations

from pathlib import Path

from ..writing import refuse_unwritable, write_content
from .categories import Categories
from .masks import CLASSES, LABEL_MAP, LIST, OBJECTS, ImageList, label_map
from .png import SUFFIX, remove_leftovers, write_png
from .source import Source
from .writer import Fill, Write

FOLDER = "voc"


def write_voc(folder: Path, categories: Categories, fill: Fill, *, claimed: bool = False) -> None:
    """Write ``voc/``; what an earlier export left there of other images is removed."""
    voc = folder / FOLDER
    for written in (LIST, LABEL_MAP, f"{CLASSES}/any", f"{OBJECTS}/any"):
        refuse_unwritable(voc / written, folder)
    # No list while masks are replaced.
    (voc / LIST).unlink(missing_ok=True)
    text = label_map(categories.names).encode()
    write_content(voc / LABEL_MAP, text, claimed=claimed)
    writer = _VocWriter(voc, claimed=claimed)
    fill(writer)
    for kind in (CLASSES, OBJECTS):
        remove_leftovers(voc / kind, writer.images.files)
    write_content(voc / LIST, writer.images.content, claimed=claimed)


class _VocWriter:
    def __init__(self, voc: Path, *, claimed: bool) -> None:
        self._voc = voc
        self._claimed = claimed
        self.images = ImageList()

    def prepare(self, source: Source) -> Write:
        name = self.images.name(source.image)
        for kind, content in zip((CLASSES, OBJECTS), source.masks, strict=True):
            write_png(self._voc / kind, name + SUFFIX, content, claimed=self._claimed)
        return lambda: self.images.append(name)

"""VOC, and CVAT's "Segmentation mask 1.1", which is VOC in a zip file.

Each pixel has a class and an object, in two PNG files with VOC's palette. Every object becomes one mask. Where segments
are labels, a label is an object too: readers would make the same masks of the classes alone, but CVAT turns masks into
polygons unless told not to, and only those of one object stay grouped.

CVAT's importer (cvat/apps/dataset_manager/formats/mask.py) finds the frame of each image by its name without extension,
folders included, and the label of each mask by its name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from zipfile import ZIP_STORED, ZipFile

from ..errors import ImageError, UsageError
from ..fields import quoted
from ..pictures.palette import voc_colors
from .folder import ExportFolder, add_member
from .source import ExportImage, ExportSettings, Prepare, Source

FOLDER = "voc"
CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"
LIST = "ImageSets/Segmentation/default.txt"
LABEL_MAP = "labelmap.txt"
BACKGROUND = "background"
"""Name of class 0, which pixels have where nothing is exported."""
CVAT_FILE, CVAT_LABELS = "cvat.zip", "cvat-labels.json"
MOST_CHARACTERS = 64
"""Of the name of a label in CVAT, which cuts off the rest without a word (cvat/apps/engine/models.py)."""


@contextmanager
def voc(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``voc/``; masks of other images that an earlier export left there are removed."""
    folder.refuse_unwritable(*(f"{FOLDER}/{name}" for name in (LIST, LABEL_MAP, f"{CLASSES}/any", f"{OBJECTS}/any")))
    # No list while masks are replaced.
    folder.remove(f"{FOLDER}/{LIST}")
    folder.write(f"{FOLDER}/{LABEL_MAP}", label_map(settings.names))
    images = ImageList()

    def prepare(source: Source) -> Callable[[], object]:
        name = images.name(source.image)
        for kind, content in zip((CLASSES, OBJECTS), source.masks, strict=True):
            folder.write(f"{FOLDER}/{kind}/{name}.png", content)
        return lambda: images.append(name)

    yield prepare
    for kind in (CLASSES, OBJECTS):
        folder.remove_pngs(f"{FOLDER}/{kind}", {f"{name}.png" for name in images.names})
    folder.write(f"{FOLDER}/{LIST}", images.content)


@contextmanager
def cvat(folder: ExportFolder, settings: ExportSettings) -> Iterator[Prepare]:
    """Write ``cvat.zip``, and ``cvat-labels.json`` with the labels that the task needs to have."""
    folder.write(CVAT_LABELS, _raw_labels(settings.names))
    images = ImageList()
    with folder.open(CVAT_FILE) as stream, ZipFile(stream, "w") as archive:

        def prepare(source: Source) -> Callable[[], object]:
            name, (classes, objects) = images.name(source.image), source.masks

            def add_masks() -> None:
                add_member(archive, f"{CLASSES}/{name}.png", classes, ZIP_STORED)
                add_member(archive, f"{OBJECTS}/{name}.png", objects, ZIP_STORED)
                images.append(name)

            return add_masks

        add_member(archive, LABEL_MAP, label_map(settings.names))
        yield prepare
        add_member(archive, LIST, images.content)


def refuse_voc_names(names: Mapping[int, str]) -> None:
    """Refuse names of labels that a label map cannot hold.

    Raises UsageError if one has a colon, begins with #, or is that of class 0.
    """
    for label, name in names.items():
        if ":" in name or name.startswith("#"):
            raise UsageError(
                f"`names` calls label {label} {quoted(name)}, and a label map of VOC or CVAT cannot hold a name with a"
                " colon or with # in front"
            )
        if name == BACKGROUND:
            raise UsageError(
                f"`names` calls label {label} {BACKGROUND!r}, which in VOC and CVAT is where nothing is exported: give"
                " it another name"
            )


def refuse_cvat_names(names: Mapping[int, str]) -> None:
    """Refuse names that `refuse_voc_names` does, and those that CVAT would cut off."""
    refuse_voc_names(names)
    for label, name in names.items():
        if len(name) > MOST_CHARACTERS:
            raise UsageError(f"the name of label {label} has {len(name)} characters, and CVAT keeps {MOST_CHARACTERS}")


def label_map(names: list[str]) -> bytes:
    """The file that gives the colour of each class: the background, then each of the labels' `names`."""
    colors = voc_colors(len(names) + 1).tolist()
    lines = [
        f"{name}:{red},{green},{blue}::\n"
        for name, (red, green, blue) in zip([BACKGROUND, *names], colors, strict=True)
    ]
    return ("# label:color_rgb:parts:actions\n" + "".join(lines)).encode()


def _raw_labels(names: list[str]) -> bytes:
    """The labels for CVAT's editor, on its page "Raw", where a task is created.

    Any shape may have them: a mask is imported as a mask or as polygons, as the user of CVAT decides.
    """
    labels = [
        {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color), "type": "any", "attributes": []}
        for name, color in zip(names, voc_colors(len(names) + 1)[1:].tolist(), strict=True)
    ]
    return (json.dumps(labels, indent=2) + "\n").encode()


class ImageList:
    """The images of a data set by the names that its readers use: those of the photos without extension."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def name(self, image: ExportImage) -> str:
        """The name for an image.

        Raises ImageError if another image has it, or the list cannot hold it: readers split it at line ends, strip the
        lines, skip comments, and refuse to leave the folder.
        """
        name = os.path.splitext(image.file_name)[0]  # noqa: PTH122 - as CVAT does; text, a path would lose dots
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ImageError(f"the list of images is UTF-8, and the name {name!r} is not: rename the photo") from None
        if name != name.strip() or re.search(r"[\r\n]", name) or name.startswith("#"):
            raise ImageError(
                f"a line of the list of images cannot hold the name {name!r}, for a line end, a space around it or a #"
                " in front: rename the photo"
            )
        if re.search(r"(^|[/\\])\.\.[. ]*[/\\]", name):
            raise ImageError(f"readers refuse the name {name!r}, for a folder of dots: rename the folder")
        if name in self.names:
            raise ImageError(
                f"readers tell images apart by their names without extension, and another one is {name}, too:"
                " rename the photo"
            )
        return name

    def append(self, name: str) -> None:
        self.names[name] = None

    @property
    def content(self) -> bytes:
        """The file, a name in each line."""
        return "".join(f"{name}\n" for name in self.names).encode()

"""Several formats of the same images: each map is read once, and every file is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from ..config import Format
from ..errors import ImageError, reason
from .coco import coco_panoptic, coco_rle
from .folder import ExportFolder
from .source import Categories, ExportImage, Prepare, Source
from .voc import cvat, voc

_OPEN: dict[Format, Callable[[ExportFolder, Categories], AbstractContextManager[Prepare]]] = {
    "voc": voc,
    "coco-rle": coco_rle,
    "coco-panoptic": coco_panoptic,
    "cvat": cvat,
}


@dataclass(frozen=True)
class Exported:
    """An image is done, in all formats that it fits."""

    name: str


@dataclass(frozen=True)
class ExportFailure:
    """An image is missing in the files of one format."""

    name: str
    format: Format
    reason: str


def write_exports(
    formats: Sequence[Format], images: Iterable[ExportImage], num_labels: int, folder: ExportFolder, *, regions: bool
) -> Iterator[Exported | ExportFailure]:
    """Write `images` in all `formats`, in place of what an earlier export wrote there.

    Yields each image when it is done, and those that are missing in a format because they cannot be read or do not fit
    it.

    Parameters
    ----------
    num_labels : number of labels in all images: the categories of every format.
    regions : whether segments are connected regions rather than labels.

    Raises ImageError if a link leads out of the output folder, and OSError if a file that images share cannot be
    written. An earlier one is kept then; otherwise there is none.
    """
    categories = Categories([f"label {label}" for label in range(num_labels)], things=regions)
    with ExitStack() as opened:
        prepared = {here: opened.enter_context(_OPEN[here](folder, categories)) for here in dict.fromkeys(formats)}
        for number, image in enumerate(images, 1):
            yield from _export(number, image, num_labels, prepared)
            yield Exported(image.name)


def _export(
    number: int, image: ExportImage, num_labels: int, formats: dict[Format, Prepare]
) -> Iterator[ExportFailure]:
    """Add one image to all formats that it fits."""
    try:
        source = Source(number, image, num_labels)
    except (ImageError, OSError, MemoryError) as error:
        yield from (ExportFailure(image.name, here, reason(error)) for here in formats)
        return
    for here, prepare in formats.items():
        try:
            add = prepare(source)
        except (ImageError, OSError, MemoryError) as error:
            yield ExportFailure(image.name, here, reason(error))
        else:
            add()

"""Several formats of the same images: each map is read once, and every file is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..config import Format
from ..errors import ImageError
from .categories import Categories
from .coco_panoptic import write_coco_panoptic
from .coco_rle import write_coco_rle
from .cvat import write_cvat
from .images import ExportImage
from .source import Source
from .voc import write_voc
from .writer import Fill, Writer


class _WriteFormat(Protocol):
    def __call__(self, folder: Path, categories: Categories, fill: Fill, *, claimed: bool) -> None: ...


_WRITE: dict[Format, _WriteFormat] = {
    "voc": write_voc,
    "coco-rle": write_coco_rle,
    "coco-panoptic": write_coco_panoptic,
    "cvat": write_cvat,
}


@dataclass(frozen=True)
class Failure:
    """An image that is not in the files of one format."""

    name: str
    """Of the image."""
    format: Format
    reason: str
    """Why, and what to do about it."""


def write_exports(
    formats: Sequence[Format],
    images: Iterable[ExportImage],
    num_labels: int,
    folder: Path,
    on_image: Callable[[str], None],
    *,
    regions: bool = False,
    claimed: bool = False,
) -> list[Failure]:
    """Write `images` to `folder` in all `formats`, in place of what an earlier export wrote there.

    Parameters
    ----------
    num_labels : how many labels there are in all images: the categories of every format.
    on_image : called with the name of each image as it is done.
    regions : whether segments are connected regions, and not labels.
    claimed : whether no other process writes to `folder` now.

    Returns
    -------
    The images that are missing in a format, because they cannot be read or do not fit it.

    Raises
    ------
    ImageError
        If a link leads out of `folder`.
    OSError
        If a file that images share cannot be written. The earlier ones are kept, or there is none.
    """
    failures: list[Failure] = []
    categories = Categories(num_labels, things=regions)

    def write(left: list[Format], writers: dict[Format, Writer]) -> None:
        """Open the files of the formats that are `left`, one inside the other, for one loop that fills all."""
        if left:
            here, *others = left
            _WRITE[here](folder, categories, lambda writer: write(others, writers | {here: writer}), claimed=claimed)
            return
        for number, image in enumerate(images, 1):
            failures.extend(_export(number, image, num_labels, writers))
            on_image(image.name)

    write(list(dict.fromkeys(formats)), {})
    return failures


def _export(number: int, image: ExportImage, num_labels: int, writers: dict[Format, Writer]) -> list[Failure]:
    """Add one image to all formats that it fits."""
    try:
        source = Source(number, image, num_labels)
    except (ImageError, OSError, MemoryError) as error:
        return [Failure(image.name, here, _reason(error)) for here in writers]
    failures = []
    for here, writer in writers.items():
        try:
            write = writer.prepare(source)
        except (ImageError, OSError, MemoryError) as error:
            failures.append(Failure(image.name, here, _reason(error)))
        else:
            write()
    return failures


def _reason(error: ImageError | OSError | MemoryError) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    return str(error) or "there is not enough memory for it"

"""Images to be exported: how their segments are read, and what several formats need of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import ExportConfig
from ..errors import ImageError
from ..files.tiles import Tile
from ..pictures.palette import voc_colors
from .folder import encode_png
from .run_length import Runs, find_runs

if TYPE_CHECKING:
    from .measurements import Measurements

MOST_MASKS = 254
"""Classes and objects of VOC: an index has 8 bits, 0 is the background, and 255 is void to its readers."""

Map = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Segments:
    """The segments of one image. Not every number needs to occur in the map."""

    of_pixel: Map
    """(H, W) integers in 0..S-1."""
    labels: Map
    """(S,) the label of each segment."""


@dataclass(frozen=True)
class ExportImage:
    """One image to be exported."""

    name: str
    """Path of its results below the folder of a product, without extension: ``sub/cat``."""
    file_name: str
    """Path of the photo below the input: ``sub/cat.jpg``."""
    read: Callable[[], Segments]
    """Reads the map from disk; raises ImageError or OSError if it cannot."""
    photo: Callable[[], bytes]
    """Reads the content of the photo's file, for formats that need it; raises ImageError or OSError if it cannot."""
    path: Path = Path()
    """The photo's file."""
    tile: Tile | None = None
    """The part of that file which the photo is, if it was cut into tiles."""


@dataclass(frozen=True)
class ExportSettings:
    """What every format is told of the images as a whole."""

    names: list[str]
    """The name of each label. Label n is category n + 1, as 0 is the background or void in all formats."""
    things: bool
    """Whether an image may have several segments of one label."""
    config: ExportConfig


def labels_as_segments(labels: Map) -> Segments:
    """Take every label of an (H, W) label map, connected or not, for one segment."""
    return Segments(labels, np.arange(int(labels.max()) + 1))


class Source:
    """An image whose map is in memory and sound.

    `number` counts the images that are exported, from 1; `labels` is the number of labels in all of them. Raises
    ImageError if the map has unknown segments or labels, besides what reading it raises.
    """

    def __init__(self, number: int, image: ExportImage, labels: int) -> None:
        self.number = number
        self.image = image
        self.segments = image.read()
        self.runs: Runs = find_runs(self.segments.of_pixel)
        found = self.runs.segments
        _refuse_unknown("segments", found, len(self.segments.labels))
        _refuse_unknown("labels", self.segments.labels[found], labels)

    @property
    def categories(self) -> Map:
        """(P,) the category of each segment that occurs."""
        return self.segments.labels[self.runs.segments] + 1

    @cached_property
    def masks(self) -> tuple[bytes, bytes]:
        """Two PNG files with VOC's palette: the category of each pixel, and its segment as 1..P of those that occur.

        Raises ImageError if there are more than an index of 8 bits holds.
        """
        count, highest = len(self.runs.segments), int(self.categories.max()) - 1
        if count > MOST_MASKS:
            raise ImageError(
                f"has {count} segments, and a mask of 8 bits holds {MOST_MASKS}:"
                f" ask for fewer with `regions={MOST_MASKS}`, or export coco-rle or coco-panoptic"
            )
        if highest >= MOST_MASKS:
            raise ImageError(
                f"has label {highest}, and a mask of 8 bits holds labels up to {MOST_MASKS - 1}:"
                " ask for fewer labels, or export coco-rle or coco-panoptic"
            )
        return self._palette_png(self.categories), self._palette_png(np.arange(1, count + 1))

    @cached_property
    def measurements(self) -> Measurements:
        """Of the segments that occur. Raises what reading the photo raises, and ImageError if it has another size."""
        from .measurements import measure  # noqa: PLC0415 - loads scikit-image, an extra

        return measure(self.segments.of_pixel, self.runs.segments, self.image.photo())

    def _palette_png(self, indices: Map) -> bytes:
        """A PNG of (P,) `indices` of the segments that occur."""
        table = np.zeros(len(self.segments.labels), dtype=np.uint8)
        table[self.runs.segments] = indices
        picture = Image.fromarray(table[self.segments.of_pixel]).convert("P")
        picture.putpalette(voc_colors(256).tobytes())
        return encode_png(picture)


Prepare = Callable[[Source], Callable[[], object]]
"""Does all that can fail for one image alone, and returns what adds it to the files that images share."""


def _refuse_unknown(kind: str, found: Map, count: int) -> None:
    if found.min() < 0 or found.max() >= count:
        raise ImageError(
            f"its map has {kind} {found.min()} to {found.max()}, where 0 to {count - 1} are known:"
            " make it again with `overwrite=True`"
        )

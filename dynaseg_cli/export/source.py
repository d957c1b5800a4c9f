"""Images to be exported: how their segments are read, and what several formats need of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import Channels, ExportConfig, ValueRange
from ..errors import ImageError, UsageError
from ..fields import quoted
from ..files.label_names import label_in
from ..files.tiles import Tile
from ..pictures.palette import voc_colors
from .folder import ExportFolder, encode_png
from .outlines import Outlines, trace
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
    """(H, W) integers in 0..S-1, and -1 where nothing is exported."""
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
    value_range: ValueRange = "auto"
    """Which numbers of it became black and white, if it is deeper than 8 bits."""
    channels: Channels = None
    """Which channels of it were seen, if there are any to choose from."""
    path: Path | None = None
    """The photo's file; None if the photo is a page of one, or its file is not known."""
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


@dataclass(frozen=True)
class Selection:
    """Which segments of an image are exported: those that nothing here leaves out."""

    config: ExportConfig
    labels: frozenset[int] | None
    """The labels that are exported; None is all of them."""

    def kept(self, runs: Runs, labels: Map) -> NDArray[np.bool_]:
        """(P,) whether each segment that occurs is exported.

        Parameters
        ----------
        runs : of all segments of the image.
        labels : (S,) the label of each segment.
        """
        areas = runs.areas()
        kept: NDArray[np.bool_] = areas >= self.config.min_area
        if self.config.drop_largest:
            kept[np.argmax(areas)] = False
        if self.config.drop_border:
            x, y, width, height = runs.boxes().T
            kept &= (x > 0) & (y > 0) & (x + width < runs.width) & (y + height < runs.height)
        if self.labels is not None:
            kept &= np.isin(labels[runs.segments], list(self.labels))
        return kept


def select(config: ExportConfig, names: Mapping[int, str]) -> Selection | None:
    """The selection that options ask for; None if that is everything.

    Raises UsageError if `only_labels` has something that is neither a number nor one of the `names`.
    """
    labels = None
    if config.only_labels:
        by_name = {name: label for label, name in names.items()}
        labels = frozenset(_label(item, by_name) for item in config.only_labels)
    if labels is None and not (config.drop_largest or config.drop_border or config.min_area > 1):
        return None
    return Selection(config, labels)


def refuse_unknown_labels(config: ExportConfig, names: Mapping[int, str], most_labels: int) -> None:
    """Raise UsageError if `only_labels` has one that no image can have, as labels are 0 to `most_labels` - 1."""
    selection = select(config, names)
    for label in sorted(selection.labels or ()) if selection else ():
        if label >= most_labels:
            raise UsageError(f"`only_labels`: there is no label {label}; labels are 0 to {most_labels - 1}")


def _label(item: int | str, by_name: Mapping[str, int]) -> int:
    label = label_in(str(item))
    if label is None and str(item) not in by_name:
        raise UsageError(f"`only_labels`: {quoted(str(item))} is neither the number of a label nor one of the `names`")
    return by_name[str(item)] if label is None else label


class Source:
    """An image whose map is in memory and sound.

    `number` counts the images that are exported, from 1; `labels` is the number of labels in all of them. What
    `selection` leaves out is nowhere in it. Raises ImageError if the map has unknown segments or labels, besides what
    reading it raises.
    """

    def __init__(
        self,
        number: int,
        image: ExportImage,
        labels: int,
        tolerance: float = ExportConfig.tolerance,
        *,
        selection: Selection | None = None,
    ) -> None:
        self.number = number
        self.image = image
        self._tolerance = tolerance
        self.segments = image.read()
        runs = find_runs(self.segments.of_pixel)
        self.runs: Runs = runs.only(runs.segments != -1)
        found = self.runs.segments
        _refuse_unknown("segments", found, len(self.segments.labels))
        _refuse_unknown("labels", self.segments.labels[found], labels)
        if selection is not None:
            self._keep(selection.kept(self.runs, self.segments.labels))

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Leave out the other segments that occur; those that stay keep their numbers."""
        if kept.all():
            return
        self.runs = self.runs.only(kept)
        count = len(self.segments.labels)
        # The last entry stays that of pixels whose segment is -1.
        table = np.full(count + 1, -1, np.result_type(np.int8, np.min_scalar_type(count)))
        table[self.runs.segments] = self.runs.segments
        self.segments = Segments(table[self.segments.of_pixel], self.segments.labels)

    @property
    def labels(self) -> Map:
        """(P,) the label of each segment that occurs."""
        return self.segments.labels[self.runs.segments]

    @property
    def categories(self) -> Map:
        """(P,) the category of each segment that occurs."""
        return self.labels + 1

    @cached_property
    def outlines(self) -> Outlines:
        """The polygons of the segments, simplified as the options say."""
        return trace(self.segments.of_pixel, self._tolerance)

    @cached_property
    def masks(self) -> tuple[bytes, bytes]:
        """Two PNG files with VOC's palette: the category of each pixel, and its segment as 1..P of those that occur.

        Raises ImageError if there are more than an index of 8 bits holds.
        """
        count, highest = len(self.runs.segments), int(self.categories.max(initial=0)) - 1
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

        channels = self.image.channels if isinstance(self.image.channels, tuple) else None
        return measure(self.segments.of_pixel, self.runs.segments, self.image.photo(), channels)

    def _palette_png(self, indices: Map) -> bytes:
        """A PNG of (P,) `indices` of the segments that occur."""
        # The last entry is the background, for pixels whose segment is -1.
        table = np.zeros(len(self.segments.labels) + 1, dtype=np.uint8)
        table[self.runs.segments] = indices
        picture = Image.fromarray(table[self.segments.of_pixel]).convert("P")
        picture.putpalette(voc_colors(256).tobytes())
        return encode_png(picture)


Prepare = Callable[[Source], Callable[[], object]]
"""Does all that can fail for one image alone, and returns what adds it to the files that images share."""


@contextmanager
def file_per_photo(
    folder: ExportFolder, below: str, suffix: str, encode: Callable[[Source], bytes]
) -> Iterator[Prepare]:
    """Write a file for each image in the folder `below`; those of other images that an earlier export left are removed.

    What `encode` returns must name the program: see `ExportFolder.remove_earlier`.
    """
    folder.refuse_unwritable(f"{below}/any")
    files: set[str] = set()

    def prepare(source: Source) -> Callable[[], object]:
        file = source.image.name + suffix
        folder.write(f"{below}/{file}", encode(source))
        return lambda: files.add(file)

    yield prepare
    folder.remove_earlier(below, suffix, files)


def refuse_unreadable_name(name: str) -> None:
    """Raise ImageError if the name of an image is not text: JSON can hold it, but most readers refuse the file then."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ImageError(f"readers of JSON refuse the name {name!r}, which is not UTF-8: rename the photo") from None


def _refuse_unknown(kind: str, found: Map, count: int) -> None:
    if found.min() < 0 or found.max() >= count:
        raise ImageError(
            f"its map has {kind} {found.min()} to {found.max()}, where 0 to {count - 1} are known:"
            " make it again with `overwrite=True`"
        )

"""What VOC and CVAT's "Segmentation mask 1.1" have in common: palette PNGs, the label map, and the list of images.

CVAT reads the layout of VOC: a class and an object for each pixel, each as an index and as the colour that belongs to
it. Every object becomes one mask. Where segments are labels, a label is an object too: readers would make the same
masks of the classes alone, but CVAT turns masks into polygons unless told not to, and only those of one object stay
grouped, as the parts of one label.
"""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from .images import ExportImage, Map, Segments
from .png import encode_png

BACKGROUND = "background"
"""Class 0, of no pixel here."""
MOST = 254
"""Classes and objects: their index has 8 bits, 0 is the background and 255 is void to VOC's readers."""
CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"
LIST = "ImageSets/Segmentation/default.txt"
LABEL_MAP = "labelmap.txt"


class MaskPair(NamedTuple):
    """The content of two PNG files with VOC's palette."""

    classes: bytes
    """Label + 1."""
    objects: bytes
    """1..P, of the segments that occur, in their order."""


def mask_pair(segments: Segments, found: NDArray[np.int64]) -> MaskPair:
    """Class and object of every pixel.

    Parameters
    ----------
    found : (P,) the segments that occur, rising.

    Raises
    ------
    ImageError
        If there are more than an index of 8 bits holds.
    """
    if len(found) > MOST:
        raise ImageError(
            f"has {len(found)} segments, and a mask of 8 bits holds {MOST}:"
            f" ask for fewer with --regions {MOST}, or export coco-rle or coco-panoptic"
        )
    highest = int(segments.labels[found].max())
    if highest >= MOST:
        raise ImageError(
            f"has label {highest}, and a mask of 8 bits holds labels up to {MOST - 1}:"
            " ask for fewer labels, or export coco-rle or coco-panoptic"
        )
    class_of = np.zeros(len(segments.labels), dtype=np.uint8)
    class_of[found] = segments.labels[found] + 1
    object_of = np.zeros(len(segments.labels), dtype=np.uint8)
    object_of[found] = np.arange(1, len(found) + 1)
    return MaskPair(*(_palette_png(indices, segments.of_pixel) for indices in (class_of, object_of)))


def _palette_png(indices: NDArray[np.uint8], segments: Map) -> bytes:
    picture = Image.fromarray(indices[segments]).convert("P")
    picture.putpalette(voc_colors(256).tobytes())
    return encode_png(picture)


@functools.lru_cache(maxsize=2)
def voc_colors(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB, the colours of VOC's palette, and on by its rule, which repeats none below 2^24.

    The bits of an index are dealt to red, green and blue in turn, and each colour's first is its highest (VOC2012
    development kit, VOClabelcolormap).
    """
    indices = np.arange(count)
    colors = np.zeros((count, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            bits = (indices >> (3 * place + channel)) & 1
            colors[:, channel] |= (bits << (7 - place)).astype(np.uint8)
    return colors


def label_map(names: list[str]) -> str:
    """The file that says which colour is which class: the background, then each of the labels' `names`."""
    colors = voc_colors(len(names) + 1).tolist()
    lines = [
        f"{name}:{red},{green},{blue}::\n"
        for name, (red, green, blue) in zip([BACKGROUND, *names], colors, strict=True)
    ]
    return "# label:color_rgb:parts:actions\n" + "".join(lines)


class ImageList:
    """The images of a data set by the names that its readers know them by: those of the photos without extension."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def name(self, image: ExportImage) -> str:
        """The name that an image is to have.

        Raises
        ------
        ImageError
            If the list cannot hold it, or another image has it.
        """
        name = os.path.splitext(image.file_name)[0]  # noqa: PTH122 - as CVAT does; text, a path would lose dots
        _refuse_unlistable(name)
        if name in self._names:
            raise ImageError(
                f"readers tell images apart by their names without extension, and another one is {name}, too:"
                " rename the photo"
            )
        return name

    def append(self, name: str) -> None:
        self._names[name] = None

    @property
    def content(self) -> bytes:
        """The file, a name in each line."""
        return "".join(f"{name}\n" for name in self._names).encode()

    @property
    def files(self) -> set[str]:
        """The mask files of all images, below their folder."""
        return {f"{name}.png" for name in self._names}


def _refuse_unlistable(name: str) -> None:
    """Readers split the list at line ends, strip the lines, skip comments, and refuse to leave the folder."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ImageError(f"the list of images is UTF-8, and the name {name!r} is not: rename the photo") from None
    if name != name.strip() or re.search(r"[\r\n]", name) or name.startswith("#"):
        raise ImageError(
            f"a line of the list of images cannot hold the name {name!r}, for a line end, a space around it or a # in"
            " front: rename the photo"
        )
    if re.search(r"(^|[/\\])\.\.[. ]*[/\\]", name):
        raise ImageError(f"readers refuse the name {name!r}, for a folder of dots: rename the folder")

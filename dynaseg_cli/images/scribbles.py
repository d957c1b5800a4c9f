"""Scribbles: label images that users drew on photos, each with the name of its photo."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import FREE
from ..errors import DecodeError, ImageError
from ..files.output_folder import Job
from ..files.reading import read_image
from .label_maps import decode_label_image
from .png import MARK as PNG_MARK

_RGB, _RGBA = b"\x02", b"\x06"
"""Colour types in the header of a PNG."""


@dataclass(frozen=True)
class ScribbleFile:
    """The scribbles of one photo."""

    path: str
    content: bytes
    sha256: str


def read_scribbles(job: Job, folder: Path, max_pixels: int) -> ScribbleFile | None:
    """The scribbles that belong to a job; None if there are none.

    Raises ImageError if it is no regular file, or too large for an image of `max_pixels`. Raises OSError if it cannot
    be read.
    """
    path = job.scribbles(folder)
    try:
        content = read_image(path, max_pixels)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DecodeError as error:
        raise ImageError(f"{path}: {error}") from None
    return ScribbleFile(str(path), content, hashlib.sha256(content).hexdigest())


def decode_scribbles(
    file: ScribbleFile, size: tuple[int, ...], clusters: int, max_pixels: int
) -> NDArray[np.uint8] | None:
    """The labels that are drawn, (H, W) uint8, `FREE` elsewhere; None if all is free.

    Parameters
    ----------
    size : height and width of the photo, turned as EXIF says.
    clusters : the labels are below it.

    Raises ImageError if the file is not a PNG of whole numbers, has another size, or draws a label that is too large.
    """
    if file.content.startswith(PNG_MARK) and file.content[25:26] in (_RGB, _RGBA):
        raise ImageError(
            f"{file.path}: its pixels are colours, and labels are numbers;"
            " save it as 8-bit grey, or with a palette, whose indices count"
        )
    try:
        labels = decode_label_image(file.content, "PNG", max_pixels)
    except DecodeError as error:
        raise ImageError(f"{file.path}: {error}") from None
    if labels.shape != size:
        raise ImageError(
            f"{file.path}: {labels.shape[1]} x {labels.shape[0]} pixels, but the photo has {size[1]} x {size[0]},"
            " turned upright as EXIF says; draw on a copy of that size"
        )
    most = min(clusters, FREE)
    wrong = labels[(labels >= most) & (labels != FREE)]
    if wrong.size:
        why = f"the most that `clusters={clusters}` allows" if clusters < FREE else "the largest label there is"
        raise ImageError(f"{file.path}: label {wrong.max()} is above {most - 1}, {why}; {FREE} is for free pixels")
    return None if (labels == FREE).all() else labels.astype(np.uint8)

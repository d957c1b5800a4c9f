"""What a user drew on an image: a label image of the photo's name in the folder of `--scribbles`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import FREE
from ..errors import DecodeError, ImageError
from ..evaluation.label_files import decode_label_image
from ..images import read_image
from .job import Job

_PNG = b"\x89PNG\r\n\x1a\n"
_COLOURED = (b"\x02", b"\x06")
"""Of a PNG's header: without a palette, with or without transparency."""


@dataclass(frozen=True)
class ScribbleFile:
    """A file that is there, and its SHA-256 in hexadecimal."""

    path: str
    content: bytes
    sha256: str


def read_scribbles(job: Job, folder: Path, max_pixels: int) -> ScribbleFile | None:
    """The file that belongs to a job, None where there is none.

    Raises
    ------
    ImageError
        If it is no regular file, or too large for an image of `max_pixels`.
    OSError
        If it cannot be read.
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
    """What is drawn, (H, W) uint8, labels and `FREE`; None if all is free.

    Parameters
    ----------
    size : height and width of the photo, turned as EXIF says.
    clusters : labels are below it.

    Raises
    ------
    ImageError
        If the file is no PNG of whole numbers, of another size, or draws a label that cannot be.
    """
    if file.content.startswith(_PNG) and file.content[25:26] in _COLOURED:
        raise ImageError(
            f"{file.path}: its pixels are colours, and labels are numbers;"
            " save it as 8-bit grey, or with a palette, of which the indices count"
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
        why = f"the most that --clusters {clusters} allows" if clusters < FREE else "the largest label there is"
        raise ImageError(f"{file.path}: label {wrong.max()} is above {most - 1}, {why}; {FREE} is for free pixels")
    return None if (labels == FREE).all() else labels.astype(np.uint8)

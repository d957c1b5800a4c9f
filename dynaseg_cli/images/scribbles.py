"""Scribbles: label images that users drew on photos, each with the name of its photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import FREE
from ..errors import ImageError
from ..files.output_folder import Job
from .drawn import decode_drawn, read_drawn


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
    path = job.drawing(folder)
    found = read_drawn(path, max_pixels)
    return None if found is None else ScribbleFile(str(path), *found)


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
    labels = decode_drawn(file.path, file.content, size, max_pixels, "labels are numbers")
    most = min(clusters, FREE)
    wrong = labels[(labels >= most) & (labels != FREE)]
    if wrong.size:
        why = f"the most that `clusters={clusters}` allows" if clusters < FREE else "the largest label there is"
        raise ImageError(f"{file.path}: label {wrong.max()} is above {most - 1}, {why}; {FREE} is for free pixels")
    return None if (labels == FREE).all() else labels.astype(np.uint8)

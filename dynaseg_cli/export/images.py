"""What is exported: images by name, and how their segments are read, one image in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Segments:
    """The segments of one image. Not every number needs to occur in the map."""

    of_pixel: Map
    """(H, W) integers in 0..S-1."""
    labels: Map
    """(S,) the label of each segment, which is its category in every format."""


@dataclass(frozen=True)
class ExportImage:
    """One image to be exported."""

    name: str
    """Where its results lie below a product's folder, without extension: ``sub/cat``."""
    file_name: str
    """Of the photo, relative to the input: ``sub/cat.jpg``."""
    read: Callable[[], Segments]
    """Reads the map from disk; raises ImageError or OSError if it cannot."""


def labels_as_segments(labels: Map) -> Segments:
    """Take every label of an (H, W) label map, connected or not, for one segment."""
    return Segments(labels, np.arange(int(labels.max()) + 1))

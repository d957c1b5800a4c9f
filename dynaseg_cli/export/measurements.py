"""Shape, place and numbers of the segments of an image, as scikit-image measures and names them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops_table

from ..config import MAX_PIXELS, PixelSize
from ..errors import ImageError
from ..images.decoding import read_stored
from ..images.deep import StoredImage
from ..images.pixel_size import read_pixel_size
from ..images.value_range import data_mask
from ..regions.segments import neighbours_of_each

_SHAPES = (
    *("area", "perimeter", "centroid", "bbox", "orientation", "axis_major_length", "axis_minor_length"),
    *("eccentricity", "solidity", "inertia_tensor"),
)
_ROUND = 1e-6
"""Eccentricity of rounding errors."""
_SQUARE = 1e-6
"""Share by which the sides of a pixel may differ, as files round them, for a perimeter to have a length."""

Column = NDArray[Any] | list[list[int]]


@dataclass(frozen=True)
class Measurements:
    """What was measured of P segments of an image. NaN stands for what is not defined."""

    columns: dict[str, Column]
    """(P,) each, by name: in pixels and radians, intensities in the numbers of the photo's file."""
    inertia: NDArray[np.float64]
    """(P, 2, 2) the inertia tensor as scikit-image has it, in square pixels."""
    pixel_size: PixelSize | None
    """That of the photo, as the metadata of its file tell it."""

    def in_units(self, size: PixelSize) -> dict[str, Column]:
        """Columns in the unit of a pixel's size, (P,) each. A perimeter is NaN unless pixels are square."""
        square = math.isclose(size.height, size.width, rel_tol=_SQUARE)
        # The first row and column of the tensor belong to distances across, the second to those down.
        scale = np.array([size.width, size.height])
        spreads = np.linalg.eigvalsh(self.inertia * np.outer(scale, scale))
        axes = 4 * np.sqrt(np.maximum(spreads, 0))
        return {
            "physical_area": np.asarray(self.columns["area"]) * size.height * size.width,
            "physical_perimeter": np.asarray(self.columns["perimeter"]) * (size.height if square else math.nan),
            "physical_axis_major_length": axes[:, 1],
            "physical_axis_minor_length": axes[:, 0],
        }


def measure(
    of_pixel: NDArray[np.integer[Any]],
    numbers: NDArray[np.integer[Any]],
    content: bytes,
    channels: tuple[int, ...] | None = None,
) -> Measurements:
    """Measure the segments of a photo.

    Parameters
    ----------
    of_pixel : (H, W) the segment of each pixel, -1 for none.
    numbers : (P,) the segments that occur, rising.
    content : the photo's file.
    channels : numbers of the channels whose intensities are measured, from 1; None for the first three.

    Raises DecodeError if the photo cannot be read, and ImageError if it has another size than the map.
    """
    height, width = of_pixel.shape
    stored = read_stored(content, max(MAX_PIXELS, of_pixel.size), channels)
    if stored.values.shape[:2] != (height, width):
        found = "{1} x {0}".format(*stored.values.shape)
        raise ImageError(f"the photo has {found} pixels, and its map {width} x {height}")
    segments = of_pixel.astype(np.int32) + 1  # 0 is background to scikit-image and SciPy
    shapes = regionprops_table(segments, properties=_SHAPES)  # type: ignore[no-untyped-call]
    inertia = np.stack([shapes.pop(f"inertia_tensor-{row}-{column}") for row in (0, 1) for column in (0, 1)], axis=-1)
    # One pixel has no direction, and a square has two.
    shapes["eccentricity"][shapes["axis_major_length"] == 0] = math.nan
    shapes["orientation"][~(shapes["eccentricity"] > _ROUND)] = math.nan
    top, left, bottom, right = (shapes[f"bbox-{index}"] for index in range(4))
    neighbours = [(found[found > 0] - 1).tolist() for found in neighbours_of_each(segments, numbers + 1)]
    columns: dict[str, Column] = {
        **shapes,
        "area": shapes["area"].astype(np.int64),
        **_intensities(stored, segments, numbers + 1),
        "num_neighbors": np.array(list(map(len, neighbours))),
        "neighbors": neighbours,
        "touches_border": (top == 0) | (left == 0) | (bottom == height) | (right == width),
    }
    return Measurements(columns, inertia.reshape(-1, 2, 2), read_pixel_size(content))


def _intensities(
    stored: StoredImage, segments: NDArray[np.int32], numbers: NDArray[np.integer[Any]]
) -> dict[str, Column]:
    """Mean and standard deviation of the data of each channel; NaN where there are none."""
    height, width = segments.shape
    values = stored.values.reshape(height, width, -1)
    counts = data_mask(stored).reshape(values.shape)
    found: dict[str, Column] = {}
    for channel in range(values.shape[2]):
        numbered = values[..., channel], np.where(counts[..., channel], segments, 0), numbers
        # Segments without data are divided by 0, and what is not counted may be anything.
        with np.errstate(all="ignore"):
            found[f"intensity_mean-{channel}"] = ndimage.mean(*numbered)
            found[f"intensity_std-{channel}"] = ndimage.standard_deviation(*numbered)
    return found

"""Hierarchies of regions in files: 16-bit PNGs of the ultrametric boundary map."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import MAX_PIXELS
from ..errors import DecodeError
from ..images import pillow_alone, read_image
from ..regions.hierarchy import Hierarchy, boundary_map, hierarchy_of
from .writing import write_labels


def write_hierarchy(path: Path, hierarchy: Hierarchy, *, claimed: bool = False) -> None:
    """Write the `boundary_map` of a hierarchy: of an image of W x H pixels, 2W-1 x 2H-1."""
    write_labels(path, boundary_map(hierarchy), claimed=claimed)


def read_hierarchy(path: Path | str, max_pixels: int = MAX_PIXELS) -> Hierarchy:
    """Read what `segment --save hierarchy` wrote: any granularity can be cut from it.

    Parameters
    ----------
    max_pixels : of the image; its boundary map has four times as many.

    Raises
    ------
    DecodeError
        If the file cannot be read, or is no boundary map of such an image.
    """
    try:
        content = read_image(Path(path), 4 * max_pixels)
        with pillow_alone():
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            if image.width * image.height > 4 * max_pixels:
                raise DecodeError(f"{image.width} x {image.height} pixels are more than an image of {max_pixels} has")
            if not image.mode.startswith("I"):
                raise DecodeError("not a grey image of 16 bits")
            boundaries = np.asarray(image)
        return hierarchy_of(boundaries)
    except (DecodeError, ValueError) as error:
        raise DecodeError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror or 'damaged, or not a PNG file'}") from None
    except Exception as error:  # Pillow's decoders raise anything at all on damaged files
        raise DecodeError(f"{path}: damaged, or not a PNG file") from error

"""Photos from wherever Python has them: a file, a Pillow image or an array, all read by the rules of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import MAX_PIXELS, BatchConfig, Channels, ValueRange
from ..errors import DecodeError
from ..files.output_folder import Job
from .channels import checked
from .decoding import Photo, as_photo, stored_in
from .deep import StoredImage
from .pages import read_job
from .pillow import decode_errors

PhotoLike = str | Path | Image.Image | NDArray[Any]
"""A file, a Pillow image or an array; see `read_photo`."""

_MOST_BYTES = 8
"""Of a number in an array, as in files."""


def read_photo(
    image: PhotoLike,
    value_range: ValueRange = "auto",
    max_pixels: int = MAX_PIXELS,
    *,
    channels: Channels = None,
    page: int | None = None,
) -> Photo:
    """Read a photo as `segment` reads files; see `decode_photo` for the rules.

    Parameters
    ----------
    image : the path of a file; a Pillow image, which is turned as its EXIF says; or an array: (H, W) or (H, W, 1) grey,
        (H, W, 3) RGB, or (H, W, 4) RGBA, which is composited on white. Arrays are of uint8, 0..255, bool, or any other
        integers or floating point of up to 64 bits, which `value_range` maps to 0..255; opacity is of uint8 or uint16.
        With `channels`, (H, W, N) of any N are channels, and none is opacity.
    value_range : which numbers deeper than 8 bits become black and white: "auto", "full" or two numbers.
    max_pixels : limit on the pixels of a file, before it is decoded.
    channels : which channels of a file with more than three, or of an array, are shown: the numbers of one or three of
        them, from 1, or "all", by their principal components: see `projected`. None is the first three.
    page : of a file of several pages or frames, the number of the one to read, from 1. None is the first picture.

    Returns
    -------
    Photo, whose `pixels` are (H, W, 3) uint8 RGB; those of a contiguous array of this kind are not copied.

    Raises
    ------
    DecodeError
        If a file or a Pillow image cannot be decoded.
    OSError
        If a file cannot be opened.
    ValueError
        If an array is none of those above, lacks a channel, or has no pixels.
    UsageError
        If `channels` are neither one or three numbers from 1 nor "all".
    """
    BatchConfig(channels=channels)  # checks them
    if isinstance(image, Image.Image):
        with decode_errors():
            if not image.width or not image.height:
                raise DecodeError("the image has no pixels")
            return as_photo(stored_in(image), value_range)
    if not isinstance(image, (str, os.PathLike)):
        array = np.asarray(image)
        return as_photo(_stored_in_array(array) if channels is None else _channels_of(array, channels), value_range)
    if os.path.isdir(image):  # noqa: PTH112 - an empty path is none
        raise DecodeError(f"{image} is a folder; segment_folder takes all images of one")
    try:
        path = Path(image)
        source = read_job(Job(str(path), "", page), max_pixels)
        return source.photo(max_pixels, value_range, channels)
    except DecodeError as error:
        raise DecodeError(f"{image}: {error}") from None


def file_of(image: PhotoLike) -> Path | None:
    """The absolute path of the file that an image is or was opened from; None if it is not known."""
    name = getattr(image, "filename", "") if isinstance(image, Image.Image) else image
    return Path(name).absolute() if isinstance(name, (str, os.PathLike)) and os.fspath(name) else None


def _channels_of(array: NDArray[Any], channels: tuple[int, ...] | Literal["all"]) -> StoredImage:
    """The chosen channels of an (H, W, N) array."""
    if array.ndim != 3:
        raise ValueError(f"`channels` are those of an (H, W, N) array, not of {array.shape}")
    if channels != "all":
        try:
            array = array[..., [number - 1 for number in checked(channels, array.shape[2])]]
        except DecodeError as error:
            raise ValueError(str(error)) from None
    each = [_stored_in_array(array[..., index]) for index in range(array.shape[2])] or [_stored_in_array(array)]
    values = np.stack([one.values for one in each], axis=2)
    return StoredImage(values[..., 0] if values.shape[2] == 1 else values, each[0].full, channels=channels)


def _stored_in_array(array: NDArray[Any]) -> StoredImage:
    shape, dtype = array.shape, array.dtype
    if len(shape) == 3 and shape[2] == 1:
        array = array[..., 0]
    known = array.ndim == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if not known or dtype.kind not in "biuf" or dtype.itemsize > _MOST_BYTES or not array.size:
        hint = "; move its channels last" if len(shape) == 3 and shape[0] in (1, 3, 4) and array.size else ""
        hint = "; `channels` chooses among more" if len(shape) == 3 and not hint and shape[2] > 4 else hint
        raise ValueError(
            f"`image` must be an (H, W), (H, W, 3) or (H, W, 4) array of numbers, not {shape} {dtype}{hint}"
        )
    if dtype.kind == "b":
        array = array * np.uint8(255)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    alpha = None
    if array.ndim == 3 and shape[2] == 4:
        if array.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"the opacity in `image` must be uint8 or uint16, not {dtype}: give the first three channels"
            )
        alpha = array[..., 3] if array.dtype == np.uint8 else (array[..., 3] >> 8).astype(np.uint8)
        array = array[..., :3].copy()  # white is laid under it in place
    full = None if array.dtype.kind == "f" else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    return StoredImage(np.ascontiguousarray(array), full, alpha)

"""Images with samples deeper than 8 bits, as stored: PNG in colour, PGM and PPM, which Pillow truncates or rescales."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import Channels
from ..errors import DecodeError
from ..files.reading import refuse_large
from .png import MARK

_BLANK = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM_HEADER = re.compile(rb"P([256])" + rb"".join(_BLANK + rb"(\d{1,9})" for _ in range(3)) + rb"\s")
_MOST_HEADER = 4096
_GREY_ALPHA, _RGB, _RGBA = 4, 2, 6
_ROWS = 256


@dataclass(frozen=True)
class StoredImage:
    """Pixels as stored in a file, neither mapped to 8 bits nor turned nor composited."""

    values: NDArray[Any]
    """(H, W) grey, (H, W, 3) RGB, or (H, W, N) with all `channels`: signed or unsigned integers, or floating point."""
    full: tuple[float, float] | None = (0, 255)
    """The smallest and largest value that a sample of the file can hold; None for floating point."""
    alpha: NDArray[np.uint8] | None = None
    """(H, W) opacity, 0..255; None if everything is opaque."""
    nodata: float | None = None
    """The value that the file declares to mean "no data"."""
    white_is_zero: bool = False
    orientation: int = 1
    """EXIF orientation, 1..8."""
    bands: int = 0
    """Number of bands in the file, if some are left out without being asked; otherwise 0."""
    channels: Channels = None
    """The choice of channels that was applied; None if there was nothing to choose from, or no choice."""
    counts: NDArray[np.bool_] | None = None
    """(H, W) the pixels that decide which values become black and white; None if all of them do."""
    window: tuple[float, float] | None = None
    """The values that the file itself asks to show as black and white."""

    @property
    def is_deep(self) -> bool:
        return self.values.dtype != np.uint8

    def considered(self, *where: Any) -> NDArray[np.bool_] | None:
        """Which pixels of an index into height and width count and are not wholly transparent; None if all are."""
        found: NDArray[np.bool_] | None = None if self.counts is None else self.counts[where]
        if self.alpha is not None:
            opaque: NDArray[np.bool_] = self.alpha[where] > 0
            found = opaque if found is None else found & opaque
        return found


def pnm_header(content: bytes) -> tuple[int, int, int, int, int] | None:
    """Kind (2, 5 or 6), width, height, white and length of the header of a PGM or PPM file; None for other files."""
    header = _PNM_HEADER.match(content[:_MOST_HEADER])
    if header is None:
        return None
    kind, width, height, white = map(int, header.groups())
    return kind, width, height, white, header.end()


def is_deep_pnm(content: bytes) -> bool:
    """Whether it is a binary PPM or PGM with two bytes per sample."""
    header = pnm_header(content)
    return header is not None and header[0] != 2 and 255 < header[3] < 1 << 16


def is_deep_png(content: bytes) -> bool:
    """Whether it is a PNG with 16 bits per sample."""
    return content.startswith(MARK) and content[24:25] == b"\x10"


def read_pnm(content: bytes, max_pixels: int) -> StoredImage:
    """The pixels of a file for which `is_deep_pnm` is true.

    Raises DecodeError if it is cut off, or has more than `max_pixels` pixels, or none.
    """
    header = pnm_header(content)
    assert header is not None
    kind, width, height, white, start = header
    refuse_large(width, height, max_pixels)
    shape = (height, width, 3) if kind == 6 else (height, width)
    count = math.prod(shape)
    if len(content) - start < 2 * count:
        raise DecodeError("damaged: the file is cut off")
    return StoredImage(np.frombuffer(content, ">u2", count, start).reshape(shape).astype(np.uint16), (0, white))


def read_deep_png(image: Image.Image, png: bytes) -> StoredImage | None:
    """The pixels of a PNG with 16-bit samples and several channels, opened as `image`; None for other files.

    Pillow keeps only the high byte of each sample. So the file is decoded twice: once as it is, for the high bytes, and
    once with the byte order reversed, for the low bytes. (torchvision's decoder gives 16 bits, but a damaged file can
    crash it.)
    """
    color_type = png[25]
    if not is_deep_png(png) or color_type not in (_GREY_ALPHA, _RGB, _RGBA):
        return None
    size = image.height, image.width
    alpha: NDArray[np.uint8] | None = None
    if color_type == _GREY_ALPHA:
        # Two 16-bit samples have the layout of four 8-bit samples.
        values = np.empty(size, np.uint16)
        alpha = np.empty(size, np.uint8)
        for rows, raw in _unpacked(png, "RGBA", "RGBA"):
            values[rows] = raw[..., 0].astype(np.uint16) << 8 | raw[..., 1]
            alpha[rows] = raw[..., 2]
        return StoredImage(values, (0, 65535), alpha)
    values = np.zeros((*size, 3), np.uint16)
    mode = "RGB" if color_type == _RGB else "RGBA"
    transparent = image.info.get("transparency")
    if color_type == _RGBA or isinstance(transparent, tuple):
        alpha = np.empty(size, np.uint8)
    for order, shift in (("B", 8), ("L", 0)):
        for rows, raw in _unpacked(png, mode, f"{mode};16{order}"):
            values[rows] |= raw[..., :3].astype(np.uint16) << shift
            if alpha is not None and color_type == _RGBA and shift:
                alpha[rows] = raw[..., 3]
            elif alpha is not None and color_type == _RGB and not shift:
                alpha[rows] = (values[rows] != np.array(transparent, np.uint16)).any(axis=2) * np.uint8(255)
    return StoredImage(values, (0, 65535), alpha)


def _unpacked(png: bytes, mode: str, raw_mode: str) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Bands of rows of a PNG, decoded as if it had another mode."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        changed = cast("Any", image)
        changed._mode = mode
        changed.tile = [(codec, extent, offset, raw_mode) for codec, extent, offset, _ in changed.tile]
        image.load()
        for top in range(0, image.height, _ROWS):
            bottom = min(top + _ROWS, image.height)
            yield slice(top, bottom), np.asarray(image.crop((0, top, image.width, bottom)))

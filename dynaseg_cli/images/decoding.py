"""Decoding of image files to RGB by stated rules, within limits, whatever they contain."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..config import MAX_PIXELS, Channels, ValueRange, range_text
from ..errors import DecodeError
from ..files.reading import read_image, refuse_large
from . import dicom, jpeg, png, tiff
from .channels import projected
from .deep import StoredImage, is_deep_png, is_deep_pnm, read_deep_png, read_pnm
from .headers import MOST_COUNTED, count_frames, foreign_kind, is_heif
from .masks import Mask
from .pillow import decode_errors, is_dicom, is_jpeg_2000, memory_limited, pillow_for
from .tiff_pages import count_with_channels, first_page_with_channels
from .value_range import UsedRange, to_8_bits

FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
"""The formats that Pillow may open, where it was built with them.

EPS and PDF are missing because they run an interpreter on the file, and TGA and the like because any bytes are valid.
"""

TILE_PIXELS = 1 << 20


@dataclass(frozen=True)
class Surroundings:
    """A photo and a margin around it."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB."""
    inner: tuple[slice, slice]
    """Rows and columns of the photo."""


@dataclass(frozen=True)
class Photo:
    """A decoded image file."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB, turned as EXIF says."""
    range: UsedRange | None = None
    """How the values were mapped to 8 bits, if they are deeper."""
    frames: int = 1
    """Number of frames or pages, of which this is the first; at most `headers.MOST_COUNTED`."""
    channels: Channels = None
    """The choice of channels that was applied, if there are any to choose from."""
    warnings: tuple[str, ...] = ()
    counts: NDArray[np.bool_] | None = None
    """(H, W) the pixels that count, at least one; None without a mask."""
    surroundings: Surroundings | None = None
    """Where the photo is a tile of a larger one: what is segmented instead."""


def read_source(path: Path, max_pixels: int) -> tuple[bytes, str]:
    """The content of a file and its SHA-256 in hexadecimal.

    Raises DecodeError if it is no regular file, or too large for an image of `max_pixels`.
    """
    content = read_image(path, max_pixels)
    return content, hashlib.sha256(content).hexdigest()


def decode(
    content: bytes, max_pixels: int, value_range: ValueRange = "auto", channels: Channels = None
) -> NDArray[np.uint8]:
    """The pixels of `decode_photo`, (H, W, 3) uint8 RGB."""
    return decode_photo(content, max_pixels, value_range, channels).pixels


def decode_photo(
    content: bytes,
    max_pixels: int,
    value_range: ValueRange = "auto",
    channels: Channels = None,
    mask: Mask | None = None,
) -> Photo:
    """Decode an image file to RGB.

    The first frame or page is turned as EXIF says; colour profiles are ignored. Grey is repeated in three channels,
    palettes are looked up, transparency is composited on white, and CMYK, YCbCr, Lab and HSV are converted. Values
    deeper than 8 bits in PNG, TIFF and PPM are mapped to 8 bits by `value_range`: see `to_8_bits`. Of a TIFF with more
    than three bands, the first three are red, green and blue. JPEG 2000 colour and AVIF are decoded to 8 bits. What a
    `mask` leaves out has no influence on the colours of the rest.

    Peak memory is 8 bytes per pixel plus 40 MB, besides `content`. Some decoders need more: progressive JPEG 10 (12 for
    CMYK; twice that if the end of the file is missing), 16-bit colour PNG 10, AVIF 16, WebP 22, JPEG 2000 25. A deep
    TIFF needs 3 bytes per pixel plus its samples, which one large compressed or big-endian strip takes twice or three
    times. On Linux, a JPEG 2000 that needs more than `PEAK_BYTES_A_PIXEL` is stopped. Time is not limited here: a file
    can be crafted to take minutes.

    Raises DecodeError if the file is empty, of no known format, damaged, made to keep a decoder busy, or has more than
    `max_pixels` pixels. Raises ImageError as `Mask.counts` does.
    """
    if not content:
        raise DecodeError("the file is empty")
    with pillow_for(content, max_pixels):
        stored, frames, warnings = _first_picture(content, max_pixels, channels)
        if mask is not None:
            stored = _upright(stored, content)
    if mask is not None:  # not earlier, as it may be a file to be decoded itself
        stored = replace(stored, counts=mask.counts(stored))
    with decode_errors():
        orientation, counts = stored.orientation, stored.counts
        photo = _in_8_bits(stored, value_range)
        del stored  # free the deep values before the result is copied
        pixels, warnings = _turned(photo.pixels, orientation), [*warnings, *photo.warnings]
        return replace(photo, pixels=pixels, frames=frames, warnings=tuple(warnings), counts=counts)


def decode_part(
    content: bytes, max_pixels: int, ends: tuple[float, float], option: ValueRange, channels: Channels
) -> Photo:
    """Decode a part of a larger image, as a file of its own, like `decode_photo`.

    That it is of one grey is nothing to warn of, as it would be of a whole image.

    Parameters
    ----------
    ends : which numbers of the larger image become black and white, by `option`.
    """
    with pillow_for(content, max_pixels):
        stored = _read(content, max_pixels, channels, [])
        warnings = _bands_left_out(stored)
        photo = as_photo(stored, ends)
    used = None if photo.range is None else replace(photo.range, option=range_text(option))
    return replace(photo, range=used, warnings=tuple(warnings))


def read_stored(content: bytes, max_pixels: int, channels: Channels = None) -> StoredImage:
    """The numbers of an image as its file has them, turned as EXIF says, so that they lie below its labels.

    DICOM has what they measure, by slope and intercept. Chosen `channels` are given in that order, and of "all" each.
    Palettes are looked up, and other colour spaces converted to RGB.

    Raises DecodeError as `decode_photo` does.
    """
    with pillow_for(content, max_pixels):
        return _upright(_read(content, max_pixels, channels, []), content)


def _upright(stored: StoredImage, content: bytes) -> StoredImage:
    """The image of a file turned as EXIF says, with the value for "no data" that the file declares."""
    page = None if stored.is_deep else tiff.first_page(content)
    nodata = stored.nodata if page is None else tiff.nodata_of(page)
    alpha = None if stored.alpha is None else _turned(stored.alpha, stored.orientation)
    values = _turned(stored.values, stored.orientation)
    return replace(stored, values=values, alpha=alpha, nodata=nodata, orientation=1)


def decode_rgba(
    content: bytes, max_pixels: int, value_range: ValueRange = "auto", channels: Channels = None
) -> NDArray[np.uint8]:
    """Decode an image file to (H, W, 4) uint8 RGBA: the colours of `decode_photo` before white is laid under them.

    Raises DecodeError as `decode_photo` does.
    """
    stored = read_stored(content, max_pixels, channels)
    rgb = _in_8_bits(stored, value_range, on_white=False).pixels
    alpha = np.full(rgb.shape[:2], 255, np.uint8) if stored.alpha is None else stored.alpha
    return np.dstack([rgb, alpha])


def is_deep(content: bytes) -> bool:
    """Whether an image has more than 8 bits per sample according to its header, so that a value range applies to it."""
    if is_deep_png(content) or is_deep_pnm(content):
        return True
    with suppress(Exception), pillow_for(content, MAX_PIXELS):
        if is_dicom(content):
            return dicom.is_deep(content)
        page = tiff.first_page(content)
        if page is not None:
            return tiff.is_deep(page)
        with Image.open(io.BytesIO(content), formats=["JPEG2000"]) as image:
            return _is_deep_mode(image.mode)
    return False


def has_channels(content: bytes) -> bool:
    """Whether there are channels to choose from, according to the header."""
    with suppress(Exception), pillow_for(content, MAX_PIXELS):
        if tiff.is_tiff(content):
            page = tiff.first_page(first_page_with_channels(content, MAX_PIXELS))
            return page is not None and tiff.has_channels(page)
    return False


def _first_picture(content: bytes, max_pixels: int, channels: Channels) -> tuple[StoredImage, int, list[str]]:
    """The first picture of a file, the number of its frames, and warnings."""
    Image.init()
    kind = foreign_kind(content, avif="AVIF" in Image.OPEN)
    if kind is not None:
        raise DecodeError(kind)
    frames, word = count_frames(content)
    if channels is not None and tiff.is_tiff(content):
        frames = count_with_channels(content) or frames
    warnings = []
    if frames > MOST_COUNTED:
        warnings.append(f"first of more than {MOST_COUNTED} {word}")
    elif frames > 1:
        warnings.append(f"first of {frames} {word}, {frames - 1} left out")
    return _read(content, max_pixels, channels, warnings), min(frames, MOST_COUNTED), warnings


def as_photo(stored: StoredImage, value_range: ValueRange) -> Photo:
    """An image as it was stored, mapped to 8 bits, in RGB, composited on white and turned."""
    photo = _in_8_bits(stored, value_range)
    return replace(photo, pixels=_turned(photo.pixels, stored.orientation))


def _in_8_bits(stored: StoredImage, value_range: ValueRange, *, on_white: bool = True) -> Photo:
    """RGB, not yet turned; on white, or in the colours that the file has below its opacity."""
    warnings = _bands_left_out(stored)
    used: UsedRange | None = None
    if stored.channels == "all":
        stored = projected(stored)
    if stored.is_deep:
        rgb, used, warning = to_8_bits(stored, value_range)
        warnings += [] if warning is None else [warning]
    else:
        rgb = 255 - stored.values if stored.white_is_zero else stored.values
        rgb = rgb if rgb.ndim == 3 else np.repeat(rgb[:, :, None], 3, axis=2)
    if on_white and stored.alpha is not None:
        _composite_on_white(rgb, stored.alpha)
    return Photo(rgb, used, channels=stored.channels, warnings=tuple(warnings))


def _bands_left_out(stored: StoredImage) -> list[str]:
    if not stored.bands:
        return []
    return [f"first {'3 of' if stored.values.ndim == 3 else 'of'} {stored.bands} bands"]


def _read(content: bytes, max_pixels: int, channels: Channels, warnings: list[str]) -> StoredImage:
    """The first image of a file. Adds to `warnings`."""
    stored = _read_without_pillow(content, max_pixels, channels)
    if stored is not None:
        return stored
    unusual = jpeg.unusual_kind(content) if content.startswith(jpeg.MARK) else None
    if unusual is not None:
        raise DecodeError(f"it is a {unusual}, which is not read: convert it to PNG or TIFF")
    if content.startswith(png.MARK):
        content = png.without_metadata(content)
    formats = [name for name in FORMATS if name in Image.OPEN]
    if is_heif(content):
        import pillow_heif  # noqa: PLC0415 - an extra

        pillow_heif.register_heif_opener()
        formats = ["HEIF"]
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            return _read_open(image, content, max_pixels)
    except UnidentifiedImageError:
        if not tiff.is_tiff(content):
            raise DecodeError("not an image of a known format, or damaged at its start") from None
        return tiff.read_tiff(content, max_pixels)  # with bands that Pillow does not support
    except OSError as error:
        page = tiff.first_page(content)
        rare = None if page is None else tiff.rare_compression(page)
        if rare is not None:
            raise DecodeError(f"damaged, or not read because it is a TIFF in {rare}: convert it to PNG") from error
        if not content.startswith(jpeg.MARK) or "truncated" not in str(error):
            raise
    content, missing = jpeg.with_end(content)
    if missing:
        warnings.append("the last bytes of the file are missing, and a few pixels with them")
    with Image.open(io.BytesIO(content), formats=["JPEG", "MPO"]) as image:
        return _read_open(image, content, max_pixels)


def _read_without_pillow(content: bytes, max_pixels: int, channels: Channels) -> StoredImage | None:
    """The first image of a file that Pillow cannot read, or would round; None for other files."""
    if is_dicom(content):
        return dicom.read_dicom(content, max_pixels)
    if is_deep_pnm(content):
        return read_pnm(content, max_pixels)
    if channels is not None and tiff.is_tiff(content):
        content = first_page_with_channels(content, max_pixels)
    page = tiff.first_page(content)
    if page is None:
        return None
    if tiff.is_deep(page) or tiff.is_sparse(page) or (channels is not None and tiff.has_channels(page)):
        return tiff.read_tiff(content, max_pixels, channels)
    return None


def _read_open(image: Image.Image, content: bytes, max_pixels: int) -> StoredImage:
    refuse_large(image.width, image.height, max_pixels)
    if image.format in ("JPEG", "MPO") and jpeg.has_too_many_scans(content):
        raise DecodeError(f"more than {jpeg.MOST_SCANS} scans; no encoder writes so many, and each may take seconds")
    deep = read_deep_png(image, content) if image.format == "PNG" else None
    if deep is not None:
        return replace(deep, orientation=_orientation(image))
    # 300 bytes of JPEG 2000 can ask for tens of gigabytes, and no header tells.
    with memory_limited(max_pixels) if is_jpeg_2000(content) else nullcontext():
        image.load()
    return stored_in(image)


def stored_in(image: Image.Image) -> StoredImage:
    """What a Pillow image holds, of any mode. Raises whatever Pillow does if it cannot be loaded."""
    orientation = _orientation(image)
    return replace(_deep_grey(image) if _is_deep_mode(image.mode) else _in_bytes(image), orientation=orientation)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF beside sound pixels: show them as they are stored
        return 1


def _turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An (H, W, ...) array, turned by its EXIF orientation."""
    size = image.dtype.itemsize * math.prod(image.shape[2:])
    pixels = (
        np.ascontiguousarray(image).reshape(*image.shape[:2], -1).view(f"V{size}")[..., 0]
    )  # moved as a whole, in half the time
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1] if orientation != 7 else pixels[::-1, ::-1]
    if orientation in (2, 3, 6):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels).view(image.dtype).reshape(*pixels.shape, *image.shape[2:])


def _is_deep_mode(mode: str) -> bool:
    """Whether a Pillow mode is grey with more than 8 bits: I;16 (either byte order), I (32 bits) or F."""
    return mode.startswith("I") or mode == "F"


def _deep_grey(image: Image.Image) -> StoredImage:
    dtype = {"I": np.int32, "F": np.float32}.get(image.mode, np.uint16)
    values = np.empty((image.height, image.width), dtype)
    for (left, top, right, bottom), tile in _tiles(image):
        values[top:bottom, left:right] = np.asarray(tile)
    full = None if image.mode == "F" else (0, 65535)
    # A PNG may declare one value transparent.
    transparent, alpha = image.info.get("transparency"), None
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, np.uint8(0), np.uint8(255))
    return StoredImage(values, full, alpha)


def _composite_on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
    """Composite on white, in place."""
    rows = max(1, TILE_PIXELS // rgb.shape[1])
    for top in range(0, len(rgb), rows):
        share = alpha[top : top + rows, :, None].astype(np.uint32)
        colors = rgb[top : top + rows]
        rgb[top : top + rows] = (colors * share + 255 * (255 - share) + 127) // 255


def _in_bytes(image: Image.Image) -> StoredImage:
    """Convert by tiles, as conversions take several times the memory of their input."""
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    size = image.height, image.width
    values = np.empty(size if mode == "L" else (*size, 3), np.uint8)
    alpha = np.empty(size, np.uint8) if image.has_transparency_data else None
    for (left, top, right, bottom), tile in _tiles(image):
        part = tile
        if alpha is not None:
            part = tile.convert("RGBA")
            alpha[top:bottom, left:right] = np.asarray(part.getchannel("A"))
        values[top:bottom, left:right] = np.asarray(part.convert(mode))
    return StoredImage(values, alpha=alpha)


def _tiles(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    width, height = image.size
    rows = max(1, TILE_PIXELS // width)
    for top, left in product(range(0, height, rows), range(0, width, TILE_PIXELS)):
        box = left, top, min(left + TILE_PIXELS, width), min(top + rows, height)
        yield box, image.crop(box)

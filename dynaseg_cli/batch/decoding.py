"""Image files decoded to RGB by stated rules, within limits, whatever is in them."""

from __future__ import annotations

import hashlib
import io
import math
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DecodeError
from ..images import pillow_alone, read_image

FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
"""The formats that Pillow may open, where it was built with them.

Not EPS and PDF, which run an interpreter on the file's content, and not TGA and the like, which take any bytes for an
image.
"""

MOST_SCANS = 100
"""As many as libtiff takes of a JPEG within a TIFF; encoders write about ten. Each goes over the whole image."""
TILE_PIXELS = 1 << 20
PEAK_BYTES_A_PIXEL = 32
"""Most that `decode` takes for a sound file, beside that file's content."""

_OVERHEAD_BYTES = 1 << 30
"""For the content, and the stacks of a decoder's threads on a large machine."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd8]")
"""Of a segment, or the end; within a scan, 255 is followed by one of the others."""
_START_OF_SCAN, _END_OF_JPEG = b"\xff\xda", b"\xff\xd9"


def read_source(path: Path, max_pixels: int) -> tuple[bytes, str]:
    """The content of a file and its SHA-256 in hexadecimal.

    Raises
    ------
    DecodeError
        If it is no regular file, or too large for an image of `max_pixels`.
    """
    content = read_image(path, max_pixels)
    return content, hashlib.sha256(content).hexdigest()


def decode(content: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an image file to RGB, (H, W, 3) uint8.

    The first frame of an animation, turned as EXIF says, colour profiles ignored. Grey is repeated in three channels;
    palettes are looked up; transparency is composited on white; CMYK, YCbCr, Lab and HSV are converted; 16-bit grey is
    divided by 257 (16-bit colour loses its low byte), 32-bit integers are taken for 16-bit values; floating point is
    stretched from its least to its greatest finite value.

    At its peak it takes 8 bytes a pixel and 40 MB beside `content`, and more where the decoder itself does:
    progressive JPEG 10, or 12 of four inks; AVIF 16; WebP 22; JPEG 2000 25. No sound file needs `PEAK_BYTES_A_PIXEL`:
    there a JPEG 2000 made to take more is stopped, on Linux. Files made to take minutes exist all the same, and only a
    limit of time from outside stops them.

    Raises
    ------
    DecodeError
        If the file is empty, of no known format, damaged, made to keep a decoder busy, or has more than `max_pixels`
        pixels.
    """
    if not content:
        raise DecodeError("the file is empty")
    try:
        with pillow_alone(max_pixels if content.startswith(b"GIF") else None):
            Image.init()
            formats = [name for name in FORMATS if name in Image.OPEN]
            with Image.open(io.BytesIO(content), formats=formats) as image:
                _refuse_absurd(image, content, max_pixels)
                # 300 bytes of JPEG 2000 can ask for tens of gigabytes, and no header tells.
                with _memory_limited(max_pixels) if image.format == "JPEG2000" else nullcontext():
                    image.load()
                _turn_upright(image)
            return _to_rgb(image)
    except (DecodeError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise DecodeError(f"more pixels than --max-pixels {max_pixels} allows") from None
    except UnidentifiedImageError:
        raise DecodeError("not an image of a known format, or damaged at its start") from None
    except Exception as error:  # Pillow's decoders raise anything at all on damaged files
        raise DecodeError(f"damaged or not supported: {str(error) or type(error).__name__}") from error


@contextmanager
def _memory_limited(max_pixels: int) -> Iterator[None]:
    """Keep the decoder from taking more memory than any sound image needs, on Linux.

    The limit is the process's: what others take meanwhile has to fit into `_OVERHEAD_BYTES` and what is not decoded.
    """
    sizes = Path("/proc/self/statm")
    if not sizes.exists():
        yield
        return
    # Not RLIMIT_AS: threads of decoders reserve addresses that they never use.
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(sizes.read_text().split()[5]) * resource.getpagesize()
    limit = taken + PEAK_BYTES_A_PIXEL * max_pixels + _OVERHEAD_BYTES
    lower = [one for one in (limit, before, most) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(lower), most))
    try:
        yield
    except MemoryError:
        raise DecodeError("to decode it takes more memory than there is, or than any sound image needs") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _refuse_absurd(image: Image.Image, content: bytes, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise DecodeError("the image has no pixels")
    if pixels > max_pixels:
        raise DecodeError(f"{image.width} x {image.height} pixels are more than --max-pixels {max_pixels} allows")
    if image.format in ("JPEG", "MPO") and _has_too_many_scans(content):
        raise DecodeError(f"more than {MOST_SCANS} scans; no encoder writes so many, and each may take seconds")


def _has_too_many_scans(jpeg: bytes) -> bool:
    scans, position = 0, 2
    while scans <= MOST_SCANS and (marker := _JPEG_MARKER.search(jpeg, position)) and marker[0] != _END_OF_JPEG:
        scans += marker[0] == _START_OF_SCAN
        position = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
    return scans > MOST_SCANS


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF beside sound pixels: show them as they are stored
        return


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """By tiles: conversions take several times the memory of what they convert."""
    low, high = _finite_range(image) if image.mode == "F" else (0.0, 0.0)
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for (left, top, right, bottom), tile in _tiles(image):
        rgb[top:bottom, left:right] = _tile_to_rgb(tile, low, high)
    return rgb


def _tiles(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    width, height = image.size
    rows = max(1, TILE_PIXELS // width)
    for top, left in product(range(0, height, rows), range(0, width, TILE_PIXELS)):
        box = left, top, min(left + TILE_PIXELS, width), min(top + rows, height)
        yield box, image.crop(box)


def _tile_to_rgb(image: Image.Image, low: float, high: float) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # I;16 in either byte order, and I, 32 bits
        values = np.asarray(image).astype(np.int64)
        # A PNG may declare one value transparent: white, as everything transparent.
        values[values == image.info.get("transparency", -1)] = 65535
        return _grey(np.clip(values, 0, 65535) / 257)
    if image.mode == "F":
        return _grey(_stretched(np.asarray(image).astype(np.float64), low, high))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _finite_range(image: Image.Image) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for _, tile in _tiles(image):
        values = np.asarray(tile)
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _stretched(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low) if high > low else 0)


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(np.rint(values).astype(np.uint8)[:, :, None], 3, axis=2)

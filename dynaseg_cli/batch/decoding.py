"""Image files decoded to RGB by stated rules, within limits, whatever is in them."""

from __future__ import annotations

import hashlib
import io
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

    Raises
    ------
    DecodeError
        If the file is empty, of no known format, damaged, or has more than `max_pixels` pixels.
    """
    if not content:
        raise DecodeError("the file is empty")
    try:
        with pillow_alone(max_pixels if content.startswith(b"GIF") else None):
            Image.init()
            image = Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN])
            if image.width * image.height > max_pixels:
                raise DecodeError(
                    f"{image.width} x {image.height} pixels are more than --max-pixels {max_pixels} allows"
                )
            image.load()
            rgb = _to_rgb(_upright(image))
    except (DecodeError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise DecodeError(f"more pixels than --max-pixels {max_pixels} allows") from None
    except UnidentifiedImageError:
        raise DecodeError("not an image of a known format, or damaged at its start") from None
    except Exception as error:  # Pillow's decoders raise anything at all on damaged files
        raise DecodeError(f"damaged or not supported: {str(error) or type(error).__name__}") from error
    if rgb.size == 0:
        raise DecodeError("the image has no pixels")
    return rgb


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned: Image.Image | None = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF beside sound pixels: show them as they are stored
        return image
    return image if turned is None else turned


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # I;16 in either byte order, and I, 32 bits
        values = np.asarray(image).astype(np.int64)
        # A PNG may declare one value transparent: white, as everything transparent.
        values[values == image.info.get("transparency", -1)] = 65535
        return _grey(np.clip(values, 0, 65535) / 257)
    if image.mode == "F":
        return _grey(_stretched(np.asarray(image).astype(np.float64)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    return (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / (high - low) if high > low else 0)


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(np.rint(values).astype(np.uint8)[:, :, None], 3, axis=2)

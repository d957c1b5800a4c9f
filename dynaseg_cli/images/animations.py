"""Single frames of animations: GIF, PNG and WebP, which are composed of the frames before."""

from __future__ import annotations

import io

from PIL import Image

from ..errors import DecodeError
from ..files.reading import refuse_large
from . import png
from .pillow import pillow_for

FORMATS = ("GIF", "PNG", "WEBP")


def may_be_animated(start: bytes) -> bool:
    """Whether a file with these first bytes, at least 32, has a format of animations, and no sign of being none."""
    if start.startswith((b"GIF8", png.MARK)):
        return True
    return start.startswith(b"RIFF") and start[8:16] == b"WEBPVP8X" and bool(start[20] & 2)


def frame_as_png(content: bytes, number: int, max_pixels: int) -> bytes:
    """Frame `number` of an animation, from 1, as a PNG of 8 bits with the same colours, opacity and orientation.

    Every frame before it is decoded as well.

    Raises DecodeError if there is no such frame, or the file is damaged or larger than `max_pixels` allows.
    """
    with pillow_for(content, max_pixels), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        refuse_large(image.width, image.height, max_pixels)
        # A PNG may have a picture before its frames, for programs that know none.
        index = number - 1 + bool(image.info.get("default_image"))
        try:
            image.seek(index)
        except EOFError:
            raise DecodeError(f"damaged: it has no frame {number}, or not all before it") from None
        frame = image.convert("RGBA" if image.has_transparency_data else "RGB")
        stream = io.BytesIO()
        frame.save(stream, "PNG", compress_level=0, exif=image.getexif())
    return stream.getvalue()

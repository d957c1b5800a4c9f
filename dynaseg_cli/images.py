"""Image files wherever they are met: what their names end in, and Pillow without its settings of the whole process."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

PHOTO_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
"""What a file in a folder must end in, in any case, to be taken for a photo; one named by itself need not."""

_pillow = threading.Lock()


@contextmanager
def pillow_alone() -> Iterator[None]:
    """Pillow for one thread at a time, without its own pixel limit, its warnings and its log.

    All three belong to the whole process, hence the lock. Readers check the number of pixels on the header in
    place of Pillow's limit, and say once, by an error, what is wrong with a file.
    """
    log = logging.getLogger("PIL")
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        level = log.level
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)
            Image.MAX_IMAGE_PIXELS = limit

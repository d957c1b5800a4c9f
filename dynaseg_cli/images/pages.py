"""Photos as a run reads them: whole files, or one page of a file of several, as a file of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DecodeError
from ..files.output_folder import Job
from ..files.reading import DICOM_INSTALLED, open_file, read_image
from . import animations, dicom, png, tiff
from .headers import count_frames
from .pillow import is_dicom, pillow_for
from .tiff_pages import MOST_PAGES, read_tiff_page, tiff_pages

_START = 132
"""Bytes at the start of a file that tell its format."""


@dataclass(frozen=True)
class Source:
    """The file of a photo, or one page of it, as it was read."""

    sha256: str
    """SHA-256 in hexadecimal: of the file; for a page of a TIFF or DICOM of `content`, its own data; and for a frame of
    an animation of the whole file, as it depends on the frames before."""
    header: bytes
    """A content that tells whether numbers are deep, and whether there are channels to choose from."""
    _frame: tuple[bytes, int, int] | None = None

    @cached_property
    def content(self) -> bytes:
        """The content of a file with this photo alone; raises DecodeError if a frame is damaged."""
        return self.header if self._frame is None else animations.frame_as_png(*self._frame)


def read_job(job: Job, max_pixels: int) -> Source:
    """Read the photo of a job.

    Raises DecodeError if it is no regular file, too large for an image of `max_pixels`, or lacks the page. Raises
    OSError if it cannot be opened.
    """
    if job.page is None:
        content = read_image(job.source, max_pixels)
        return Source(hashlib.sha256(content).hexdigest(), content)
    return read_page(job.source, job.page, max_pixels)


def read_page(path: Path, number: int, max_pixels: int) -> Source:
    """Read page `number` of a file, from 1; see `count_pages` and `read_job`."""
    start = _start(path)
    if tiff.is_tiff(start):
        with pillow_for(start, max_pixels):
            content = read_tiff_page(path, number, max_pixels)
    elif is_dicom(start) and DICOM_INSTALLED:
        with pillow_for(start, max_pixels):
            content = dicom.read_frame(path, number, max_pixels)
    elif animations.may_be_animated(start):
        content = read_image(path, max_pixels)
        return Source(hashlib.sha256(content).hexdigest(), b"", (content, number, max_pixels))
    else:
        raise DecodeError("it no longer has several pages")
    return Source(hashlib.sha256(content).hexdigest(), content)


def count_pages(path: Path, max_pixels: int) -> int | None:
    """How many pages a file has, at most `MOST_PAGES`; None if it is a single picture, or cannot be read.

    Pages of a TIFF are those of `tiff_pages`, and may be one only: of several channels. The frames of a GIF, PNG, WebP
    or DICOM are pages. Previews in a phone's photo are none.
    """
    try:
        start = _start(path)
        if tiff.is_tiff(start):
            with pillow_for(start, max_pixels):
                pages = tiff_pages(path)
            return len(pages) if len(pages) > 1 or any(len(page) > 1 for page in pages) else None
        if is_dicom(start) and DICOM_INSTALLED:
            with pillow_for(start, max_pixels), open_file(path) as (file, _):
                count = dicom.count_frames(file)
        elif animations.may_be_animated(start) and (start[:8] != png.MARK or _is_animated_png(path)):
            count, _ = count_frames(read_image(path, max_pixels), MOST_PAGES)
        else:
            return None
    except (DecodeError, OSError, MemoryError):
        return None
    return min(count, MOST_PAGES) if count > 1 else None


def _start(path: Path) -> bytes:
    with open_file(path) as (file, _):
        return file.read(_START)


def _is_animated_png(path: Path) -> bool:
    with open_file(path) as (file, _):
        return png.is_animated(file)

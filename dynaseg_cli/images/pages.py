"""Photos as a run reads them: whole files, or a page or tile of one, as a file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ..config import Channels, ValueRange
from ..errors import DecodeError
from ..files.output_folder import Job
from ..files.reading import DICOM_INSTALLED, VIDEO_INSTALLED, open_file, read_image
from ..files.tiles import Tile
from . import animations, dicom, png, tiff, video
from .decoding import Photo, Surroundings, decode_part, decode_photo, is_deep
from .headers import MOST_COUNTED, count_frames
from .masks import Mask
from .pillow import is_dicom, pillow_for
from .tiff_pages import MOST_PAGES, read_tiff_page, tiff_pages
from .windows import Window, range_of_file, read_window

_START = 132
"""Bytes at the start of a file that tell its format."""


@dataclass(frozen=True)
class Source:
    """The file of a photo, or one page of it, as it was read."""

    sha256: str
    """SHA-256 in hexadecimal: of the file; for a page of a TIFF or DICOM of `content`, its own data; for a frame of an
    animation or a video of the whole file, as it depends on the frames before; and for a tile of what `Window.sha256`
    says."""
    header: bytes
    """A content that tells whether numbers are deep, and whether there are channels to choose from."""
    _frame: Callable[[], bytes] | None = None
    _tile: tuple[Path, Tile, Window] | None = None
    frames: int = 1
    """Frames of a video whose first was asked for, as its header tells."""

    @cached_property
    def content(self) -> bytes:
        """The content of a file with this photo alone; raises DecodeError if a frame or tile is damaged."""
        if self._tile is not None:
            _, tile, window = self._tile
            return window.content(tile.box)
        return self.header if self._frame is None else self._frame()

    def photo(
        self,
        max_pixels: int,
        value_range: ValueRange = "auto",
        channels: Channels = None,
        mask: Mask | None = None,
    ) -> Photo:
        """The decoded photo: see `decode_photo`.

        A tile has `surroundings`, the value range of the whole file, and no mask.
        """
        if self._tile is None:
            photo = decode_photo(self.content, max_pixels, value_range, channels, mask)
            if self.frames == 1:
                return photo
            warning = f"first of {self.frames} frames, {self.frames - 1} left out"
            return replace(photo, frames=min(self.frames, MOST_COUNTED), warnings=(warning, *photo.warnings))
        path, tile, window = self._tile
        ends = 0.0, 0.0
        if is_deep(self.header):
            ends = range_of_file(path, value_range, channels, max_pixels)
        photo = decode_part(window.content(), max_pixels, ends, value_range, channels)
        pixels = np.ascontiguousarray(photo.pixels[tile.inner])
        warnings = photo.warnings if tile.row == tile.column == 0 else ()  # once for a file
        surroundings = Surroundings(photo.pixels, tile.inner)
        return replace(photo, pixels=pixels, warnings=warnings, surroundings=surroundings)


def read_job(job: Job, max_pixels: int) -> Source:
    """Read the photo of a job.

    Raises DecodeError if it is no regular file, too large for an image of `max_pixels`, or lacks the part. Raises
    OSError if it cannot be opened.
    """
    if job.page is None:
        if VIDEO_INSTALLED and video.video_format(_start(job.source)) is not None:
            return replace(read_page(job.source, 1, max_pixels), frames=video.stated_frames(job.source) or 1)
        content = read_image(job.source, max_pixels)
        return Source(hashlib.sha256(content).hexdigest(), content)
    if isinstance(job.page, Tile):
        window = read_window(job.source, job.page.box_with_margin, max_pixels)
        return Source(window.sha256, window.header, _tile=(job.source, job.page, window))
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
        frame = partial(animations.frame_as_png, content, number, max_pixels)
        return Source(hashlib.sha256(content).hexdigest(), b"", frame)
    elif video.video_format(start) is not None:
        return Source(video.video_sha256(path), b"", partial(video.video_frame_as_png, path, number, max_pixels))
    else:
        raise DecodeError("it no longer has several pages")
    return Source(hashlib.sha256(content).hexdigest(), content)


def count_pages(path: Path, max_pixels: int) -> int | None:
    """How many pages a file has; None if it is a single picture, or cannot be read.

    Pages of a TIFF are those of `tiff_pages`, and may be one only: of several channels. The frames of a GIF, PNG, WebP,
    DICOM or video are pages. Previews in a phone's photo are none. At most `MOST_PAGES` count, and `MOST_FRAMES` of a
    video.
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
        elif video.video_format(start) is not None:
            frames = video.count_video_frames(path)
            return frames if frames > 1 else None
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

"""Files of images and labels: their suffixes, and reading them within limits."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from ..errors import DecodeError

HEIF_INSTALLED = find_spec("pillow_heif") is not None
"""Whether the extra `heif` is installed, which reads HEIC."""
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")

DICOM_INSTALLED = find_spec("pydicom") is not None
"""Whether the extra `dicom` is installed, which reads DICOM."""
_DICOM_SUFFIXES = (".dcm", ".dicom")

VIDEO_INSTALLED = find_spec("av") is not None
"""Whether the extra `video` is installed, which reads videos."""
_VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")

PHOTO_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    *(_HEIF_SUFFIXES if HEIF_INSTALLED else ()),
    *(_DICOM_SUFFIXES if DICOM_INSTALLED else ()),
    *(_VIDEO_SUFFIXES if VIDEO_INSTALLED else ()),
)
"""Suffixes, in lower case, of the files in a folder that are photos; a file named on its own may have any."""

_CAMERA_RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)

UNREADABLE_SUFFIXES: Mapping[str, str] = {
    **({} if HEIF_INSTALLED else dict.fromkeys(_HEIF_SUFFIXES, "HEIC")),
    **({} if DICOM_INSTALLED else dict.fromkeys(_DICOM_SUFFIXES, "DICOM")),
    **({} if VIDEO_INSTALLED else dict.fromkeys(_VIDEO_SUFFIXES, "video")),
    **dict.fromkeys(_CAMERA_RAW, "camera raw"),
    ".eps": "EPS",
    ".exr": "OpenEXR",
    ".fit": "FITS",
    ".fits": "FITS",
    ".hdr": "Radiance HDR",
    ".jxl": "JPEG XL",
    ".nii": "NIfTI",
    ".psb": "Photoshop",
    ".psd": "Photoshop",
    ".svg": "SVG",
    ".tga": "TGA",
    ".xcf": "GIMP",
}
"""Lower-case suffixes of images that cannot be read, with the names of the formats."""

EXTRAS: Mapping[str, str] = {"HEIC": "heif", "DICOM": "dicom", "video": "video"}
"""The extra of this package that reads a format among these."""

_BYTES_A_PIXEL = 16
"""More than a pixel takes in any format that can be read."""
_METADATA_BYTES = 64 << 20


def read_file(path: Path, most_bytes: int, limit: str) -> bytes:
    """The content of a regular file; `limit` explains `most_bytes` in the message.

    Raises DecodeError if it is larger, or a pipe or a device, which are not waited for. Raises OSError if it cannot be
    opened or read.
    """
    with open_file(path) as (file, size):
        if size > most_bytes:
            raise DecodeError(f"its {size} bytes are more than {limit}")
        return file.read(size)


class _File(io.BufferedReader):
    """A file of which never more memory is taken than it has bytes: formats may claim lengths of gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().read(size)
        return super().read(min(size, max(0, os.fstat(self.fileno()).st_size - self.tell())))


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading; also its size in bytes.

    Raises DecodeError if it is a pipe or a device, and OSError if it cannot be opened.
    """
    with _File(io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))) as file:
        status = os.fstat(file.fileno())  # not of the name, which may mean another file by now
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")
        yield file, status.st_size


def most_image_bytes(max_pixels: int) -> int:
    """The largest file that an image of `max_pixels` needs."""
    return _BYTES_A_PIXEL * max_pixels + _METADATA_BYTES


def read_image(path: Path, max_pixels: int) -> bytes:
    """The content of an image file, within the size of an image of `max_pixels`; raises as `read_file`."""
    return read_file(path, most_image_bytes(max_pixels), f"`max_pixels={max_pixels}` allows")


def refuse_large(width: int, height: int, max_pixels: int) -> None:
    """Raise DecodeError for an image of more than `max_pixels` pixels, or of none."""
    if width < 1 or height < 1:
        raise DecodeError("the image has no pixels")
    if width * height > max_pixels:
        raise DecodeError(f"{width} x {height} pixels are more than `max_pixels={max_pixels}` allows")

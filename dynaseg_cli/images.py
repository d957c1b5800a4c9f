"""Files of images and labels wherever they are met: their names, and reading them within limits."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from .errors import DecodeError

HEIF_INSTALLED = find_spec("pillow_heif") is not None
"""Whether the extra `heif` is installed, which reads HEIC."""
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")

PHOTO_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    *(_HEIF_SUFFIXES if HEIF_INSTALLED else ()),
)
"""What a file in a folder must end in, in any case, to be taken for a photo; one named by itself need not."""

_CAMERA_RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)

UNREADABLE_SUFFIXES: Mapping[str, str] = {
    **({} if HEIF_INSTALLED else dict.fromkeys(_HEIF_SUFFIXES, "HEIC")),
    **dict.fromkeys(_CAMERA_RAW, "camera raw"),
    ".dcm": "DICOM",
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
"""Lower-case suffixes of images that cannot be read, with the name of their kind."""

_BYTES_A_PIXEL = 16
"""More than any format takes for pixels that Pillow can read."""
_METADATA_BYTES = 64 << 20


def read_file(path: Path, most_bytes: int, limit: str) -> bytes:
    """The content of a regular file; `limit` says in words what `most_bytes` comes from.

    Raises
    ------
    DecodeError
        If it is a pipe or a device, which is not waited for, or is larger.
    OSError
        If it cannot be opened or read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())  # of what was opened: the name may mean something else by now
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")
        if status.st_size > most_bytes:
            raise DecodeError(f"its {status.st_size} bytes are more than {limit}")
        return file.read(status.st_size)


def read_image(path: Path, max_pixels: int) -> bytes:
    """The content of an image file, refused as `read_file` if no image of `max_pixels` is that large."""
    return read_file(path, _BYTES_A_PIXEL * max_pixels + _METADATA_BYTES, f"--max-pixels {max_pixels} allows")

"""Kinds of files by their first bytes, with remedies for those that are not read, and numbers of frames."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import islice

from ..files.reading import DICOM_INSTALLED, HEIF_INSTALLED
from . import png
from .dicom import count_frames as dicom_frames
from .pillow import is_dicom
from .tiff import first_page, is_camera_raw, is_picture, is_tiff, pages

_TO_PNG = "convert it to PNG, TIFF or JPEG"
_TO_TIFF = "convert it to TIFF or PNG"
_DEVELOP = "develop it to TIFF or JPEG"
_EXPORT = "export it as TIFF or PNG"
_DRAW = "draw it as PNG"
_EXTRACT = "save its frames as PNG"
_UNPACK = "unpack it"
_SLICES = "save its slices as TIFF or PNG"

_MARKS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"II\x1a\0\0\0HEAPCCDR", "a camera raw file (CRW)", _DEVELOP),
    (0, b"FUJIFILMCCD-RAW", "a camera raw file (RAF)", _DEVELOP),
    (0, b"IIRO", "a camera raw file (ORF)", _DEVELOP),
    (0, b"IIRS", "a camera raw file (ORF)", _DEVELOP),
    (0, b"MMOR", "a camera raw file (ORF)", _DEVELOP),
    (0, b"IIU\0", "a camera raw file (RW2)", _DEVELOP),
    (0, b"FOVb", "a camera raw file (X3F)", _DEVELOP),
    (0, b"\0MRM", "a camera raw file (MRW)", _DEVELOP),
    (0, b"8BPS", "a Photoshop file", _EXPORT),
    (0, b"gimp xcf", "a GIMP file", _EXPORT),
    (0, b"%PDF", "a PDF document", _DRAW),
    (0, b"%!PS", "a PostScript document", _DRAW),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document (EPS)", _DRAW),
    (0, b"AT&TFORM", "a DjVu document", _DRAW),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", _TO_TIFF),
    (0, b"#?RADIANCE", "a Radiance HDR image", _TO_TIFF),
    (0, b"#?RGBE", "a Radiance HDR image", _TO_TIFF),
    (0, b"\xff\x0a", "a JPEG XL image", _TO_PNG),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", _TO_PNG),
    (0, b"\0\0\1\0", "a Windows icon", _TO_PNG),
    (0, b"icns", "an Apple icon", _TO_PNG),
    (0, b"DDS ", "a DirectDraw texture", _TO_PNG),
    (0, b"qoif", "a QOI image", _TO_PNG),
    (0, b"BPG\xfb", "a BPG image", _TO_PNG),
    (0, b"SIMPLE  =", "a FITS file", _TO_TIFF),
    (344, b"n+1\0", "a NIfTI volume", _SLICES),
    (344, b"ni1\0", "a NIfTI volume", _SLICES),
    (0, b"NRRD", "an NRRD volume", _SLICES),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _TO_TIFF),
    (0, b"CDF\x01", "a NetCDF file", _TO_TIFF),
    (0, b"CDF\x02", "a NetCDF file", _TO_TIFF),
    (0, b"\x93NUMPY", "a NumPy array", _TO_TIFF),
    (0, b"MATLAB 5.0", "a MATLAB file", _TO_TIFF),
    (0, b"ZISRAWFILE", "a CZI microscope file", _TO_TIFF),
    (0, b"\xda\xce\xbe\x0a", "an ND2 microscope file", _TO_TIFF),
    (0, b"SQLite format 3", "an SQLite database", _EXPORT),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska)", _EXTRACT),
    (8, b"AVI ", "a video (AVI)", _EXTRACT),
    (0, b"\0\0\1\xba", "a video (MPEG)", _EXTRACT),
    (0, b"PK\3\4", "a zip archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"version https://git-lfs", "the pointer of Git LFS and not the image", "fetch it: git lfs pull"),
)
"""Position and bytes that identify a kind of file, its name, and what to do with it."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_LEAST_TEXT = 32
"""Length in bytes from which readable text is called text."""

MOST_COUNTED = 1000
"""Counting stops here, as a file may claim millions."""
_MOST_BLOCKS = 1_000_000
"""Limit on the blocks of a GIF (at most 255 bytes each) that are skipped in search of frames."""


def heif_brand(content: bytes) -> bytes:
    """The major brand of an ISO base media file (HEIC, AVIF, MP4); empty for other files."""
    return content[8:12] if content[4:8] == b"ftyp" else b""


def is_heif(content: bytes) -> bool:
    """Whether it is HEIC, which a generic brand means unless AVIF is among the compatible brands."""
    return heif_brand(content) in _HEIF_BRANDS and not is_avif(content)


def is_avif(content: bytes) -> bool:
    brand = heif_brand(content)
    compatible = content[16 : min(int.from_bytes(content[:4], "big"), 256)]
    return brand in _AVIF_BRANDS or (brand in (b"mif1", b"msf1") and any(one in compatible for one in _AVIF_BRANDS))


def foreign_kind(content: bytes, *, avif: bool) -> str | None:
    """A description of a file of an unreadable kind, with a remedy; None if it may be a readable image.

    `avif` tells whether Pillow can read AVIF.
    """
    if brand := heif_brand(content):
        return _describe_iso(content, brand, avif=avif)
    if is_dicom(content):
        return (
            None
            if DICOM_INSTALLED
            else _sentence("a DICOM file", "pip install 'dynaseg[dicom]', or convert it to TIFF")
        )
    for position, mark, name, remedy in _MARKS:
        if content.startswith(mark, position):
            return _sentence(name, remedy)
    if is_tiff(content):
        page = first_page(content)
        if content[8:10] == b"CR" or (page is not None and is_camera_raw(page)):
            return _sentence("a camera raw file", _DEVELOP)
        return None
    return _describe_text(content[:1024])


def _sentence(name: str, remedy: str) -> str:
    return f"it is {name}, which is not read: {remedy}"


def _describe_iso(content: bytes, brand: bytes, *, avif: bool) -> str | None:
    if is_avif(content):
        return None if avif else _sentence("an AVIF image", "install Pillow 11.3 or later, or convert it to PNG")
    if is_heif(content):
        if HEIF_INSTALLED:
            return None
        return _sentence("an HEIC image", "pip install 'dynaseg[heif]', or convert it to JPEG or PNG")
    if brand == b"crx ":
        return _sentence("a camera raw file (CR3)", _DEVELOP)
    return None if brand.startswith(b"jp") else _sentence("a video", _EXTRACT)


def _describe_text(start: bytes) -> str | None:
    words = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if words.startswith((b"<!doctype html", b"<html")):
        return "it is a web page and not an image: download the image itself"
    if words.startswith(b"<svg") or (words.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in words):
        return _sentence("an SVG drawing", _DRAW)
    if not words or re.match(rb"p[1-7f]\s", words) or any(byte < 32 and byte not in b"\t\n\r\f" for byte in words):
        return None  # the first may be PPM
    try:
        words.decode()
    except UnicodeDecodeError as error:
        if error.start < len(words) - 3:
            return None
    return "not an image of a known format: it is text" if len(words) >= _LEAST_TEXT else None


def count_frames(content: bytes, most: int = MOST_COUNTED) -> tuple[int, str]:
    """The number of frames or pages of a file, at least 1, and the word for them.

    Reduced copies and masks in a TIFF do not count, nor do the previews in a phone's JPEG. A number above `most` means
    that counting stopped.
    """
    found: Iterator[object] = iter(())
    word = "frames"
    if content.startswith(b"GIF8"):
        found = _gif_frames(content)
    elif content.startswith(png.MARK):
        found = png.frames(content)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        found = _webp_frames(content)
    elif is_tiff(content):
        every = islice(pages(content), 4 * most)
        found, word = (page for page in every if is_picture(page)), "pages"
    elif is_dicom(content) and DICOM_INSTALLED:
        found = iter(range(dicom_frames(io.BytesIO(content))))
    return max(1, sum(1 for _ in islice(found, most + 1))), word


def _webp_frames(content: bytes) -> Iterator[None]:
    position = 12
    while position + 8 <= len(content):
        if content[position : position + 4] == b"ANMF":
            yield
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2


def _gif_frames(content: bytes) -> Iterator[None]:
    position = 13 + _palette_bytes(content[10:11])
    blocks = 0
    while position < len(content) and blocks < _MOST_BLOCKS:
        kind = content[position]
        if kind == 0x2C:  # an image
            yield
            position += 10 + _palette_bytes(content[position + 9 : position + 10]) + 1
        elif kind == 0x21:  # an extension
            position += 2
        else:
            return
        while position < len(content) and content[position] and blocks < _MOST_BLOCKS:
            position += 1 + content[position]
            blocks += 1
        position += 1
        blocks += 1


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0

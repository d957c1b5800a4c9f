"""Pages of a TIFF: which planes of an OME-TIFF or ImageJ stack belong together, and one page as a TIFF of its own.

A page is read with no more of its file than the directories and its own strips, so that a stack may be larger than
memory.
"""

from __future__ import annotations

import functools
import io
import math
import re
import struct
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodeError
from ..files.reading import most_image_bytes, open_file
from .pillow import decode_errors
from .tiff import CUT_OFF, NEEDED, is_picture, open_tiff, pages_in, refuse_cut

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

MOST_PAGES = 100_000
"""Limit on the pages of a file, and on the planes that its metadata may tell of; a file may claim any number."""
_HEADER_BYTES = 1 << 28
"""Limit on the bytes read for all directories of a file together: they may overlap endlessly."""

_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_BITS, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = 258, 277, 284, 338, 339
_COLOR_MAP, _INK_SET, _JPEG_TABLES, _GDAL_NODATA, _ORIENTATION, _OLD_JPEG = 320, 332, 347, 42113, 274, 6
_DESCRIPTION = 270
_RESOLUTION, _FAX, _YCBCR = (282, 283, 296), (292, 293), range(529, 533)
_MAP = (33550, 33922, 34264, 34735, 34736, 34737)
"""Where pixels lie on a map."""
_KEPT = {
    *NEEDED,
    *(_COLOR_MAP, _INK_SET, _JPEG_TABLES, _GDAL_NODATA, _ORIENTATION),
    *(*_RESOLUTION, *_FAX, *_YCBCR, *_MAP),
} - {_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES}
"""Tags of a page that are copied: they say how its pixels are stored, how large they are, and where."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type."""
_ASCII, _SHORT, _LONG, _LONG8 = 2, 3, 4, (16, 17, 18)
_MOST_LONG = (1 << 32) - 1
_OME_SIZES = ("SizeC", "SizeZ", "SizeT")
_WHOLE_FILE = MOST_PAGES // 100
"""Counts for a list of planes that says only that it is all of a file."""


class Plane(NamedTuple):
    """One channel of a page, or all of them."""

    directory: int
    """Offset in the file of the directory that says how it is stored."""
    shift: int = 0
    """How many bytes its strips lie behind those of that directory, which describes several planes."""


Tags = dict[int, tuple[int, int, bytes]]
"""Type, count and content of each tag of a directory, with numbers of 8 bytes shortened to 4."""

Page = tuple[Plane | None, ...]
"""The planes of one page, in the order of its channels; None for one that the file lacks."""


def tiff_pages(path: Path) -> tuple[Page, ...]:
    """The pages of a TIFF, none if it cannot be read: see `_layout`. The last few files are remembered."""
    status = path.stat()
    return _remembered(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _remembered(path: Path, *_: int) -> tuple[Page, ...]:
    with open_file(path) as (file, _size):
        return _layout(file)


def read_tiff_page(path: Path, number: int, max_pixels: int) -> bytes:
    """Page `number` of a file, from 1, as a TIFF of its own: its strips as they are stored, and `_KEPT` tags.

    Channels that are stored as pages become bands in planes. Of metadata, the size of a pixel is kept.

    Raises DecodeError if there is no such page, or it is damaged or larger than `max_pixels` allows.
    """
    found = tiff_pages(path)
    if number > len(found):
        raise DecodeError(f"it has no page {number}, only {len(found)}")
    with open_file(path) as (file, _):
        return _alone(file, found[number - 1], max_pixels)


def first_page_with_channels(content: bytes, max_pixels: int) -> bytes:
    """A TIFF as it is, or its first page alone if that has channels that are stored as pages."""
    found = _layout(io.BytesIO(content))
    return _alone(io.BytesIO(content), found[0], max_pixels) if found and len(found[0]) > 1 else content


def count_with_channels(content: bytes) -> int:
    """The number of pages of a TIFF, where channels that are stored as pages are none; 0 if it cannot be read."""
    return len(_layout(io.BytesIO(content)))


def _layout(file: BinaryIO) -> tuple[Page, ...]:
    """The pages of an open TIFF, at most `MOST_PAGES`.

    In an OME-TIFF or ImageJ stack, and in a stack with axes that tifffile wrote, a page is what has one place in all
    axes but X, Y, the channels and samples, as tifffile tells them. Otherwise, and where these metadata contradict the
    file, it is a directory. Reduced copies and masks are none.
    """
    described = _described(file)
    if described is None:
        pictures = (page.offset for page in pages_in(_Limited(file)) if is_picture(page))
        described = tuple((Plane(offset),) for offset in islice(pictures, MOST_PAGES))
    return described


def _described(file: BinaryIO) -> tuple[Page, ...] | None:
    """The pages that a file's metadata tell of; None without such metadata, or with damaged ones."""
    try:
        tiff = open_tiff(_Limited(file))
        if not (tiff.is_imagej or tiff.is_shaped or (tiff.is_ome and _is_plausible(tiff.ome_metadata))):
            return None
        pages: list[Page] = []
        for series in tiff.series:
            if series.kind not in ("ome", "imagej", "shaped"):
                return None
            pages += _pages_of(series) if is_picture(series.keyframe) else []
        return tuple(pages[:MOST_PAGES]) or None
    except MemoryError:
        raise
    except Exception:  # tifffile raises all kinds of errors on damaged files
        return None


def _is_plausible(metadata: str) -> bool:
    """Whether OME metadata tell of no more planes than `MOST_PAGES`; tifffile would make a list of any number."""
    from xml.etree import ElementTree  # noqa: PLC0415 - few files have any

    if "<!DOCTYPE" in metadata:  # entities may grow without end, and OME-XML has none
        return False
    planes = listed = 0
    for element in ElementTree.fromstring(metadata).iter():
        name = element.tag.rpartition("}")[2]
        if name == "Pixels":
            planes += math.prod(_number(element.get(size, "1")) for size in _OME_SIZES)
        elif name == "TiffData":  # without a number of planes, it stands for the whole file
            count = element.get("PlaneCount", element.get("NumPlanes", "1" if "IFD" in element.attrib else "0"))
            listed += _number(count) or _WHOLE_FILE
        elif name.startswith("ModuloAlong"):
            return False  # an axis of any length
    return max(planes, listed) <= MOST_PAGES


def _number(text: str) -> int:
    """A count; raises ValueError if it is none."""
    number = int(text)
    if number < 0:
        raise ValueError("a negative number of planes")
    return number


def _pages_of(series: TiffPageSeries) -> list[Page]:
    """The pages of a series; raises ValueError if its shape is not that of its planes."""
    keyframe = series.keyframe
    inner = len(keyframe.shape)
    axes, shape = series.axes[:-inner], series.shape[:-inner]
    count = math.prod(shape)
    if series.shape[-inner:] != keyframe.shape or not 0 < count <= MOST_PAGES:
        raise ValueError("planes of another shape")
    planes: list[Plane | None]
    if series.dataoffset is not None:  # one directory may describe all of them
        size, start = keyframe.nbytes, series.dataoffset - keyframe.dataoffsets[0]
        planes = [Plane(keyframe.offset, start + index * size) for index in range(count)]
    else:
        if len(series) != count:
            raise ValueError("another number of planes")
        planes = [None if page is None else Plane(page.offset) for page in series]
    numbers: NDArray[np.intp] = np.arange(count).reshape((*shape, 1))
    if "C" in axes and keyframe.samplesperpixel == 1:
        numbers = np.moveaxis(numbers, axes.index("C"), -1)
    return [tuple(planes[number] for number in page) for page in numbers.reshape(-1, numbers.shape[-1]).tolist()]


class _Limited:
    """A file from which only a limited number of bytes can be read."""

    def __init__(self, file: BinaryIO, most: int = _HEADER_BYTES) -> None:
        file.seek(0)
        self._file = file
        self._left = most
        self.seek, self.tell, self.close = file.seek, file.tell, lambda: None
        self.name = "TIFF"

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= self._left:
            raise OSError("directories without end")
        self._left -= size
        return self._file.read(size)


def _alone(file: BinaryIO, page: Page, max_pixels: int) -> bytes:
    with decode_errors("damaged: the directory of the page cannot be read"):
        tiff = open_directories(file)
        parts, scale = [_part(file, tiff, plane, max_pixels) for plane in page], _scale(tiff)
    first = parts[0]
    if any(part.tags != first.tags for part in parts):
        raise DecodeError("its channels are stored in different ways: save them as one image of several channels")
    tags = first.tags if len(parts) == 1 else as_channels(first.tags, len(parts), first.order)
    if scale:
        tags = {**tags, _DESCRIPTION: (_ASCII, len(scale), scale)}
    strips = [strip for part in parts for strip in part.strips]
    if sum(map(len, strips)) > most_image_bytes(max_pixels):
        raise DecodeError(f"its page is larger than `max_pixels={max_pixels}` allows")
    return tiff_file(first.order, tags, strips, tiled=first.tiled)


def _scale(tiff: TiffFile) -> bytes:
    """What the metadata of an OME-TIFF or ImageJ stack, which stand on its first page, tell of the size of pixels."""
    text = tiff.pages.first.description
    if tiff.is_imagej:
        told = [line for line in text.splitlines() if line.partition("=")[0] in ("ImageJ", "unit", "yunit")]
        return "\n".join([*told, "\0"]).encode() if len(told) > 1 else b""
    found = re.search(r"<(?:\w+:)?Pixels\s[^>]*>", text) if tiff.is_ome else None
    told = re.findall(r'\sPhysicalSize[XY](?:Unit)?="[^"<&]*"', found[0]) if found else []
    return f"<OME><Image><Pixels{''.join(told)}/></Image></OME>\0".encode() if told else b""


class _Part(NamedTuple):
    order: str
    tags: Tags
    strips: list[bytes]
    tiled: bool


def _part(file: BinaryIO, tiff: TiffFile, plane: Plane | None, max_pixels: int) -> _Part:
    """One plane as it is stored."""
    if plane is None:
        raise DecodeError("the file lacks this page, which its metadata tell of")
    page, tags = read_directory(file, tiff, plane, max_pixels)
    most, order = most_image_bytes(max_pixels), tiff.byteorder
    end = file.seek(0, io.SEEK_END)
    if sum(page.databytecounts) > most:
        raise DecodeError(f"its page is larger than `max_pixels={max_pixels}` allows")
    strips = []
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset and size and offset + plane.shift + size > end:
            raise DecodeError(CUT_OFF)
        file.seek(offset + plane.shift)
        strips.append(file.read(size) if offset and size else b"")
    return _Part(order, tags, strips, page.is_tiled)


def open_directories(file: BinaryIO) -> TiffFile:
    """The directories of an open file, within limits; raises all kinds of errors on damaged files."""
    tiff: TiffFile = open_tiff(_Limited(file))
    return tiff


def read_directory(file: BinaryIO, tiff: TiffFile, plane: Plane, max_pixels: int) -> tuple[TiffPage, Tags]:
    """The directory of a plane, and its tags that are copied.

    Raises DecodeError if it is damaged or of old-style JPEG, and whatever tifffile raises.
    """
    from tifffile import TiffPage  # noqa: PLC0415  # slow to import

    tiff.filehandle.seek(plane.directory)
    page = TiffPage(tiff, index=0)
    refuse_cut(page, file)
    if page.compression == _OLD_JPEG:
        raise DecodeError("its pages are old-style JPEG, which is not read: convert it to PNG")
    most = most_image_bytes(max_pixels)
    return page, {tag.code: _tag(file, tag, tiff.byteorder, most) for tag in page.tags if tag.code in _KEPT}


def _tag(file: BinaryIO, tag: Any, order: str, most: int) -> tuple[int, int, bytes]:
    size = tag.count * _SIZES[tag.dtype]
    if size > most:
        raise DecodeError("damaged: a tag is larger than the image")
    file.seek(tag.valueoffset)
    content = file.read(size)
    if tag.dtype not in _LONG8:
        return tag.dtype, tag.count, content
    numbers = struct.unpack(f"{order}{tag.count}Q", content)
    return _LONG, tag.count, struct.pack(f"{order}{tag.count}I", *numbers)


def as_channels(tags: Tags, count: int, order: str) -> Tags:
    """The tags of `count` planes of one sample each, as bands of one image."""

    def shorts(*values: int) -> tuple[int, int, bytes]:
        return _SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values)

    changed = {_SAMPLES: shorts(count), _PLANAR: shorts(2)}
    for code in (_BITS, _FORMAT):
        if code in tags:
            kind, _, content = tags[code]
            changed[code] = kind, count, content * count
    return {**{code: tag for code, tag in tags.items() if code != _EXTRA}, **changed}


def tiff_file(order: str, tags: Tags, strips: list[bytes], *, tiled: bool = False) -> bytes:
    """A TIFF of one page.

    Parameters
    ----------
    order : "<" or ">", the byte order of the tags' content and the strips.
    strips : the strips or tiles as they are stored; empty for those that are left out.
    """
    where, sizes = (_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)
    packed = struct.Struct(f"{order}{len(strips)}I").pack
    tags = {**tags, where: (_LONG, len(strips), b""), sizes: (_LONG, len(strips), packed(*map(len, strips)))}
    values = 8 + 2 + 12 * len(tags) + 4
    lengths = {code: 4 * len(strips) if code == where else len(content) for code, (_, _, content) in tags.items()}
    data = values + sum(length + length % 2 for length in lengths.values() if length > 4)
    offsets = []
    for strip in strips:
        offsets.append(data if strip else 0)
        data += len(strip)
    if data > _MOST_LONG:
        raise DecodeError("its page has more than 4 GB")
    tags[where] = (_LONG, len(strips), packed(*offsets))
    entries, behind = b"", b""
    for code, (kind, count, content) in sorted(tags.items()):
        place = content.ljust(4, b"\0")
        if len(content) > 4:
            place = struct.pack(f"{order}I", values + len(behind))
            behind += content + bytes(len(content) % 2)
        entries += struct.pack(f"{order}HHI", code, kind, count) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    header = mark + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)
    return b"".join([header, behind, *strips])

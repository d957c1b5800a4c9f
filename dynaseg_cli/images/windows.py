"""Windows of a TIFF: a rectangle as a file of its own, read with no more of the file than its strips or tiles there."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import MAX_PIXELS, Channels, ValueRange
from ..errors import DecodeError
from ..files.reading import most_image_bytes, open_file, refuse_large
from ..files.tiles import Box
from . import tiff
from .decoding import stored_in
from .pillow import decode_errors, pillow_for
from .tiff_pages import Tags, as_channels, open_directories, read_directory, tiff_file, tiff_pages
from .value_range import range_of

if TYPE_CHECKING:
    from tifffile import TiffPage

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_SAMPLES, _ROWS, _COLOR_MAP, _INK_SET, _EXTRA, _FORMAT, _NODATA = 277, 278, 320, 332, 338, 339, 42113
_TIE_POINTS, _MATRIX = 33922, 34264
_OF_STORAGE = {266, 284, 292, 293, 317, 322, 323, 347, *range(529, 533)}
"""Tags about how strips and tiles are stored, which says nothing of them once they are unpacked."""
_OF_SAMPLES = {_BITS, _PHOTOMETRIC, _SAMPLES, _COLOR_MAP, _INK_SET, _EXTRA, _FORMAT, _NODATA}
"""Tags about samples, which no longer hold once these are converted to grey or RGB."""
_SHORT, _LONG = 3, 4
_STORED = 1
_DAMAGED = "damaged: its directory or its pixels cannot be read"

SAMPLED, SAMPLED_SIDE = 8, 256
"""A range that depends on the numbers of an image goes by 8 x 8 windows of this side, spread evenly over it."""


@dataclass(frozen=True)
class _Plane:
    """The stored pixels of one plane in the window."""

    page: TiffPage
    tags: Tags
    order: Literal["<", ">"]
    chunks: dict[int, bytes]
    """Strips or tiles by their number, without those that a sparse file leaves out; or `rows`."""
    rows: bool
    """Whether `chunks` has the pixels of the window alone, by bands of a plane: 0, 1, ..."""


@dataclass(frozen=True)
class Window:
    """A box of the first image of a TIFF, as it is stored; `read_window` makes one."""

    box: Box
    _planes: tuple[_Plane, ...]
    _max_pixels: int

    @property
    def sha256(self) -> str:
        """Hash, in hexadecimal, of the strips and tiles that it touches as they are stored, of the tags and the box."""
        found = hashlib.sha256(repr(tuple(self.box)).encode())
        for plane in self._planes:
            found.update(repr(sorted(plane.tags.items())).encode())
            for index, chunk in sorted(plane.chunks.items()):
                found.update(struct.pack("<QQ", index, len(chunk)))
                found.update(chunk)
        return found.hexdigest()

    @property
    def header(self) -> bytes:
        """A TIFF without pixels, whose tags are those of the image."""
        return tiff_file(self._planes[0].order, self._tags(self.box, converted=0), [b""])

    def content(self, part: Box | None = None) -> bytes:
        """The window, or a box of the image within it, as an uncompressed TIFF.

        Numbers that can be unpacked without a decoder of pictures stay as they are, with all bands and tags. JPEG,
        palettes and the like become grey or RGB of 8 bits. Its place on a map is that of the box.

        Raises DecodeError if the pixels are damaged or of a kind that is not read.
        """
        order, part = self._planes[0].order, part or self.box
        top, left = part.top - self.box.top, part.left - self.box.left
        numbers, converted = self._numbers
        numbers = numbers[top : top + part.height, left : left + part.width]
        stored = numbers.astype(numbers.dtype.newbyteorder(order), copy=False).tobytes()
        return tiff_file(order, self._tags(part, numbers.shape[2] if converted else 0), [stored])

    @cached_property
    def _numbers(self) -> tuple[NDArray[Any], bool]:
        """(H, W, bands), and whether they were converted to 8 bits: grey or RGB, and then opacity, if any."""
        with pillow_for(b"", self._max_pixels):
            if not tiff.can_unpack(self._planes[0].page):
                return self._by_pillow(), True
            with decode_errors(_DAMAGED):
                planes = [_unpacked(plane, self.box) for plane in self._planes]
            return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2), False

    def _by_pillow(self) -> NDArray[np.uint8]:
        plane, box = self._planes[0], self.box
        if len(self._planes) > 1:
            raise DecodeError("channels of this compression are not read by tiles: save them with deflate")
        content, left, top = _aligned(plane, box, self._max_pixels)
        rare = tiff.rare_compression(plane.page)
        kind = "a kind of TIFF that is not read" if rare is None else f"not read, as a TIFF in {rare} is not"
        with decode_errors(f"damaged, or {kind} by tiles: convert it to a tiled TIFF in deflate or JPEG"):
            with Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
                crop = box.left - left, box.top - top, box.left - left + box.width, box.top - top + box.height
                stored = stored_in(image.crop(crop))
            if stored.is_deep:
                raise ValueError("packed samples")
        bands: NDArray[np.uint8] = stored.values if stored.values.ndim == 3 else stored.values[..., None]
        return bands if stored.alpha is None else np.dstack([bands, stored.alpha])

    def _tags(self, box: Box, converted: int) -> Tags:
        """The tags of a file with the pixels of a box, of so many bands if they were `converted` to 8 bits."""
        plane, count = self._planes[0], len(self._planes)
        order = plane.order
        tags = plane.tags if count == 1 else as_channels(plane.tags, count, order)
        tags = {code: tag for code, tag in tags.items() if code not in _OF_STORAGE}
        if converted:
            tags = {code: tag for code, tag in tags.items() if code not in _OF_SAMPLES}
            tags[_BITS] = _tag(order, _SHORT, *(8,) * converted)
            tags[_SAMPLES] = _tag(order, _SHORT, converted)
            tags[_PHOTOMETRIC] = _tag(order, _SHORT, 2 if converted > 2 else 1)
            if converted in (2, 4):
                tags[_EXTRA] = _tag(order, _SHORT, 2)
        tags[_WIDTH], tags[_HEIGHT] = _tag(order, _LONG, box.width), _tag(order, _LONG, box.height)
        tags[_COMPRESSION], tags[_ROWS] = _tag(order, _SHORT, _STORED), _tag(order, _LONG, box.height)
        return _moved_on_map(tags, order, box)


def size_to_cut(path: Path) -> tuple[int, int] | None:
    """Width and height of a TIFF's first image; None for other files, and TIFFs that are not read by windows.

    These are damaged ones, those with an orientation other than 1, and those whose strips or tiles are themselves
    larger than an image may be.
    """
    try:
        with open_file(path) as (file, _):
            if not tiff.is_tiff(file.read(4)):
                return None
            with pillow_for(b"", MAX_PIXELS), decode_errors(_DAMAGED):
                place = next(iter(tiff_pages(path)), (None,))[0]
                if place is None:
                    return None
                page, _ = read_directory(file, open_directories(file), place, MAX_PIXELS)
                return (page.imagewidth, page.imagelength) if _can_cut(page) else None
    except (DecodeError, OSError, MemoryError):
        return None


def read_window(path: Path, box: Box, max_pixels: int) -> Window:
    """Read a box of a TIFF's first image, as it is stored. Bands that are stored as pages are read together.

    Raises DecodeError if the box is larger than `max_pixels`, or the file is damaged or of a kind that is not read; and
    OSError if it cannot be opened.
    """
    refuse_large(box.width, box.height, max_pixels)
    with open_file(path) as (file, size), pillow_for(b"", max_pixels), decode_errors(_DAMAGED):
        found = tiff_pages(path)
        if not found:
            raise DecodeError("not a TIFF that can be read by tiles, or damaged at its start")
        directories, left = open_directories(file), most_image_bytes(max_pixels)
        planes = []
        for place in found[0]:
            if place is None:
                raise DecodeError("the file lacks a channel that its metadata tell of")
            page, tags = read_directory(file, directories, place, max_pixels)
            if box.left + box.width > page.imagewidth or box.top + box.height > page.imagelength:
                raise DecodeError("the image has become smaller than it was")
            rows = _is_plain(page)
            pieces = list(_rows(page, box) if rows else _chunks(page, box))
            left -= sum(length for _, _, length in pieces)
            if left < 0:
                raise DecodeError(f"its strips or bands are larger than `max_pixels={max_pixels}` allows")
            parts: dict[int, list[bytes]] = {}
            for index, offset, length in pieces:
                if offset + place.shift + length > size:
                    raise DecodeError(tiff.CUT_OFF)
                file.seek(offset + place.shift)
                parts.setdefault(index, []).append(file.read(length))
            joined = {index: b"".join(some) for index, some in parts.items()}
            planes.append(_Plane(page, tags, directories.byteorder, joined, rows))
        if any(plane.tags != planes[0].tags for plane in planes):
            raise DecodeError("its channels are stored in different ways: save them as one image of several channels")
    return Window(box, tuple(planes), max_pixels)


def read_header(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A TIFF without pixels that has the tags of another's first image, and the width and height of that.

    Raises as `read_window` does.
    """
    corner = read_window(path, Box(0, 0, 1, 1), MAX_PIXELS)
    page = corner._planes[0].page
    return corner.header, (page.imagewidth, page.imagelength)


def range_of_file(path: Path, option: ValueRange, channels: Channels, max_pixels: int) -> tuple[float, float]:
    """The numbers of a TIFF that become black and white, the same in all its windows.

    Where the option asks the numbers, those in `SAMPLED` x `SAMPLED` windows answer. The last few files are remembered.

    Raises as `read_window` does.
    """
    if not isinstance(option, str):
        return option
    status = path.stat()
    return _remembered_range(path, option, channels, max_pixels, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _remembered_range(
    path: Path, option: ValueRange, channels: Channels, max_pixels: int, *_: int
) -> tuple[float, float]:
    size = read_header(path)[1]
    width, height = (min(length, SAMPLED_SIDE) for length in size)
    found = []
    for row in range(SAMPLED):
        for column in range(SAMPLED):
            left, top = (size[0] - width) * column // (SAMPLED - 1), (size[1] - height) * row // (SAMPLED - 1)
            content = read_window(path, Box(left, top, width, height), max_pixels).content()
            with pillow_for(b"", max_pixels):
                found.append(tiff.read_tiff(content, max_pixels, channels))
    alpha = None if found[0].alpha is None else np.concatenate([one.alpha for one in found if one.alpha is not None])
    return range_of(replace(found[0], values=np.concatenate([one.values for one in found]), alpha=alpha), option)


def _can_cut(page: TiffPage) -> bool:
    upright = page.tags.valueof(_ORIENTATION, default=1) == 1 and not tiff.is_camera_raw(page)
    complete = min(len(page.dataoffsets), len(page.databytecounts)) >= math.prod(page.chunked)
    return upright and complete and (_is_plain(page) or page.chunks[0] * page.chunks[1] <= MAX_PIXELS)


def _is_plain(page: TiffPage) -> bool:
    """Whether rows of the window can be read from uncompressed strips of any size without the rest of these."""
    return page.compression == _STORED and not page.is_tiled and page.fillorder == 1 and tiff.can_unpack(page)


def _rows(page: TiffPage, box: Box) -> Iterator[tuple[int, int, int]]:
    """Band, offset and length of the window's part of each row, of interleaved bands together."""
    separate = page.planarconfig == 2
    bands = 1 if separate else page.samplesperpixel
    pixel = bands * page.bitspersample // 8
    strip_rows = page.chunks[0]
    strips = -(-page.imagelength // strip_rows)
    for band in range(page.samplesperpixel if separate else 1):
        for y in range(box.top, box.top + box.height):
            strip, row = divmod(y, strip_rows)
            offset = page.dataoffsets[band * strips + strip]
            if not offset:
                raise DecodeError("it lacks some of its strips")
            yield band, offset + (row * page.imagewidth + box.left) * pixel, box.width * pixel


def _chunks(page: TiffPage, box: Box) -> Iterator[tuple[int, int, int]]:
    """Number, offset and length of the strips or tiles that the window touches."""
    separate = page.planarconfig == 2
    size = math.prod(page.chunks[:2]) * (1 if separate else page.samplesperpixel) * page.bitspersample // 8
    for plane in range(page.samplesperpixel if separate else 1):
        for index in tiff.chunks_in(page, plane, box):
            place = tiff.chunk_place(page, index, size)
            if place is not None:
                yield index, *place


def _unpacked(plane: _Plane, box: Box) -> NDArray[Any]:
    """(H, W, bands) of a page that `tiff.can_unpack`."""
    page = plane.page
    tiff.refuse_unknown(page)
    if plane.rows:
        dtype = np.dtype(page.dtype).newbyteorder(plane.order)
        bands = [np.frombuffer(chunk, dtype).reshape(box.height, box.width, -1) for chunk in plane.chunks.values()]
        return bands[0] if len(bands) == 1 else np.concatenate(bands, axis=2)
    wanted = range(page.samplesperpixel)
    return tiff.read_samples(page, wanted, lambda index, _: plane.chunks.get(index), box)


def _aligned(plane: _Plane, box: Box, max_pixels: int) -> tuple[bytes, int, int]:
    """A TIFF of all strips or tiles that a window touches, as they are stored; and where it lies in the image."""
    page, order = plane.page, plane.order
    height, width = page.chunks[:2]
    left, top = box.left // width * width, box.top // height * height
    right = min(page.imagewidth, -(-(box.left + box.width) // width) * width)
    bottom = min(page.imagelength, -(-(box.top + box.height) // height) * height)
    refuse_large(right - left, bottom - top, max_pixels)
    tags = plane.tags | {_WIDTH: _tag(order, _LONG, right - left), _HEIGHT: _tag(order, _LONG, bottom - top)}
    planes = range(page.samplesperpixel if page.planarconfig == 2 else 1)
    strips = [plane.chunks.get(index, b"") for band in planes for index in tiff.chunks_in(page, band, box)]
    return tiff_file(order, tags, strips, tiled=page.is_tiled), left, top


def _tag(order: str, kind: int, *values: int) -> tuple[int, int, bytes]:
    return kind, len(values), struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)


def _moved_on_map(tags: Tags, order: str, box: Box) -> Tags:
    """Tags whose tie points and transform are those of a box, rather than of the whole image."""
    moved = dict(tags)
    if _TIE_POINTS in tags:
        kind, count, content = tags[_TIE_POINTS]
        points = np.frombuffer(content, f"{order}f8").copy()
        points[0::6] -= box.left
        points[1::6] -= box.top
        moved[_TIE_POINTS] = kind, count, points.tobytes()
    if _MATRIX in tags:
        kind, count, content = tags[_MATRIX]
        matrix = np.frombuffer(content, f"{order}f8").reshape(4, 4).copy()
        matrix[:, 3] += matrix[:, :2] @ (box.left, box.top)
        moved[_MATRIX] = kind, count, matrix.tobytes()
    return moved

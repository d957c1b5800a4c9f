"""TIFF images that Pillow does not read, or not wholly: any depth and sign, floating point, any number of bands.

The first directory is read here. Its data are unpacked by Pillow's libtiff, as if they were bytes of a grey image, and
are given their meaning here.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DecodeError
from .deep import DeepImage

_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 18: "u8"}
"""NumPy's names of the field types whose values are needed."""
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_FILL_ORDER, _STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES = 266, 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SUB_DIRECTORIES = 317, 322, 323, 324, 325, 330
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _GDAL_NODATA, _DNG_VERSION = 338, 339, 42113, 50706

_NEEDED = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES),
    *(_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT),
}
"""Tags without which pixels would be taken for something else."""

_KINDS = {1: "u", 2: "i", 3: "f", 4: "u", 5: "c", 6: "c"}
_UNPACKED = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions that keep bytes as they are: none, LZW, deflate, PackBits, deflate, LZMA, Zstandard."""
_PREDICTED = _UNPACKED - {1, 32773}
"""Those before which numbers may be replaced by differences: elsewhere the tag has no meaning."""
_COMPRESSIONS = {
    **{2: "CCITT", 3: "fax group 3", 4: "fax group 4", 6: "old JPEG", 7: "JPEG", 34712: "JPEG 2000", 34887: "LERC"},
    **{34892: "lossy JPEG", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 33003: "JPEG 2000", 33005: "JPEG 2000"},
}
_COMMON = {2, 3, 4, 7}
"""Of these, what every libtiff unpacks."""
_PHOTOMETRICS = {3: "palette", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "colour filter array"}
_WHITE_IS_ZERO, _CMYK = 0, 5
_CONVERT = "convert it to an uncompressed or deflate TIFF"

_MOST_SAMPLES = 1024
_MOST_TAGS = 200_000
"""Of all directories that are looked at; a page has some twenty."""
_CHUNK_BYTES = 8 << 20
"""Rows are unpacked and placed so many bytes at a time."""
_GROUP_BYTES = 64 << 20
"""Strips and tiles are handed to libtiff so many bytes at a time."""
_SPARE_BYTES = 64 << 20
"""What a strip or tile may be larger than all pixels of the greatest image that is allowed."""

_Tags = dict[int, NDArray[Any]]
Order = Literal["<", ">"]


@dataclass(frozen=True)
class Directory:
    """One directory of a TIFF."""

    tags: _Tags
    order: Order
    """The byte order."""
    following: int
    """Offset of the next directory, 0 for none."""
    is_whole: bool
    """Whether no tag that says how pixels are stored has its values beyond the end of the file."""

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        values = self.tags.get(tag)
        return default if values is None or not values.size or values.dtype.kind == "S" else int(values[0])

    @property
    def is_picture(self) -> bool:
        """Whether it is a page of its own: neither a smaller copy nor a mask of another."""
        return self.number(_SUBFILE_TYPE) & 0b101 == 0 and self.number(_OLD_SUBFILE_TYPE) != 2

    @property
    def is_camera_raw(self) -> bool:
        """Whether the picture itself lies elsewhere, as raw files keep it: this is its preview."""
        smaller = self.number(_SUBFILE_TYPE) & 1 == 1 and _SUB_DIRECTORIES in self.tags
        return smaller or _DNG_VERSION in self.tags or self.number(_PHOTOMETRIC) in (32803, 34892)

    @property
    def rare_compression(self) -> str | None:
        """The name of a compression that not every libtiff unpacks."""
        compression = self.number(_COMPRESSION, 1)
        return None if compression in _COMMON else _COMPRESSIONS.get(compression)

    @property
    def bits(self) -> int:
        """Bits a sample."""
        return self.number(_BITS, 1)

    @property
    def kind(self) -> str:
        """As NumPy has it: u, i, f or c."""
        return _KINDS.get(self.number(_SAMPLE_FORMAT, 1), "?")

    @property
    def is_deep(self) -> bool:
        """Whether its samples are no unsigned numbers of at most 8 bits."""
        return self.bits > 8 or self.kind != "u"


def is_tiff(content: bytes) -> bool:
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def first_directory(content: bytes) -> Directory | None:
    """The first directory of a TIFF or BigTIFF, None where there is none that can be read."""
    return next(directories(content), None) if is_tiff(content) else None


def directories(content: bytes) -> Iterator[Directory]:
    """The directories of a TIFF, each once, whatever circle they are in."""
    order: Order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    seen: set[int] = set()
    tags = 0
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
        while offset and offset not in seen and tags < _MOST_TAGS:
            seen.add(offset)
            directory, count = _read_directory(content, offset, order, big=big)
            yield directory
            tags += count
            offset = directory.following
    except struct.error:
        return


def _read_directory(content: bytes, start: int, order: Order, *, big: bool) -> tuple[Directory, int]:
    """A directory, and how many tags it has."""
    count_type, entry, offset_type = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    (count,) = struct.unpack_from(order + count_type, content, start)
    size, place = struct.calcsize(order + entry), start + struct.calcsize(order + count_type)
    inline = struct.calcsize(order + offset_type)
    count = min(count, 1 << 16)
    tags: _Tags = {}
    is_whole = True
    for position in range(place, place + count * size, size):
        tag, kind, number, offset = struct.unpack_from(order + entry, content, position)
        if kind not in _TYPES:
            continue
        dtype = np.dtype(_TYPES[kind]).newbyteorder(order)
        if number * dtype.itemsize <= inline:
            offset = position + size - inline
        if offset + number * dtype.itemsize > len(content):
            is_whole = is_whole and tag not in _NEEDED
        else:
            tags.setdefault(tag, np.frombuffer(content, dtype, number, offset))
    (following,) = struct.unpack_from(order + offset_type, content, place + count * size)
    return Directory(tags, order, following, is_whole), count


def read_tiff(content: bytes, directory: Directory, max_pixels: int) -> DeepImage:
    """The pixels of a directory, their numbers as they are.

    The first three bands are red, green and blue where there are three or more, else the first is grey; a band counts
    as opacity only where the file says so. Inks are converted as they are in 8 bits.

    Raises
    ------
    DecodeError
        If the image is damaged, too large, or of a kind that is not read.
    """
    if not directory.is_whole:
        raise DecodeError("damaged: the file is cut off, or parts of its header lie beyond its end")
    return _Reader(content, directory, max_pixels).read()


class _Reader:
    def __init__(self, content: bytes, directory: Directory, max_pixels: int) -> None:
        self._content = content
        self._directory = directory
        number = directory.number
        self.width, self.height = number(_WIDTH), number(_HEIGHT)
        self.samples, self.bits, self.kind = number(_SAMPLES, 1), directory.bits, directory.kind
        self._separate = number(_PLANES, 1) == 2 and self.samples > 1
        self._interleaved = 1 if self._separate else self.samples
        self._compression = number(_COMPRESSION, 1)
        self._predictor = number(_PREDICTOR, 1) if self._compression in _PREDICTED else 1
        self._photometric = number(_PHOTOMETRIC, 1)
        self._refuse_unknown()
        tiled = _TILE_WIDTH in directory.tags
        self._tile_width = number(_TILE_WIDTH) if tiled else self.width
        rows = number(_TILE_HEIGHT) if tiled else number(_ROWS, self.height)
        self._tile_height = rows if tiled else min(rows or self.height, self.height)
        if self.width < 1 or self.height < 1:
            raise DecodeError("the image has no pixels")
        if self.width * self.height > max_pixels:
            raise DecodeError(f"{self.width} x {self.height} pixels are more than --max-pixels {max_pixels} allows")
        if self._tile_width < 1 or self._tile_height < 1:
            raise DecodeError("damaged: its tiles have no pixels")
        self._row_bytes = (self._tile_width * self._interleaved * self.bits + 7) // 8
        if self._row_bytes * self._tile_height > 16 * max_pixels + _SPARE_BYTES:
            raise DecodeError(f"its tiles are larger than --max-pixels {max_pixels} allows")
        self._across = math.ceil(self.width / self._tile_width)
        self._down = math.ceil(self.height / self._tile_height)
        self._offsets = directory.tags.get(_TILES if tiled else _STRIPS, np.zeros(0, int))
        self._bytes = directory.tags.get(_TILE_BYTES if tiled else _STRIP_BYTES, np.zeros(0, int))
        self._tiled = tiled
        needed = self._across * self._down * (self.samples if self._separate else 1)
        if len(self._offsets) < needed or (self._compression != 1 and len(self._bytes) < needed):
            raise DecodeError("damaged: it lacks some of its strips or tiles")

    def _refuse_unknown(self) -> None:
        directory = self._directory
        formats = set(directory.tags.get(_SAMPLE_FORMAT, np.ones(1, int))[:_MOST_SAMPLES].tolist())
        depths = set(directory.tags.get(_BITS, np.ones(1, int))[:_MOST_SAMPLES].tolist())
        if self.kind == "c":
            raise DecodeError("a TIFF of complex numbers is not read: save its magnitude as a float32 TIFF")
        if len(formats) > 1 or len(depths) > 1 or self.kind == "?":
            raise DecodeError(f"a TIFF whose bands are of different kinds is not read: {_CONVERT} of one kind")
        sizes = {"u": (*range(1, 17), 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}[self.kind]
        name = {"u": "unsigned", "i": "signed", "f": "floating-point"}[self.kind]
        if self.bits not in sizes:
            raise DecodeError(f"a TIFF of {self.bits}-bit {name} numbers is not read: {_CONVERT} of 16 or 32 bits")
        if not 1 <= self.samples <= _MOST_SAMPLES:
            raise DecodeError(f"a TIFF of {self.samples} bands is not read: choose three, or one")
        if self._compression not in _UNPACKED:
            compression = _COMPRESSIONS.get(self._compression, f"compression {self._compression}")
            raise DecodeError(f"a TIFF of {self.samples} x {self.bits} bits in {compression} is not read: {_CONVERT}")
        if self._photometric in _PHOTOMETRICS:
            colors = _PHOTOMETRICS[self._photometric]
            raise DecodeError(f"a TIFF of {self.bits}-bit {colors} is not read: {_CONVERT} of grey or RGB")
        whole = self.bits in (8, 16, 32, 64)
        if not (self._predictor == 1 or (whole and self._predictor == 2) or (whole and self.kind == "f")):
            raise DecodeError(f"a TIFF with predictor {self._predictor} on such numbers is not read: {_CONVERT}")

    def read(self) -> DeepImage:
        colors, alpha = self._bands()
        wanted = [*colors, *([] if alpha is None else [alpha])]
        dtype = np.dtype(f"{self.kind}{self.bits // 8}" if self.bits in (8, 16, 32, 64) else "u1")
        if self.bits < 8 or 8 < self.bits < 16:
            dtype = np.dtype("u1" if self.bits < 8 else "u2")
        values = np.empty((self.height, self.width, len(colors)), dtype)
        opacity = None if alpha is None else np.empty((self.height, self.width), np.uint8)
        for band, rows, columns, pixels in self._pixels(wanted):
            if band is None:
                values[rows, columns] = pixels[..., : len(colors)]
                if opacity is not None:
                    opacity[rows, columns] = self._to_opacity(pixels[..., -1])
            elif band < len(colors):
                values[rows, columns, band] = pixels[..., 0]
            elif opacity is not None:
                opacity[rows, columns] = self._to_opacity(pixels[..., 0])
        if self._photometric == _CMYK and len(colors) == 4:
            values = self._from_inks(values)
        elif opacity is not None and self._is_premultiplied(alpha):
            self._divide(values, opacity)
        return DeepImage(
            values=values[..., 0] if values.shape[2] == 1 else values,
            full=self._full,
            alpha=opacity,
            nodata=self._nodata(),
            white_is_zero=self._photometric == _WHITE_IS_ZERO,
            orientation=self._directory.number(_ORIENTATION, 1),
            bands=self.samples if len(wanted) < self.samples else 0,
        )

    @property
    def _full(self) -> tuple[float, float] | None:
        if self.kind == "f":
            return None
        return (0, 2**self.bits - 1) if self.kind == "u" else (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1)

    @property
    def _extra(self) -> list[int]:
        meanings: list[int] = self._directory.tags.get(_EXTRA_SAMPLES, np.zeros(0, int))[: self.samples].tolist()
        return meanings

    def _bands(self) -> tuple[list[int], int | None]:
        """Those of colour, one, three, or four inks; and that of opacity, where there is one."""
        extra = self._extra
        opacities = [self.samples - len(extra) + index for index, meaning in enumerate(extra) if meaning in (1, 2)]
        alpha = opacities[0] if opacities and self.samples > 1 else None
        others = [band for band in range(self.samples) if band != alpha]
        if self._photometric == _CMYK and len(others) >= 4:
            return others[:4], alpha
        return others[: 3 if len(others) >= 3 else 1], alpha

    def _is_premultiplied(self, alpha: int | None) -> bool:
        extra = self._extra
        return alpha is not None and extra[alpha - (self.samples - len(extra))] == 1

    def _nodata(self) -> float | None:
        """What GDAL writes, a number in words."""
        declared = self._directory.tags.get(_GDAL_NODATA)
        if declared is None or declared.dtype.kind != "S" or declared.size > 100:
            return None
        try:
            return float(declared.tobytes().rstrip(b"\0 ").decode("ascii"))
        except ValueError:
            return None

    def _to_opacity(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        most = 1.0 if self.kind == "f" else float((self._full or (0, 1))[1])
        share = np.nan_to_num(values.astype(np.float64) / most)
        return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)

    def _from_inks(self, inks: NDArray[Any]) -> NDArray[Any]:
        """Red, green and blue of cyan, magenta, yellow and black."""
        most = 1.0 if self.kind == "f" else float((self._full or (0, 1))[1])
        rgb = np.empty((*inks.shape[:2], 3), inks.dtype)
        rows = max(1, _CHUNK_BYTES // (32 * self.width))
        for top in range(0, self.height, rows):
            absent = most - np.nan_to_num(inks[top : top + rows].astype(np.float64))
            light = np.clip(absent[..., :3] * absent[..., 3:] / most, 0, most)
            rgb[top : top + rows] = light if self.kind == "f" else np.rint(light)
        return rgb

    def _divide(self, values: NDArray[Any], opacity: NDArray[np.uint8]) -> None:
        """Undo what premultiplied colours had done to them."""
        rows = max(1, _CHUNK_BYTES // (32 * self.width))
        for top in range(0, self.height, rows):
            share = np.maximum(opacity[top : top + rows, :, None], 1) / 255
            whole = values[top : top + rows] / share
            values[top : top + rows] = whole if self._full is None else np.clip(np.rint(whole), *self._full)

    def _pixels(self, wanted: list[int]) -> Iterator[tuple[int | None, slice, slice, NDArray[Any]]]:
        """Pieces of the image: which of the `wanted` bands, None for all; rows, columns; (h, w, bands) values."""
        a_plane = self._across * self._down
        planes: list[tuple[int | None, int]] = [(None, 0)]
        if self._separate:
            planes = [(index, band * a_plane) for index, band in enumerate(wanted)]
        for index, first in planes:
            for number, top, rows in self._unpacked(first, a_plane):
                down, across = divmod(number - first, self._across)
                left = across * self._tile_width
                values = self._values(rows)[:, : self.width - left]
                start = down * self._tile_height + top
                values = values[: self.height - start]
                if len(values):
                    bands = values if self._separate else values[..., wanted]
                    yield index, slice(start, start + len(values)), slice(left, left + values.shape[1]), bands

    def _unpacked(self, first: int, count: int) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
        """Strips and tiles: the number of each, one of its rows, and from there some rows, (n, bytes of a row)."""
        at_a_time = max(1, _CHUNK_BYTES // self._row_bytes)
        if self._compression == 1:
            for number in range(first, first + count):
                height, offset = self._rows_of(number - first), int(self._offsets[number])
                if offset + height * self._row_bytes > len(self._content):
                    raise DecodeError("damaged: the file is cut off, or its pixels lie beyond its end")
                for top in range(0, height, at_a_time):
                    rows = min(at_a_time, height - top)
                    place = offset + top * self._row_bytes
                    data = np.frombuffer(self._content, np.uint8, rows * self._row_bytes, place)
                    yield number, top, self._in_order(data.reshape(rows, self._row_bytes))
            return
        group = max(1, _GROUP_BYTES // (self._row_bytes * self._tile_height))
        for start in range(0, count, group):
            numbers = range(first + start, first + min(start + group, count))
            heights = [self._rows_of(number - first) for number in numbers]
            with Image.open(io.BytesIO(self._as_grey(numbers, sum(heights))), formats=["TIFF"]) as grey:
                grey.load()
                base = 0
                for number, height in zip(numbers, heights, strict=True):
                    for top in range(0, height, at_a_time):
                        bottom = min(top + at_a_time, height)
                        yield number, top, np.asarray(grey.crop((0, base + top, self._row_bytes, base + bottom)))
                    base += height

    def _rows_of(self, number: int) -> int:
        """Rows of a strip or tile of one plane: the last strip may have fewer than the others."""
        last = not self._tiled and number == self._down - 1
        return self.height - number * self._tile_height if last else self._tile_height

    def _as_grey(self, numbers: range, height: int) -> bytes:
        """A TIFF that has strips and tiles as strips of a grey image, a byte a pixel."""
        offsets, sizes, data, place = [], [], [], 0
        for number in numbers:
            offset, size = int(self._offsets[number]), int(self._bytes[number])
            if offset + size > len(self._content):
                raise DecodeError("damaged: the file is cut off, or its pixels lie beyond its end")
            data.append(self._content[offset : offset + size])
            offsets.append(place)
            sizes.append(size)
            place += size
        count = len(offsets)
        tags = {
            _WIDTH: self._row_bytes,
            _HEIGHT: height,
            _BITS: 8,
            _COMPRESSION: self._compression,
            _PHOTOMETRIC: 1,
            _FILL_ORDER: self._directory.number(_FILL_ORDER, 1),
            _STRIPS: 0,
            _SAMPLES: 1,
            _ROWS: self._tile_height,
            _STRIP_BYTES: 0,
        }
        lists = 8 + 2 + 12 * len(tags) + 4
        start = lists + (8 * count if count > 1 else 0)
        places = {_STRIPS: lists, _STRIP_BYTES: lists + 4 * count}
        if count == 1:
            places = {_STRIPS: start, _STRIP_BYTES: sizes[0]}
        entries = b"".join(
            struct.pack("<HHII", tag, 4, count if tag in places else 1, places.get(tag, value))
            for tag, value in tags.items()
        )
        table = b"" if count == 1 else struct.pack(f"<{2 * count}I", *(start + one for one in offsets), *sizes)
        return b"".join([b"II*\0\x08\0\0\0", struct.pack("<H", len(tags)), entries, bytes(4), table, *data])

    def _in_order(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes whose bits are not the other way round."""
        if self._directory.number(_FILL_ORDER, 1) != 2:
            return data
        return np.packbits(np.unpackbits(data, axis=1)[:, ::-1], axis=1)[:, ::-1]

    def _values(self, rows: NDArray[np.uint8]) -> NDArray[Any]:
        """(n, width of a tile, bands) of rows of bytes."""
        count, shape = len(rows), (len(rows), self._tile_width, self._interleaved)
        if self.bits not in (8, 16, 32, 64):
            bits = np.unpackbits(rows, axis=1, count=self._tile_width * self._interleaved * self.bits)
            weights = (1 << np.arange(self.bits - 1, -1, -1)).astype(np.uint16)
            return (bits.reshape(*shape, self.bits) @ weights).astype(np.uint8 if self.bits < 8 else np.uint16)
        size, order = self.bits // 8, self._directory.order
        if self._predictor == 3:
            summed = np.cumsum(rows.reshape(count, -1, self._interleaved), axis=1, dtype=np.uint8)
            planes = np.ascontiguousarray(summed.reshape(count, size, -1).transpose(0, 2, 1))
            return planes.view(f">f{size}").reshape(shape)
        rows = np.ascontiguousarray(rows)
        if self._predictor == 2:
            differences = rows.view(f"{order}u{size}").reshape(shape)
            return np.cumsum(differences, axis=1, dtype=f"u{size}").view(f"{self.kind}{size}")
        return rows.view(f"{order}{self.kind}{size}").reshape(shape)

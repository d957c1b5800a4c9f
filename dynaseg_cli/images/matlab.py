"""Numbers, cells and structures of MATLAB 5 files, in bounded memory.

scipy is not used: one damaged byte can crash its reader, and with it the whole evaluation. The layout is in chapter 1
of MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodeError

MATLAB_BYTES = 1 << 30
"""Limit on the bytes of a file, and on what it may decompress to."""
MATLAB_MEMBERS = 1000
"""Limit on variables, cells of an array and fields of a structure: a few hundred bytes can compress millions."""
DAMAGE = (ValueError, LookupError, struct.error, zlib.error)
"""Errors of a `Matrix` that is damaged, or does not hold what is asked for."""

_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELLS, _STRUCTURE, _NUMBERS, _OPAQUE, _UNREADABLE = 1, 2, range(6, 16), 17, 0
_COMPLEX = 0x800
_DIMENSIONS = 32
_NAME_BYTES = 64
"""MATLAB's names have at most 63."""


@dataclass(frozen=True)
class Matrix:
    """An array of a file, whose content is read on demand."""

    name: str
    kind: int
    shape: tuple[int, ...]
    _content: memoryview
    _order: str

    @property
    def is_numeric(self) -> bool:
        """Whether it holds real numbers or truth values."""
        return self.kind in _NUMBERS

    def numbers(self) -> NDArray[Any]:
        """The values, an array of its `shape` in the stored type."""
        if not self.is_numeric:
            raise ValueError("not an array of numbers")
        kind, data = next(_elements(self._content, self._order), (1, b""))
        return np.frombuffer(data, self._order + _STORED[kind]).reshape(self.shape, order="F")

    def cells(self) -> Iterator[Matrix]:
        """The members of an array of cells, column by column."""
        if self.kind != _CELLS:
            raise ValueError("not an array of cells")
        if math.prod(self.shape) > MATLAB_MEMBERS:
            raise ValueError("too many cells")
        for _, element in zip(range(math.prod(self.shape)), _elements(self._content, self._order), strict=True):
            yield _matrix(*element, self._order)

    def field(self, name: str) -> Matrix:
        """A field of a single structure."""
        if self.kind != _STRUCTURE or math.prod(self.shape) != 1:
            raise ValueError("not a single structure")
        length, after = _element(self._content, 0, self._order)[1:]
        names, after = _element(self._content, after, self._order)[1:]
        (width,) = struct.unpack(f"{self._order}i", length)
        if len(names) > MATLAB_MEMBERS * width:
            raise ValueError("too many fields, or names of no width")
        values = _elements(self._content[after:], self._order)
        for start, element in zip(range(0, len(names), width), values, strict=False):
            if _text(names[start : start + width]) == name:
                return _matrix(*element, self._order)
        raise KeyError(name)


def read_matlab(content: bytes) -> dict[str, Matrix]:
    """The variables of a MATLAB 5 file, by name.

    Raises DecodeError if it is no MATLAB 5 file, is damaged, decompresses to more than `MATLAB_BYTES`, or holds more
    than `MATLAB_MEMBERS` variables.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise DecodeError("not a MATLAB 5 file (save it with -v7), or damaged")
    found: dict[str, Matrix] = {}
    room = MATLAB_BYTES
    try:
        for number, (kind, data) in enumerate(_elements(memoryview(content)[128:], order)):
            if number == MATLAB_MEMBERS:
                raise DecodeError(f"it holds more than {MATLAB_MEMBERS} variables; save what is to be read by itself")
            stored = (kind, data)
            if kind == _COMPRESSED:
                stored = _decompressed(data, order, room)
                room -= len(stored[1])
            matrix = _matrix(*stored, order)
            if matrix.name:  # MATLAB keeps data of its own in one without
                found[matrix.name] = matrix
    except DAMAGE as error:
        raise DecodeError("damaged, or not a MATLAB 5 file") from error
    return found


def _matrix(kind: int, data: memoryview, order: str) -> Matrix:
    if kind != _MATRIX:
        raise ValueError(f"an element of type {kind} in place of an array")
    if not data:  # as an empty array may be stored
        return Matrix("", _NUMBERS[0], (0, 0), data, order)
    flags, start = _element(data, 0, order)[1:]
    (bits, _) = struct.unpack(f"{order}II", flags)
    if bits & 0xFF == _OPAQUE:  # an object, whose header goes on otherwise
        return Matrix("", _OPAQUE, (), data[:0], order)
    sizes, start = _element(data, start, order)[1:]
    if len(sizes) > 4 * _DIMENSIONS:
        raise ValueError("too many dimensions")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if min(shape) < 0:
        raise ValueError("a negative size")
    name, start = _element(data, start, order)[1:]
    return Matrix(_text(name), _UNREADABLE if bits & _COMPLEX else bits & 0xFF, shape, data[start:], order)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The type and the content of each element."""
    position = 0
    while position < len(data):
        kind, content, position = _element(data, position, order)
        yield kind, content


def _element(data: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """The type and the content of the element at a position, and the position of the next."""
    kind, size = struct.unpack_from(f"{order}II", data, position)
    start, end = position + 8, position + 8 + size
    following = end if kind in (_MATRIX, _COMPRESSED) else end + -size % 8
    if kind >> 16:  # at most four bytes, which share the tag
        kind, size = kind & 0xFFFF, kind >> 16
        start, end, following = position + 4, position + 4 + size, position + 8
    if end > min(following, len(data)):
        raise ValueError("an element that ends behind the data")
    return kind, data[start:end], following


def _decompressed(data: memoryview, order: str, room: int) -> tuple[int, memoryview]:
    """The type and the content of the one element that is compressed."""
    stream = zlib.decompressobj()
    kind, size = struct.unpack(f"{order}II", stream.decompress(data, 8))
    if size > room:
        raise DecodeError(f"it would decompress to more than {MATLAB_BYTES >> 20} MiB")
    content = stream.decompress(stream.unconsumed_tail, size + 1)
    if len(content) != size or not stream.eof:
        raise ValueError("compressed data of another size than it says")
    return kind, memoryview(content)


def _text(name: memoryview) -> str:
    return bytes(name[:_NAME_BYTES]).partition(b"\0")[0].decode("latin-1")

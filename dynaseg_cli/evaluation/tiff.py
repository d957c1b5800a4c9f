"""TIFF files of numbers that Pillow has no mode for, such as 64-bit integers: read by tifffile, in bounded memory."""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ..errors import DecodeError

UNREADABLE = frozenset(("webp", "zstd", "jpeg2000", "lerc", "lzma", "thunderscan", "jbig"))
"""Compressions, as Pillow names them, that its libtiff may have been built without."""
_STORED, _DEFLATE = (1,), (8, 32946)
_PIECE = 1 << 20


def read_tiff(content: bytes, check_size: Callable[[tuple[int, ...]], None]) -> NDArray[Any]:
    """The numbers of a TIFF of one page and one band, an (H, W) array in the type that they are stored in.

    Parameters
    ----------
    check_size : raises DecodeError for a height and width that are too large; asked before anything is decoded.

    Raises
    ------
    DecodeError
        If it is damaged, or holds something else; how to save it is said.
    """
    import tifffile  # noqa: PLC0415  # slow to import, and rarely needed

    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            pages = file.pages
            page: Any = pages[0]
            if _has_more(pages):
                raise DecodeError("it has more than one frame where one label map is needed")
            _refuse(page)
            check_size((page.imagelength, page.imagewidth))
            check_size(tuple(page.chunks[:2]))
            if page.compression in _DEFLATE:
                _refuse_inflated(content, page)
            numbers: NDArray[Any] = page.asarray(maxworkers=1)
            return numbers.reshape(page.imagelength, page.imagewidth)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # tifffile raises anything at all on damaged files
        raise DecodeError("damaged, or not a TIFF file") from error
    finally:
        log.setLevel(level)


def _has_more(pages: Any) -> bool:
    try:
        return pages[1] is not None
    except IndexError:
        return False


def _refuse(page: Any) -> None:
    """Say what is no map of labels, or cannot be read here."""
    if page.dtype is None:
        raise DecodeError(f"pixels of {page.bitspersample} bits cannot be read; save 8-, 16- or 32-bit integers")
    if page.samplesperpixel != 1:
        raise DecodeError(
            f"{page.samplesperpixel} bands of {page.dtype} where one label map is needed; save the band of labels alone"
        )
    if page.dtype.kind not in "iufb":
        raise DecodeError(f"pixels of {page.dtype} are not labels; save integers")
    if page.photometric == 0:
        raise DecodeError("its grey runs from white to black; save it with 0 for black")
    if page.compression not in (*_STORED, *_DEFLATE):
        name = getattr(page.compression, "name", page.compression)
        raise DecodeError(f"{page.dtype} in {name} compression cannot be read; save it uncompressed, or with deflate")


def _refuse_inflated(content: bytes, page: Any) -> None:
    """Raise if a strip or tile decompresses to more than it has pixels for."""
    most = math.prod(page.chunks) * page.dtype.itemsize
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream, data, length = zlib.decompressobj(), content[offset : offset + size], 0
        while data and not stream.eof:
            length += len(stream.decompress(data, _PIECE))
            data = stream.unconsumed_tail
            if length > most:
                raise DecodeError("damaged: compressed data of another size than it says")

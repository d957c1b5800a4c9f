"""TIFF images that Pillow cannot read: any depth and sign, floating point, any number of bands.

tifffile reads directories and samples. Its optional package imagecodecs is replaced here: LZW and similar compressions
are undone by Pillow's libtiff, the floating-point predictor and packed samples by NumPy.
"""

from __future__ import annotations

import copy
import functools
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import Channels
from ..errors import DecodeError
from ..files.reading import refuse_large
from ..files.tiles import Box
from .channels import checked
from .deep import StoredImage
from .pillow import decode_errors

if TYPE_CHECKING:
    from tifffile import TiffPage

NEEDED = {*range(256, 260), 262, 266, 273, *range(277, 280), 284, 317, *range(322, 326), 338, 339}
"""Tags without which the pixels would be misread."""
_PHOTOMETRIC, _ORIENTATION, _GDAL_NODATA, _DNG_VERSION = 262, 274, 42113, 50706

_STORED, _DEFLATE, _PACK_BITS = 1, (8, 32946, 50013), 32773
_UNPACKED = (_STORED, 5, *_DEFLATE, _PACK_BITS, 34925, 50000)
"""Lossless compressions of plain bytes. 5 is LZW; the last two are LZMA and Zstandard."""
_COMMON = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
"""Compressions that every build of libtiff supports."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _MASK, _CMYK = 0, 1, 2, 4, 5
CUT_OFF = "damaged: the file is cut off, or its pixels lie beyond its end"
_CONVERT = "convert it to an uncompressed or deflate TIFF"

_HEADER_BYTES = 16 << 20
"""Limit on the bytes read for all directories of a file together."""
_CHUNK_BYTES, _SPARE_BYTES = 8 << 20, 64 << 20
"""Bytes converted at a time; and by how many a strip may exceed the largest image that is allowed."""
_MOST_BYTES_A_PIXEL = 16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


Stored = Callable[[int, int], Any]
"""Gives the bytes of a strip or tile as they are stored, by its number and its size when unpacked; None if the file
leaves it out."""


class _Header(io.BytesIO):
    """A file from which only a limited number of bytes can be read, as directories may overlap endlessly."""

    _left = _HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self._left:
            raise OSError("directories without end")
        self._left -= size
        return super().read(size)


def is_tiff(content: bytes) -> bool:
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pages(content: bytes) -> Iterator[TiffPage]:
    """The directories of a TIFF or BigTIFF, each once even in a loop, up to the first that cannot be read."""
    if is_tiff(content):
        yield from pages_in(_Header(content))


def open_tiff(stream: Any) -> Any:
    """A `tifffile.TiffFile`; raises all kinds of errors on damaged files."""
    import tifffile  # noqa: PLC0415  # slow to import

    # tifffile would present files of these kinds with other pages than they list, and open other files beside this one.
    return tifffile.TiffFile(stream, is_lsm=False, is_ndpi=False, is_scanimage=False, _multifile=False)


def pages_in(stream: Any) -> Iterator[TiffPage]:
    """`pages` of an open file."""
    seen: set[int] = set()
    try:
        for page in open_tiff(stream).pages:
            told = page.imagewidth, page.imagelength, page.compression, page.photometric, page.subfiletype
            if page.offset in seen or not all(isinstance(one, int) for one in told):
                return
            seen.add(page.offset)
            yield page
    except MemoryError:
        raise
    except Exception:  # tifffile raises all kinds of errors on damaged files
        return


def first_page(content: bytes) -> TiffPage | None:
    """The first directory; None if it cannot be read."""
    return next(pages(content), None)


def is_picture(page: TiffPage) -> bool:
    """Whether it is a page in its own right: neither a reduced copy nor a mask."""
    return page.subfiletype & 0b101 == 0


def is_camera_raw(page: TiffPage) -> bool:
    """Whether it is the preview in a camera raw file, whose image is stored elsewhere."""
    smaller = bool(page.subfiletype & 1 and page.subifds)
    return smaller or _DNG_VERSION in page.tags or page.photometric in (32803, 34892)


def is_deep(page: TiffPage) -> bool:
    """Whether its samples are other than unsigned integers of at most 8 bits."""
    return bool(np.max(page.bitspersample) > 8) or page.sampleformat not in (1, 4)


def rare_compression(page: TiffPage) -> str | None:
    """Name of a compression that some builds of libtiff lack; None for common ones."""
    return None if page.compression in _COMMON else _name(page.compression)


def is_sparse(page: TiffPage) -> bool:
    """Whether strips or tiles are left out, as GDAL does where there is no data; Pillow takes this for damage."""
    return page.compression in _UNPACKED and not all(page.databytecounts)


def has_channels(page: TiffPage) -> bool:
    """Whether there are channels to choose from: more than three, or several that are not said to be colours."""
    least = {_RGB: 3, _CMYK: 4}.get(page.photometric, 1 if page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3)
    return len(_colors_and_opacity(page)[0]) > least


def nodata_of(page: TiffPage) -> float | None:
    """The value that a GeoTIFF declares to mean "no data"; None if none, or not of the values that are read."""
    plain = page.bitspersample == 8 and page.photometric in (_BLACK_IS_ZERO, _RGB)  # no index, not inverted or scaled
    with suppress(TypeError, ValueError):
        return float(page.tags.valueof(_GDAL_NODATA)) if plain or is_deep(page) else None  # stored as text
    return None


def read_tiff(content: bytes, max_pixels: int, channels: Channels = None) -> StoredImage:
    """The pixels of the first page, with their values as stored.

    The first three bands are red, green and blue if there are as many; otherwise the first is grey. A band is opacity
    only if the file says so. CMYK is converted as in 8 bits. If the page `has_channels`, those that are asked for are
    given instead.

    Raises DecodeError if the image is damaged, too large, lacks a channel, or is of a kind that is not read.
    """
    with decode_errors(f"damaged, or a kind of TIFF that is not read: {_CONVERT}"):
        return _read(content, max_pixels, channels)


def _read(content: bytes, max_pixels: int, channels: Channels) -> StoredImage:
    page = next(pages(content))
    refuse_cut(page, io.BytesIO(content))
    if _PHOTOMETRIC not in page.tags:
        page.photometric = _BLACK_IS_ZERO  # the default of most readers
    refuse_unknown(page)
    _refuse_large_strips(page, max_pixels)
    chosen = channels if has_channels(page) else None
    colors, wanted = _bands(page) if chosen is None else _chosen_bands(page, chosen, max_pixels)
    numbers = read_samples(page, wanted, functools.partial(_stored, content, page))
    values, bits, sign = numbers[..., :colors], page.bitspersample, numbers.dtype.kind == "i"
    full = None if numbers.dtype.kind == "f" else (-(1 << bits - 1) if sign else 0, (1 << bits - sign) - 1)
    most = 1 if full is None else full[1]
    opacity = None if len(wanted) == colors else np.empty(values.shape[:2], np.uint8)
    step = max(1, _CHUNK_BYTES // (32 * values.shape[1]))
    for rows in (slice(top, top + step) for top in range(0, len(values), step)):
        if opacity is not None:
            share = np.clip(np.nan_to_num(numbers[rows, :, -1].astype(np.float64) / most), 0, 1)
            opacity[rows] = np.rint(255 * share)
        if colors == 4 and chosen is None:  # cyan, magenta, yellow and black
            absent = most - np.nan_to_num(values[rows].astype(np.float64))
            light = np.clip(absent[..., :3] * absent[..., 3:] / most, 0, most)
            values[rows, :, :3] = light if full is None else np.rint(light)
        elif opacity is not None and next(one for one in page.extrasamples if one in (1, 2)) == 1:  # premultiplied
            whole = values[rows] / (np.maximum(opacity[rows, :, None], 1) / 255)
            values[rows] = whole if full is None else np.clip(np.rint(whole), *full)
    orientation = page.tags.valueof(_ORIENTATION)
    return StoredImage(
        values=values[..., 0] if colors == 1 else values[..., :3] if chosen is None else values,
        full=full,
        alpha=opacity,
        nodata=nodata_of(page),
        white_is_zero=page.photometric == _WHITE_IS_ZERO,
        orientation=int(orientation) if isinstance(orientation, int) else 1,
        bands=page.samplesperpixel if chosen is None and len(wanted) < page.samplesperpixel else 0,
        channels=chosen,
    )


def _name(value: int) -> str:
    """tifffile's name for a compression or photometric interpretation."""
    return str(getattr(value, "name", f"kind {value}")).replace("_", " ")


def refuse_cut(page: TiffPage, file: BinaryIO, needed: Set[int] = NEEDED) -> None:
    """Refuse a file with tags whose values lie beyond its end, which tifffile silently ignores."""
    form = page.parent.tiff
    file.seek(page.offset)
    (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    entries = file.read(count * form.tagsize)
    places = range(0, len(entries), form.tagsize)
    listed = {int(struct.unpack_from(form.byteorder + "H", entries, place)[0]) for place in places}
    if any(tag not in page.tags for tag in listed & needed):
        raise DecodeError("damaged: the file is cut off, or parts of its header lie beyond its end")


def can_unpack(page: TiffPage) -> bool:
    """Whether `read_samples` gives the page's numbers as whole samples of 8, 16, 32 or 64 bits."""
    lossless = page.compression in _UNPACKED and page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK)
    return lossless and page.bitspersample in (8, 16, 32, 64)


def refuse_unknown(page: TiffPage) -> None:
    bits, dtype = page.bitspersample, page.dtype
    if dtype is not None and dtype.kind == "c":
        raise DecodeError("a TIFF of complex numbers is not read: save its magnitude as a float32 TIFF")
    if not isinstance(bits, int):
        raise DecodeError(f"a TIFF whose bands are of different kinds is not read: {_CONVERT} of one kind")
    if dtype is None or bits not in (*range(1, 17), 32, 64):
        raise DecodeError(f"a TIFF of such {bits}-bit numbers is not read: {_CONVERT} of 16 or 32 bits")
    what = f"a TIFF of {page.samplesperpixel} x {bits} bits"
    if page.compression not in _UNPACKED:
        raise DecodeError(f"{what} in {_name(page.compression)} is not read: {_CONVERT}")
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _MASK, _CMYK):
        raise DecodeError(f"{what} in {_name(page.photometric)} is not read: {_CONVERT} of grey or RGB")
    if page.imagedepth != 1:
        raise DecodeError(f"a TIFF of {page.imagedepth} slices is not read: save one as a TIFF of its own")
    if page.compression in (_STORED, _PACK_BITS):
        page.predictor = 1  # the tag has no meaning for these
    if page.predictor != 1 and (bits not in (8, 16, 32, 64) or (page.predictor != 2 and dtype.kind != "f")):
        raise DecodeError(f"a TIFF with predictor {page.predictor} on such numbers is not read: {_CONVERT}")


def _refuse_large_strips(page: TiffPage, max_pixels: int) -> None:
    refuse_large(page.imagewidth, page.imagelength, max_pixels)
    refuse_large(page.chunks[1], page.chunks[0], max_pixels)
    if math.prod(page.chunks) * page.bitspersample // 8 > _MOST_BYTES_A_PIXEL * max_pixels + _SPARE_BYTES:
        raise DecodeError(f"its strips or tiles are larger than `max_pixels={max_pixels}` allows")
    if min(len(page.dataoffsets), len(page.databytecounts)) < math.prod(page.chunked):
        raise DecodeError("damaged: it lacks some of its strips or tiles")


def _bands(page: TiffPage) -> tuple[int, list[int]]:
    """The number of colour bands (1, 3, or 4 inks), and the indices of these and of opacity, if any."""
    others, alpha = _colors_and_opacity(page)
    inks = page.photometric == _CMYK and len(others) >= 4
    colors = 4 if inks else 3 if len(others) >= 3 else 1
    return colors, (list(others[:colors]) or [0]) + (alpha if others else [])


def _chosen_bands(page: TiffPage, channels: tuple[int, ...] | Literal["all"], max_pixels: int) -> tuple[int, list[int]]:
    """The number of bands that were asked for, and the indices of these and of opacity, if any."""
    others, alpha = _colors_and_opacity(page)
    wanted = list(others) if channels == "all" else [others[number - 1] for number in checked(channels, len(others))]
    pixels = page.imagewidth * page.imagelength
    if (len(wanted) + len(alpha)) * pixels * page.bitspersample // 8 > _MOST_BYTES_A_PIXEL * max_pixels + _SPARE_BYTES:
        raise DecodeError(
            f"its {len(others)} channels together are larger than `max_pixels={max_pixels}` allows; choose some of them"
        )
    return len(wanted), wanted + alpha


def _colors_and_opacity(page: TiffPage) -> tuple[Sequence[int], list[int]]:
    """The indices of the bands other than opacity, and of the band that is."""
    first = page.samplesperpixel - len(page.extrasamples)
    alpha = [first + index for index, meaning in enumerate(page.extrasamples) if meaning in (1, 2)][:1]
    if not alpha:
        return range(page.samplesperpixel), []
    return [band for band in range(page.samplesperpixel) if band not in alpha], alpha


def read_samples(page: Any, wanted: Sequence[int], stored: Stored, box: Box | None = None) -> NDArray[Any]:
    """The wanted bands of the page, or of a box of it: (H, W, bands), read one strip or tile at a time.

    Raises DecodeError if data are damaged, and whatever decoders raise.
    """
    left, top, width, height = box = box or Box(0, 0, page.imagewidth, page.imagelength)
    separate = page.planarconfig == 2
    bands = 1 if separate else page.samplesperpixel
    row_bytes = (page.chunks[1] * bands * page.bitspersample + 7) // 8
    dtype = np.dtype(np.uint8) if page.dtype.kind == "b" else page.dtype
    odd = page.predictor == 3 or page.bitspersample not in (1, 8, 16, 32, 64)
    plain = copy.copy(page)  # the page as it looks once decompressed
    plain.compression = plain.fillorder = 1
    if odd:
        plain.predictor, plain.bitspersample = 1, 8 * dtype.itemsize
    numbers = np.empty((height, width, len(wanted)), dtype)
    for position, plane in enumerate(wanted if separate else [0]):
        for index in chunks_in(page, plane, box):
            _, (_, _, y, x, _), (_, rows, columns, _) = plain.decode(None, index)
            into = numbers[max(0, y - top) : max(0, y - top + rows), max(0, x - left) : max(0, x - left + columns)]
            data = stored(index, rows * row_bytes)
            if data is None:
                into[...] = page.nodata
                continue
            data = _unpacked(data, page, rows, row_bytes)
            if odd:
                data = _in_whole_bytes(page, np.frombuffer(data, np.uint8).reshape(rows, -1), bands, dtype.itemsize)
            piece = plain.decode(data, index)[0][0, max(0, top - y) :, max(0, left - x) :]
            piece = piece[: into.shape[0], : into.shape[1]]
            for band, source in [(position, 0)] if separate else enumerate(wanted):
                into[..., band] = piece[..., source]
    return numbers


def chunks_in(page: TiffPage, plane: int, box: Box) -> Iterator[int]:
    """The numbers of the strips or tiles of one plane (0 if bands are interleaved) that have pixels in a box."""
    height, width = page.chunks[0], page.chunks[1]
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    for row in range(box.top // height, -(-(box.top + box.height) // height)):
        for column in range(box.left // width, -(-(box.left + box.width) // width)):
            yield (plane * down + row) * across + column


def chunk_place(page: TiffPage, index: int, expected: int) -> tuple[int, int] | None:
    """Offset and bytes of a strip or tile of `expected` bytes when unpacked; None for one that a sparse file lacks."""
    offset, size = page.dataoffsets[index], page.databytecounts[index]
    if not (offset and size):
        return None
    return offset, expected if page.compression == _STORED else size


def _stored(content: bytes, page: TiffPage, index: int, expected: int) -> Any:
    place = chunk_place(page, index, expected)
    if place is None:
        return None
    offset, size = place
    if offset + size > len(content):
        raise DecodeError(CUT_OFF)
    return memoryview(content)[offset : offset + size]


def _unpacked(data: Any, page: TiffPage, rows: int, row_bytes: int) -> Any:
    """The decompressed bytes of a strip or tile."""
    expected = rows * row_bytes
    if page.fillorder == 2:
        data = bytes(data).translate(_REVERSED)
    most = page.chunks[0] * row_bytes  # the last strip may be padded to full height
    if page.compression in _DEFLATE:
        data = zlib.decompressobj().decompress(data, most + 1)
    elif page.compression != _STORED:
        data = _unpacked_by_pillow(data, page.compression, row_bytes, rows)
    if not expected <= len(data) <= most:
        raise DecodeError("damaged: compressed data of another size than it says")
    return data[:expected]


def _unpacked_by_pillow(data: Any, compression: int, width: int, height: int) -> bytes:
    """Decompress by libtiff, presented as the only strip of an 8-bit grey image."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 0, 277: 1, 278: height, 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # the data follow
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    with Image.open(io.BytesIO(header + data), formats=["TIFF"]) as image:
        return image.tobytes()


def _in_whole_bytes(page: TiffPage, rows: NDArray[np.uint8], bands: int, size: int) -> bytes:
    """Undo the floating-point predictor, or unpack samples of odd bit depths, to samples of `size` bytes."""
    bits, parts = page.bitspersample, []
    for some in np.array_split(rows, min(len(rows), 1 + rows.size // _CHUNK_BYTES)):
        if page.predictor == 3:
            summed = np.cumsum(some.reshape(len(some), -1, bands), axis=1, dtype=np.uint8)
            numbers = summed.reshape(len(some), size, -1).swapaxes(1, 2)
        else:
            single = np.unpackbits(some, axis=1, count=page.chunks[1] * bands * bits).reshape(-1, bits)
            numbers = np.packbits(np.pad(single, ((0, 0), (8 * size - bits, 0))), axis=1)
        parts.append(numbers[..., :: 1 if page.parent.byteorder == ">" else -1].tobytes())
    return b"".join(parts)

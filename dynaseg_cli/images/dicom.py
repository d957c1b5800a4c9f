"""DICOM images by pydicom and its plugins: real numbers by rescale slope and intercept, and the window of the file."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodeError
from ..files.reading import most_image_bytes, open_file, refuse_large
from . import jpeg
from .deep import StoredImage
from .pillow import decode_errors, memory_limited

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_TAGS: Any = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(
        f"{part}{color}PaletteColorLookupTable{what}"
        for color in ("Red", "Green", "Blue")
        for part, what in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("SOPClassUID", "PixelSpacing", "ImagerPixelSpacing"),
]
"""What is read of a header, by keyword: what tells how pixels are stored, what they mean, and how large they are."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_GREY, _PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
_COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
"""Photometric interpretations of colours, which pydicom or the decoder of a compression converts to RGB."""
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"


def count_frames(file: BinaryIO) -> int:
    """The number of frames of an open file, as its header tells; at least 1, also of a damaged file."""
    try:
        return _frames(_header(file)[0])
    except MemoryError:
        raise
    except Exception:  # pydicom raises all kinds of errors on damaged files
        return 1


def is_deep(content: bytes) -> bool:
    """Whether the values of a file are mapped to 8 bits by a range; raises all kinds of errors on damaged files."""
    header, _ = _header(io.BytesIO(content))
    if header.PhotometricInterpretation == _PALETTE:
        return False
    is_grey = header.PhotometricInterpretation in _GREY
    is_measured = is_grey and ("ModalityLUTSequence" in header or _rescale(header) != (1, 0))
    return bool(header.BitsAllocated > 8 or header.get("PixelRepresentation") or is_measured)


def read_dicom(content: bytes, max_pixels: int) -> StoredImage:
    """The first frame of a file.

    Grey values are multiplied by the rescale slope, and the intercept is added, or they are looked up in the modality
    table: signed integers of 32 bits where both are whole, else float32. `window` is the first window of the file
    (PS3.3, C.11.2.1.2; a sigmoid is taken as linear), and the padding value means "no data". MONOCHROME1 is white at 0.
    Palettes and YBR become RGB.

    Raises DecodeError if the file is damaged, has no pixels or more than `max_pixels`, or is of a kind that is not
    read.
    """
    file = io.BytesIO(content)
    header, _ = _checked_header(file, max_pixels)
    values = _pixels(file, header, 0, max_pixels)
    color = header.PhotometricInterpretation
    if color == _PALETTE:
        return StoredImage(_looked_up(values, header))
    if color in _GREY:
        return _measured(values, header)
    return StoredImage(np.ascontiguousarray(values), (0, (1 << _bits(values, header)) - 1))


def read_frame(path: Path, number: int, max_pixels: int) -> bytes:
    """Frame `number` of a file, from 1, as a DICOM file of its own: its data, compressed as they are, and `_TAGS`.

    Uncompressed data are stored as little-endian. Raises DecodeError as `read_dicom` does, or if there is no such
    frame.
    """
    from pydicom.encaps import encapsulate  # noqa: PLC0415 - an extra
    from pydicom.uid import ExplicitVRLittleEndian  # noqa: PLC0415 - an extra

    with open_file(path) as (file, _):
        header, place = _checked_header(file, max_pixels)
        frames, syntax = _frames(header), header.file_meta.TransferSyntaxUID
        if number > frames:
            raise DecodeError(f"it has no frame {number}, only {frames}")
        with decode_errors():
            if syntax.is_encapsulated:
                data = _compressed(file, header, place, number - 1)
                if len(data) > most_image_bytes(max_pixels):
                    raise DecodeError(f"its frame is larger than `max_pixels={max_pixels}` allows")
                header.add_new("PixelData", "OB", encapsulate([data]))
            else:
                _store(header, _pixels(file, header, number - 1, max_pixels, raw=True))
                syntax = ExplicitVRLittleEndian
    return _one_frame(header, number, syntax)


def _one_frame(header: Dataset, number: int, syntax: UID) -> bytes:
    """A file of a header and the frame in it, which is `number` of several."""
    from pydicom import Dataset  # noqa: PLC0415 - an extra

    alone = Dataset()  # a new one, as the other has a byte order
    alone.update({element.tag: element for element in header if not element.keyword.startswith("ExtendedOffset")})
    alone.NumberOfFrames = 1
    if each := alone.get("PerFrameFunctionalGroupsSequence"):
        alone.PerFrameFunctionalGroupsSequence = [each[min(number, len(each)) - 1]]
    alone.file_meta, alone.preamble = header.file_meta, bytes(128)
    alone.file_meta.TransferSyntaxUID = syntax
    stream = io.BytesIO()
    alone.save_as(stream)
    return stream.getvalue()


def _header(file: BinaryIO) -> tuple[Dataset, int]:
    """The header of an open file, without its pixels, and where the value of these begins."""
    from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble  # noqa: PLC0415 - an extra
    from pydicom.tag import Tag  # noqa: PLC0415 - an extra

    file.seek(0)
    read_preamble(file, force=False)
    meta = _read_file_meta_info(file)
    syntax = meta.TransferSyntaxUID
    if syntax == _DEFLATED:  # a few bytes could become any number
        raise DecodeError("a deflated DICOM file is not read: save it uncompressed")
    header = read_dataset(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag in _PIXEL_DATA,
        specific_tags=[Tag(keyword) for keyword in _TAGS],
    )
    header.file_meta = meta
    return header, file.tell() + (8 if syntax.is_implicit_VR else 12)


def _checked_header(file: BinaryIO, max_pixels: int) -> tuple[Dataset, int]:
    """As `_header`; raises DecodeError for an image that is not read, before anything of it is decoded."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 - an extra

    with decode_errors("damaged: its header cannot be read"):
        header, place = _header(file)
    if place > file.seek(0, io.SEEK_END) or "Rows" not in header:
        raise DecodeError("it is a DICOM file without an image")
    refuse_large(int(header.Columns), int(header.Rows), max_pixels)
    color, samples = header.PhotometricInterpretation, header.SamplesPerPixel
    if (color, samples) not in [*((grey, 1) for grey in (*_GREY, _PALETTE)), *((one, 3) for one in _COLORS)]:
        raise DecodeError(f"a DICOM file of {samples} samples in {color} is not read: convert it to TIFF")
    syntax = header.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DecodeError(f"a DICOM file in {syntax.name} is not read: convert it") from None
    if not decoder.is_available:
        needed = (re.sub(r".* - requires |>=[\d.]+", "", plugin) for plugin in decoder.missing_dependencies)
        raise DecodeError(f"a DICOM file in {syntax.name} needs {', or '.join(needed)}: install these, too")
    return header, place


def _frames(header: Dataset) -> int:
    return max(1, int(header.get("NumberOfFrames") or 1))


def _pixels(file: BinaryIO, header: Dataset, index: int, max_pixels: int, *, raw: bool = False) -> NDArray[Any]:
    """A frame as it is stored, except that colours are RGB unless it is `raw`."""
    from pydicom.pixels.utils import get_expected_length, pixel_array  # noqa: PLC0415 - an extra

    place, syntax = _header(file)[1], header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        size = _size_of_codestream(_compressed(file, header, place, index))
        if size not in (None, (header.Columns, header.Rows)):
            raise DecodeError("damaged: its compressed image has another size than its header says")
    elif place + get_expected_length(header) // _frames(header) * (index + 1) > file.seek(0, io.SEEK_END):
        raise DecodeError("damaged: the file is cut off")
    file.seek(0)
    try:
        with memory_limited(max_pixels):  # a few compressed bytes can ask for tens of gigabytes
            values: NDArray[Any] = pixel_array(file, index=index, raw=raw)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise DecodeError(f"damaged, or a kind of {syntax.name} that is not read") from error
    if values.shape[:2] != (header.Rows, header.Columns):
        raise DecodeError("damaged: its image has another size than its header says")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _compressed(file: BinaryIO, header: Dataset, place: int, index: int) -> bytes:
    """The compressed data of a frame."""
    from pydicom.encaps import get_frame  # noqa: PLC0415 - an extra

    tables = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    file.seek(place)
    return get_frame(file, index, extended_offsets=tables if all(tables) else None, number_of_frames=_frames(header))


def _size_of_codestream(frame: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG, JPEG-LS or JPEG 2000 stream; None of another one."""
    if frame.startswith(_START_OF_CODESTREAM):
        right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in range(8, 24, 4))
        return right - left, bottom - top
    return jpeg.size(frame) if frame.startswith(jpeg.MARK) else None


def _store(header: Dataset, pixels: NDArray[Any]) -> None:
    """Make uncompressed pixels those of a header."""
    header.BitsAllocated = 8 * pixels.dtype.itemsize
    header.PlanarConfiguration = 0
    if header.PhotometricInterpretation == "YBR_FULL_422":  # pydicom has undone the subsampling
        header.PhotometricInterpretation = "YBR_FULL"
    places = {"f4": ("FloatPixelData", "OF"), "f8": ("DoubleFloatPixelData", "OD"), "u1": ("PixelData", "OB")}
    keyword, kind = places.get(pixels.dtype.str[1:], ("PixelData", "OW"))
    data = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    header.add_new(keyword, kind, data + bytes(len(data) % 2))


def _looked_up(values: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the colours of a palette."""
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415 - an extra

    colors = apply_color_lut(values, header)[..., :3]
    return np.ascontiguousarray(colors if colors.dtype == np.uint8 else colors >> 8).astype(np.uint8)


def _measured(values: NDArray[Any], header: Dataset) -> StoredImage:
    """Grey values as what they measure."""
    from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415 - an extra

    inverted, window = header.PhotometricInterpretation == "MONOCHROME1", _window(header)
    if "ModalityLUTSequence" in header:
        values, full, nodata = apply_modality_lut(values, header), None, None
    else:
        (slope, intercept), padding = _rescale(header), header.get("PixelPaddingValue")
        nodata = None if padding is None else int(padding) * slope + intercept
        full = _full(values, header, slope, intercept)
        whole = full is not None and slope.is_integer() and intercept.is_integer() and max(map(abs, full)) < 1 << 31
        if (slope, intercept) != (1, 0):
            values = values.astype(np.int32 if whole else np.float32)
            values *= values.dtype.type(slope)
            values += values.dtype.type(intercept)
        elif values.dtype == np.uint8 and full is not None and full[1] < 255:  # a mask, for example
            values = (np.minimum(values, full[1]) * (255 / full[1])).astype(np.uint8)
            full = 0, 255
    return StoredImage(np.ascontiguousarray(values), full, nodata=nodata, white_is_zero=inverted, window=window)


def _full(values: NDArray[Any], header: Dataset, slope: float, intercept: float) -> tuple[float, float] | None:
    """The least and the largest value that can be, None of floating point."""
    if values.dtype.kind == "f":
        return None
    bits, sign = _bits(values, header), values.dtype.kind == "i"
    least, most = sorted(end * slope + intercept for end in (-(1 << bits - 1) if sign else 0, (1 << bits - sign) - 1))
    return least, most


def _bits(values: NDArray[Any], header: Dataset) -> int:
    """How many bits a sample has."""
    most = 8 * values.dtype.itemsize
    return min(max(1, int(header.get("BitsStored") or most)), most)


def _rescale(header: Dataset) -> tuple[float, float]:
    """Slope and intercept."""
    group = "PixelValueTransformationSequence"
    slope, intercept = _value(header, group, "RescaleSlope"), _value(header, group, "RescaleIntercept")
    found = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    if not all(map(math.isfinite, found)) or not found[0]:
        raise DecodeError(f"damaged: its rescale slope is {found[0]:g} and its intercept {found[1]:g}")
    return found


def _window(header: Dataset) -> tuple[float, float] | None:
    """The values that the first window makes black and white."""
    group = "FrameVOILUTSequence"
    center, width = _value(header, group, "WindowCenter"), _value(header, group, "WindowWidth")
    if center is None or width is None:
        return None
    center, width = float(center), float(width)
    if _value(header, group, "VOILUTFunction") in (None, "", "LINEAR"):
        center, width = center - 0.5, width - 1
    is_usable = math.isfinite(center) and math.isfinite(width) and width > 0
    return (center - width / 2, center + width / 2) if is_usable else None


def _value(header: Dataset, group: str, keyword: str) -> Any:
    """The first value of an attribute of the first frame, in the header or in a functional group; None without one."""
    found = header.get(keyword)
    for sequence in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        if found is None and header.get(sequence):
            inner = header.get(sequence)[0].get(group)
            found = inner[0].get(keyword) if inner else None
    if isinstance(found, str) or found is None:
        return found
    try:
        return next(iter(found), None)
    except TypeError:  # a single number
        return found

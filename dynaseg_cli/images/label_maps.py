"""Label maps, annotations and hierarchies from files, with their values exactly as stored."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..config import MAX_PIXELS
from ..errors import DecodeError
from ..files.reading import read_file, read_image, refuse_large
from ..regions.hierarchy import Hierarchy, hierarchy_of
from . import png
from .deep import pnm_header
from .headers import count_frames, is_heif
from .matlab import DAMAGE, MATLAB_BYTES, Matrix, read_matlab
from .pillow import pillow_for
from .tiff import first_page, is_tiff, rare_compression, read_tiff

IMAGE_FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".gif": "GIF", ".pgm": "PPM"}
"""Lossless formats by suffix; JPEG would change labels."""
SUFFIXES = (*IMAGE_FORMATS, ".mat", ".npy")
_OTHER_FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WebP", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}
"""Formats that are opened only to name them in the error: they may have changed the labels."""
_ANNOTATIONS = "groundTruth"
"""The variable of BSDS500, with a cell for each annotator."""
_FRAMES = "it has more than one frame where one label map is needed"
LARGEST = 2.0**53
"""Below it, floating point can represent every whole number."""

LabelMap = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Limit:
    """Limit on the pixels of an image, whose map is (2H-1, 2W-1) if it has `boundaries`, or else (H, W)."""

    max_pixels: int
    boundaries: bool = False

    def check(self, shape: tuple[int, ...]) -> None:
        height, width = ((side + 1) // 2 for side in shape) if self.boundaries else shape
        refuse_large(width, height, self.max_pixels)


def read_label_map(path: Path, max_pixels: int) -> LabelMap:
    """The only label map of a file, an (H, W) integer array.

    Grey images give their values, palette images their indices, and colour images 0xRRGGBB.

    Raises DecodeError if the file cannot be read as one label map of at most `max_pixels` pixels.
    """
    return _only(path, _Limit(max_pixels))


def decode_label_image(content: bytes, file_format: str, max_pixels: int) -> LabelMap:
    """As `read_label_map`, from the content of an image file, which errors do not name.

    Raises DecodeError if it is not one label map of at most `max_pixels` pixels in one of `IMAGE_FORMATS`.
    """
    if not content:
        raise DecodeError("the file is empty")
    return _read_image(content, file_format, _Limit(max_pixels))


def read_annotations(path: Path, max_pixels: int) -> list[LabelMap]:
    """All label maps of a file, each (H, W): those of all annotators of a BSDS500 ``.mat``, or the only one.

    Raises DecodeError as `read_label_map`.
    """
    return _maps(path, _Limit(max_pixels))


def read_hierarchy(path: Path | str, max_pixels: int = MAX_PIXELS) -> Hierarchy:
    """The hierarchy in the boundary map of a file, (2H-1, 2W-1) for an image of H x W pixels.

    Raises DecodeError if the file cannot be read as the boundary map of an image of at most `max_pixels` pixels.
    """
    path = Path(path)
    boundaries = _only(path, _Limit(max_pixels, boundaries=True))
    if boundaries.dtype.itemsize < 2:
        raise DecodeError(f"{path}: its values have 8 bits, and the strengths of a boundary map 16")
    try:
        return hierarchy_of(boundaries)
    except ValueError as error:
        raise DecodeError(f"{path}: {error}") from None


def _only(path: Path, limit: _Limit) -> LabelMap:
    maps = _maps(path, limit)
    if len(maps) > 1:
        raise DecodeError(f"{path}: holds {len(maps)} segmentations where one is needed")
    return maps[0]


def _maps(path: Path, limit: _Limit) -> list[LabelMap]:
    try:
        suffix = path.suffix.lower()
        if not path.stat().st_size:
            raise DecodeError("the file is empty")
        if suffix == ".mat":
            maps = _read_matlab(_matlab_content(path), limit)
        elif suffix == ".npy":
            maps = [_read_numpy(path, limit)]
        elif suffix in IMAGE_FORMATS:
            maps = [_read_image(read_image(path, limit.max_pixels), IMAGE_FORMATS[suffix], limit)]
        else:
            raise DecodeError(f"not a label file: its name ends in none of {' '.join(SUFFIXES)}")
        for labels in maps:
            if labels.shape != maps[0].shape:
                raise DecodeError("its segmentations differ in size")
            limit.check(labels.shape)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from None
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror or error}") from error
    return maps


def is_bsds500(path: Path) -> bool:
    """Whether a file that `read_annotations` can read holds annotations of BSDS500."""
    return path.suffix.lower() == ".mat" and _ANNOTATIONS in read_matlab(_matlab_content(path))


def is_color(path: Path) -> bool:
    """Whether a file is an image whose colours are taken for labels."""
    if path.suffix.lower() not in IMAGE_FORMATS:
        return False
    try:
        content = read_image(path, MAX_PIXELS)
        with pillow_for(content, MAX_PIXELS), _opened(content) as image:
            return image.format in IMAGE_FORMATS.values() and image.mode in ("RGB", "RGBA")
    except Exception:  # unreadable: the reader says so
        return False


def _under_another_name(stored: str, file_format: str) -> DecodeError:
    return DecodeError(f"a {stored} file under the name of a {file_format}; save the labels as PNG, without loss")


def _opened(content: bytes) -> Image.Image:
    """An image of any known format, its pixels not yet decoded."""
    Image.init()
    known = [name for name in (*dict.fromkeys(IMAGE_FORMATS.values()), *_OTHER_FORMATS) if name in Image.OPEN]
    return Image.open(
        io.BytesIO(png.without_metadata(content) if content.startswith(png.MARK) else content), formats=known
    )


def _read_image(content: bytes, file_format: str, limit: _Limit) -> LabelMap:
    with pillow_for(content, limit.max_pixels, f"damaged, or not a {file_format} file"):
        return _decode(content, file_format, limit)


def _decode(content: bytes, file_format: str, limit: _Limit) -> LabelMap:
    try:
        image = _opened(content)
    except UnidentifiedImageError:
        if is_heif(content):
            raise _under_another_name("HEIC", file_format) from None
        if not is_tiff(content):
            raise
        return _read_tiff(content, limit)
    if image.format in _OTHER_FORMATS:
        raise _under_another_name(_OTHER_FORMATS[image.format], file_format)
    limit.check((image.height, image.width))
    if count_frames(content)[0] > 1:
        raise DecodeError(_FRAMES)
    white = _stored_white(image, content)
    if _is_swapped(image, content):
        return _read_tiff(content, limit)
    try:
        image.load()
    except OSError as error:
        page = first_page(content)
        if page is not None and (rare := rare_compression(page)) is not None:
            raise DecodeError(f"its {rare} compression cannot be read here; save it with deflate") from error
        raise
    return _values(image, white)


def _read_tiff(content: bytes, limit: _Limit) -> LabelMap:
    """A TIFF whose samples Pillow does not support or misreads."""
    page = first_page(content)
    if page is not None and page.dtype is not None and page.dtype.kind == "c":
        raise DecodeError(f"pixels of {page.dtype} are not labels; save integers")
    if count_frames(content)[0] > 1:
        raise DecodeError(_FRAMES)
    image = read_tiff(content, (4 if limit.boundaries else 1) * limit.max_pixels)
    if image.white_is_zero:
        raise DecodeError("its grey runs from white to black; save it with 0 for black")
    if image.bands or image.values.ndim > 2 or image.alpha is not None:
        bands = image.bands or "several"
        raise DecodeError(
            f"{bands} bands of {image.values.dtype} where one label map is needed; save the band of labels alone"
        )
    return _whole(image.values)


def _stored_white(image: Image.Image, content: bytes) -> int | None:
    """The value of white in a file whose grey Pillow stretches to 8 or 16 bits; None if it does not.

    Raises DecodeError if Pillow cannot give the values that are stored.
    """
    bits = 8
    if image.format == "PNG":
        bits, color_type = content[24], content[25]
        if bits == 16 and color_type != 0:
            raise DecodeError("its 16-bit colour or alpha would be read as 8-bit; save plain grey, or 8-bit colours")
    elif image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        samples = tags.get(258, (1,))
        bits = samples[0]
        if len(samples) > 1 and max(samples) > 8:
            if len(samples) not in (3, 4):
                raise DecodeError(f"{len(samples)} bands of {bits} bits where one map is needed; save that band alone")
            raise DecodeError("its 16-bit colour would be read as 8-bit; save plain grey, or 8-bit colours")
        if tags.get(262) == 0:
            raise DecodeError("its grey runs from white to black; save it with 0 for black")
        if "jpeg" in str(image.info.get("compression")):
            raise DecodeError("JPEG compression has changed its labels; save it without loss")
    elif image.format == "PPM":
        header = pnm_header(content)
        if header is None or header[0] == 6:
            raise DecodeError("not a grey PGM file (P2 or P5)")
        return header[3]
    return 2**bits - 1 if image.mode == "L" and bits < 8 else None


def _values(image: Image.Image, white: int | None) -> LabelMap:
    if image.mode in ("RGBA", "LA", "PA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise DecodeError("it is partly transparent, which no label is")
        image = image.convert("RGB") if image.mode == "RGBA" else image.getchannel(0)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("L", "P") or image.mode.startswith("I"):
        values: LabelMap = np.asarray(image)
        if image.format == "TIFF":
            values = _signed(values, image.tag_v2)  # type: ignore[attr-defined]
        return values if white is None else _unstretched(values, white)
    if image.mode == "F":
        return _whole(np.asarray(image))
    if image.mode == "RGB":
        red, green, blue = (np.asarray(image)[..., channel].astype(np.int32) for channel in range(3))
        return red << 16 | green << 8 | blue
    raise DecodeError(f"pixels of kind {image.mode} are not labels; save integers")


def _is_swapped(image: Image.Image, content: bytes) -> bool:
    """Whether Pillow misreads the byte order of a TIFF: signed or 32-bit samples, big-endian and compressed."""
    return image.mode in ("I", "F") and content.startswith(b"MM") and image.info.get("compression") != "raw"


def _signed(values: LabelMap, tags: Any) -> LabelMap:
    """The values of a TIFF with the right sign: Pillow takes 8-bit samples as unsigned, 32-bit ones as signed."""
    (sample_format, *_), (bits, *_) = tags.get(339, (1,)), tags.get(258, (1,))
    if (sample_format, bits) == (2, 8):
        return values.view(np.int8)
    return values.view(np.uint32) if (sample_format, bits) == (1, 32) else values


def _whole(values: NDArray[Any]) -> LabelMap:
    """Values as integers; floating point is converted if all of it is whole.

    Raises DecodeError if some are not whole, or too large for floating point to represent every integer.
    """
    if values.dtype.kind != "f":
        return values
    wide = values.astype(np.float64, copy=False)
    if not (np.all(np.abs(wide) < LARGEST) and np.array_equal(wide, np.rint(wide))):
        raise DecodeError("its numbers are not whole, or too large for labels")
    return wide.astype(np.int64)


def _unstretched(values: LabelMap, white: int) -> LabelMap:
    full = 255 if values.dtype == np.uint8 else 65535
    stored: LabelMap = (values.astype(np.uint32) * white + full // 2) // full
    return stored.astype(values.dtype)


def _read_numpy(path: Path, limit: _Limit) -> LabelMap:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the headers of damaged files
            stored = np.lib.format.open_memmap(path, mode="r")  # np.load would take .npz archives for it
    except OSError:
        raise
    except Exception as error:
        raise DecodeError("damaged, or not an .npy file of numbers") from error
    shape = stored.shape
    if len(shape) == 3 and 1 in (shape[0], shape[2]):  # a stack of one map
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    if len(shape) != 2 or stored.dtype.kind not in "iubf":
        raise DecodeError(f"an array of {stored.dtype}, shape {stored.shape}, where (H, W) integers are needed")
    limit.check(shape)
    return _whole(np.array(stored.reshape(shape), dtype=np.uint8 if stored.dtype.kind == "b" else None))


def _matlab_content(path: Path) -> bytes:
    return read_file(path, MATLAB_BYTES, f"the {MATLAB_BYTES >> 20} MiB that a .mat may have")


def _read_matlab(content: bytes, limit: _Limit) -> list[LabelMap]:
    if content[:10] == b"MATLAB 7.3":
        raise DecodeError("MATLAB 7.3 files are not read; save it with -v7")
    variables = read_matlab(content)
    if _ANNOTATIONS in variables:
        try:
            maps = [_integers(cell.field("Segmentation"), limit) for cell in variables[_ANNOTATIONS].cells()]
        except DAMAGE as error:
            raise DecodeError("its groundTruth is damaged, or not laid out as BSDS500's") from error
        if not maps:
            raise DecodeError("its groundTruth is empty")
        return maps
    matrices = [
        one for one in variables.values() if one.is_numeric and len(one.shape) == 2 and math.prod(one.shape) > 1
    ]
    if len(matrices) != 1:
        names = ", ".join(variables) or "nothing"
        raise DecodeError(f"it holds {names}: neither BSDS500's groundTruth nor one matrix of labels")
    try:
        return [_integers(matrices[0], limit)]
    except DAMAGE as error:
        raise DecodeError("damaged") from error


def _integers(matrix: Matrix, limit: _Limit) -> LabelMap:
    """The labels of a matrix, which MATLAB stores in floating point by default."""
    if len(matrix.shape) != 2:
        raise ValueError("not two-dimensional")
    limit.check(matrix.shape)
    return _whole(matrix.numbers())

"""Label maps, annotations and hierarchies from files, their values exactly as stored."""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..config import MAX_PIXELS
from ..errors import DecodeError
from ..images import pillow_alone, read_file, read_image
from ..regions.hierarchy import Hierarchy, hierarchy_of
from .matlab import DAMAGE, MATLAB_BYTES, Matrix, read_matlab

IMAGE_FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".gif": "GIF", ".pgm": "PPM"}
"""Lossless formats only, by suffix: a label that JPEG has smoothed is another label."""
SUFFIXES = (*IMAGE_FORMATS, ".mat", ".npy")
PGM_HEADER = re.compile(rb"P[25]" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)" * 3)
"""Width, height and the value of white; P2 is written in digits, P5 in bytes."""
_ANNOTATIONS = "groundTruth"
"""BSDS500's variable: a cell for each annotator."""
LARGEST = 2.0**53
"""From here on, floating point has no place for every whole number."""

LabelMap = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Limit:
    """How many pixels an image may have; `boundaries` says that its map is (2H-1, 2W-1), and not (H, W)."""

    max_pixels: int
    boundaries: bool = False

    def check(self, shape: tuple[int, ...]) -> None:
        height, width = ((side + 1) // 2 for side in shape) if self.boundaries else shape
        if height * width > self.max_pixels:
            raise DecodeError(f"{width} x {height} pixels are more than --max-pixels {self.max_pixels} allows")


def read_label_map(path: Path, max_pixels: int) -> LabelMap:
    """The one label map of a file, an (H, W) integer array.

    Grey and palette images give their values or indices; a colour image gives 0xRRGGBB, every distinct colour a label.

    Raises
    ------
    DecodeError
        If the file cannot be read as one label map of at most `max_pixels` pixels.
    """
    return _only(path, _Limit(max_pixels))


def decode_label_image(content: bytes, file_format: str, max_pixels: int) -> LabelMap:
    """As `read_label_map`, of the content of an image file; errors do not name it.

    Raises
    ------
    DecodeError
        If it is not one label map of at most `max_pixels` pixels, of a format that is among `IMAGE_FORMATS`.
    """
    if not content:
        raise DecodeError("the file is empty")
    return _read_image(content, file_format, _Limit(max_pixels))


def read_annotations(path: Path, max_pixels: int) -> list[LabelMap]:
    """Every label map of a file, (H, W) each and of one shape: all annotators of a BSDS500 ``.mat``, else one.

    Raises
    ------
    DecodeError
        As `read_label_map`.
    """
    return _maps(path, _Limit(max_pixels))


def read_hierarchy(path: Path | str, max_pixels: int = MAX_PIXELS) -> Hierarchy:
    """The hierarchy of a file's one boundary map, (2H-1, 2W-1) for an image of H x W pixels.

    Raises
    ------
    DecodeError
        If the file cannot be read as the boundary map of an image of at most `max_pixels` pixels.
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
            if labels.size == 0:
                raise DecodeError("it has no pixels")
            limit.check(labels.shape)
    except DecodeError as error:
        raise DecodeError(f"{path}: {error}") from None
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror or error}") from error
    return maps


def is_bsds500(path: Path) -> bool:
    """Whether a file, one that `read_annotations` can read, holds annotations as BSDS500 lays them out."""
    return path.suffix.lower() == ".mat" and _ANNOTATIONS in read_matlab(_matlab_content(path))


def is_color(path: Path) -> bool:
    """Whether a file is an image whose colours are taken for labels."""
    file_format = IMAGE_FORMATS.get(path.suffix.lower())
    if file_format is None:
        return False
    try:
        with pillow_alone(), Image.open(path, formats=[file_format]) as image:
            return image.mode in ("RGB", "RGBA")
    except Exception:  # unreadable: the reader says so
        return False


def _read_image(content: bytes, file_format: str, limit: _Limit) -> LabelMap:
    try:
        with pillow_alone(limit.max_pixels if file_format == "GIF" else None):
            image = Image.open(io.BytesIO(content), formats=[file_format])
            limit.check((image.height, image.width))
            if getattr(image, "is_animated", False):  # to count the frames may take minutes
                raise DecodeError("it has more than one frame where one label map is needed")
            white = _stored_white(image, content)
            image.load()
            return _values(image, white)
    except (DecodeError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise DecodeError(f"more pixels than --max-pixels {limit.max_pixels} allows") from None
    except Exception as error:  # Pillow's decoders raise anything at all on damaged files
        raise DecodeError(f"damaged, or not a {file_format} file") from error


def _stored_white(image: Image.Image, content: bytes) -> int | None:
    """The value that white has in a file whose grey Pillow stretches to 8 or 16 bits; None if it leaves it alone.

    Raises
    ------
    DecodeError
        If Pillow cannot give the values that are stored.
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
            raise DecodeError("its 16-bit colour would be read as 8-bit; save plain grey, or 8-bit colours")
        if tags.get(262) == 0:
            raise DecodeError("its grey runs from white to black; save it with 0 for black")
        if "jpeg" in str(image.info.get("compression")):
            raise DecodeError("JPEG compression has changed its labels; save it without loss")
    elif image.format == "PPM":
        header = PGM_HEADER.match(content)
        if header is None:
            raise DecodeError("not a grey PGM file (P2 or P5)")
        return int(header[3])
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
        return values if white is None else _unstretched(values, white)
    if image.mode == "RGB":
        red, green, blue = (np.asarray(image)[..., channel].astype(np.int32) for channel in range(3))
        return red << 16 | green << 8 | blue
    raise DecodeError(f"pixels of kind {image.mode} are not labels; save integers")


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
    if stored.ndim != 2 or stored.dtype.kind not in "iub":
        raise DecodeError(f"an array of {stored.dtype}, shape {stored.shape}, where (H, W) integers are needed")
    limit.check(stored.shape)
    values: LabelMap = np.array(stored, dtype=np.uint8 if stored.dtype.kind == "b" else None)
    return values


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
    """MATLAB's numbers are floating point unless asked otherwise."""
    if len(matrix.shape) != 2:
        raise ValueError("not two-dimensional")
    limit.check(matrix.shape)
    values = matrix.numbers()
    if values.dtype.kind != "f":
        return values
    if not (np.all(np.abs(values) < LARGEST) and np.array_equal(values, np.rint(values))):
        raise DecodeError("its numbers are not whole, or too large for labels")
    return values.astype(np.int64)

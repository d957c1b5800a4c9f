from __future__ import annotations

import io
import logging
import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from label_samples import bsds500, matlab
from numpy.typing import NDArray
from PIL import Image, ImageFile
from samples import encoded, noise, packed_zeros

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.label_maps import SUFFIXES, is_color, read_annotations, read_hierarchy, read_label_map
from dynaseg_cli.images.matlab import Matrix
from dynaseg_cli.regions.hierarchy import boundary_map, build_hierarchy

LIMIT = 1_000_000
LABELS = np.random.default_rng(0).integers(0, 5, (12, 16)).astype(np.uint8)


def read(folder: Path, content: bytes, suffix: str, max_pixels: int = LIMIT) -> NDArray[Any]:
    """The one label map of a file of this content."""
    path = folder / f"labels{suffix}"
    path.write_bytes(content)
    labels = read_label_map(path, max_pixels)
    assert labels.ndim == 2
    assert labels.dtype.kind in "iu"
    return labels


def refused(folder: Path, content: bytes, suffix: str, max_pixels: int = LIMIT) -> str:
    """Why a file is refused, less its name, which must lead."""
    path = folder / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(DecodeError) as caught:
        read_annotations(path, max_pixels)
    name, _, reason = str(caught.value).partition(": ")
    assert name == str(path)
    return reason


def packed(values: list[int], depth: int) -> bytes:
    """Numbers of `depth` bits one after the other, big-endian."""
    bits = "".join(format(value, f"0{depth}b") for value in values)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color_type: int, row: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


def tiff(
    depth: int, row: bytes, width: int, *, photometric: int = 1, samples: int = 1, sample_format: int = 1
) -> bytes:
    """A little-endian TIFF of one row."""
    start = 8 + 2 + 10 * 12 + 4
    depths = struct.pack(f"<{samples}H", *[depth] * samples)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, 1),
        (258, 3, samples, depth if samples == 1 else start),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, start + len(depths)),
        (277, 3, 1, samples),
        (278, 4, 1, 1),
        (279, 4, 1, len(row)),
        (339, 3, 1, sample_format),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 10) + directory + bytes(4) + depths + row


def stored_tiff(values: NDArray[Any], **options: Any) -> bytes:
    """A TIFF of numbers of any type."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def npy(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def numbers(depth: int) -> list[int]:
    return [0, 1, 2**depth // 2, 2**depth - 1]


# Values exactly as stored


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_png_keeps_its_values(tmp_path: Path, depth: int) -> None:
    row = packed(numbers(depth), depth)
    assert read(tmp_path, png(4, 1, depth, 0, row), ".png").tolist() == [numbers(depth)]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_png_keeps_its_indices(tmp_path: Path, depth: int) -> None:
    palette = chunk(b"PLTE", bytes([7, 7, 7] * 2**depth))
    row = packed(numbers(depth), depth)
    assert read(tmp_path, png(4, 1, depth, 3, row, palette), ".png").tolist() == [numbers(depth)]


def test_index_without_a_colour_is_kept(tmp_path: Path) -> None:
    """VOC's 255 in a palette that ends before it."""
    palette = chunk(b"PLTE", bytes(range(9)))
    assert read(tmp_path, png(3, 1, 8, 3, b"\0\2\xff", palette), ".png").tolist() == [[0, 2, 255]]


@pytest.mark.parametrize("color_type", [0, 3])
def test_value_declared_transparent_is_kept(tmp_path: Path, color_type: int) -> None:
    extra = chunk(b"PLTE", bytes(range(12))) + chunk(b"tRNS", b"\0\0") if color_type == 3 else chunk(b"tRNS", b"\0\1")
    assert read(tmp_path, png(4, 1, 8, color_type, b"\0\1\2\3", extra), ".png").tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12, 16])
def test_grey_tiff_keeps_its_values(tmp_path: Path, depth: int) -> None:
    row = struct.pack("<4H", *numbers(16)) if depth == 16 else packed(numbers(depth), depth)
    assert read(tmp_path, tiff(depth, row, 4), ".tif").tolist() == [numbers(depth)]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_tiff_keeps_its_values_however_compressed(tmp_path: Path, dtype: str, compression: str | None) -> None:
    values = (LABELS.astype(dtype) * (np.iinfo(dtype).max // 5)).astype(dtype)
    np.testing.assert_array_equal(read(tmp_path, encoded(values, "TIFF", compression=compression), ".tiff"), values)


def test_tiff_of_more_values_than_16_bits_has_keeps_each(tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(70_000).reshape(250, 280).astype(np.int32)
    for content in (encoded(values, "TIFF"), tiff(32, values.astype("<u4").tobytes(), values.size)):
        np.testing.assert_array_equal(read(tmp_path, content, ".tif").ravel(), values.ravel())


def test_tiff_of_the_other_byte_order_keeps_its_values(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 258, 65535))
    assert read(tmp_path, encoded(image, "TIFF"), ".tif").tolist() == [[258, 65535]]


def test_negative_numbers_of_a_tiff_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, tiff(16, struct.pack("<2h", -1, 7), 2, sample_format=2), ".tif").tolist() == [[-1, 7]]
    assert read(tmp_path, encoded(np.array([[-1, 70_000]], np.int32), "TIFF"), ".tif").tolist() == [[-1, 70_000]]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 5}, {"tile": (16, 16)}], ids=str
)
def test_tiff_of_any_integers_keeps_each(
    tmp_path: Path, dtype: str, compression: str | None, options: dict[str, Any]
) -> None:
    values = LABELS.astype(dtype)
    values[0, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    labels = read(tmp_path, stored_tiff(values, compression=compression, **options), ".tif")
    assert labels.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("form", [(stored_tiff, ".tif"), (npy, ".npy")], ids=["TIFF", "npy"])
def test_whole_numbers_in_floating_point_are_labels(tmp_path: Path, dtype: str, form: Any) -> None:
    save, suffix = form
    values = LABELS.astype(dtype)
    values[0, 0] = -1
    assert read(tmp_path, save(values), suffix).tolist() == values.tolist()


@pytest.mark.parametrize("shape", [(1, 12, 16), (12, 16, 1)])
def test_stack_of_one_map_is_that_map(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(read(tmp_path, npy(LABELS.reshape(shape)), ".npy"), LABELS)


@pytest.mark.parametrize("named", [".png", ".tif", ".bmp", ".gif", ".pgm"])
@pytest.mark.parametrize("stored", ["PNG", "TIFF", "BMP", "GIF"])
def test_content_and_not_the_name_says_what_the_format_is(tmp_path: Path, stored: str, named: str) -> None:
    np.testing.assert_array_equal(read(tmp_path, encoded(LABELS, stored), named), LABELS)


METADATA = {
    "text": chunk(b"tEXt", b"Comment\0" + b"x" * (3 << 20)),
    "compressed text": chunk(b"zTXt", b"Comment\0\0" + packed_zeros(80)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed_zeros(80)),
    "colour profile": chunk(b"iCCP", b"profile\0\0" + packed_zeros(80)),
    "EXIF": chunk(b"eXIf", b"II*\0" + bytes(70_000)),
    "nonsense": b"".join(chunk(kind, b"?") for kind in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"tIME", b"prVt")),
    "wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"?",
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_decides_nothing_about_labels(tmp_path: Path, name: str) -> None:
    """Nor is it inflated: these are 80 MB each."""
    row = bytes(range(4))
    assert read(tmp_path, png(4, 1, 8, 0, row, METADATA[name]), ".png").tolist() == [[0, 1, 2, 3]]
    assert read(tmp_path, png(4, 1, 8, 0, row)[:-12] + METADATA[name], ".png").tolist() == [[0, 1, 2, 3]]
    colors = tmp_path / "colors.png"
    colors.write_bytes(png(1, 1, 8, 2, b"abc", METADATA[name]))
    assert is_color(colors)


@pytest.mark.parametrize("maxval", [1, 7, 20, 254, 255, 256, 1000, 65534, 65535])
def test_pgm_keeps_its_values_whatever_white_is(tmp_path: Path, maxval: int) -> None:
    values = np.arange(maxval + 1)
    header = f"# a comment 1 2 3\n{maxval + 1} 1 # another\n{maxval}\n"
    binary = b"P5\n" + header.encode() + values.astype(">u2" if maxval > 255 else np.uint8).tobytes()
    plain = f"P2\n{header}{' '.join(map(str, values))}\n".encode()
    for content in (binary, plain):
        np.testing.assert_array_equal(read(tmp_path, content, ".pgm"), values[None])


@pytest.mark.parametrize("file_format", ["BMP", "GIF"])
def test_palette_of_other_formats_gives_indices(tmp_path: Path, file_format: str) -> None:
    image = Image.fromarray(LABELS).convert("P")
    image.putpalette([9, 9, 9, 1, 2, 3, 4, 5, 6, 200, 0, 0, 0, 200, 0])
    content = encoded(image, file_format, **({"optimize": False} if file_format == "GIF" else {}))
    np.testing.assert_array_equal(read(tmp_path, content, f".{file_format.lower()}"), LABELS)


def test_grey_bmp_keeps_its_values(tmp_path: Path) -> None:
    assert read(tmp_path, encoded(np.array([[0, 1, 200, 255]], np.uint8), "BMP"), ".bmp").tolist() == [[0, 1, 200, 255]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_colours_are_labels(tmp_path: Path, mode: str, suffix: str) -> None:
    colors = np.array([[[0, 0, 255], [1, 2, 3], [255, 255, 255], [1, 2, 3]]], np.uint8)
    image = Image.fromarray(colors).convert(mode)
    file_format = {".tif": "TIFF"}.get(suffix, suffix[1:].upper())
    assert read(tmp_path, encoded(image, file_format), suffix).tolist() == [[0xFF, 0x010203, 0xFFFFFF, 0x010203]]
    assert is_color(tmp_path / f"labels{suffix}")


def test_opaque_grey_is_grey(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[3, 255], [7, 255]]], np.uint8), "LA")
    assert read(tmp_path, encoded(image, "PNG"), ".png").tolist() == [[3, 7]]


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (encoded(LABELS, "PNG"), ".png"),
        (encoded(Image.fromarray(LABELS).convert("P"), "PNG"), ".png"),
        (npy(LABELS), ".npy"),
        (b"", ".png"),
        (encoded(noise(), "JPEG"), ".jpg"),
    ],
    ids=["grey", "palette", "npy", "empty", "no label file"],
)
def test_nothing_else_is_taken_for_colours(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(content)
    assert not is_color(path)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "<u2", ">u2", ">i4", "uint64", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_keeps_its_integers(tmp_path: Path, dtype: str, order: str) -> None:
    bounds = np.iinfo(dtype)
    values = np.array([[bounds.min, 1, 2], [3, 4, bounds.max]], dtype=dtype, order=order)
    labels = read(tmp_path, npy(values), ".npy")
    assert labels.tolist() == values.tolist()


def test_npy_of_truth_values_is_zeros_and_ones(tmp_path: Path) -> None:
    assert read(tmp_path, npy(np.array([[True, False]])), ".npy").tolist() == [[1, 0]]


def test_annotators_of_bsds500_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "several.mat"
    maps = [LABELS.astype(np.uint16) + shift for shift in (0, 300, 9)]
    path.write_bytes(bsds500(*maps))
    for labels, expected in zip(read_annotations(path, LIMIT), maps, strict=True):
        np.testing.assert_array_equal(labels, expected)
    with pytest.raises(DecodeError, match=r"several\.mat: holds 3 segmentations where one is needed"):
        read_label_map(path, LIMIT)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint16", "bool"])
@pytest.mark.parametrize(
    "content", [lambda values: matlab({"any": values, "number": 7.5}), bsds500], ids=["one", "bsds"]
)
def test_matrix_of_whole_numbers_is_a_label_map(tmp_path: Path, content: Any, dtype: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    assert read(tmp_path, content(values), ".mat").tolist() == [[0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize("suffix", [".PNG", ".Tif"])
def test_suffix_counts_in_any_case(tmp_path: Path, suffix: str) -> None:
    file_format = {".tif": "TIFF"}.get(suffix.lower(), "PNG")
    np.testing.assert_array_equal(read(tmp_path, encoded(LABELS, file_format), suffix), LABELS)


# What is refused


def many(file_format: str) -> bytes:
    frames = [Image.fromarray(noise(seed)).convert("L") for seed in range(2)]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:])


def alpha(mode: str) -> bytes:
    pixels = np.full((2, 2, len(mode)), 255, np.uint8)
    pixels[0, 0, -1] = 254
    return encoded(Image.fromarray(pixels, mode), "PNG")


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, LABELS)
    return stream.getvalue()


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "16-bit RGB PNG": (png(1, 1, 16, 2, bytes(6)), ".png", "16-bit colour or alpha"),
    "16-bit RGBA PNG": (png(1, 1, 16, 6, bytes(8)), ".png", "16-bit colour or alpha"),
    "16-bit grey PNG with alpha": (png(1, 1, 16, 4, b"\1\2\xff\xff"), ".png", "16-bit colour or alpha"),
    "16-bit RGB TIFF": (tiff(16, bytes(6), 1, photometric=2, samples=3), ".tif", "16-bit colour"),
    "white-is-zero TIFF": (tiff(8, b"\0\1", 2, photometric=0), ".tif", "from white to black"),
    "JPEG in a TIFF": (encoded(LABELS, "TIFF", compression="jpeg"), ".tif", "JPEG compression"),
    "TIFF of fractions": (encoded(LABELS.astype(np.float32) / 2, "TIFF"), ".tif", "not whole"),
    "TIFF of nan": (stored_tiff(np.array([[1, np.nan]])), ".tif", "not whole"),
    "complex TIFF": (stored_tiff(LABELS.astype(np.complex64)), ".tif", "pixels of complex64 are not labels"),
    "TIFF of five bands": (
        stored_tiff(np.zeros((4, 6, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
        ".tif",
        "5 bands of uint8 where one label map is needed; save the band",
    ),
    "TIFF of two deep bands": (
        stored_tiff(np.zeros((2, 4, 6), np.uint16), photometric="minisblack", planarconfig="separate"),
        ".tif",
        "2 bands of 16 bits where one map",
    ),
    "64-bit TIFF of two pages": (stored_tiff(np.zeros((2, 4, 6), np.int64)), ".tif", "more than one frame"),
    "64-bit TIFF from white to black": (
        stored_tiff(LABELS.astype(np.int64), photometric="miniswhite"),
        ".tif",
        "from white to black",
    ),
    "64-bit TIFF compressed with LERC": (
        stored_tiff(LABELS.astype(np.int64)).replace(
            struct.pack("<HHIHH", 259, 3, 1, 1, 0), struct.pack("<HHIHH", 259, 3, 1, 34887, 0)
        ),
        ".tif",
        "64 bits in LERC is not read: convert it to an uncompressed or deflate TIFF",
    ),
    "CMYK TIFF": (encoded(Image.new("CMYK", (2, 2)), "TIFF"), ".tif", "save integers"),
    "transparent RGBA": (alpha("RGBA"), ".png", "partly transparent"),
    "transparent grey": (alpha("LA"), ".png", "partly transparent"),
    "TIFF of two pages": (many("TIFF"), ".tif", "more than one frame"),
    "GIF of two frames": (many("GIF"), ".gif", "more than one frame"),
    "PNG of two frames": (many("PNG"), ".png", "more than one frame"),
    "bitmap": (b"P1 2 1\n0 1\n", ".pgm", "not a grey PGM"),
    "colour pixmap": (b"P6 1 1 65535\n" + bytes(6), ".pgm", "not a grey PGM"),
    "float map": (b"Pf\n1 1\n-1.0\n" + bytes(4), ".pgm", "not a grey PGM"),
    "JPEG": (encoded(noise(), "JPEG"), ".jpg", "its name ends in none of .png"),
    "JPEG named PNG": (encoded(noise(), "JPEG"), ".png", "a JPEG file under the name of a PNG; save the labels as"),
    "WebP named PNG": (encoded(noise(), "WEBP"), ".png", "a WebP file"),
    "HEIC named TIFF": (b"\0\0\0\x18ftypheic" + bytes(90), ".tif", "a HEIC file under the name of a TIFF"),
    "EPS named PNG": (encoded(noise(), "EPS"), ".png", "not a PNG file"),
    "text": (b"0 1 2\n", ".bmp", "not a BMP file"),
    "no name": (b"x", "", "its name ends in none of"),
    "floats": (npy(np.full((2, 2), 0.5)), ".npy", "its numbers are not whole"),
    "npy of nan": (npy(np.full((2, 2), np.nan)), ".npy", "its numbers are not whole"),
    "complex npy": (npy(np.zeros((2, 2), complex)), ".npy", r"an array of complex128, shape \(2, 2\), where \(H, W\)"),
    "channels": (npy(np.zeros((2, 2, 3), int)), ".npy", r"shape \(2, 2, 3\)"),
    "one axis": (npy(np.zeros(4, int)), ".npy", r"shape \(4,\)"),
    "no pixels": (npy(np.zeros((0, 4), int)), ".npy", "no pixels"),
    "fields": (npy(np.zeros((2, 2), dtype=[("a", "i4")])), ".npy", "integers are needed"),
    "times": (npy(np.zeros((2, 2), dtype="m8[s]")), ".npy", "integers are needed"),
    "archive": (npz(), ".npy", "not an .npy file"),
    "pickled objects": (npy(np.array([[None]], dtype=object), allow_pickle=True), ".npy", "not an .npy file"),
    "pickle": (pickle.dumps(LABELS), ".npy", "not an .npy file"),
    "npy cut off": (npy(LABELS)[:-1], ".npy", "damaged"),
    "npy of negative size": (npy_header("{'descr':'<i8','fortran_order':False,'shape':(-2,-2)}"), ".npy", "damaged"),
    "npy larger than memory": (
        npy_header("{'descr':'<i8','fortran_order':False,'shape':(1099511627776,1099511627776)}"),
        ".npy",
        "damaged",
    ),
    "huge header": (
        npy_header("{'descr':'<i8','fortran_order':False,'shape':(1,1)}" + " " * 60_000),
        ".npy",
        "damaged",
    ),
    "deep header": (npy_header("(" * 5000), ".npy", "damaged"),
    "header with an escape": (npy_header(r"{'descr':'<\i8','shape':(1,1)}"), ".npy", "damaged"),
    "fractions": (matlab({"a": np.array([[1, 1.5]])}), ".mat", "not whole"),
    "not a number": (matlab({"a": np.array([[1, np.nan]])}), ".mat", "not whole"),
    "infinity": (bsds500(np.array([[1, np.inf]])), ".mat", "not whole"),
    "beyond whole numbers": (matlab({"a": np.array([[1, 2.0**63]])}), ".mat", "too large for labels"),
    "two matrices": (
        matlab({"a": LABELS, "b": LABELS}),
        ".mat",
        "it holds a, b: neither BSDS500's groundTruth nor one",
    ),
    "no variable": (matlab({}), ".mat", "it holds nothing"),
    "text variable": (matlab({"words": "words"}), ".mat", "it holds words"),
    "complex": (matlab({"a": np.array([[1j, 2]])}), ".mat", "it holds a"),
    "volume": (matlab({"a": np.zeros((2, 2, 2))}), ".mat", "it holds a"),
    "no annotator": (matlab({"groundTruth": np.empty((1, 0), dtype=object)}), ".mat", "its groundTruth is empty"),
    "numbers for annotators": (matlab({"groundTruth": LABELS}), ".mat", "not laid out as BSDS500's"),
    "structure for annotators": (matlab({"groundTruth": {"Segmentation": LABELS}}), ".mat", "not laid out"),
    "annotators without maps": (matlab({"groundTruth": np.array([[{"x": 1}]], dtype=object)}), ".mat", "not laid out"),
    "words for a map": (bsds500(np.array([["ab", "cd"], ["ef", "gh"]])), ".mat", "not laid out"),
    "volume for a map": (bsds500(np.zeros((2, 2, 2))), ".mat", "not laid out"),
    "complex for a map": (bsds500(np.array([[1j, 2]])), ".mat", "not laid out"),
    "no pixels in a map": (bsds500(np.zeros((0, 0))), ".mat", "no pixels"),
    "annotators of two sizes": (bsds500(LABELS, LABELS[1:]), ".mat", "its segmentations differ in size"),
    "MATLAB 7.3": (
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600),
        ".mat",
        "MATLAB 7.3 files are not read.*-v7",
    ),
    "MATLAB 4": (matlab({"a": LABELS}, format="4"), ".mat", "not a MATLAB 5 file"),
    "mat cut off": (matlab({"a": LABELS})[:-1], ".mat", "damaged"),
    "compressed mat cut off": (matlab({"a": LABELS}, do_compression=True)[:-1], ".mat", "damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_label_map_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    content, suffix, message = REFUSED[name]
    reason = refused(tmp_path, content, suffix)
    with pytest.raises(DecodeError, match=message):
        raise DecodeError(reason)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    assert refused(tmp_path, b"", suffix) == "the file is empty"


def test_missing_file_and_folder_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("gone.png", "No such file or directory"), ("folder.png", "Is a directory")):
        with pytest.raises(DecodeError) as caught:
            read_annotations(tmp_path / name, LIMIT)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("suffix", [".png", ".npy", ".mat"])
def test_file_without_permission_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"locked{suffix}"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(DecodeError, match=r"locked.*: Permission denied"):
        read_annotations(path, LIMIT)


# Limits


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (png(60_000, 60_000, 8, 0, b""), ".png"),
        (b"P5 60000 60000 255\n", ".pgm"),
        (encoded(LABELS, "BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + encoded(LABELS, "BMP")[26:], ".bmp"),
        (many("GIF")[:6] + struct.pack("<HH", 60_000, 60_000) + many("GIF")[10:], ".gif"),
    ],
    ids=["PNG", "PGM", "BMP", "GIF"],
)
def test_image_of_too_many_pixels_is_refused_from_its_header(
    tmp_path: Path, content: bytes, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Image.core, "new", fail)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    size = "more pixels than" if suffix == ".gif" else "60000 x 60000 pixels are more than"
    assert refused(tmp_path, content, suffix, 200_000_000) == f"{size} `max_pixels=200000000` allows"


@pytest.mark.parametrize(
    ("suffix", "limit"), [(".png", "`max_pixels=1000` allows"), (".mat", "the 1024 MiB that a .mat may have")]
)
def test_file_larger_than_any_label_map_is_refused_without_being_read(tmp_path: Path, suffix: str, limit: str) -> None:
    path = tmp_path / f"sparse{suffix}"
    path.touch()
    os.truncate(path, 1 << 42)
    with pytest.raises(DecodeError) as caught:
        read_annotations(path, 1000)
    assert str(caught.value) == f"{path}: its {1 << 42} bytes are more than {limit}"


@pytest.mark.parametrize("content", [matlab({"a": np.ones((3, 5))}), bsds500(np.ones((3, 5)))], ids=["one", "bsds"])
def test_matrix_of_too_many_pixels_is_refused_before_its_numbers_are_looked_at(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Matrix, "numbers")
    assert refused(tmp_path, content, ".mat", 14) == "5 x 3 pixels are more than `max_pixels=14` allows"


def test_npy_of_too_many_pixels_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "sparse.npy"
    path.write_bytes(npy_header("{'descr':'|u1','fortran_order':False,'shape':(60000,30000)}"))
    os.truncate(path, path.stat().st_size + 60_000 * 30_000)
    with pytest.raises(DecodeError, match="30000 x 60000 pixels are more than `max_pixels=1000` allows"):
        read_annotations(path, 1000)


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (encoded(LABELS, "PNG"), ".png"),
        (npy(LABELS), ".npy"),
        (matlab({"a": LABELS}), ".mat"),
        (bsds500(LABELS), ".mat"),
    ],
    ids=["PNG", "npy", "mat", "bsds"],
)
def test_pixel_limit_is_exact(tmp_path: Path, content: bytes, suffix: str) -> None:
    assert read(tmp_path, content, suffix, 12 * 16).shape == (12, 16)
    assert refused(tmp_path, content, suffix, 12 * 16 - 1).startswith("16 x 12 pixels are more than `max_pixels=191`")


def test_64_bit_tiff_of_too_many_pixels_is_refused_from_its_header(tmp_path: Path) -> None:
    large = stored_tiff(np.zeros((1200, 1200), np.int64), compression="zlib")
    assert refused(tmp_path, large, ".tif", 1_000_000) == "1200 x 1200 pixels are more than `max_pixels=1000000` allows"
    tiles = stored_tiff(np.zeros((4, 4), np.int64), tile=(1024, 1024))
    assert refused(tmp_path, tiles, ".tif", 1_000_000).startswith("1024 x 1024 pixels are more than")


def test_strip_that_inflates_to_more_than_its_pixels_is_refused(tmp_path: Path) -> None:
    honest = stored_tiff(np.zeros((64, 64), np.int64), compression="zlib")
    with tifffile.TiffFile(io.BytesIO(honest)) as file:
        page: Any = file.pages[0]
        entry = (
            struct.pack("<HHI", 257, 4, 1)
            if struct.pack("<HHI", 257, 4, 1) in honest
            else struct.pack("<HHI", 257, 3, 1)
        )
        assert page.imagelength == 64
    bomb = bytearray(honest)
    for tag in (entry, entry.replace(struct.pack("<H", 257), struct.pack("<H", 278), 1)):
        bomb[bomb.index(tag) + 8] = 2
    assert "another size than it says" in refused(tmp_path, bytes(bomb), ".tif")


def test_max_pixels_alone_limits_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit would warn, and refuse what --max-pixels allows."""
    for limit in (10, 150):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        colors = encoded(np.dstack([LABELS] * 3), "PNG")
        assert read(tmp_path, colors, ".png").shape == LABELS.shape
        assert is_color(tmp_path / "labels.png")
        refused(tmp_path, b"no image", ".png")
        assert limit == Image.MAX_IMAGE_PIXELS


# Damage

FILES: dict[str, tuple[bytes, str]] = {
    "grey PNG": (encoded(LABELS, "PNG"), ".png"),
    "palette PNG": (encoded(Image.fromarray(LABELS).convert("P"), "PNG"), ".png"),
    "16-bit PNG": (encoded(LABELS.astype(np.uint16), "PNG"), ".png"),
    "RGB PNG": (encoded(np.dstack([LABELS] * 3), "PNG"), ".png"),
    "TIFF": (encoded(LABELS.astype(np.int32), "TIFF"), ".tif"),
    "64-bit TIFF": (stored_tiff(LABELS.astype(np.int64)), ".tif"),
    "deflated 64-bit TIFF": (stored_tiff(LABELS.astype(np.int64), compression="zlib", tile=(16, 16)), ".tif"),
    "LZW TIFF": (encoded(LABELS, "TIFF", compression="tiff_lzw"), ".tif"),
    "BMP": (encoded(LABELS, "BMP"), ".bmp"),
    "GIF": (encoded(LABELS, "GIF"), ".gif"),
    "PGM": (b"P5 16 12 9\n" + LABELS.tobytes(), ".pgm"),
    "plain PGM": (b"P2 16 12 9\n" + " ".join(map(str, LABELS.ravel())).encode(), ".pgm"),
    "npy": (npy(LABELS), ".npy"),
    "mat": (matlab({"a": LABELS.astype(float)}), ".mat"),
    "BSDS500": (bsds500(LABELS, LABELS.astype(np.uint16)), ".mat"),
    "compressed BSDS500": (bsds500(LABELS, LABELS.astype(np.uint16), do_compression=True), ".mat"),
}


def damaged(content: bytes, seed: int) -> bytes:
    """One to four other bytes: anywhere, or, every second time, near the start; every fifth time the end is lost."""
    random = np.random.default_rng(seed)
    changed = bytearray(content[: random.integers(1, len(content))] if seed % 5 == 4 else content)
    reach = len(changed) if seed % 2 else min(len(changed), 240)
    for _ in range(random.integers(1, 5)):
        changed[random.integers(reach)] ^= int(random.integers(1, 256))
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_damaged_file_is_refused_or_label_maps(tmp_path: Path, name: str) -> None:
    """And nothing is said of it but by the error: warnings are errors in these tests."""
    content, suffix = FILES[name]
    failed = 0
    for seed in range(200):
        path = tmp_path / f"{seed}{suffix}"  # writing to one again and again would wait for the disk
        path.write_bytes(damaged(content, seed))
        try:
            maps = read_annotations(path, 50_000)
        except DecodeError as error:
            assert str(error).startswith(f"{path}: ")
            failed += 1
        else:
            assert maps
            for labels in maps:
                assert labels.dtype.kind in "iu"
                assert labels.ndim == 2
                assert 0 < labels.size <= 50_000
    assert failed > 0


@pytest.mark.parametrize("name", FILES)
def test_file_without_its_end_is_refused_or_whole(tmp_path: Path, name: str) -> None:
    content, suffix = FILES[name]
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(content)
    whole = read_annotations(path, LIMIT)
    failed = 0
    for end in {*range(1, len(content), 29), *range(len(content) - 10, len(content))}:
        path = tmp_path / f"{end}{suffix}"
        path.write_bytes(content[:end])
        try:
            for labels, expected in zip(read_annotations(path, LIMIT), whole, strict=True):
                np.testing.assert_array_equal(labels, expected)
        except DecodeError:
            failed += 1
    assert failed > 0


def test_pillow_neither_warns_nor_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(encoded(np.dstack([LABELS] * 3), "TIFF"))
    entry = content.index(struct.pack("<HHI", 277, 3, 1))
    struct.pack_into("<H", content, entry + 8, 2048)  # samples a pixel
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        refused(tmp_path, bytes(content), ".tif")
    assert [str(warning.message) for warning in recorded] == []
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_exhausted_memory_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(_: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", exhaust)
    with pytest.raises(MemoryError):
        read(tmp_path, encoded(LABELS, "BMP"), ".bmp")


# Hierarchies


HIERARCHY = build_hierarchy(LABELS, noise(width=16, height=12))
BOUNDARIES = boundary_map(HIERARCHY)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".png", encoded(BOUNDARIES, "PNG")),
        (".tif", encoded(BOUNDARIES, "TIFF", compression="tiff_lzw")),
        (".tif", encoded(BOUNDARIES.astype(np.int32), "TIFF")),
        (".pgm", encoded(BOUNDARIES, "PPM")),
        (".npy", npy(BOUNDARIES.astype(">u8"))),
        (".npy", npy(BOUNDARIES.astype(np.int64))),
        (".mat", matlab({"ucm": BOUNDARIES.astype(float)})),
    ],
)
def test_hierarchy_is_that_of_the_boundary_map(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    hierarchy = read_hierarchy(path, HIERARCHY.fragments.size)
    for name, values in vars(HIERARCHY).items():
        np.testing.assert_array_equal(getattr(hierarchy, name), values, err_msg=name)


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        (".png", encoded(BOUNDARIES, "PNG")[:100], "damaged, or not a PNG file"),
        (".png", encoded(BOUNDARIES.astype(np.uint8), "PNG"), "its values have 8 bits, and the strengths of a "),
        (".png", encoded(BOUNDARIES[:-1], "PNG"), "a boundary map has odd sides, not 31 x 22"),
        (".npy", npy(BOUNDARIES.astype(np.int32) + 2**16), "the strengths of a boundary map are 0..65535"),
        (".npy", npy(-BOUNDARIES.astype(np.int32)), "the strengths of a boundary map are 0..65535"),
        (".npy", npy(BOUNDARIES / 65535), "its numbers are not whole"),
        (".npy", npy(np.zeros((0, 3), np.uint16)), "the image has no pixels"),
        (".mat", matlab({"ucm": BOUNDARIES / 65535}), "its numbers are not whole"),
        (".mat", bsds500(BOUNDARIES, BOUNDARIES), "holds 2 segmentations where one is needed"),
        (".jpg", b"?", "not a label file"),
    ],
)
def test_what_is_no_boundary_map_is_refused(tmp_path: Path, suffix: str, content: bytes, reason: str) -> None:
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    with pytest.raises(DecodeError) as caught:
        read_hierarchy(path, LIMIT)
    assert str(caught.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".png", encoded(BOUNDARIES, "PNG")), (".npy", npy(BOUNDARIES)), (".mat", matlab({"ucm": BOUNDARIES}))],
)
def test_boundary_map_of_too_many_pixels_is_refused_by_the_size_of_the_image(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"map{suffix}"
    path.write_bytes(content)
    with pytest.raises(DecodeError) as caught:
        read_hierarchy(path, HIERARCHY.fragments.size - 1)
    assert str(caught.value) == f"{path}: 16 x 12 pixels are more than `max_pixels=191` allows"

"""Numbers of TIFF files by the compression, layout and depth that they are stored in."""

from __future__ import annotations

import io
import struct
from itertools import product
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.headers import count_frames
from dynaseg_cli.images.tiff import first_page, pages, read_tiff

LIMIT = 1_000_000
HEIGHT, WIDTH = 21, 19
PACKINGS = {1: None, 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
LAYOUTS = {"strips": {278: [8]}, "tiles": {322: [16], 323: [16]}}


def directory(order: str, tags: dict[int, Any], *data: bytes) -> bytes:
    """A TIFF of one page: lists of numbers, or text, by tag; and its strips or tiles."""
    where, sizes = (324, 325) if 322 in tags else (273, 279)
    tags = {**tags, where: [0] * len(data), sizes: [len(one) for one in data]}
    behind = 8 + 2 + 12 * len(tags) + 4
    lengths = [len(value) * (1 if isinstance(value, bytes) else 4) for value in tags.values()]
    start = behind + sum(length for length in lengths if length > 4)
    tags[where] = [start + sum(tags[sizes][:index]) for index in range(len(data))]
    entries, values = b"", b""
    for tag, value in sorted(tags.items()):
        text = isinstance(value, bytes)
        raw = value if text else struct.pack(f"{order}{len(value)}I", *value)
        inside = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", behind + len(values))
        values += raw if len(raw) > 4 else b""
        entries += struct.pack(order + "HHI", tag, 2 if text else 4, len(value)) + inside
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return header + entries + bytes(4) + values + b"".join(data)


def differences(values: NDArray[Any], predictor: int, order: str) -> NDArray[np.uint8]:
    """Rows of bytes of an (h, w, bands) array, as a predictor changes them."""
    rows, size = len(values), values.itemsize
    if predictor == 3:
        planes = values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(rows, -1, size).swapaxes(1, 2)
        values = planes.reshape(rows, -1, values.shape[2])
        size = 1
    if predictor != 1:
        numbers = values.view(f"u{size}")
        values = np.diff(numbers, axis=1, prepend=np.zeros_like(numbers[:, :1]))
    return values.astype(values.dtype.newbyteorder(order)).view(np.uint8).reshape(rows, -1)


def packed(rows: NDArray[np.uint8], compression: int) -> bytes:
    """Bytes packed by libtiff, as one strip of a grey image."""
    if compression == 1:
        return rows.tobytes()
    grey = encoded(Image.fromarray(rows), "TIFF", compression=PACKINGS[compression])
    with tifffile.TiffFile(io.BytesIO(grey)) as file:
        ((offset,), (size,)) = file.pages.first.dataoffsets, file.pages.first.databytecounts
    return grey[offset : offset + size]


def tiff(
    values: NDArray[Any],
    order: str = "<",
    *,
    compression: int = 1,
    predictor: int = 1,
    layout: str = "strips",
    planes: int = 1,
    **tags: Any,
) -> bytes:
    """A TIFF of an (h, w, bands) array, with further tags by `t` and number."""
    parts = np.split(values, values.shape[2], axis=2) if planes == 2 else [values]
    data = []
    for part in parts:
        height, width = (16, 16) if layout == "tiles" else (8, WIDTH)
        for top, left in product(range(0, HEIGHT, height), range(0, WIDTH, width)):
            piece = part[top : top + height, left : left + width]
            if layout == "tiles":
                piece = np.pad(piece, ((0, 16 - piece.shape[0]), (0, 16 - piece.shape[1]), (0, 0)))
            data.append(packed(differences(np.ascontiguousarray(piece), predictor, order), compression))
    bands, kind = values.shape[2], {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    plain = {256: [WIDTH], 257: [HEIGHT], 258: [8 * values.itemsize] * bands, 259: [compression], 262: [1]}
    plain |= {277: [bands], 284: [planes], 317: [predictor], 339: [kind] * bands, **LAYOUTS[layout]}
    return directory(order, plain | {int(tag[1:]): value for tag, value in tags.items()}, *data)


def values_of(dtype: str, bands: int = 1) -> NDArray[Any]:
    return (np.random.default_rng(bands).random((HEIGHT, WIDTH, bands)) * 100).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("compression", PACKINGS)
def test_numbers_are_read_however_they_are_packed(compression: int, planes: int, layout: str) -> None:
    for dtype, bands, order, predictor in product(("i2", "u8", "f2", "f4"), (1, 5), "<>", (1, 2, 3)):
        if (predictor == 3 and dtype[0] != "f") or (predictor != 1 and compression in (1, 32773)):
            continue
        values = values_of(dtype, bands)
        content = tiff(values, order, compression=compression, predictor=predictor, layout=layout, planes=planes)
        image = read_tiff(content, LIMIT)
        np.testing.assert_array_equal(image.values, values[..., 0] if bands == 1 else values[..., :3])
        assert image.values.dtype == values.dtype
        assert image.bands == (5 if bands == 5 else 0)


@pytest.mark.parametrize("bits", [*range(2, 8), *range(9, 16)])
@pytest.mark.parametrize("fill_order", [1, 2])
def test_numbers_that_are_no_whole_bytes_are_read(bits: int, fill_order: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, (HEIGHT, WIDTH))
    single = (values[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    rows = np.packbits(single.reshape(HEIGHT, -1), axis=1)
    if fill_order == 2:
        rows = np.packbits(np.unpackbits(rows, axis=1).reshape(HEIGHT, -1, 8)[..., ::-1].reshape(HEIGHT, -1), axis=1)
    tags = {256: [WIDTH], 257: [HEIGHT], 258: [bits], 259: [1], 262: [1], 266: [fill_order], 277: [1], 278: [HEIGHT]}
    for order in "<>":
        image = read_tiff(directory(order, tags, rows.tobytes()), LIMIT)
        np.testing.assert_array_equal(image.values, values)
        assert image.full == (0, 2**bits - 1)


def test_what_a_sparse_file_leaves_out_is_no_data() -> None:
    values = values_of("u2")
    content = tiff(values, layout="tiles", t42113=b"7\0")
    with tifffile.TiffFile(stream := io.BytesIO(content), mode="r+b") as file:
        tags = file.pages.first.tags
        for tag in (324, 325):
            tags[tag].overwrite((0, *tags[tag].value[1:]))
        content = stream.getvalue()
    image = read_tiff(content, LIMIT)
    values[:16, :16] = 7
    np.testing.assert_array_equal(image.values, values[..., 0])
    assert image.nodata == 7


def test_colours_are_divided_by_the_opacity_that_they_were_multiplied_with() -> None:
    values = np.full((HEIGHT, WIDTH, 4), 1000, np.uint16)
    values[..., 3] = 32768
    for meaning, color in ((2, 1000), (1, 1992)):
        image = read_tiff(tiff(values, t262=[2], t338=[meaning]), LIMIT)
        assert image.values.shape == (HEIGHT, WIDTH, 3)
        assert image.alpha is not None
        assert (image.values == color).all()
        assert (image.alpha == 128).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(values_of("u2"))[:-9], "damaged: the file is cut off"),
        (tiff(values_of("u2", 3))[:170], "damaged: the file is cut off, or parts of its header lie beyond its end"),
        (tiff(values_of("u2", 3), t339=[1, 3, 1]), "a kind of TIFF that is not read: convert it to an uncompressed"),
        (tiff(values_of("u2", 3), t258=[16, 8, 8]), "bands are of different kinds"),
        (tiff(values_of("u4"), t258=[24]), "24-bit numbers is not read"),
        (tiff(values_of("u2"), t262=[8]), "1 x 16 bits in CIELAB is not read"),
        (tiff(values_of("u2"), t259=[60_000]), "1 x 16 bits in kind 60000 is not read"),
        (tiff(values_of("u2"), t32997=[3]), "a TIFF of 3 slices is not read: save one"),
        (tiff(values_of("u2"), t278=[4]), "damaged: it lacks some of its strips"),
        (tiff(values_of("u2"), t259=[5]), "damaged, or a kind of TIFF"),
        (b"II*\0\x08\0\0\0", "damaged, or a kind of TIFF"),
    ],
)
def test_what_is_not_read_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        read_tiff(content, LIMIT)


def test_pages_in_a_circle_are_met_once() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for seed in range(3):
            writer.write(noise(seed), photometric="rgb", metadata=None)
    content = bytearray(stream.getvalue())
    starts = [page.offset for page in pages(bytes(content))]
    (count,) = struct.unpack_from("<H", content, starts[-1])
    for start in starts:
        struct.pack_into("<I", content, starts[-1] + 2 + 12 * count, start)
        assert [page.offset for page in pages(bytes(content))] == starts
        assert count_frames(bytes(content)) == (3, "pages")


def test_tags_that_overlap_are_not_read_again_and_again() -> None:
    entries = b"".join(struct.pack("<HHII", 273, 4, 1_000_000, 8) for _ in range(1000))
    assert first_page(b"II*\0" + struct.pack("<IH", 8, 1000) + entries + bytes(4_000_000)) is None

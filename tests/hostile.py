"""Damaged image files by the thousand, decoded within limits; a script, for a crash ends its process."""

from __future__ import annotations

import faulthandler
import io
import resource
import struct
import sys
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise

from dynaseg_cli.errors import DecodeError
from dynaseg_cli.images.decoding import FORMATS, decode
from dynaseg_cli.images.pages import count_pages, read_page
from dynaseg_cli.images.tiff_pages import MOST_PAGES

MAX_PIXELS = 250_000
MOST_BYTES = 1 << 30
"""Of the whole process: an error for whatever takes more."""
SECONDS = 20
"""For one file, on a busy machine; the slowest took 1."""

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def sound_files(width: int = 24, height: int = 20) -> dict[str, bytes]:
    """Files of every format that this Pillow reads and writes, by a name that starts with the format."""
    planes = [Image.fromarray(noise(seed, width, height)[..., 0]) for seed in range(4)]
    grey, rgb, rgba = planes[0], Image.merge("RGB", planes[:3]), Image.merge("RGBA", planes)
    grey_alpha, bilevel, palette = Image.merge("LA", planes[:2]), grey.convert("1"), rgb.quantize(16)
    cmyk, lab = Image.merge("CMYK", planes), Image.merge("LAB", planes[:3])
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    floats = Image.fromarray(np.asarray(grey).astype(np.float32))
    many = np.dstack([np.asarray(deep)] * 5)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words" * 9
    more = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180)]}
    rows = np.asarray(palette).tobytes()
    runs = b"".join(bytes([width - 9, row, 9, 255 - row, 0, 0]) for row in range(height - 2))
    rle = runs + b"\0\2\0\1" + bytes([0, width, *range(width + width % 2)]) + b"\0\1"
    colors = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rle), 0, 0, 256, 0) + bytes(range(256)) * 4
    files = {
        **{f"PNG {one.mode}": encoded(one, "PNG") for one in (bilevel, grey, grey_alpha, palette, rgb, rgba, deep)},
        **{f"PNG of 16 bits and type {kind}": _deep_png(rgb, kind) for kind in (2, 4, 6)},
        "PNG transparent": encoded(palette, "PNG", transparency=bytes(range(16))),
        "PNG EXIF": encoded(grey, "PNG", exif=exif, icc_profile=bytes(200)),
        "PNG animated": encoded(rgb, "PNG", **more),
        **{f"TIFF {one.mode}": encoded(one, "TIFF") for one in (bilevel, grey_alpha, palette, cmyk, lab, deep, floats)},
        "TIFF of colours of 16 bits": _tiff(many[..., :3], photometric="rgb"),
        "TIFF of bands in planes": _tiff(many.transpose(2, 0, 1).copy(), planarconfig="separate"),
        "TIFF of doubles in tiles": _tiff(many / 7, planarconfig="contig", tile=(16, 16), compression="zlib"),
        "TIFF big, with opacity": _tiff(many[..., :4], photometric="rgb", extrasamples=[1], bigtiff=True),
        "TIFF of inks of 16 bits": _tiff(many[..., :4], photometric="separated", byteorder=">"),
        "TIFF of differences": encoded(deep, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
        "TIFF of differences of floats": encoded(floats, "TIFF", compression="tiff_adobe_deflate", tiffinfo={317: 3}),
        "TIFF of 12 bits": _twelve_bits(np.asarray(grey)),
        "TIFF EXIF": encoded(rgb, "TIFF", exif=exif),
        "TIFF pages": encoded(rgb, "TIFF", **more),
        "TIFF group4": encoded(bilevel, "TIFF", compression="group4"),
        **{
            f"TIFF {name}": encoded(rgb, "TIFF", compression=name)
            for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        },
        **{f"BMP {one.mode}": encoded(one, "BMP") for one in (bilevel, grey, palette, rgb, rgba)},
        "BMP run lengths": b"BM" + struct.pack("<III", 0, 0, 14 + len(colors)) + colors + rle,
        "WEBP": encoded(rgb, "WEBP"),
        "WEBP lossless": encoded(rgba, "WEBP", lossless=True, exif=exif),
        "WEBP animated": encoded(rgb, "WEBP", **more),
        "GIF": encoded(palette, "GIF", transparency=3),
        "GIF animated": encoded(rgb, "GIF", **more),
        **{f"PPM {one.mode}": encoded(one, "PPM") for one in (bilevel, grey, rgb, floats)},
        "PPM of 16 bits": b"P5 %d %d 65535\n" % (width, height) + rows * 2,
        "PPM of colours of 16 bits": b"P6 %d %d 4095\n" % (width, height) + rows * 6,
        "PPM of few greys": b"P5 %d %d 15\n" % (width, height) + rows,
        "PPM in digits": b"P3 # plain\n%d %d 255\n" % rgb.size + b" ".join(b"%d" % value for value in rows * 3),
        **{f"JPEG2000 {one.mode}": encoded(one, "JPEG2000") for one in (grey, rgba, deep)},
        "JPEG2000 tiles": encoded(rgb, "JPEG2000", tile_size=(16, 16), irreversible=True, num_resolutions=2),
        "JPEG2000 stream": encoded(rgb, "JPEG2000", no_jp2=True),
        # Behind TIFF, whose writer fails on images that JPEG's has had.
        **{f"JPEG {one.mode}": encoded(one, "JPEG") for one in (grey, rgb, cmyk)},
        "JPEG EXIF": encoded(rgb, "JPEG", exif=exif, icc_profile=bytes(200), progressive=True),
        "MPO": encoded(rgb, "MPO", exif=exif, **more),
    }
    if "AVIF" in Image.SAVE:  # since Pillow 11.3
        files["AVIF"] = encoded(rgb, "AVIF", exif=exif)
        files["AVIF transparent"] = encoded(rgba, "AVIF", subsampling="4:4:4")
        files["AVIF animated"] = encoded(rgb, "AVIF", **more)
    return files


def _tiff(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **{"photometric": "minisblack", **options})
    return stream.getvalue()


def _twelve_bits(values: NDArray[np.uint8]) -> bytes:
    """A TIFF of three bytes for two samples."""
    packed = np.packbits(np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=2)[..., 4:])
    wide = _tiff(np.frombuffer(packed.tobytes(), np.uint8).reshape(len(values), -1))
    changed = bytearray(wide)
    for entry in range(*slice(10, 10 + 12 * int.from_bytes(wide[8:10], "little"), 12).indices(len(wide))):
        tag = int.from_bytes(wide[entry : entry + 2], "little")
        if tag in (256, 258):
            struct.pack_into("<HII", changed, entry + 2, 4, 1, {256: values.shape[1], 258: 12}[tag])
    return bytes(changed)


def _deep_png(image: Image.Image, kind: int) -> bytes:
    """Grey and opacity (4), colours (2), or colours and opacity (6), two bytes a sample, with a text."""
    channels = {4: 2, 2: 3, 6: 4}[kind]
    samples = np.asarray(image.convert("RGBA"))[..., :channels].astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", image.width, image.height, 16, kind, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tEXt", b"words\0" * 9), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    parts = (struct.pack(">I", len(data)) + name + data + bytes(4) for name, data in chunks)
    return b"".join(_with_checksums(b"\x89PNG\r\n\x1a\n" + b"".join(parts)))


def mutated(content: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file changed in one or more ways, each also among its headers; half of PNGs with checksums put right."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        reach = len(changed) if random.integers(2) else min(len(changed), 200)
        place = int(random.integers(reach + 1))
        length = int(random.integers(1, 64))
        match random.integers(7):
            case 0:
                for _ in range(random.integers(1, 9)):
                    if changed:
                        changed[random.integers(min(reach, len(changed)))] ^= 1 << int(random.integers(8))
            case 1:
                del changed[place + length :]
            case 2:
                start = int(random.integers(len(other)))
                changed[place : place + int(random.integers(2)) * length] = other[start : start + length]
            case 3 | 4:
                width = int(random.choice([1, 2, 4]))
                value = _EXTREMES[random.integers(len(_EXTREMES))] & (256**width - 1)
                changed[place : place + width] = value.to_bytes(width, "big" if random.integers(2) else "little")
            case 5:
                start = int(random.integers(len(changed) + 1))
                changed[place:place] = changed[start : start + length] * int(random.integers(1, 20))
            case 6:
                del changed[place : place + length]
    whole = bytes(changed)
    return b"".join(_with_checksums(whole)) if whole[:4] == b"\x89PNG" and random.integers(2) else whole


def _with_checksums(png: bytes) -> Iterator[bytes]:
    yield png[:8]
    position = 8
    while position + 12 <= len(png):
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        chunk = png[position:end]
        yield chunk + struct.pack(">I", zlib.crc32(chunk[4:]))
        position = end + 4
    yield png[position:]


def decode_mutated(first: int, last: int, width: int = 24, height: int = 20) -> None:
    """Decode a mutation of every file for each seed, named before it is tried; stop the process at a fault."""
    files = sound_files(width, height)
    assert {name.split()[0] for name in files} == set(FORMATS) & set(Image.SAVE)
    names = list(files)
    for name in names:
        decode(files[name], MAX_PIXELS)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    for seed in range(first, last):
        for number, name in enumerate(names):
            random = np.random.default_rng((seed, number))
            content = mutated(files[name], files[names[random.integers(len(names))]], random)
            print(name, "seed", seed, flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                pixels = decode(content, MAX_PIXELS)
            except DecodeError as error:
                assert str(error)
            else:
                assert pixels.dtype == np.uint8
                assert pixels.ndim == 3
                assert pixels.shape[2] == 3
                assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
                print("decoded")
    faulthandler.cancel_dump_traceback_later()


PAGED_DICOM = ("rtdose.dcm", "rtdose_rle.dcm", "SC_rgb_rle_2frame.dcm")
SINGLE_DICOM = ("MR_small.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_jpeg_gdcm.dcm")
"""Names of test files of pydicom, of frames and without."""


def files_of_pages(width: int = 24, height: int = 20) -> dict[str, bytes]:
    """Files of several pages, and DICOM if pydicom is installed, by name."""
    stack = np.random.default_rng(0).integers(0, 4096, (2, 2, 3, height, width), dtype=np.uint16)
    first, *others = (Image.fromarray(noise(seed, width, height)) for seed in range(3))
    more = {"save_all": True, "append_images": others}
    kinds = "jpeg", "tiff_lzw", None
    files = {
        "OME-TIFF": _tiff(stack, ome=True, metadata={"axes": "TZCYX"}, compression="zlib"),
        "ImageJ": _tiff(stack, imagej=True, metadata={"axes": "TZCYX"}, photometric=None),
        "stack with axes": _tiff(stack[0], metadata={"axes": "ZCYX"}, truncate=True),
        **{f"pages of {kind}": encoded(first, "TIFF", compression=kind, **more) for kind in kinds},
        **{name: encoded(first, name, **more) for name in ("GIF", "PNG", "WEBP")},
    }
    if find_spec("pydicom") is not None:
        from pydicom.data import get_testdata_file  # noqa: PLC0415 - an extra

        paths = {name: get_testdata_file(name, download=False) for name in (*PAGED_DICOM, *SINGLE_DICOM)}
        files |= {name: Path(path).read_bytes() for name, path in paths.items() if path is not None}
    return files


def read_mutated_pages(first: int, last: int, folder: str) -> None:
    """As `decode_mutated`, with the first pages of each file, one that is not there, and choices of channels."""
    files, path = files_of_pages(), Path(folder, "file")
    names = list(files)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    for seed in range(first, last):
        for number, name in enumerate(names):
            random = np.random.default_rng((seed, number))
            content = mutated(files[name], files[names[random.integers(len(names))]], random)
            if name.endswith(".dcm"):
                content = content[:128].ljust(128, b"\0") + b"DICM" + content[132:]
            path.write_bytes(content)
            print(name, "seed", seed, flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            count = count_pages(path, MAX_PIXELS) or 0
            assert 0 <= count <= MOST_PAGES
            for page in (*range(1, min(count, 3) + 1), count + 1, None):
                for channels in (None, "all", (2,)):
                    try:
                        alone = content if page is None else read_page(path, page, MAX_PIXELS).content
                        pixels = decode(alone, MAX_PIXELS, "auto", channels)
                    except DecodeError as error:
                        assert str(error)
                        assert "\n" not in str(error)
                    else:
                        assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
                        print("decoded")
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    if sys.argv[3:]:
        read_mutated_pages(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        decode_mutated(*map(int, sys.argv[1:]))

"""Files made or damaged to harm what reads them, each decoded in a process of its own: its end and memory are seen."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import PIL
import pytest
from hostile import files_of_pages, sound_files
from PIL import Image
from samples import encoded, packed_zeros

from dynaseg_cli.images.pillow import PEAK_BYTES_A_PIXEL

PILLOW = int(PIL.__version__.split(".")[0])
SEEDS = 100
PAGE_SEEDS = 25
MAX_PIXELS = 20_000_000
ONLY_LIMITED = "JPEG2000 of the smallest code blocks"
"""Stopped by the limit of memory alone."""

DECODE = """
import faulthandler, re, sys
from pathlib import Path
from PIL import Image
from dynaseg_cli.images.decoding import decode
from dynaseg_cli.errors import DecodeError

def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

content, max_pixels = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
Image.init()
faulthandler.enable()
faulthandler.dump_traceback_later(30, exit=True)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
try:
    decode(content, max_pixels)
except DecodeError as error:
    print(repr(error), file=sys.stderr)
print(memory("VmHWM") - before)
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process's memory")


def peak_of_decoding(path: Path, max_pixels: int) -> tuple[int, str]:
    """Most bytes that decoding a file took beside its content, and the error if there was one."""
    command = [sys.executable, "-c", DECODE, str(path), str(max_pixels)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return int(process.stdout), process.stderr


def test_no_mutated_file_does_worse_than_be_refused() -> None:
    command = [sys.executable, hostile.__file__, "0", str(SEEDS)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    assert process.returncode == 0, f"{lines[-1:]}: ended with {process.returncode}: {process.stderr[-4000:]}"
    decoded = lines.count("decoded")
    assert len(lines) - decoded == len(sound_files()) * SEEDS >= 5000
    assert decoded > 500


def test_no_page_of_a_mutated_file_does_worse_than_be_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", hostile.__file__, "0", str(PAGE_SEEDS), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    assert process.returncode == 0, f"{lines[-1:]}: ended with {process.returncode}: {process.stderr[-4000:]}"
    decoded = lines.count("decoded")
    assert len(lines) - decoded == len(files_of_pages()) * PAGE_SEEDS
    assert decoded > PAGE_SEEDS * 10


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 16, height: int = 16, pixels: bytes = zlib.compress(bytes(784))) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """A gigabyte."""
    return packed_zeros(1024)


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    """A TIFF of one directory, its tags' types, counts, and values or offsets of values; the data lie at 400."""
    entries = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(tags.items()))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)).ljust(400, b"\0") + data


def tiff_of(width: int = 16, height: int = 16, **changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """The tags of a grey image in one strip, others by `t` and number."""
    plain = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: height, 279: width * height}
    return {tag: (4, 1, value) for tag, value in plain.items()} | {int(tag[1:]): tags for tag, tags in changes.items()}


def endless_pages(number: int) -> bytes:
    """A TIFF of one page in front of others that have no pixels, 6 bytes each."""
    first = tiff(tiff_of(), bytes(256))
    start = len(first)
    pages = b"".join(struct.pack("<HI", 0, start + 6 * (page + 1)) for page in range(number))
    end_of_tags = 10 + 12 * len(tiff_of())
    return first[:end_of_tags] + struct.pack("<I", start) + first[end_of_tags + 4 :] + pages


def pages_of_endless_tags(number: int) -> bytes:
    """A TIFF of one page in front of others that overlap: each tells of 65,535 tags."""
    first = bytearray(tiff(tiff_of(), bytes(256)))
    tags, start = 12 * 65_535, len(first)
    struct.pack_into("<I", first, 10 + 12 * len(tiff_of()), start)
    pages = bytearray(b"\xff" * (8 * number + tags + 8))
    for page in range(number):
        struct.pack_into("<I", pages, 8 * page + 2 + tags, start + 8 * (page + 1))
    return bytes(first + pages)


def exif_of_overlapping_tags(number: int = 60_000, size: int = 2_000_000) -> bytes:
    entries = b"".join(struct.pack("<HHII", 300 + index, 7, size, 8) for index in range(number))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", number) + entries + bytes(size)


def jpeg_with(kind: int, data: bytes, prefix: bytes = b"") -> bytes:
    """A JPEG with data in as many segments of a kind as it takes."""
    sound = encoded(Image.new("RGB", (16, 16)), "JPEG")
    parts = [prefix + data[start : start + 60_000] for start in range(0, len(data), 60_000)]
    segments = [b"\xff" + bytes([kind]) + struct.pack(">H", 2 + len(part)) + part for part in parts]
    return sound[:2] + b"".join(segments) + sound[2:]


def webp(width: int, height: int, frames: int) -> bytes:
    """An animation that says how large it is, of frames of 16 x 16."""
    frame = encoded(Image.new("RGB", (16, 16)), "WEBP")[12:]
    part = bytes(6) + b"\x0f\0\0" * 2 + b"\1\0\0\0" + frame
    canvas = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    content = b"WEBP" + chunks + (b"ANMF" + struct.pack("<I", len(part)) + part) * frames
    return b"RIFF" + struct.pack("<I", len(content)) + content


def jpeg2000(width: int, height: int, *, boxed: bool, blocks: int = 4) -> bytes:
    """A file whose stream is larger than it says in its box, if it has one; of code blocks of 4 x 4 if they are 0."""
    changed = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG2000", no_jp2=not boxed))
    size, style = changed.index(b"\xff\x51"), changed.index(b"\xff\x52")
    struct.pack_into(">8I", changed, size + 6, width, height, 0, 0, width, height, 0, 0)
    changed[style + 10 : style + 12] = bytes([blocks, blocks])
    return bytes(changed)


def avif(width: int, height: int, said: tuple[int, int]) -> bytes:
    content = encoded(Image.new("RGB", (width, height)), "AVIF", speed=10)
    return content.replace(struct.pack(">II", width, height), struct.pack(">II", *said))


def gif(width: int, height: int, frames: int) -> bytes:
    """An animation of frames that are to be replaced by the background."""
    frame = b"!\xf9\4\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x4c\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0xF0, 0, 0) + bytes(6) + frame * frames + b";"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "PNG of text": lambda: png(chunk(b"zTXt", b"k\0\0" + bomb())),
    "PNG of international text": lambda: png(chunk(b"iTXt", b"k\0\1\0\0\0" + bomb())),
    "PNG of many texts": lambda: png(chunk(b"zTXt", b"k\0\0" + packed_zeros(1)) * 1000),
    "PNG of a colour profile": lambda: png(chunk(b"iCCP", b"k\0\0" + bomb())),
    "PNG of more pixels than it says": lambda: png(pixels=bomb()),
    "PNG of fewer pixels than it says": lambda: png(width=5000, height=4000),
    "PNG of overlapping EXIF": lambda: png(chunk(b"eXIf", exif_of_overlapping_tags())),
    "PNG of endless frames": lambda: png(chunk(b"acTL", struct.pack(">II", 0x7FFFFFFF, 0))),
    "JPEG of overlapping EXIF": lambda: jpeg_with(0xE1, exif_of_overlapping_tags(), b"Exif\0\0"),
    "JPEG of comments": lambda: jpeg_with(0xFE, bytes(20_000_000)),
    "MPO of endless images": lambda: jpeg_with(
        0xE2,
        b"MPF\0II*\0\x08\0\0\0\3\0"
        + struct.pack("<HHI4sHHIIHHII", 0xB000, 7, 4, b"0100", 0xB001, 4, 1, 0xFFFFFFFF, 0xB002, 7, 16, 50)
        + bytes(20),
    ),
    "TIFF in a circle": lambda: tiff(tiff_of(t330=(4, 1, 8), t34665=(4, 1, 8), t34853=(4, 1, 8)), bytes(256)),
    "TIFF of overlapping tags": exif_of_overlapping_tags,
    "TIFF of endless strips": lambda: tiff(tiff_of(t259=(4, 1, 8), t273=(4, 0xFFFFFFFF, 400)), bytes(256)),
    "TIFF of an endless strip": lambda: tiff(tiff_of(t259=(4, 1, 8), t279=(4, 1, 0xFFFFFFFF)), bytes(256)),
    "TIFF of a bomb": lambda: tiff(tiff_of(t259=(4, 1, 8), t279=(4, 1, 1_100_000)), bomb()),
    "TIFF of one huge tile": lambda: tiff(
        tiff_of(t259=(4, 1, 8), t322=(4, 1, 60_000), t323=(4, 1, 60_000), t324=(4, 1, 400), t325=(4, 1, 1_100_000)),
        bomb(),
    ),
    "TIFF of endless samples": lambda: tiff(tiff_of(t277=(4, 1, 0xFFFFFFFF)), bytes(256)),
    "deep TIFF of a bomb": lambda: tiff(tiff_of(t258=(4, 1, 16), t259=(4, 1, 8), t279=(4, 1, 1_100_000)), bomb()),
    "deep TIFF of one huge tile": lambda: tiff(
        tiff_of(
            **{"t258": (4, 1, 16), "t259": (4, 1, 8), "t322": (4, 1, 60_000), "t323": (4, 1, 60_000)},
            **{"t324": (4, 1, 400), "t325": (4, 1, 1_100_000)},
        ),
        bomb(),
    ),
    "deep TIFF of endless samples": lambda: tiff(tiff_of(t258=(4, 1, 16), t277=(4, 1, 0xFFFFFFFF)), bytes(256)),
    "deep TIFF of many samples": lambda: tiff(
        tiff_of(4000, 4000, t258=(4, 1, 64), t259=(4, 1, 8), t277=(4, 1, 1000), t279=(4, 1, 1_100_000)), bomb()
    ),
    "deep TIFF of endless strips": lambda: tiff(
        tiff_of(t258=(4, 1, 16), t259=(4, 1, 8), t273=(4, 0xFFFFFFFF, 400)), bytes(256)
    ),
    "deep TIFF of fewer pixels than it says": lambda: tiff(tiff_of(5000, 4000, t258=(4, 1, 16)), bytes(256)),
    "TIFF of endless pages": lambda: endless_pages(200_000),
    "TIFF of pages of endless tags": lambda: pages_of_endless_tags(2000),
    "deep TIFF of endless depths": lambda: tiff(tiff_of(t258=(3, 50_000_000, 400)), b"\x10\0" * 50_000_000),
    "BMP of a leap": lambda: (
        b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, MAX_PIXELS, 1, 1, 8, 1, 6, 0, 0, 1, 0)
        + b"\0\2\xff\xff\0\1"
    ),
    "GIF of a larger frame": lambda: gif(60_000, 60_000, 1),
    "GIF of endless frames": lambda: gif(1, 1, 500_000),
    "WEBP of a huge canvas": lambda: webp(1 << 24, 255, 1),
    "WEBP of endless frames": lambda: webp(16, 16, 100_000),
    "PPM of an endless header": lambda: b"P6\n#" + bytes(5_000_000),
    "PPM of an endless number": lambda: b"P6\n" + b"1" * 5_000_000,
    "PPM of fewer pixels than it says": lambda: b"P5 5000 4000 100\n1",
    "JPEG2000 of a larger stream": lambda: jpeg2000(60_000, 60_000, boxed=True),
    "JPEG2000 of fewer pixels than it says": lambda: jpeg2000(4000, 4000, boxed=False),
    ONLY_LIMITED: lambda: jpeg2000(4000, 4000, boxed=False, blocks=0),
    "AVIF of a larger stream": lambda: avif(4000, 3000, (16, 16)),
}
"""What would take minutes or gigabytes, were it believed."""


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_file_made_to_harm_takes_seconds_and_the_memory_of_an_image(name: str, tmp_path: Path) -> None:
    if name == "AVIF of a larger stream" and "AVIF" not in Image.SAVE:
        pytest.skip("Pillow writes AVIF since 11.3")
    if "overlapping" in name and PILLOW < 13:
        pytest.skip("Pillow adds up the sizes of tags since 13")
    (tmp_path / "file").write_bytes(HOSTILE[name]())
    peak, _ = peak_of_decoding(tmp_path / "file", MAX_PIXELS)
    assert peak < (2 << 30 if name == ONLY_LIMITED else 1 << 29)


SIDE = 4096
TURNED = Image.Exif()
TURNED[0x0112] = 6


def picture(mode: str) -> Image.Image:
    """A large image of one colour, which is soon written."""
    if mode in ("I", "F"):
        return Image.fromarray(np.full((SIDE, SIDE), 7, {"I": np.int32, "F": np.float32}[mode]))
    return Image.new(mode, (SIDE, SIDE))


PEAKS: dict[str, tuple[str, dict[str, Any], int]] = {
    **{f"PNG of {mode}": (mode, {"exif": TURNED}, 8) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "PNG with a transparent entry": ("P", {"transparency": 0}, 8),
    "PNG with a transparent colour": ("RGB", {"transparency": (0, 0, 0)}, 8),
    **{f"TIFF of {mode}": (mode, {"exif": TURNED}, 8) for mode in ("CMYK", "I", "F", "LAB", "YCbCr")},
    "JPEG": ("RGB", {"exif": TURNED}, 8),
    "JPEG in scans": ("RGB", {"progressive": True, "subsampling": 0}, 10),
    "JPEG in scans of four inks": ("CMYK", {"progressive": True, "subsampling": 0}, 12),
    "WEBP": ("RGBA", {"method": 0}, 22),
    "JPEG2000": ("RGBA", {}, 25),
}
"""The mode and how it is written, and the most bytes a pixel, of which `decode` tells."""


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", PEAKS)
def test_decoding_takes_no_more_memory_than_is_said(name: str, tmp_path: Path) -> None:
    mode, options, bytes_a_pixel = PEAKS[name]
    (tmp_path / "file").write_bytes(encoded(picture(mode), name.split(maxsplit=1)[0], **options))
    if mode == "YCbCr" and PILLOW < 13:
        pytest.skip("Pillow reads uncompressed YCbCr since 13")
    peak, error = peak_of_decoding(tmp_path / "file", SIDE**2)
    assert not error
    assert peak < bytes_a_pixel * SIDE**2 + 40_000_000
    assert bytes_a_pixel < PEAK_BYTES_A_PIXEL

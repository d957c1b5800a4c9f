"""Small images, and folders of them, for the tests of the batch and of the command."""

from __future__ import annotations

import io
import struct
import threading
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.files.user_files import MARK
from dynaseg_cli.images.decoding import Photo, decode_photo

TINY = SegmentConfig(iterations=2, min_labels=3, max_size=16, precision="float32", features=8, clusters=8)
"""A fit of milliseconds."""


def noise(seed: int = 0, width: int = 24, height: int = 20) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: no two seeds give the same image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | NDArray[Any], file_format: str, **options: Any) -> bytes:
    """The content of an image file."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def packed_zeros(mebibytes: int) -> bytes:
    """Zeros that zlib packed a thousandfold: one block again and again, for packing a gigabyte takes many seconds."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    end, checksum = packer.flush(), (mebibytes << 20) % 65521 << 16 | 1  # Adler-32, RFC 1950
    return b"\x78\xda" + block * mebibytes + end + struct.pack(">I", checksum)


def save_photo(path: Path, seed: int = 0, width: int = 24, height: int = 20) -> Path:
    """Write a small image; the format is that of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, width, height)).save(path)
    return path


def photo_folder(root: Path, *names: str) -> Path:
    """A folder of small images, each with a content of its own."""
    for seed, name in enumerate(names):
        save_photo(root / name, seed)
    return root


class PhotosInMemory:
    """Counts the decoded photos that something still refers to, in any thread."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        patch.setattr("dynaseg_cli.images.pages.decode_photo", self._decode)

    def _decode(self, *arguments: Any) -> Photo:
        photo = decode_photo(*arguments)
        self._count(1)
        weakref.finalize(photo.pixels, self._count, -1)
        return photo

    def _count(self, change: int) -> None:
        with self._lock:
            self._now += change
            self.most = max(self.most, self._now)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but dynaseg's mark, by its path there, with its content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pictures_of(*names: str) -> set[str]:
    """The label maps and pictures that a run writes of images with these names, as paths below the output folder."""
    endings = {"labels": ".png", "color": ".png", "overlay": ".jpg", ".raw": ".png"}
    return {f"{folder}/{name}{ending}" for folder, ending in endings.items() for name in names}


def read_pixels(path: Path, mode: str | None = None) -> NDArray[Any]:
    """The pixels of an image file, in its own mode or another."""
    with Image.open(path) as image:
        return np.array(image.convert(mode) if mode else image)


def stand_in_for_python(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Have a shell script run wherever a process of Python's own is started."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(path))

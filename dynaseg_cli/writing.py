"""Writing results: every file is complete under its name, or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ImageError

PNG_LEVEL = 3
"""zlib level: label maps shrink hardly further, and levels above take several times as long."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, claimed: bool = False) -> None:
    """Create or replace `path` with what `write` puts into a stream, making its folder where needed.

    The content goes to a temporary name in the same folder and is on disk before it takes its own name; on any error
    the temporary file is removed and an older `path` stays as it was. Where the caller has `claimed` the file, so that
    nobody else writes it now, the temporary name follows from its own: what a killed process left behind is taken over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _leftover(path) if claimed else path.with_name(f".dynaseg-{secrets.token_hex(8)}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_content(path: Path, content: bytes, *, claimed: bool = False) -> None:
    """Create or replace `path` with `content`, as `write_atomically` does."""
    write_atomically(path, lambda stream: stream.write(content), claimed=claimed)


def _leftover(path: Path) -> Path:
    """The temporary file of a claimed `path`, which a killed process leaves behind.

    The name is a hash: a name of the greatest length that the file system allows has no room for a suffix.
    """
    return path.with_name(f".dynaseg-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.tmp")


def refuse_unwritable(path: Path, output: Path) -> None:
    """Find out before the work whether a result can be written to `path`, below `output`.

    Raises
    ------
    ImageError
        If one of its folders is a link to outside of `output`: a result is never written elsewhere.
    OSError
        If its name is longer than the file system allows.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
    folder = path.parent.resolve()
    if not folder.is_relative_to(output.resolve()):
        raise ImageError(f"{path.parent} leads out of the output folder, to {folder}: nothing is written there")


def write_labels(path: Path, labels: NDArray[np.uint8] | NDArray[np.uint16], *, claimed: bool = False) -> None:
    """Write an (H, W) map as a grey PNG of the array's own depth, 8 or 16 bits."""
    _write_png(path, Image.fromarray(labels), claimed=claimed)


def write_wide(path: Path, labels: NDArray[np.int32], *, claimed: bool = False) -> None:
    """Write an (H, W) map as a grey TIFF of 32-bit integers, compressed without loss."""
    image = Image.fromarray(labels)
    write_atomically(path, lambda stream: image.save(stream, "TIFF", compression="tiff_adobe_deflate"), claimed=claimed)


def write_colors(
    path: Path,
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    colors: NDArray[np.uint8],
    *,
    claimed: bool = False,
) -> None:
    """Write an (H, W) label map in (N, 3) `colors`, of labels 0..N-1: a palette PNG, or RGB if it has 16 bits."""
    if labels.dtype == np.uint8:
        image = Image.fromarray(labels).convert("P")
        image.putpalette(colors.tobytes())
        _write_png(path, image, claimed=claimed)
    else:
        write_picture(path, colors[labels], claimed=claimed)


def write_picture(path: Path, picture: NDArray[np.uint8], *, claimed: bool = False) -> None:
    """Write an (H, W, 3) RGB picture as a PNG."""
    _write_png(path, Image.fromarray(picture), claimed=claimed)


def _write_png(path: Path, image: Image.Image, *, claimed: bool) -> None:
    write_atomically(path, lambda stream: image.save(stream, "PNG", compress_level=PNG_LEVEL), claimed=claimed)


def write_json(path: Path, document: dict[str, Any], indent: int | None = None, *, claimed: bool = False) -> None:
    """Write a JSON document in UTF-8, one line unless indented; NaN and infinity are refused."""
    text = json.dumps(document, indent=indent, allow_nan=False) + "\n"
    write_content(path, text.encode(), claimed=claimed)

"""Writing results: every file is complete under its name, or absent."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .palette import SIZE, label_palette

PNG_LEVEL = 3
"""zlib level: label maps shrink hardly further, and levels above take several times as long."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Create or replace `path` with what `write` puts into a stream, making its folder where needed.

    The content goes to a temporary name in the same folder and is on disk before it takes its own name; on any error
    the temporary file is removed and an older `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not derived from the name: a name of the greatest length the file system allows has no room for a suffix.
    temporary = path.parent / f".dynaseg-{secrets.token_hex(8)}.tmp"
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


def write_labels(path: Path, labels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write an (H, W) label map as a grey PNG of the array's own depth, 8 or 16 bits."""
    image = Image.fromarray(labels)
    write_atomically(path, lambda stream: image.save(stream, "PNG", compress_level=PNG_LEVEL))


def write_colors(path: Path, labels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write an (H, W) label map in the fixed palette's colours: a palette PNG, or RGB above 256 labels."""
    if labels.dtype == np.uint8:
        image = Image.fromarray(labels).convert("P")
        image.putpalette(label_palette().tobytes())
    else:
        image = Image.fromarray(label_palette()[labels % SIZE])
    write_atomically(path, lambda stream: image.save(stream, "PNG", compress_level=PNG_LEVEL))


def write_json(path: Path, document: dict[str, Any], indent: int | None = None) -> None:
    """Write a JSON document in UTF-8, one line unless indented; NaN and infinity are refused."""
    text = json.dumps(document, indent=indent, allow_nan=False) + "\n"
    write_atomically(path, lambda stream: stream.write(text.encode()))

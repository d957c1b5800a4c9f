"""PNG files that say who made them, so that those of an earlier export can be told from what a user put there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import __version__
from ..writing import PNG_LEVEL, refuse_unwritable, write_content

KEYWORD = "Software"
"""Of the PNG text that names the program a file was made by (PNG specification, 11.3.3.2)."""
MAKER = "dynaseg"
MARK = f"{KEYWORD}\0{MAKER} ".encode()
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SUFFIX = ".png"


def encode_png(image: Image.Image) -> bytes:
    """The file of an image, marked as ours."""
    mark = PngInfo()
    mark.add_text(KEYWORD, f"{MAKER} {__version__}")
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=PNG_LEVEL, pnginfo=mark)
    return stream.getvalue()


def write_png(folder: Path, name: str, content: bytes, *, claimed: bool = False) -> None:
    """Write `content` to the file `name`, its path as text, below `folder`, as `write_atomically` does.

    Raises
    ------
    ImageError
        If a link leads out of `folder`.
    OSError
        If the file cannot be written.
    """
    path = folder / name
    refuse_unwritable(path, folder)
    write_content(path, content, claimed=claimed)


def remove_leftovers(folder: Path, kept: set[str]) -> None:
    """Remove the PNG files below `folder` that an earlier export wrote, other than `kept`, and folders this empties.

    Parameters
    ----------
    kept : paths below `folder`, with slashes.
    """
    if folder.is_symlink():
        return
    top = str(folder)
    for parent, _, names in os.walk(top):
        below = parent[len(top) + 1 :] + "/" if parent != top else ""
        for name in names:
            path = Path(parent, name)
            if below + name not in kept and name.endswith(SUFFIX) and _made_here(path):
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, folder)


def _remove_empty(folder: Path, top: Path) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty
        while folder != top:
            folder.rmdir()
            folder = folder.parent


def _made_here(path: Path) -> bool:
    """Whether a file is a PNG that carries our mark, as `encode_png` sets it before the pixels."""
    if path.is_symlink():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(len(SIGNATURE)) == SIGNATURE and any(
                kind == b"tEXt" and content.startswith(MARK) for kind, content in _chunks(stream)
            )
    except OSError:
        return False


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks before the pixels."""
    while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
        yield head[4:], stream.read(int.from_bytes(head[:4], "big"))
        stream.read(4)  # the checksum

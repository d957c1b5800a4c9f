"""The folder of an export. Its pictures name the program, so that those of an earlier export are known again."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Set
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import __version__
from ..files.encoding import PNG_LEVEL
from ..files.output_folder import OutputFolder
from ..files.writing import refuse_unwritable

MAKER = "dynaseg "
_HEADS = {
    ".png": (128, (b"\x89PNG\r\n\x1a\n",), b"tEXtSoftware\0" + MAKER.encode()),
    ".tif": (4096, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), MAKER.encode()),
}
"""How many first bytes tell, the signatures, and the text that follows.

It stands right behind the header of a PNG (PNG specification, 11.3.3.2), and among the tags in front of the pixels of a
TIFF.
"""


def encode_png(image: Image.Image) -> bytes:
    """The file of an image, with the name of the program."""
    text = PngInfo()
    text.add_text("Software", MAKER + __version__)
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=PNG_LEVEL, pnginfo=text)
    return stream.getvalue()


class ExportFolder:
    """Writes the files of an export. Every file is complete or absent; names are paths below the folder, as text."""

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self._path = folder.export

    def refuse_unwritable(self, *names: str) -> None:
        """Raise ImageError if a link on the way to a file leads out of the folder, and OSError if it has no place."""
        for name in names:
            refuse_unwritable(self._path / name, self._path)

    def write(self, name: str, content: bytes) -> None:
        """Write a file. Raises as `refuse_unwritable` does, and OSError if it cannot be written."""
        self.refuse_unwritable(name)
        self._folder.write(self._path / name, content)

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A stream whose content becomes a file when the block ends without an error."""
        return self._folder.open(self._path / name)

    def scratch(self) -> BinaryIO:
        """A file without a name, which is gone when it is closed: the folder of temporary files may be in memory."""
        self._path.mkdir(parents=True, exist_ok=True)
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._path))

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self._path / name).unlink(missing_ok=True)

    def remove_pngs(self, below: str, kept: Set[str]) -> None:
        """Remove the PNG files of an earlier export in the folder `below`, and folders that this leaves empty.

        The files `kept`, paths in that folder, stay.
        """
        self._remove(".png", below, kept)

    def remove_tiffs(self, below: str, kept: Set[str]) -> None:
        """Remove TIFF files as `remove_pngs` does."""
        self._remove(".tif", below, kept)

    def _remove(self, suffix: str, below: str, kept: Set[str]) -> None:
        top = self._path / below
        if top.is_symlink():
            return
        for parent, _, names in os.walk(top):
            for path in (Path(parent, name) for name in names if name.endswith(suffix)):
                if path.relative_to(top).as_posix() not in kept and _is_of_an_export(path, suffix):
                    path.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):  # until a folder is not empty
                        for folder in path.parents[: len(path.relative_to(top).parts) - 1]:
                            folder.rmdir()


def _is_of_an_export(path: Path, suffix: str) -> bool:
    size, signatures, text = _HEADS[suffix]
    try:
        with path.open("rb") as stream:
            content = b"" if path.is_symlink() else stream.read(size)
    except OSError:
        return False
    return content.startswith(signatures) and text in content

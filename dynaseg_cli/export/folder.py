"""The folder of an export. Its files name the program, so that those of an earlier export are known again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Container, Mapping
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import __version__
from ..files.encoding import PNG_LEVEL
from ..files.output_folder import OutputFolder
from ..files.writing import refuse_unwritable

MAKER = "dynaseg "
GENERATOR = MAKER + __version__
_MARKED = {
    suffix: re.compile(mark, re.DOTALL)
    for suffix, mark in {
        # The signature, and the text that stands right behind the header (PNG specification, 11.3.3.2).
        ".png": rb"\x89PNG\r\n\x1a\n.{,100}tEXtSoftware\0dynaseg ",
        # The signature, and the tags in front of the pixels.
        ".tif": rb"(II[*+]\0|MM\0[*+]).{,4080}dynaseg ",
        ".json": rb'\{"generator": "dynaseg ',
        ".geojson": rb'\{"generator": "dynaseg ',
        ".svg": rb"<\?xml [^>]*>\n<!-- Generator: dynaseg ",
        # The comment, in the record that ends the file (APPNOTE.TXT, 4.3.16).
        ".zip": rb"PK\x03\x04.*PK\x05\x06.{18}dynaseg ",
    }.items()
}
"""What files of an export begin with and, if they are archives, end with."""
_BEGIN, _END = 4096, 128
"""Bytes of a file that are looked at."""
FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The time of all members of a zip file, the first it can hold: equal results are equal files."""
MODE = 0o644 << 16


def encode_png(image: Image.Image) -> bytes:
    """The file of an image, with the name of the program."""
    text = PngInfo()
    text.add_text("Software", GENERATOR)
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=PNG_LEVEL, pnginfo=text)
    return stream.getvalue()


def encode_json(document: dict[str, Any]) -> bytes:
    """The file of a JSON object, with the name of the program as its first member."""
    return (json.dumps({"generator": GENERATOR, **document}) + "\n").encode()


def encode_zip(members: Mapping[str, bytes]) -> bytes:
    """The file of an archive, with the name of the program as its comment."""
    stream = BytesIO()
    with ZipFile(stream, "w") as archive:
        archive.comment = GENERATOR.encode()
        for name, content in members.items():
            add_member(archive, name, content)
    return stream.getvalue()


def add_member(archive: ZipFile, name: str, content: bytes, compression: int = ZIP_DEFLATED) -> None:
    """Add a file to an archive, which any user may read once it is unpacked."""
    member = ZipInfo(name, FIRST_DAY)
    member.external_attr = MODE
    archive.writestr(member, content, compression)


class ExportFolder:
    """Writes the files of an export. Every file is complete or absent; names are paths below the folder, as text."""

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self.path = folder.export

    def refuse_unwritable(self, *names: str) -> None:
        """Raise ImageError if a link on the way to a file leads out of the folder, and OSError if it has no place."""
        for name in names:
            refuse_unwritable(self.path / name, self.path)

    def write(self, name: str, content: bytes) -> None:
        """Write a file. Raises as `refuse_unwritable` does, and OSError if it cannot be written."""
        self.refuse_unwritable(name)
        self._folder.write(self.path / name, content)

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A stream whose content becomes a file when the block ends without an error."""
        return self._folder.open(self.path / name)

    def scratch(self) -> BinaryIO:
        """A file without a name, which is gone when it is closed: the folder of temporary files may be in memory."""
        self.path.mkdir(parents=True, exist_ok=True)
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self.path))

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def remove_pngs(self, below: str, kept: Container[str]) -> None:
        """Remove the PNG files of an earlier export: see `remove_earlier`."""
        self.remove_earlier(below, ".png", kept)

    def remove_earlier(self, below: str, suffix: str, kept: Container[str]) -> None:
        """Remove the files of an earlier export in the folder `below`, and folders that this leaves empty.

        They end with `suffix` and name the program: see the functions that encode them. The files `kept`, paths in that
        folder, stay.
        """
        top = self.path / below
        if top.is_symlink():
            return
        for parent, _, names in os.walk(top):
            for path in (Path(parent, name) for name in names if name.endswith(suffix)):
                if path.relative_to(top).as_posix() not in kept and _MARKED[suffix].match(_ends_of(path)):
                    _remove(path, top)

    def remove_unchanged(self, below: str, written: Mapping[str, str]) -> None:
        """Remove files that cannot name the program, and folders that this leaves empty.

        Parameters
        ----------
        written : the SHA-256 in hexadecimal with which each file in the folder `below` was written. A file with another
            content stays.
        """
        top = self.path / below
        if top.is_symlink():
            return
        top = top.resolve()
        for name, sha256 in written.items():
            path = top / name
            with contextlib.suppress(OSError, ValueError):  # it is gone, or no name of a file
                inside = path == path.resolve() and path.is_relative_to(top)
                if inside and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                    _remove(path, top)


def _ends_of(path: Path) -> bytes:
    """The first and the last bytes of a file, overlapping if it is short; empty for a link or if it cannot be read."""
    try:
        with path.open("rb") as stream:
            if path.is_symlink():
                return b""
            begin = stream.read(_BEGIN)
            stream.seek(max(stream.seek(0, os.SEEK_END) - _END, 0))
            return begin + stream.read()
    except OSError:
        return b""


def _remove(path: Path, top: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # until a folder is not empty
        for folder in path.parents[: len(path.relative_to(top).parts) - 1]:
            folder.rmdir()

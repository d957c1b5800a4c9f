"""Writing files: each is complete under its name, or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import ImageError, UsageError

Content = bytes | Callable[[BinaryIO], object]
"""The content of a file, or a function that writes it to a stream."""


def write_atomically(path: Path, content: Content, temporary: str | None = None) -> None:
    """Create or replace `path`; see `open_atomically`."""
    with open_atomically(path, temporary) as stream:
        if isinstance(content, bytes):
            stream.write(content)
        else:
            content(stream)


@contextmanager
def open_atomically(path: Path, temporary: str | None = None) -> Iterator[BinaryIO]:
    """A stream whose content becomes `path` when the block ends without an error; the folder is created if needed.

    The content goes to a temporary file in the same folder and is synced to disk before it is renamed. On any error the
    temporary file is removed and an older `path` stays as it was.

    Parameters
    ----------
    temporary : name of the temporary file, which replaces a leftover of that name; None is a random one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(temporary or f".dynaseg-{secrets.token_hex(8)}.tmp")
    place.unlink(missing_ok=True)
    try:
        with place.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        place.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)
        raise


def refuse_unwritable(path: Path, top: Path) -> None:
    """Find out before the work whether a result below the folder `top` can be written.

    Raises
    ------
    ImageError
        If one of its folders is a link that leads out of `top`.
    OSError
        If its name is longer than the file system allows.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
    folder = path.parent.resolve()
    if not folder.is_relative_to(top.resolve()):
        raise ImageError(f"{path.parent} leads out of the output folder, to {folder}: nothing is written there")


def refuse_unwritable_file(field: str, path: Path, is_own: Callable[[Path], bool]) -> None:
    """Find out before the work whether `path`, the value of a field, can become a file or be replaced.

    Parameters
    ----------
    is_own : tells whether dynaseg wrote an existing file that is not empty. Other files are not replaced.

    Raises
    ------
    UsageError
        If it cannot.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"`{field}={path}` exists, and is not a regular file")
        if status.st_size and not is_own(path):
            raise UsageError(f"`{field}={path}` exists and was not written by dynaseg; choose another name")
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UsageError(f"`{field}={path}`: there is no folder {path.parent}") from None
    except OSError as error:
        raise UsageError(f"`{field}={path}` cannot be written: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"`{field}={path}` cannot be written: {path.parent} does not allow it")

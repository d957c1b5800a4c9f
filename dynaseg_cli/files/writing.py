"""Writing files: each is complete under its name, or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import ImageError, UsageError

Content = bytes | Callable[[BinaryIO], object]
"""The content of a file, or a function that writes it to a stream."""


class FileBatch:
    """Files that take their names together when the block of a `with` ends without an error.

    The content goes to temporary files in the same folders. In the end all of them are synced to disk at the same time,
    and then renamed in the order in which they were opened. On an error before that, the temporary files are removed
    and older files stay as they were.

    Parameters
    ----------
    temporary : gives the name of a path's temporary file, which replaces a leftover of that name; None is a random one.
    """

    def __init__(self, temporary: Callable[[Path], str | None] = lambda path: None) -> None:
        self._temporary = temporary
        self._streams: dict[Path, BinaryIO] = {}
        """By the temporary file."""
        self._ends: list[Callable[[], object]] = []

    def __enter__(self) -> FileBatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._sync()
                for end in self._ends:
                    end()
        finally:
            for stream in self._streams.values():
                with contextlib.suppress(OSError):
                    stream.close()
            for place in self._streams:
                with contextlib.suppress(OSError):
                    place.unlink(missing_ok=True)

    def open(self, path: Path) -> BinaryIO:
        """A stream for the content of `path`; its folder is created if needed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        place = path.with_name(self._temporary(path) or f".dynaseg-{secrets.token_hex(8)}.tmp")
        place.unlink(missing_ok=True)
        self._streams[place] = place.open("xb")

        def take_name() -> None:
            self._streams[place].close()
            place.replace(path)
            del self._streams[place]

        self._ends.append(take_name)
        return self._streams[place]

    def write(self, path: Path, content: Content) -> None:
        """Write the content of `path`."""
        stream = self.open(path)
        if isinstance(content, bytes):
            stream.write(content)
        else:
            content(stream)
        stream.flush()  # a full disk is found before other files are made

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there, once the files opened so far have their names."""
        self._ends.append(lambda: path.unlink(missing_ok=True))

    def _sync(self) -> None:
        streams = list(self._streams.values())
        for stream in streams:
            stream.flush()
        descriptors = [stream.fileno() for stream in streams]
        if len(descriptors) > 1:
            with ThreadPoolExecutor(len(descriptors)) as threads:
                list(threads.map(os.fsync, descriptors))
        elif descriptors:
            os.fsync(descriptors[0])


def write_atomically(path: Path, content: Content, temporary: str | None = None) -> None:
    """Create or replace `path`; see `open_atomically`."""
    with FileBatch(lambda _: temporary) as files:
        files.write(path, content)


@contextmanager
def open_atomically(path: Path, temporary: str | None = None) -> Iterator[BinaryIO]:
    """A stream whose content becomes `path` when the block ends without an error; the folder is created if needed.

    Parameters
    ----------
    temporary : name of the temporary file; see `FileBatch`.
    """
    with FileBatch(lambda _: temporary) as files:
        yield files.open(path)


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

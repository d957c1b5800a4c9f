"""Who works on which image: any number of processes may share an output folder, and none spoils another's work."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
from pathlib import Path
from types import TracebackType

from ..user_files import LOG_NAME

_PLACES = 1 << 62
"""Locks are on bytes from here on, where no file reaches."""
_OF_OPEN_FILES = hasattr(fcntl, "F_OFD_SETLK")

_log = logging.getLogger(__name__)


class Claims:
    """Locks on names, which the operating system gives up with the process that holds them, however it ends.

    They are record locks on ``outcomes.jsonl``, a byte a name, and hold between machines where the file system has them
    (NFS does). On Linux they belong to the open file. Elsewhere they belong to the process, as POSIX has it: two runs
    within one process are not kept apart, and closing *any* descriptor of the log drops them. Where there are no locks,
    every claim is granted, with a warning.
    """

    def __init__(self, output: Path) -> None:
        self._path = output / LOG_NAME
        self._descriptor: int | None = None
        try:
            self._descriptor = open_log(self._path)
        except OSError as error:
            self._do_without(error)

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    @property
    def exclusive(self) -> bool:
        """Whether a claim that was granted is the only one."""
        return self._descriptor is not None

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Claim a name; False if another process has it, unless that is to be waited for."""
        if self._descriptor is None:
            return True
        try:
            _lock(self._descriptor, _place(name), wait=wait)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: as POSIX has it, either says that it is held
            return False
        except OSError as error:
            os.close(self._descriptor)
            self._descriptor = None
            self._do_without(error)
        return True

    def release(self, name: str) -> None:
        """Give up a name, which need not have been claimed."""
        if self._descriptor is not None:
            _unlock(self._descriptor, _place(name))

    def _do_without(self, error: OSError) -> None:
        _log.warning(
            "%s cannot be locked (%s): let only one dynaseg at a time write there", self._path, error.strerror or error
        )


def open_log(path: Path) -> int:
    """A descriptor of ``outcomes.jsonl`` for appending and locking; a link in its place is refused."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _lock(descriptor: int, place: int, *, wait: bool) -> None:
    if _OF_OPEN_FILES:
        command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(descriptor, command, _flock(fcntl.F_WRLCK, place))
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)


def _unlock(descriptor: int, place: int) -> None:
    if _OF_OPEN_FILES:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, place))
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)


def _flock(kind: int, place: int) -> bytes:
    """C's ``struct flock`` for one byte, as Linux has it: kind, whence, start, length, process, and room to its end."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, place, 1, 0)


def _place(name: str) -> int:
    return _PLACES + int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6], "big")

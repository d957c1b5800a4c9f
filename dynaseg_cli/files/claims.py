"""Locks on names, so that several processes can share an output folder without spoiling each other's work."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
from pathlib import Path

_FIRST_BYTE = 1 << 62
"""Locks are on bytes from here on, beyond the end of any file."""
_OF_OPEN_FILES = hasattr(fcntl, "F_OFD_SETLK")

_log = logging.getLogger(__name__)


class Claims:
    """Locks on names, released by the operating system when the process that holds them ends.

    They are record locks on ``outcomes.jsonl``, one byte per name, and hold between machines where the file system
    supports them (NFS does). On Linux they belong to the open file. Elsewhere they belong to the process, as in POSIX:
    two runs within one process are not kept apart, and closing *any* descriptor of the log drops them. Where locks are
    not supported, every claim is granted, with a warning.
    """

    def __init__(self, log: Path) -> None:
        self._path = log
        self._descriptor: int | None = None
        try:
            self._descriptor = open_log(log)
        except OSError as error:
            self._do_without(error)

    @property
    def exclusive(self) -> bool:
        """Whether a granted claim excludes other processes."""
        return self._descriptor is not None

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Claim a name; False if another process has it and `wait` is not set."""
        if self._descriptor is None:
            return True
        try:
            _lock(self._descriptor, _byte(name), wait=wait)
        except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
            return False
        except OSError as error:
            os.close(self._descriptor)
            self._descriptor = None
            self._do_without(error)
        return True

    def release(self, name: str) -> None:
        """Release a name, claimed or not."""
        if self._descriptor is not None:
            _unlock(self._descriptor, _byte(name))

    def close(self) -> None:
        """Release everything."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _do_without(self, error: OSError) -> None:
        _log.warning(
            "%s cannot be locked (%s): let only one dynaseg at a time write there", self._path, error.strerror or error
        )


def open_log(path: Path) -> int:
    """A descriptor of ``outcomes.jsonl`` for appending and locking; a link in its place is refused."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _lock(descriptor: int, byte: int, *, wait: bool) -> None:
    if _OF_OPEN_FILES:
        command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(descriptor, command, _flock(fcntl.F_WRLCK, byte))
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)


def _unlock(descriptor: int, byte: int) -> None:
    if _OF_OPEN_FILES:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, byte))
    else:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


def _flock(kind: int, byte: int) -> bytes:
    """C's ``struct flock`` for one byte on Linux: kind, whence, start, length, process, padding."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, byte, 1, 0)


def _byte(name: str) -> int:
    return _FIRST_BYTE + int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6], "big")

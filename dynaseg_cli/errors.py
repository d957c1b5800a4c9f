"""The named errors of the package. Each message names the file or field, what is wrong, and what to do.

Fields of a config are in backticks, with a value where one helps: `overwrite=True`. The command translates them to its
options.
"""

from __future__ import annotations

import os
import resource


class DynasegError(Exception):
    """Base of all errors that dynaseg raises on purpose."""


class UsageError(DynasegError):
    """Wrong options or unusable input, found before any work was started."""


class DeviceUnavailableError(UsageError):
    """The requested compute device does not exist on this machine."""


class ImageError(DynasegError):
    """One image could not be processed; the rest of a batch goes on."""


class DecodeError(ImageError):
    """A file is not an image that can be read safely."""


class DeviceMemoryError(ImageError):
    """The image does not fit the device's memory even at the smallest working size."""


class DivergedError(ImageError):
    """The loss is not a finite number."""


class InterruptedWorkError(DynasegError):
    """The work was dropped because the run is being stopped."""


def memory_limit() -> str:
    """A hint to append to a message if the memory of processes is limited; otherwise empty."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"; processes are limited to {limit >> 20} MB here: raise the limit (ulimit -v unlimited)"


def reason(error: DynasegError | OSError | ImportError | MemoryError) -> str:
    """The reason for an error, for a message without a traceback."""
    if isinstance(error, DynasegError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory{memory_limit()}"
    if isinstance(error, ImportError):
        return f"{error.name or 'a library'} cannot be loaded ({error}){memory_limit()}"
    place = error.filename2 or error.filename  # the former if a rename failed
    text = error.strerror or str(error) or type(error).__name__
    return text if place is None else f"{os.fsdecode(place)}: {text}"


class WorkerError(DynasegError):
    """Worker processes cannot continue. `traceback` is theirs if a programming error is the reason."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback

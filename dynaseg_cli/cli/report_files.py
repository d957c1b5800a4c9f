"""Files that a command is asked to write at its end: refused before any work, or none costs the others."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import DynasegError, UsageError
from .console import say


def refuse_unwritable(option: str, path: Path) -> None:
    """Raise UsageError if `path`, the value of an option, cannot become or replace a regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{option} {path} is there already, and is no regular file")
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}") from None
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path} cannot be written: {path.parent} does not allow it")


def write_each(files: Iterable[tuple[Path | None, Callable[[Path], None]]]) -> bool:
    """Have each path that was asked for written; whether all could be. One that cannot costs none of the others."""
    whole = True
    for path, write in files:
        if path is None:
            continue
        try:
            write(path)
        except (OSError, MemoryError) as error:
            whole = False
            reason = "out of memory" if isinstance(error, MemoryError) else error.strerror or error
            say(f"error: {path} cannot be written: {reason}", "red")
        except DynasegError as error:
            whole = False
            say(f"error: {error}", "red")
    return whole

"""Files that a command is asked to write its figures to: refused before any work where they cannot be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import UsageError


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

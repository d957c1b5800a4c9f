"""What became of each image: `outcomes.jsonl`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from .claims import LOG_NAME, open_log

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """One image: written, found complete, or failed for a reason. Numbers are those of a written one."""

    path: str
    status: Status
    reason: str | None = None
    num_labels: int | None = None
    iterations: int | None = None
    stop_reason: str | None = None
    seconds: float | None = None
    """Wall time in the engine."""


class OutcomeLog:
    """``OUT/outcomes.jsonl``, to which every process that works on the folder adds a line an outcome.

    The file is opened once: see `Claims` for why it must not be closed meanwhile.
    """

    def __init__(self, output: Path) -> None:
        self._path = output / LOG_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> OutcomeLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def add(self, outcome: Outcome) -> None:
        """Append a line in one write, after ending a line that a killed run left half-written.

        Raises
        ------
        OSError
            If the file cannot be opened or written.
        """
        entry = {key: value for key, value in vars(outcome).items() if value is not None}
        line = json.dumps({**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n"
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = open_log(self._path)
        # Between machines an append may overwrite another's, and without a lock sees an old end of the file.
        with contextlib.suppress(OSError):
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1)
        try:
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                line = "\n" + line
            os.write(self._descriptor, line.encode())
        finally:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)

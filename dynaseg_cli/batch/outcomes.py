"""The outcome of each image, and `outcomes.jsonl`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from ..files.claims import open_log
from ..files.output_folder import OutputFolder, shown_image
from ..files.tiles import Tile, part_entry

Status = Literal["done", "skipped", "failed"]

PATIENCE_S = 1.0
"""Longest wait for a line to be written; after that the run goes on without it."""
LAST_PATIENCE_S = 10.0
"""Longest wait at the end of a run for a folder that does not answer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """One image: written, found complete, or failed for a reason. Only written images have numbers."""

    path: str
    status: Status
    reason: str | None = None
    num_labels: int | None = None
    iterations: int | None = None
    stop_reason: str | None = None
    seconds: float | None = None
    """Wall-clock time in the engine."""
    segmented: bool | None = None
    """False if the labels of an earlier run were used."""
    warnings: tuple[str, ...] = ()
    """Notes for the user on an image that is done."""
    page: int | Tile | None = None
    """The page, from 1, or tile of the file that was the image; None for a file as it is."""

    @property
    def shown(self) -> str:
        """The image as messages name it."""
        return shown_image(self.path, self.page)

    def as_entry(self, **others: object) -> dict[str, object]:
        """An entry of a JSON list about images, which says what else is known."""
        return {"path": self.path, **part_entry(self.page), **others}


class OutcomeLog:
    """``OUT/outcomes.jsonl``: every process that works on the folder appends one line per outcome.

    A thread writes the lines, so that a folder that hangs, as on a network, does not hold up the run. A line that
    cannot be written costs a warning. The file stays open throughout: see `Claims`.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder
        self._path = folder.log
        self._waiting: deque[Outcome] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._told = False
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def __enter__(self) -> OutcomeLog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(LAST_PATIENCE_S if kind in (None, GeneratorExit) else PATIENCE_S)
        if self._waiting:
            _log.warning("%s does not answer; it lacks %d lines", self._path, len(self._waiting))

    def add(self, outcome: Outcome) -> None:
        """Append a line. It is written on return, unless the folder hangs: then as soon as it answers again."""
        with self._changed:
            hangs = bool(self._waiting)
            self._waiting.append(outcome)
            self._changed.notify_all()
            if hangs or self._changed.wait_for(lambda: not self._waiting, PATIENCE_S) or self._told:
                return
            self._told = True
            _log.warning("%s does not answer; its lines wait until it does", self._path)

    def _write_all(self) -> None:
        descriptor: int | None = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closed)
                    if not self._waiting:
                        return
                    outcome = self._waiting[0]
                try:
                    if descriptor is None:
                        self._folder.mark()
                        descriptor = open_log(self._path)
                    _append(descriptor, outcome)
                except OSError as error:
                    _log.warning("outcomes.jsonl lacks %s: %s", outcome.shown, error.strerror or error)
                with self._changed:
                    self._waiting.popleft()
                    self._changed.notify_all()
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _append(descriptor: int, outcome: Outcome) -> None:
    """Append a line in one write; first end a line that a killed run left half-written."""
    entry = {key: value for key, value in vars(outcome).items() if value is not None and value != ()}
    entry.pop("page", None)
    line = json.dumps({**entry, **part_entry(outcome.page), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n"
    # Without a lock, appends from several machines may overwrite each other or see an old end of the file.
    with contextlib.suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = "\n" + line
        os.write(descriptor, line.encode())
    finally:
        with contextlib.suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1)

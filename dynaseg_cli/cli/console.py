"""What a person sees: messages on stderr, names made safe to print, errors as one line and an exit code."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from ..errors import DynasegError, UsageError, WorkerError, system_reason
from ..names import printable
from .signals import Terminated, termination_raises

MOST_QUOTED = 100
"""Longest value that a message repeats in full, in characters."""


class _Stderr(Console):
    """Standard error, on which no work depends: where it leads to a full disk or to nobody, lines are lost."""

    @property
    def is_live(self) -> bool:
        """Whether it is a terminal on which progress can be updated in place.

        FORCE_COLOR and TTY_COMPATIBLE may colour a log, but do not make it a terminal.
        """
        return self.is_interactive and self.file.isatty()

    def print(self, *objects: Any, **options: Any) -> None:
        with contextlib.suppress(OSError):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        self.quiet = True


stderr = _Stderr(stderr=True, highlight=False, soft_wrap=True)


class ExitCode(IntEnum):
    """The promised exit codes."""

    DONE = 0
    SOME_FAILED = 1
    UNUSABLE = 2
    INTERRUPTED = 130
    TERMINATED = 143


def say(text: str, style: str = "") -> None:
    """Print one line on stderr, nothing in it taken for markup."""
    stderr.print(Text(printable(text), style=style))


def quoted(value: object) -> str:
    """A value in quotes for a message, shortened if long."""
    text = str(value)
    return repr(text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}…")


def print_json(document: dict[str, Any]) -> None:
    """Print a JSON document, the only output of a command on stdout. NaN and infinity are refused."""
    if sys.stdout is not None:
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")


class _Collected(io.StringIO):
    """Collects stdout until the command has ended, with the properties of the real stream."""

    def __init__(self, stdout: TextIO | None) -> None:
        super().__init__()
        self._stdout = stdout
        self.delivered = True
        """False if writing to stdout has failed."""

    def isatty(self) -> bool:
        return self._stdout is not None and self._stdout.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stdout, "encoding", None) or "utf-8"

    def deliver(self) -> None:
        """Write everything. A reader that is gone, or a closed stdout, is not a failure."""
        text = self.getvalue().encode(self.encoding, "backslashreplace").decode(self.encoding)
        if self._stdout is None or not text:
            return
        try:
            self._stdout.write(text)
            self._stdout.flush()
        except OSError as error:
            _abandon(self._stdout)
            if not isinstance(error, BrokenPipeError):
                self.delivered = False
                say(f"error: stdout cannot be written: {error.strerror or error}", "red")


def _abandon(stream: TextIO) -> None:
    """Discard what a stream has buffered; Python would otherwise fail to write it on exit, with a message."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def collected_stdout() -> Iterator[_Collected]:
    """Collect stdout and write it once at the end, so that failures of stdout are told from other errors."""
    collected = _Collected(sys.stdout)
    try:
        with contextlib.redirect_stdout(collected):
            yield collected
    finally:
        collected.deliver()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}", "yellow")


@contextmanager
def errors_as_exit_codes(verbose: bool) -> Iterator[None]:
    """Translate the library's errors, once for all commands; `verbose` shows tracebacks instead."""
    package = logging.getLogger("dynaseg_cli")
    handler = _Handler()
    package.addHandler(handler)
    try:
        with termination_raises():
            yield
    except Terminated:
        say("terminated", "yellow")
        raise typer.Exit(ExitCode.TERMINATED) from None
    except KeyboardInterrupt:
        say("interrupted", "yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except typer.Exit:
        raise
    except Exception as error:
        traceback = error.traceback if isinstance(error, WorkerError) else ""
        if verbose:
            stderr.print_exception()
            for line in traceback.splitlines():
                say(line)
        if isinstance(error, DynasegError):
            text = str(error)
        elif isinstance(error, OSError | ImportError | MemoryError):
            text = system_reason(error)
        else:
            text = f"unexpected {type(error).__name__}: {error}"
        hidden = not verbose and (traceback or not isinstance(error, DynasegError))
        say(f"error: {text}" + (" (-v shows where)" if hidden else ""), "red")
        unusable = isinstance(error, UsageError)
        raise typer.Exit(ExitCode.UNUSABLE if unusable else ExitCode.SOME_FAILED) from None
    finally:
        package.removeHandler(handler)

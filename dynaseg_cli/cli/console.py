"""Output for people: messages on stderr that name options, errors as one line and an exit code."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from ..errors import DynasegError, UsageError, WorkerError, reason
from ..files.names import printable
from .signals import Terminated, termination_raises

Flags = dict[str, tuple[str, str]]
"""Spellings of options by field: the usual one, and that of a switch's other position or an empty text."""


class _Stderr(Console):
    """Standard error. Lines that cannot be written (full disk, closed pipe) are dropped: no work depends on them."""

    @property
    def is_live(self) -> bool:
        """Whether it is a terminal on which progress can be updated in place.

        FORCE_COLOR and TTY_COMPATIBLE may colour a log, but do not make it a terminal.
        """
        return self.is_interactive and self.file.isatty()

    @property
    def room(self) -> int | None:
        """Characters of a line: those of the terminal, or COLUMNS; None for a file, whose lines have any length."""
        return self.width if self.is_terminal or self._width is not None else None

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


_flags: Flags = {}
"""The flags of the running command, set by `errors_as_exit_codes`."""
_verbose = False
"""Whether the running command was asked to say more; set likewise."""


def say(text: str, style: str = "") -> None:
    """Print one line on stderr, nothing in it taken for markup. Fields in backticks are named as options."""
    stderr.print(Text(printable(with_flags(text, _flags)), style=style))


def is_verbose() -> bool:
    """Whether `-v` was given to the running command."""
    return _verbose


def with_flags(text: str, flags: Flags) -> str:
    """Replace fields in backticks by options: ``--max-size`` for `max_size`, ``--overwrite`` for `overwrite=True`."""

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in flags:
            return match[0]
        flag, opposite = flags[name]
        if value in (None, "True"):
            return flag
        if value == "False":
            return opposite or f"no {flag}"
        return f"{flag} {value if value == '...' else shlex.quote('none' if value == 'None' else value)}"

    # Not within a path, whose name may have backticks.
    return re.sub(r"(?<![\w/])`([a-z_]+)(?:=([^`]+))?`(?![\w/]|\.\w)", option, text)


def print_json(document: dict[str, Any]) -> None:
    """Print a JSON document, the only output of a command on stdout. NaN and infinity are refused."""
    if sys.stdout is not None:
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")


def for_the_command_line(value: Any) -> Any:
    """A JSON value in whose texts options stand for the fields in backticks."""
    if isinstance(value, dict):
        return {name: for_the_command_line(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [for_the_command_line(entry) for entry in value]
    return with_flags(value, _flags) if isinstance(value, str) else value


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
        """Write everything. A closed stdout, or a reader that has gone away, is not a failure."""
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
    """Discard the buffer of a stream that cannot be written, or Python would complain about it on exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextmanager
def collected_stdout() -> Iterator[_Collected]:
    """Collect stdout and write it once at the end, which tells failures of stdout from other errors."""
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
def errors_as_exit_codes(flags: Flags, verbose: bool) -> Iterator[Flags]:
    """Turn the library's errors into a line and an exit code, once for all commands.

    Parameters
    ----------
    flags : the command's options, which messages name instead of fields; yielded, to be changed where need be.
    verbose : whether to show tracebacks, and what `is_verbose` is to answer.
    """
    global _flags, _verbose
    _flags, _verbose = flags, verbose
    package = logging.getLogger("dynaseg_cli")
    handler = _Handler()
    package.addHandler(handler)
    try:
        with termination_raises():
            yield flags
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
            text = reason(error)
        else:
            text = f"unexpected {type(error).__name__}: {error}"
        hidden = not verbose and (traceback or not isinstance(error, DynasegError))
        say(f"error: {text}" + (" (-v shows where)" if hidden else ""), "red")
        unusable = isinstance(error, UsageError)
        raise typer.Exit(ExitCode.UNUSABLE if unusable else ExitCode.SOME_FAILED) from None
    finally:
        package.removeHandler(handler)
        _flags, _verbose = {}, False

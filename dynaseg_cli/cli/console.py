"""What a person sees: messages on stderr, names made safe to print, errors as one line and an exit code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from ..errors import DynasegError, UsageError, WorkerError
from ..names import printable
from .signals import Terminated, termination_raises


class _Stderr(Console):
    """Standard error, on which no work depends: where it leads to a full disk or to nobody, lines are lost."""

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
        text = str(error) if isinstance(error, DynasegError) else f"unexpected {type(error).__name__}: {error}"
        hidden = not verbose and (traceback or not isinstance(error, DynasegError))
        say(f"error: {text}" + (" (-v shows where)" if hidden else ""), "red")
        unusable = isinstance(error, UsageError)
        raise typer.Exit(ExitCode.UNUSABLE if unusable else ExitCode.SOME_FAILED) from None
    finally:
        package.removeHandler(handler)

"""Signals: a command ends at once, a run of a batch first comes to a clean stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

TERMINATING = (signal.SIGTERM, signal.SIGHUP)
"""Sent by job schedulers, and by a terminal that closes."""


class Terminated(KeyboardInterrupt):
    """One of `TERMINATING` was received."""


@contextmanager
def termination_raises() -> Iterator[None]:
    """`TERMINATING` signals raise `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    with _handling(TERMINATING, _raise):
        yield


@contextmanager
def first_signal_calls(stop: Callable[[], None]) -> Iterator[list[int]]:
    """The first signal calls `stop`, a second one raises. Yields the list of signals received."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            _raise(number, frame)
        stop()

    with _handling((signal.SIGINT, *TERMINATING), receive):
        yield received


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated if number in TERMINATING else KeyboardInterrupt


@contextmanager
def _handling(numbers: tuple[int, ...], handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Only the main thread receives signals. A signal that the parent process set to be ignored stays ignored."""
    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if signal.getsignal(number) != signal.SIG_IGN:
                    restored.callback(signal.signal, number, signal.signal(number, handler))
        yield

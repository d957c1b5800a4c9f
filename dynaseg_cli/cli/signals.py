"""Ctrl-C and SIGTERM: a command ends at once, a run of a batch first comes to a clean stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    with _handling(signal.SIGTERM, _raise):
        yield


@contextmanager
def first_signal_calls(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Have the first Ctrl-C or SIGTERM call `stop`; a second one raises. Yields the signals that came."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            _raise(number, frame)
        stop()

    with _handling(signal.SIGINT, receive), _handling(signal.SIGTERM, receive):
        yield received


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def _handling(number: int, handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Signals reach the main thread alone, and one that the caller has this process ignore stays ignored."""
    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != signal.SIG_IGN:
            restored.callback(signal.signal, number, signal.signal(number, handler))
        yield

"""Settings of torch's libraries while the engine computes: full float32 precision and repeatable results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_computing = 0
_restore: Callable[[], None]


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Compute float32 without rounding to TF32 or bfloat16, and use only cuDNN's deterministic algorithms.

    The settings belong to the whole process. The first thread that computes applies them, and the last one to finish
    restores what the caller had, so threads with engines of their own do not disturb each other.
    """
    global _computing, _restore  # noqa: PLW0603 - as are the settings
    with _lock:
        if _computing == 0:
            _restore = _make_exact()
        _computing += 1
    try:
        yield
    finally:
        with _lock:
            _computing -= 1
            if _computing == 0:
                _restore()


def _make_exact() -> Callable[[], None]:
    """Apply the settings; returns a function that restores the previous ones."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    # Set for each operation: a setting for all of them does not override what a caller set for one.
    operations = (cudnn.conv, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul)
    settings = [
        *((operation, "fp32_precision", "ieee") for operation in operations),
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    _apply(settings)
    # torch has a legacy setting of matrix products, too. If it contradicts these, reading it and multiplying may raise
    # errors. Changing it overwrites them.
    legacy = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    _apply(settings)

    def restore() -> None:
        torch.set_float32_matmul_precision(legacy)
        _apply(before)

    return restore


def _apply(settings: Sequence[tuple[Any, str, object]]) -> None:
    for owner, name, value in settings:
        setattr(owner, name, value)

"""How torch's libraries compute while the engine works: float32 is float32, and equal runs give equal labels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch

_lock = threading.Lock()
_computing = 0
_restore: list[Callable[[], None]] = []


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Keep float32 from being rounded to TF32 or bfloat16, and cuDNN from algorithms that add in a random order.

    The settings belong to the whole process. The first thread that computes applies them, and the last one to finish
    restores what the caller had, so threads with engines of their own do not disturb each other.
    """
    global _computing  # noqa: PLW0603 - as are the settings
    with _lock:
        if _computing == 0:
            _restore[:] = _make_exact()
        _computing += 1
    try:
        yield
    finally:
        with _lock:
            _computing -= 1
            if _computing == 0:
                for restore in _restore:
                    restore()


def _make_exact() -> list[Callable[[], None]]:
    """Apply the settings; the result restores the earlier ones if called in order."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    # By operation: a setting for all of them does not reach those that a caller has set.
    operations = (cudnn.conv, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul)
    settings = [
        *((operation, "fp32_precision", "ieee") for operation in operations),
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    restore: list[Callable[[], None]] = [
        partial(setattr, owner, name, getattr(owner, name)) for owner, name, _ in settings
    ]
    # An older name for two of them. If the two disagree, torch refuses to multiply. If a caller has used both, torch
    # refuses to tell the older one, which then is still "highest".
    with suppress(RuntimeError):
        restore.insert(0, partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()))
        torch.set_float32_matmul_precision("highest")
    for owner, name, value in settings:
        setattr(owner, name, value)
    return restore

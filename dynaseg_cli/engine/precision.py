"""Arithmetic: the dtype of the convolutions, full float32 precision, and repeatable results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..config import Precision
from .segmentation import PrecisionName

_lock = threading.Lock()
_computing = 0
_restore: Callable[[], None]


def compute_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """The dtype of the convolutions; auto is bfloat16 where the hardware supports it natively."""
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16_units(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def precision_name(dtype: torch.dtype) -> PrecisionName:
    """The dtype of the convolutions by its name, as recorded beside results."""
    return "bfloat16" if dtype == torch.bfloat16 else "float32"


def computing_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """A context in which convolutions compute in a dtype of `compute_dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Compute float32 without rounding to TF32 or bfloat16, and use only cuDNN's deterministic algorithms.

    The settings are process-wide. The first thread to enter applies them and the last one to leave restores the
    caller's, so that threads with engines of their own do not disturb each other.
    """
    global _computing, _restore  # noqa: PLW0603 - the settings are global, too
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


def _has_bfloat16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Without AMX or AVX512-BF16 the processor emulates bfloat16, which is slower than float32.
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def _make_exact() -> Callable[[], None]:
    """Apply the settings; returns a function that restores the previous ones."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    # Set per operation, because a global setting does not override a caller's setting for one operation.
    operations = (cudnn.conv, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul)
    settings = [
        *((operation, "fp32_precision", "ieee") for operation in operations),
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    _apply(settings)
    # torch also has a legacy setting for matrix products, which raises errors if it contradicts these. Changing it
    # overwrites them, so they are applied again.
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

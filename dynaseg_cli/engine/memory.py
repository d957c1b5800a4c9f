"""Recognising that a device has run out of memory, and giving back what it holds."""

from __future__ import annotations

import gc

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that an allocation failed, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's allocator raises a plain RuntimeError, and so does what asks a CUDA device for memory by itself.
    signs = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def release_memory(device: torch.device) -> None:
    """Return cached memory to the device, after the tensors of a failed attempt have gone out of scope."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()

"""The most memory that a piece of work had: of this process, and of a CUDA device."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def reset_peak(device: torch.device) -> None:
    """Begin anew: the peaks are those from here on."""
    with contextlib.suppress(OSError):  # where there is no such file there is no peak to be read either
        (_PROCESS / "clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> tuple[int | None, int | None]:
    """Most bytes resident in this process (Linux alone tells) and allocated on a CUDA device, since `reset_peak`."""
    host = None
    with contextlib.suppress(OSError):
        lines = (_PROCESS / "status").read_text().splitlines()
        host = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    return host, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

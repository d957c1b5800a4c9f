"""The most memory that a piece of work had: of this process, and of a CUDA device."""

from __future__ import annotations

import contextlib
import resource
import sys
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


def peak_bytes_of_process(device: torch.device) -> tuple[int | None, int | None]:
    """Most bytes resident in this process (Linux, macOS) and allocated on a CUDA device, since the process began."""
    host, on_device = peak_bytes(device)
    if host is None and sys.platform == "darwin":
        # Bytes there. Linux counts KiB, and begins with what the process had that started this one.
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return host, on_device

"""One run of a method on one image: its seconds, iterations and peak memory, and how runs are summed up."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

Value = TypeVar("Value")

_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Run:
    """One image labelled by one method, once."""

    image: str
    width: int
    height: int
    repeat: int
    iterations: int | None
    """None for a method that does not count any."""
    stages: dict[str, float]
    """Seconds of wall time by stage, from decoded pixels to labels."""
    decode: float
    write: float
    """Seconds to read the image before, and to write label map and colours after."""
    host_bytes: int | None
    device_bytes: int | None
    """Most memory meanwhile: resident in the process, and allocated on the device."""
    fused: bool | None = None
    captured: bool | None = None
    """As in `Labelled`."""

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def seconds(self) -> float:
        """From decoded pixels to labels."""
        return sum(self.stages.values())

    @property
    def ms_per_iteration(self) -> float | None:
        return 1000 * self.stages["fit"] / self.iterations if self.iterations else None


@dataclass(frozen=True)
class FolderFitCosts:
    """What it cost to fit a method of one label space."""

    images: int
    """Those that the fit saw."""
    seconds: float
    """Wall time, reading and decoding included."""
    host_bytes: int | None
    device_bytes: int | None
    """As in `Run`."""


def return_freed_memory() -> None:
    """Give what was freed back to the system, so that it does not count as memory of the work that follows (glibc)."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak(device: torch.device) -> None:
    """Begin anew: the peaks are those from here on."""
    with contextlib.suppress(OSError):  # where there is no such file there is no peak to be read either
        (_PROCESS / "clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[int | None, int | None]:
    """Most bytes resident in this process (Linux alone tells) and allocated on a CUDA device, since `reset_peak`."""
    host = None
    with contextlib.suppress(OSError):
        lines = (_PROCESS / "status").read_text().splitlines()
        host = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    return host, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def peak_memory_of_process(device: torch.device) -> tuple[int | None, int | None]:
    """The peaks of `peak_memory` since the process began, also on macOS."""
    host, on_device = peak_memory(device)
    if host is None and sys.platform == "darwin":
        # Bytes there. Linux counts KiB, and begins with what the process had that started this one.
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return host, on_device


def peak_bytes(runs: Sequence[Run]) -> dict[str, int | None]:
    """The most memory that any of the runs had."""
    return {
        "host": max(known(run.host_bytes for run in runs), default=None),
        "device": max(known(run.device_bytes for run in runs), default=None),
    }


def stage_medians(runs: Sequence[Run]) -> dict[str, float | None]:
    """Median seconds of each stage, in the order of the work."""
    names = runs[0].stages if runs else {}
    return {
        "decode": median(run.decode for run in runs),
        **{name: median(run.stages[name] for run in runs) for name in names},
        "write": median(run.write for run in runs),
    }


def median(values: Iterable[float | None]) -> float | None:
    """The median of what is known; None if nothing is."""
    found = known(values)
    return statistics.median(found) if found else None


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """Median, least and most of what is known."""
    found = known(values)
    return {"median": median(found), "least": min(found, default=None), "most": max(found, default=None)}


def known(values: Iterable[Value | None]) -> Sequence[Value]:
    return [value for value in values if value is not None]

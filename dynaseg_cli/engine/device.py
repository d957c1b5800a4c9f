"""Devices: which ones this machine has, which one computes, and what to do when its memory runs out."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import DeviceUnavailableError

STRICT = "DYNASEG_STRICT"
"""Environment variable. If it is set to anything but 0, errors in fused kernels and in capturing a graph are raised.
Otherwise the work goes on without them, more slowly."""

SPARE_MEMORY = 1 / 16
"""Share of a CUDA device's memory that is left free, for larger images and for other processes."""

allocator_lock = threading.Lock()
"""Held while a CUDA graph is captured or launched, and while cached memory is released. torch's allocator releases none
during a capture, and its random generator, which every graph takes part in, allows no launch during one."""

_log = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """The device for auto, cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU.

    Raises
    ------
    DeviceUnavailableError
        If this machine has no such device; the message lists the ones it has.
    """
    devices = available_devices()
    if name == "auto":
        return torch.device(devices[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in devices:
        raise DeviceUnavailableError(f"`device={name}`: there is no such device here; choose from {', '.join(devices)}")
    return torch.device(wanted)


def resolve_devices(names: str) -> list[str]:
    """The devices for auto, cpu, cuda, mps, or a list such as cuda:0,cuda:2, without duplicates.

    auto and cuda stand for every CUDA device. Without any, auto is resolved as in `resolve_device`.

    Raises
    ------
    DeviceUnavailableError
        If this machine lacks one of them.
    """
    if names in ("auto", "cuda"):
        every = [name for name in available_devices() if name.startswith("cuda")]
        return every or [str(resolve_device(names))]
    return list(dict.fromkeys(str(resolve_device(name.strip())) for name in names.split(",")))


def available_devices() -> list[str]:
    """Names of this machine's devices, the preferred one first."""
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def describe_device(device: torch.device) -> str:
    """The device's index and product name, as recorded beside results."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({_processor_name()}, {threads} thread{'' if threads == 1 else 's'})"
    return str(device)


def has_triton(device: torch.device) -> bool:
    """Whether Triton can compile kernels for the device, which takes an NVIDIA GPU. Does not import Triton."""
    return device.type == "cuda" and torch.version.cuda is not None and importlib.util.find_spec("triton") is not None


def warn_or_raise(device: torch.device, lost: str, error: Exception) -> None:
    """Warn that work on the device goes on without something that failed; in strict mode raise the error."""
    if os.environ.get(STRICT, "0") not in ("", "0"):
        raise error
    _log.warning("%s: continuing without %s, more slowly: %s", device, lost, error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error is a failed allocation, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU allocator, and libraries that allocate CUDA memory themselves, raise a plain RuntimeError.
    signs = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def memory_is_low(device: torch.device) -> bool:
    """Whether less than `SPARE_MEMORY` of a CUDA device is free."""
    free, total = torch.cuda.mem_get_info(device)
    return free < SPARE_MEMORY * total


def release_memory(device: torch.device) -> None:
    """Return cached memory to the device. Call it after the tensors of a failed attempt have gone out of scope."""
    gc.collect()
    if device.type == "cuda":
        with allocator_lock:
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Compute on a stream of one's own, after all that the current one was given before.

    In the end the host waits, not the current stream: threads share that one, and would wait for each other.
    """
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        try:
            yield
        finally:
            stream.synchronize()


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

"""Which device computes, and in which arithmetic."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

import torch

from ..config import Precision
from ..errors import DeviceUnavailableError


def resolve_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda, cuda:N or mps into a device that exists. auto takes CUDA, then MPS, then the CPU.

    Raises
    ------
    DeviceUnavailableError
        If there is no such device; the message names those there are.
    """
    devices = available_devices()
    if name == "auto":
        return torch.device(devices[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in devices:
        raise DeviceUnavailableError(f"--device {name}: there is no such device here; choose from {', '.join(devices)}")
    return torch.device(wanted)


def resolve_devices(names: str) -> list[str]:
    """Turn auto, cpu, cuda, mps, or several such as cuda:0,cuda:2 into devices that exist, each once.

    auto and cuda are every CUDA device; without any, auto is what it is for `resolve_device`.

    Raises
    ------
    DeviceUnavailableError
        If there is no such device.
    """
    if names in ("auto", "cuda"):
        every = [name for name in available_devices() if name.startswith("cuda")]
        return every or [str(resolve_device(names))]
    return list(dict.fromkeys(str(resolve_device(name.strip())) for name in names.split(",")))


def available_devices() -> list[str]:
    """Names of the devices of this machine, the preferred one first."""
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def describe_device(device: torch.device) -> str:
    """The device by its index and its maker's name, as recorded beside results."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({_processor_name()}, {threads} thread{'' if threads == 1 else 's'})"
    return str(device)


def compute_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """The arithmetic of the convolutions: bfloat16 where asked for, or where the device has units for it."""
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16_units(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_triton(device: torch.device) -> bool:
    """Whether kernels for the device can be made where it is: an NVIDIA one. Triton is looked for, not imported."""
    return device.type == "cuda" and torch.version.cuda is not None and importlib.util.find_spec("triton") is not None


def _has_bfloat16_units(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # Without AMX or AVX512-BF16 the processor emulates bfloat16, slower than its float32.
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return False


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

"""Profile of an iteration at full size: a table of kernels, and the speed of the device at their basic operations.

Writes ``profile.txt``, the table, and ``profile.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dynaseg_cli import Engine, SegmentConfig
from dynaseg_cli.benchmark.synthetic import synthetic_photo

SIZE = {"cuda": (481, 321), "cpu": (48, 32)}
"""Width and height of the image; on a CPU this is a rehearsal."""
CHANNELS = 104
"""p and q of the defaults, padded as the engine pads them on CUDA."""
COPIED = {"cuda": 2**31, "cpu": 2**20}
"""Bytes of the buffer whose copying shows the memory's bandwidth."""
SIDE = {"cuda": 8192, "cpu": 64}
"""Rows and columns of the matrices whose product shows the bfloat16 rate."""
ITERATIONS = {"cuda": 40, "cpu": 2}
REPEATS = {"cuda": 20, "cpu": 2}
GRAPH_LAUNCH = "cudaGraphLaunch"


def kernels_per_iteration(counts: Mapping[str, int], iterations: int) -> int:
    """Kernels and copies that each iteration starts, by how often each ran: what ran less often is not part of one."""
    return sum(count // iterations for count in counts.values())


def profile_fit(device: str) -> tuple[str, dict[str, Any]]:
    """The table of kernels of one image in bfloat16, and its figures."""
    config = SegmentConfig(
        max_size=0,
        levels=1,
        patience=0,
        min_labels=1,
        features=100,
        clusters=100,
        iterations=ITERATIONS[device],
        precision="bfloat16",
    )
    photo = synthetic_photo(*SIZE[device], 0)
    engine = Engine(config, device)
    engine.segment(photo)
    fit = engine.segment(photo).fit
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as profiler:
        engine.segment(photo)
    events = profiler.events() or []
    on_device = [event for event in events if event.device_type.name == "CUDA"]
    # After the end of the fit some replays do nothing, but they run.
    launches = sum(event.name == GRAPH_LAUNCH for event in events) or fit.iterations
    counts = Counter(event.name for event in on_device)
    busy = sum(event.time_range.elapsed_us() for event in on_device)
    order = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=90)
    return table, {
        "size": SIZE[device],
        "fused": fit.fused,
        "captured": fit.captured,
        "ms_per_iteration": 1000 * fit.seconds / fit.iterations,
        "launches": launches,
        "kernels_per_iteration": kernels_per_iteration(counts, launches),
        "device_ms_per_iteration": busy / 1000 / launches,
    }


def median_ms(work: Callable[[], object], device: str) -> float:
    """Milliseconds that `work` takes on the device, the median of several after a warm-up."""
    for _ in range(3):
        work()
    return statistics.median(_one_ms(work, device) for _ in range(REPEATS[device]))


def _one_ms(work: Callable[[], object], device: str) -> float:
    if device == "cpu":
        started = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - started)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def time_convolution(device: str) -> dict[str, float]:
    """Milliseconds of a 3x3 convolution's two gradients in bfloat16, by cuDNN's deterministic algorithms and by any."""
    width, height = SIZE[device]

    def activation() -> Tensor:
        values = torch.randn(1, CHANNELS, height, width, device=device, dtype=torch.bfloat16)
        return values.contiguous(memory_format=torch.channels_last)

    images, gradient = activation(), activation()
    kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device, dtype=torch.bfloat16)
    kernel = kernel.contiguous(memory_format=torch.channels_last)

    def backward(of_images: bool, of_kernel: bool) -> Callable[[], object]:
        return lambda: torch.ops.aten.convolution_backward(
            gradient, images, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [of_images, of_kernel, False]
        )

    found = {}
    for name, work in (("weight", backward(False, True)), ("input", backward(True, False))):
        for deterministic in (True, False):
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=deterministic):
                kind = "deterministic" if deterministic else "any"
                found[f"{name}_gradient_{kind}_ms"] = median_ms(work, device)
    return found


def time_ceilings(device: str) -> dict[str, float]:
    """The device's bandwidth, bytes read and written, and its rate of bfloat16 products."""
    source = torch.randn(COPIED[device] // 4, device=device)
    target = torch.empty_like(source)
    copy_ms = median_ms(lambda: target.copy_(source), device)
    side = SIDE[device]
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product_ms = median_ms(lambda: left @ right, device)
    return {
        "copy_terabytes_per_second": 2 * COPIED[device] / copy_ms / 1e9,
        "bfloat16_teraflops": 2 * side**3 / product_ms / 1e9,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder for profile.txt and profile.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    device: str = options.device
    figures: dict[str, Any] = {}
    table, figures["fit"] = profile_fit(device)
    (options.results / "profile.txt").write_text(table)
    print("\n".join(table.splitlines()[:25]), flush=True)
    for name, measure in (("convolution", time_convolution), ("ceilings", time_ceilings)):
        figures[name] = measure(device)
        (options.results / "profile.json").write_text(json.dumps(figures, indent=1))
    fit, convolution, ceilings = figures.values()
    print(
        f"{fit['ms_per_iteration']:.3g} ms an iteration, {fit['kernels_per_iteration']} kernels; weight gradient"
        f" {convolution['weight_gradient_deterministic_ms']:.3g} ms deterministic,"
        f" {convolution['weight_gradient_any_ms']:.3g} any; {ceilings['copy_terabytes_per_second']:.3g} TB/s,"
        f" {ceilings['bfloat16_teraflops']:.3g} TFLOP/s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

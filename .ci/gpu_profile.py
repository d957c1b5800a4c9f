"""Where the time goes: of an iteration at full size, by kernel; of a photo with the defaults, by step, on both sides.

Also compares the silhouette phase on the device with the CPU's, and measures the speed of the device at the basic
operations of an iteration. Writes ``profile.txt``, the table of kernels, and ``profile.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from dynaseg_cli import BatchConfig, Engine, SegmentConfig, read_photo
from dynaseg_cli.batch.products import Products
from dynaseg_cli.batch.statistics import stats_of_fit, stats_of_labels
from dynaseg_cli.benchmark.synthetic import synthetic_photo
from dynaseg_cli.engine.labelling import label_with_fit
from dynaseg_cli.files.output_folder import Job, OutputFolder
from dynaseg_cli.method.silhouette import silhouette_phase
from dynaseg_cli.regions.tidying import tidy

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
PHOTOS = {"cuda": 24, "cpu": 1}
"""Photos whose steps are timed, after as many that warm up."""
COMPARED = {"cuda": 100, "cpu": 2}
"""Photos whose silhouette phase is compared."""
LABELLING = "labelling"
"""The range of a profile in which the host labels."""


def kernels_per_iteration(counts: Mapping[str, int], iterations: int) -> int:
    """Kernels and copies that each iteration starts, by how often each ran: what ran less often is not part of one."""
    return sum(count // iterations for count in counts.values())


@contextmanager
def profiling(device: str) -> Iterator[Any]:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as profiler:
        yield profiler


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
    with profiling(device) as profiler:
        engine.segment(photo)
    events = profiler.events() or []
    on_device = of_device(events)
    # After the end of the fit some replays do nothing, but they run.
    launches = sum(event.name == GRAPH_LAUNCH for event in events) or fit.iterations
    counts = Counter(event.name for event in on_device)
    order = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=90)
    return table, {
        "size": SIZE[device],
        "fused": fit.fused,
        "captured": fit.captured,
        "ms_per_iteration": 1000 * fit.seconds / fit.iterations,
        "launches": launches,
        "kernels_per_iteration": kernels_per_iteration(counts, launches),
        "device_ms_per_iteration": busy_ms(on_device) / launches,
    }


def read_photos(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    return [read_photo(path).pixels for path in paths]


def time_steps(device: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Median milliseconds of each step of a photo with the defaults, one photo at a time, on the host."""
    engine, batch = Engine(SegmentConfig(), device), BatchConfig()
    for image in read_photos(paths):  # each size needs a graph
        engine.segment(image)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as output, OutputFolder(Path(output)) as folder:
        for path in paths:
            begun = time.perf_counter()

            def took(step: str, less: float = 0) -> float:
                nonlocal begun
                found = time.perf_counter() - begun - less
                seconds.setdefault(step, []).append(found)
                begun = time.perf_counter()
                return found

            photo = read_photo(path)
            took("decode")
            silhouette = engine.find_silhouette(photo.pixels)
            took("silhouette")
            result = engine.segment(photo.pixels, silhouette)
            fit = result.fit.seconds
            took("label", less=fit)
            seconds.setdefault("fit", []).append(fit)
            hierarchy = result.hierarchy
            took("merge")
            tidied = tidy(result.labels, photo.pixels, batch.cut, hierarchy)
            tidying = took("tidy")
            stats_of_labels(tidied, photo.pixels, batch.cut, batch.colors)
            counting = took("statistics")
            stats = stats_of_fit(str(path), "", photo, result, engine.config, device)
            begun = time.perf_counter()
            Products(Job(str(path), path.stem), folder, batch).write(result, stats)
            took("write", less=tidying + counting)  # which it did again
    order = "decode", "silhouette", "fit", "label", "merge", "tidy", "statistics", "write"
    return {step: 1000 * statistics.median(seconds[step]) for step in order}


def profile_photos(device: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Mean milliseconds that the device works on a photo with the defaults, and the kernels of an iteration."""
    engine = Engine(SegmentConfig(), device)
    images = read_photos(paths)
    silhouettes = [engine.find_silhouette(image) for image in images]

    def label_in_range(*arguments: Any) -> NDArray[np.int16]:
        with record_function(LABELLING):
            return label_with_fit(*arguments)

    def segment_all() -> None:
        for image, silhouette in zip(images, silhouettes, strict=True):
            engine.segment(image, silhouette)

    segment_all()
    with profiling(device) as finding:
        for image in images:
            engine.find_silhouette(image)
    with patch("dynaseg_cli.engine.engine.label_with_fit", label_in_range), profiling(device) as segmenting:
        segment_all()
    events = segmenting.events() or []
    ranges = [event.time_range for event in events if event.name == LABELLING and event.device_type.name == "CPU"]
    fitting: list[Any] = []
    labelling: list[Any] = []
    for event in of_device(events):
        begun = event.time_range.start
        # The host has read the end of the fit before it labels, and the labels before it goes on.
        labels = any(span.start <= begun < span.end for span in ranges)
        (labelling if labels else fitting).append(event)
    replays = sum(event.name == GRAPH_LAUNCH for event in events)
    kernels = kernels_per_iteration(Counter(event.name for event in fitting), replays) if replays else None
    return {
        "silhouette": busy_ms(of_device(finding.events() or [])) / len(images),
        "fit": busy_ms(fitting) / len(images),
        "label": busy_ms(labelling) / len(images),
        "replays": replays / len(images),
        "kernels_per_iteration": kernels,
    }


def of_device(events: Iterable[Any]) -> list[Any]:
    """Kernels and copies; not the ranges of the host, which a profile shows there as well."""
    return [event for event in events if event.device_type.name == "CUDA" and event.name != LABELLING]


def busy_ms(events: Iterable[Any]) -> float:
    return float(sum(event.time_range.elapsed_us() for event in events)) / 1000


def compare_silhouettes(device: str, paths: Sequence[Path]) -> dict[str, Any]:
    """How often the device finds as many clusters as the CPU, and the milliseconds of both."""
    engine = Engine(SegmentConfig(), device)
    images = read_photos(paths)
    found, expected = [], []
    seconds: dict[str, list[float]] = {"device": [], "cpu": []}
    for image in images:
        begun = time.perf_counter()
        on_device = engine.find_silhouette(image)
        halfway = time.perf_counter()
        expected.append(silhouette_phase(image, engine.config.seed).k)
        seconds["cpu"].append(time.perf_counter() - halfway)
        seconds["device"].append(halfway - begun)
        assert on_device is not None
        found.append(on_device.k)
    return {
        "photos": len(images),
        "same": sum(one == other for one, other in zip(found, expected, strict=True)) / len(images),
        **{f"{where}_ms": 1000 * statistics.median(values) for where, values in seconds.items()},
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
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    device: str = options.device
    paths = sorted(options.photos.rglob("*.[jp][pn]g"))
    steps: dict[str, Callable[[], Any]] = {
        "host_ms": lambda: time_steps(device, paths[: PHOTOS[device]]),
        "device_ms": lambda: profile_photos(device, paths[: PHOTOS[device]]),
        "silhouettes": lambda: compare_silhouettes(device, paths[: COMPARED[device]]),
        "convolution": lambda: time_convolution(device),
        "ceilings": lambda: time_ceilings(device),
    }
    figures: dict[str, Any] = {}
    table, figures["fit"] = profile_fit(device)
    (options.results / "profile.txt").write_text(table)
    print("\n".join(table.splitlines()[:25]), flush=True)
    for name, measure in steps.items():
        figures[name] = measure()
        (options.results / "profile.json").write_text(json.dumps(figures, indent=1))
        print(name, json.dumps(figures[name]), flush=True)
    fit, silhouettes = figures["fit"], figures["silhouettes"]
    print(
        f"{fit['ms_per_iteration']:.3g} ms an iteration, {fit['kernels_per_iteration']} kernels; a photo takes the host"
        f" {sum(figures['host_ms'].values()):.3g} ms; the same k in {silhouettes['same']:.0%} of"
        f" {silhouettes['photos']} photos"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The first step of ``.ci/gpu``: checks that the fast path runs and that it computes what the CPU computes.

Everything is written to ``smoke.json``, a failure with its traceback. ``.ci/gpu`` sets DYNASEG_STRICT=1, so that no
slower code runs in place of code that fails. Nothing is worth measuring before the first checks have ``passed``; the
last ones are of what a worker has besides, the captured silhouette phase and engines in several threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli import Engine, SegmentConfig
from dynaseg_cli.batch.summary import versions
from dynaseg_cli.engine.device import describe_device
from dynaseg_cli.engine.segmentation import Segmentation
from dynaseg_cli.method.silhouette import silhouette_phase
from dynaseg_cli.resampling import shrink

Photo = NDArray[np.uint8]

ROOT = Path(__file__).resolve().parents[1]
SIZE = {"cuda": (480, 320), "cpu": (48, 32)}
"""Width and height of the photo; on a CPU this is a rehearsal."""
COMPARED = {"cuda": (96, 64), "cpu": (24, 16)}
"""Width and height at which the first iterations are compared with the CPU's."""
TOLERANCES = 1e-4, 1e-2, 5e-2
"""Largest relative difference of the losses in the first iterations, in float32. Rounding grows with each: the engine
and the literal loop, both on a CPU, differed by at most 4e-7, 6e-5 and 1e-3 over four photos and three seeds. The
limits are wide because nothing else is measured if this step fails; the tests are stricter."""
TOLERANCE_BFLOAT16 = 0.05
"""The same for the first iteration in bfloat16."""
TOLERANCE_SILHOUETTE = 1e-2
"""Largest difference of a mean silhouette coefficient from the CPU's; the tests are stricter."""


LAST_NEEDED = "compared"
"""The last check without which nothing is measured."""


def environment(device: str) -> dict[str, Any]:
    """The machine, the versions and the date of the measurements."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "cpu": describe_device(torch.device("cpu")),
        "versions": versions(),
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found |= {
            "card": card.name,
            "memory_gib": round(card.total_memory / 2**30, 1),
            "multiprocessors": card.multi_processor_count,
            "driver": driver_version(),
        }
        libraries = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
        found["versions"] |= {**libraries, "triton": version("triton")}
    return found


def driver_version() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def sample_photo(width: int, height: int) -> Photo:
    with Image.open(ROOT / "sample_images" / "coffee.jpg") as image:
        return shrink(np.asarray(image.convert("RGB")), width, height)


def check_fast(result: Segmentation, device: str) -> dict[str, Any]:
    """Check that a result was made by the fused kernels and the captured graph; its figures."""
    fit = result.fit
    if device == "cuda":
        assert fit.fused, "without fused kernels"
        assert fit.captured, "without a captured graph"
    assert np.isfinite(fit.loss).all(), f"losses {fit.loss}"
    assert result.num_labels == len(np.unique(result.labels))
    return {
        "size": [result.labels.shape[1], result.labels.shape[0]],
        "fused": fit.fused,
        "captured": fit.captured,
        "iterations": fit.iterations,
        "labels": result.num_labels,
        "fit_seconds": round(fit.seconds, 3),
    }


def segment_upright_and_not(device: str, precision: Literal["float32", "bfloat16"]) -> dict[str, Any]:
    """Segment a landscape, a portrait, and the landscape again, which should get the same labels."""
    photo = sample_photo(*SIZE[device])
    portrait = np.ascontiguousarray(photo.transpose(1, 0, 2))
    iterations = 1000 if device == "cuda" else 3
    engine = Engine(SegmentConfig(min_labels=3, precision=precision, iterations=iterations), device)
    results = [engine.segment(image) for image in (photo, portrait, photo)]
    for result, image in zip(results, (photo, portrait, photo), strict=True):
        assert result.labels.shape == image.shape[:2]
    names = "landscape", "portrait", "landscape again"
    found: dict[str, Any] = {name: check_fast(result, device) for name, result in zip(names, results, strict=True)}
    found["same labels again"] = bool(np.array_equal(results[0].labels, results[2].labels))
    print(json.dumps(found))
    return found


def compare_with_the_cpu(device: str) -> dict[str, Any]:
    """Compare the losses of the first iterations at a small size with those of the CPU in float32."""
    photo = sample_photo(*COMPARED[device])
    count = len(TOLERANCES)
    config = SegmentConfig(max_size=0, levels=1, patience=0, min_labels=1, iterations=count + 2, precision="float32")
    fits = {
        "cpu": Engine(config, "cpu").segment(photo).fit,
        "float32": Engine(config, device).segment(photo).fit,
        "bfloat16": Engine(dataclasses.replace(config, precision="bfloat16"), device).segment(photo).fit,
    }
    losses = {
        name: np.array([fit.loss, fit.similarity_loss, fit.continuity_loss])[:, :count] for name, fit in fits.items()
    }
    differences = {
        name: np.abs(losses[name] / losses["cpu"] - 1).max(axis=0).tolist() for name in ("float32", "bfloat16")
    }
    report = {
        "losses": {name: fit.loss for name, fit in fits.items()},
        "labels": {name: fit.labels_per_iteration for name, fit in fits.items()},
        "relative_differences": differences,
        "tolerances": TOLERANCES,
    }
    print(json.dumps(report))
    for number, (difference, most) in enumerate(zip(differences["float32"], TOLERANCES, strict=True), 1):
        assert difference <= most, f"iteration {number} in float32: {difference:.1e} from the CPU's, above {most:.0e}"
    assert differences["bfloat16"][0] <= TOLERANCE_BFLOAT16, f"bfloat16: {differences['bfloat16'][0]:.1e} from the CPU"
    return report


def find_silhouette(device: str) -> dict[str, Any]:
    """Compare the silhouette phase on the device, which must be the captured one, with the CPU's."""
    photo = sample_photo(*SIZE[device])
    engine = Engine(SegmentConfig(), device)
    assert device == "cpu" or engine._captured_silhouette is not None, "without a captured silhouette phase"
    found, expected = engine.find_silhouette(photo), silhouette_phase(photo, engine.config.seed)
    assert found is not None
    difference = abs(found.scores[expected.k] - expected.scores[expected.k])
    assert difference <= TOLERANCE_SILHOUETTE, f"the score of k = {expected.k} is {difference:.1e} from the CPU's"
    return {"k": found.k, "k on the CPU": expected.k, "difference of scores": difference}


def segment_in_two_threads(device: str) -> dict[str, Any]:
    """Let two engines segment the same photos at once, in opposite order; an engine alone must give the same labels."""
    photo = sample_photo(*SIZE[device])
    height, width = photo.shape[:2]
    landscapes = [photo[: height - cut, : width - cut].copy() for cut in (0, height // 8, height // 4, height // 2)]
    photos = [*landscapes, *(image.transpose(1, 0, 2).copy() for image in landscapes)]
    config = SegmentConfig(min_labels=3, iterations=1000 if device == "cuda" else 3)
    alone, *engines = (Engine(config, device) for _ in range(3))
    together = threading.Barrier(len(engines))

    def segment_all(engine: Engine, step: int) -> list[Segmentation]:
        together.wait()
        return [engine.segment(image) for image in photos[::step]][::step]

    with ThreadPoolExecutor(len(engines)) as pool:
        forwards, backwards = pool.map(segment_all, engines, (1, -1))
    for image, *results in zip(photos, forwards, backwards, strict=True):
        expected = alone.segment(image).labels
        assert all(np.array_equal(result.labels, expected) for result in results), "two engines disturb each other"
    return {"photos": len(photos), "first": check_fast(forwards[0], device)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder for smoke.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    device: str = options.device
    found: dict[str, Any] = {"passed": False}
    checks: dict[str, Callable[[], dict[str, Any]]] = {
        "bfloat16": lambda: segment_upright_and_not(device, "bfloat16"),
        "float32": lambda: segment_upright_and_not(device, "float32"),
        "compared": lambda: compare_with_the_cpu(device),
        "silhouette": lambda: find_silhouette(device),
        "engines": lambda: segment_in_two_threads(device),
    }
    report = options.results / "smoke.json"
    try:
        found |= environment(device)
        print(json.dumps(found), flush=True)
        for name, check in checks.items():
            started = time.perf_counter()
            found[name] = check()
            found["passed"] = found["passed"] or name == LAST_NEEDED
            print(f"{name}: passed, {time.perf_counter() - started:.1f} s", flush=True)
            report.write_text(json.dumps(found, indent=1))
    except BaseException:  # interrupts too: the traceback shows what took too long
        found["failure"] = traceback.format_exc()
        print(found["failure"], end="", flush=True)
    report.write_text(json.dumps(found, indent=1))
    return 1 if "failure" in found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Collects what ``.ci/gpu`` keeps of the output of ``dynaseg segment``: images a second, counts and label maps.

``rates`` adds a step to ``rates.json``; ``pack`` writes labels and statistics of several steps into one archive.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import statistics
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

UNCOUNTED = 20
"""Images of each worker before the clock starts: the process is still starting, or has images decoded ahead."""
MOST_WORKERS = 8
"""Workers that a device has by default, at most."""
MOST_BYTES = 15 * 2**20
"""Limit on the size of an archive; files of more than 16 MiB may not come back."""


def images_per_second(finished: Iterable[float], uncounted: int) -> tuple[float | None, int]:
    """The rate from the `uncounted`-th image to the last, and the number of images it covers.

    With few images it covers the second half. With fewer than two the rate is None.
    """
    times = sorted(finished)
    uncounted = max(1, min(uncounted, len(times) // 2))
    counted = len(times) - uncounted
    if counted < 1 or times[-1] <= times[uncounted - 1]:
        return None, 0
    return counted / (times[-1] - times[uncounted - 1]), counted


def busy_percent(log: str, since: float, until: float) -> float | None:
    """Mean of the device's utilisation between two moments; None if it was not noted then.

    Parameters
    ----------
    log : lines of ``nvidia-smi``, a local time and a percentage.
    since, until : in seconds since 1970.
    """
    percentages = []
    for line in log.splitlines():
        try:
            moment, percentage = line.split(",")
            at = datetime.datetime.strptime(moment.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
            if since <= at <= until:
                percentages.append(float(percentage))
        except ValueError:  # a line cut short, an error message, or a device that does not tell
            continue
    return statistics.mean(percentages) if percentages else None


def describe(output: Path, workers: int | None, busy: str = "") -> dict[str, Any]:
    """The figures of a folder of results, finished or broken off.

    Parameters
    ----------
    workers : None if the command decided.
    busy : see `busy_percent`.
    """
    paths = sorted((output / "stats").rglob("*.json"))
    stats = [json.loads(path.read_text()) for path in paths]
    fits = [one["fit"] for one in stats]
    finished = sorted(path.stat().st_mtime for path in paths)
    rate, counted = images_per_second(finished, UNCOUNTED * (workers or MOST_WORKERS))
    run_path = output / "run.json"
    run = json.loads(run_path.read_text()) if run_path.exists() else {}
    return {
        "workers": workers,
        "images": len(stats),
        "images_per_second": rate,
        "counted": counted,
        "busy_percent": busy_percent(busy, finished[-1 - counted], finished[-1]) if counted else None,
        "fit_seconds": median(fit["seconds"] for fit in fits),
        "iterations": median(fit["iterations"] for fit in fits),
        "ms_per_iteration": median(1000 * fit["seconds"] / fit["iterations"] for fit in fits if fit["iterations"]),
        "labels": median(one["num_labels"] for one in stats),
        "stop_reasons": dict(Counter(fit["stop_reason"] for fit in fits)),
        "precision": sorted({fit["precision"] for fit in fits}),
        "fused": sum(fit["fused"] for fit in fits),
        "captured": sum(fit["captured"] for fit in fits),
        "device": sorted({one["device"] for one in stats}),
        **{key: run.get(key) for key in ("failed", "interrupted", "seconds", "versions")},
    }


def median(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def pack(archive: Path, outputs: Sequence[Path], most_bytes: int = MOST_BYTES) -> list[str]:
    """Write the labels and statistics of folders to a .tar.gz of at most `most_bytes`; returns the photos left out.

    A photo's files are packed together or not at all. The archive is complete or absent.
    """
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, archive.name)
        with made.open("wb") as stream, tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as tar:
            for output in outputs:
                for stats in sorted((output / "stats").rglob("*.json")):
                    name = stats.relative_to(output / "stats").with_suffix("")
                    files = [output / "labels" / f"{name}.png", stats]
                    # Bytes written so far, bytes that may wait in the compressor, and these files uncompressed.
                    if stream.tell() + sum(file.stat().st_size for file in files) + 2**18 > most_bytes:
                        left_out.append(f"{output.name}/{name}")
                        continue
                    for file in files:
                        tar.add(file, f"{output.name}/{file.relative_to(output)}")
        shutil.move(made, archive)
    return left_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    rates = commands.add_parser("rates", help="add a step to RESULTS/rates.json")
    rates.add_argument("results", type=Path)
    rates.add_argument("output", type=Path, help="what segment wrote; its name is the step's")
    rates.add_argument("--workers", type=int, help="default: the command decided")
    rates.add_argument("--busy", type=Path, help="what nvidia-smi noted meanwhile, if it is there")
    packing = commands.add_parser("pack", help="archive labels and statistics")
    packing.add_argument("archive", type=Path)
    packing.add_argument("outputs", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "pack":
        left_out = pack(options.archive, options.outputs)
        print(f"{options.archive.name}: {options.archive.stat().st_size / 2**20:.1f} MiB")
        if left_out:
            print(f"left out for lack of space: {len(left_out)}, the first {left_out[0]}")
        return 0
    document = options.results / "rates.json"
    steps = json.loads(document.read_text()) if document.exists() else {}
    busy = options.busy.read_text(errors="replace") if options.busy and options.busy.exists() else ""
    steps[options.output.name] = figures = describe(options.output, options.workers, busy)
    document.write_text(json.dumps(steps, indent=1))
    rate, percent = (
        "-" if value is None else f"{value:.2f}" for value in (figures["images_per_second"], figures["busy_percent"])
    )
    print(
        f"{options.output.name}: {figures['images']} images, {rate} a second over {figures['counted']},"
        f" device {percent} % busy, {figures['fused']} fused, {figures['captured']} captured"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

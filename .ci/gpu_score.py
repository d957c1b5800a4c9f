"""Scores what ``.ci/gpu`` brought back and writes ``results.json`` and ``table.md`` beside it. Needs no GPU.

The CPU labels the photos of the default step by the same command; its labels are kept, so that a second call is quick.
Labels are scored against BSDS500's ground truth, from the folder that DYNASEG_BSDS500 names.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_tables import CPU, render

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = "labels-default.tar.gz", "labels-paper.tar.gz"
CHECKS = "bfloat16", "float32", "compared", "silhouette", "engines"
"""What the first step found, by check."""
PAIRS = ("default", CPU), ("paper-scf", "default"), ("paper-scf", "paper-fsf"), ("paper-scf", "paper-literal")
"""Whose labels of the same photos are compared."""

Row = dict[str, float]
Rows = dict[str, Row]
"""Metrics by image."""


def paired_differences(ones: Rows, others: Rows) -> dict[str, dict[str, float | int | None]]:
    """By metric, the mean difference over the images of both, its standard error, and the number of images."""
    images = sorted(set(ones) & set(others))
    metrics = [name for name in next(iter(ones.values()), {}) if name in next(iter(others.values()), {})]
    found: dict[str, dict[str, float | int | None]] = {}
    for metric in metrics:
        known = [image for image in images if metric in ones[image] and metric in others[image]]
        differences = [ones[image][metric] - others[image][metric] for image in known]
        if differences:
            several = len(differences) > 1
            error = statistics.stdev(differences) / len(differences) ** 0.5 if several else None
            found[metric] = {"mean": statistics.mean(differences), "standard_error": error, "images": len(known)}
    return found


def iteration_table(benchmark: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Milliseconds an iteration by size, of each loop that ``dynaseg benchmark`` timed."""
    loops = []
    for method in benchmark.get("methods", []):
        options = method["options"]
        by_size = {
            f"{size['width']}x{size['height']}": 1000 * size["stages"]["fit"] / size["iterations"]
            for size in method["sizes"]
            if size["iterations"]
        }
        name = "literal loop, float32" if options["literal"] else options["precision"]
        loops.append({"loop": name, "ms": by_size, "fused": method.get("fused"), "captured": method.get("captured")})
    return loops


def same_share(ones: Mapping[str, int | None], others: Mapping[str, int | None]) -> float | None:
    """Share of equal numbers among the images for which both have one."""
    both = [name for name in ones if ones[name] is not None and others.get(name) is not None]
    return sum(ones[name] == others[name] for name in both) / len(both) if both else None


def read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def read_stats(output: Path) -> dict[str, dict[str, Any]]:
    """Statistics by the name of the image."""
    folder = output / "stats"
    return {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text())
        for path in sorted(folder.rglob("*.json"))
    }


def dynaseg(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "dynaseg_cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=False)


def label_on_the_cpu(names: Iterable[str], photos: Path, output: Path) -> None:
    """Segment photos, by their path below a folder without extension, with the defaults; what is there stays."""
    wanted = set(names)
    paths = (path.relative_to(photos) for path in sorted(photos.rglob("*")) if path.is_file())
    chosen = [path for path in paths if path.with_suffix("").as_posix() in wanted]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.writelines(f"{path}\n" for path in chosen)
        listed.flush()
        done = dynaseg("segment", "--files-from", listed.name, "-o", output.resolve(), "--device", "cpu", cwd=photos)
    if done.returncode:
        print(f"warning: the CPU's labels are incomplete (exit code {done.returncode})")


class Scorer:
    """Scores folders of labels against one ground truth, each set of images once."""

    def __init__(self, truth: Path | None, work: Path) -> None:
        self._truth = truth
        self._work = work
        self._scored: dict[tuple[Path, frozenset[str]], tuple[Row, Rows]] = {}
        self._known = set()
        if truth is not None:
            self._known = {path.relative_to(truth).with_suffix("").as_posix() for path in truth.rglob("*.*")}

    def score(self, output: Path, names: Iterable[str]) -> tuple[Row, Rows]:
        """The metrics over the images that have a ground truth, and of each."""
        images = frozenset(names) & self._known
        if not images:
            return {}, {}
        if (output, images) not in self._scored:
            self._scored[output, images] = self._evaluate(output, sorted(images))
        return self._scored[output, images]

    def _evaluate(self, output: Path, images: Sequence[str]) -> tuple[Row, Rows]:
        assert self._truth is not None
        names, table = self._work / "images.txt", self._work / "images.csv"
        names.write_text("".join(f"{name}\n" for name in images))
        lists: list[str | Path] = ["--image-list", names, "--per-image", table]
        done = dynaseg("evaluate", output, self._truth, *lists, "--json", "--quiet")
        if done.returncode:
            print(f"warning: {output.name} was not scored (exit code {done.returncode})")
            return {}, {}
        with table.open(newline="") as stream:
            rows = {row.pop("image"): row for row in csv.DictReader(stream)}
        numbers = {image: {name: float(text) for name, text in row.items() if text} for image, row in rows.items()}
        return json.loads(done.stdout)["metrics"], numbers


def compare(one: str, other: str, folders: Mapping[str, Path], scorer: Scorer) -> dict[str, Any] | None:
    """Two steps' labels of the photos that both have; None where there are none."""
    stats = [read_stats(folders[name]) for name in (one, other) if name in folders]
    images = sorted(set.intersection(*map(set, stats))) if len(stats) == 2 else []
    if not images:
        return None
    of_images = [{image: document[image] for image in images} for document in stats]
    scores = [scorer.score(folders[name], images) for name in (one, other)]
    silhouettes = [
        {image: (entry["fit"]["silhouette"] or {}).get("k") for image, entry in document.items()}
        for document in of_images
    ]
    return {
        "steps": [one, other],
        "images": len(images),
        "same_silhouette": same_share(*silhouettes),
        "mean_labels": [statistics.mean(entry["num_labels"] for entry in document.values()) for document in of_images],
        "scored": len(scores[0][1]),
        "metrics": [metrics for metrics, _ in scores],
        "differences": paired_differences(scores[0][1], scores[1][1]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="what .ci/gpu filled")
    parser.add_argument("--output", type=Path, help="folder for results.json and table.md (default: RESULTS)")
    parser.add_argument("--photos", type=Path, default=ROOT / ".gpu" / "photos", help="as they were prepared")
    parser.add_argument("--ground-truth", type=Path, help="folder with val and train (default: that of BSDS500)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".gpu" / "cpu", help="for the CPU's labels")
    parser.add_argument("--most", type=int, default=0, metavar="N", help="photos that the CPU labels; 0 is all")
    options = parser.parse_args()
    results, truth = options.results, options.ground_truth
    if truth is None and "DYNASEG_BSDS500" in os.environ:
        truth = Path(os.environ["DYNASEG_BSDS500"], "groundTruth")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for archive in (results / name for name in ARCHIVES):
            if archive.exists():
                with tarfile.open(archive) as tar:
                    tar.extractall(work, filter="data")
        folders = {path.name: path for path in sorted(work.iterdir())}
        if "default" in folders:
            names = sorted(read_stats(folders["default"]), key=lambda name: (not name.startswith("val/"), name))
            label_on_the_cpu(names[: options.most or None], options.photos, options.cache)
            folders[CPU] = options.cache
        scorer = Scorer(truth.resolve() if truth is not None and truth.is_dir() else None, work)
        pairs = [compare(one, other, folders, scorer) for one, other in PAIRS]
        quality = {}
        for name, output in folders.items():
            metrics, rows = scorer.score(output, read_stats(output))
            quality[name] = {"images": len(rows), "metrics": metrics}
    smoke = read_json(results / "smoke.json")
    measured = {
        "environment": {key: smoke[key] for key in smoke if key not in CHECKS},
        "smoke": {key: smoke.get(key) for key in ("passed", *CHECKS, "failure")},
        "iterations": iteration_table(read_json(results / "iterations.json")),
        "profile": read_json(results / "profile.json"),
        "steps": read_json(results / "rates.json"),
        "quality": quality,
        "pairs": [pair for pair in pairs if pair is not None],
    }
    output = options.output or results
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(measured, indent=1))
    (output / "table.md").write_text(render(measured))
    print(render(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())

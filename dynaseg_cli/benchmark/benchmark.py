"""A benchmark: every method on every image, the methods taking turns so that a busy machine is unfair to none."""

from __future__ import annotations

import contextlib
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..batch.decoding import decode, read_source
from ..batch.discovery import discover
from ..batch.job import Job
from ..batch.outcome import versions
from ..batch.writing import write_colors, write_labels
from ..config import BatchConfig, EvaluateConfig
from ..engine.device import describe_device, resolve_device
from ..errors import ImageError, UsageError
from ..evaluation.agreement import Row
from ..evaluation.evaluate import Evaluation
from ..evaluation.pairing import composed, label_files
from .methods import Labelled, Method, make_method
from .variants import Variant

WARM_UP = 32
"""Side in pixels of the piece of the first image that each method is run on once, before anything is timed."""


@dataclass
class MethodReport:
    """What one variant did, over the images so far."""

    variant: Variant
    done: list[str] = field(default_factory=list)
    """Names of the images that this run has labelled."""
    seconds: list[float] = field(default_factory=list)
    """Of wall time for each image, from decoded pixels to labels."""
    iterations: list[int] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    """Seconds for each image by stage."""
    failures: list[dict[str, str]] = field(default_factory=list)
    metrics: Row = field(default_factory=dict)
    """Against the ground truth, once everything is done."""

    def add(self, name: str, labelled: Labelled) -> None:
        self.done.append(name)
        self.seconds.append(labelled.seconds)
        if labelled.iterations is not None:
            self.iterations.append(labelled.iterations)
        for stage, seconds in labelled.stages.items():
            self.stages.setdefault(stage, []).append(seconds)

    def row(self) -> Row:
        """The line of the table: medians over the images, and the metrics."""
        return {"seconds": _median(self.seconds), "iterations": _median(self.iterations), **self.metrics}

    def document(self) -> dict[str, Any]:
        return {
            "name": self.variant.name,
            "method": self.variant.method,
            "options": asdict(self.variant.config),
            "images": len(self.seconds),
            "failures": self.failures,
            "seconds": {"median": _median(self.seconds), "total": sum(self.seconds)},
            "iterations": _median(self.iterations),
            "stages": {stage: _median(seconds) for stage, seconds in self.stages.items()},
            "metrics": self.metrics,
        }


class Benchmark:
    """Methods against each other on the same images. Everything is decided when it is made; `run` does the work.

    Parameters
    ----------
    inputs : image files, and folders of them.
    variants : the methods, each with its options.
    output : folder for the results: ``OUTPUT/VARIANT/labels/...`` and ``color/...``.
    truth : ground truth as `evaluate` takes it, or None for seconds alone.
    evaluate : how to score against it.
    max_images : take only so many, the first by name; 0 takes all.
    device : auto, cpu, cuda, cuda:N or mps; the classical methods compute on the CPU.

    Raises
    ------
    UsageError
        If there are no images, none has a ground truth, or the device does not exist.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        variants: Sequence[Variant],
        output: Path,
        truth: Path | None = None,
        evaluate: EvaluateConfig | None = None,
        max_images: int = 0,
        device: str = "auto",
    ) -> None:
        self._batch = BatchConfig()
        jobs = discover(inputs, [], output, self._batch).jobs
        self.jobs: list[Job] = jobs[:max_images] if max_images else jobs
        self.reports = [MethodReport(variant) for variant in variants]
        self._output = output
        self.notes: list[str] = []
        """What a reader of the metrics must know, in whole sentences."""
        self._truth = truth
        self._evaluate = evaluate or EvaluateConfig()
        self._device = resolve_device(device)
        self._methods: list[Method] = [make_method(variant, str(self._device)) for variant in variants]
        if truth is not None:
            known = label_files(truth)
            self._scorable = {job.name for job in self.jobs if composed(job.name) in known}
            if not self._scorable:
                raise UsageError(f"none of the images has a ground truth in {truth}: files pair by name")
            if len(self._scorable) < len(self.jobs):
                alone = [job.name for job in self.jobs if job.name not in self._scorable]
                self.notes.append(
                    f"Without a ground truth, and so without a score: {len(alone)} of the images, {alone[0]} first."
                )

    @property
    def steps(self) -> int:
        """How many times `run` yields."""
        return len(self.jobs) * len(self.reports)

    @property
    def failures(self) -> int:
        return sum(len(report.failures) for report in self.reports)

    def run(self) -> Iterator[tuple[Job, Variant, str | None]]:
        """Every image by every method; the third is why it failed."""
        warm = False
        for number, job in enumerate(self.jobs):
            image, reason = self._decode(job)
            if image is not None and not warm:
                for method in self._methods:
                    with contextlib.suppress(ImageError):  # it fails again, and is named, when its turn comes
                        method(image[:WARM_UP, :WARM_UP])
                warm = True
            # Each image is begun by another method: none is always the one that finds the caches cold.
            order = np.roll(np.arange(len(self.reports)), -number)
            for index in order:
                report = self.reports[index]
                failed = reason if image is None else self._segment(job, image, report, self._methods[index])
                if failed is not None:
                    report.failures.append({"path": str(job.source), "reason": failed})
                yield job, report.variant, failed

    def score(self) -> None:
        """Compare what `run` wrote with the ground truth."""
        if self._truth is None:
            return
        for report in self.reports:
            # Not all that lies in the folder: an earlier run may have left more there.
            names = [name for name in report.done if name in self._scorable]
            if names:
                evaluation = Evaluation(self._folder(report.variant), self._truth, self._evaluate, names)
                for scored in evaluation.run():
                    if scored.reason is not None:
                        report.failures.append({"path": scored.pair.name, "reason": scored.reason})
                report.metrics = evaluation.metrics()
                self.notes += [note for note in evaluation.notes if note not in self.notes]

    def document(self) -> dict[str, Any]:
        """What ``--save`` writes and ``--json`` prints."""
        return {
            "images": len(self.jobs),
            "ground_truth": None if self._truth is None else str(self._truth),
            "notes": self.notes,
            "device": describe_device(self._device),
            "cpu": describe_device(torch.device("cpu")),
            "platform": platform.platform(),
            "versions": {**versions(), "scikit-image": _version("scikit-image")},
            "methods": [report.document() for report in self.reports],
        }

    def rows(self) -> list[tuple[str, Row]]:
        """The table: a line for each method."""
        return [(report.variant.name, report.row()) for report in self.reports]

    def _folder(self, variant: Variant) -> Path:
        return self._output / variant.name

    def _decode(self, job: Job) -> tuple[NDArray[np.uint8] | None, str | None]:
        try:
            return decode(read_source(job.source)[0], self._batch.max_pixels), None
        except ImageError as error:
            return None, str(error)
        except OSError as error:
            return None, error.strerror or str(error)

    def _segment(self, job: Job, image: NDArray[np.uint8], report: MethodReport, method: Method) -> str | None:
        folder = self._folder(report.variant)
        try:
            labelled = method(image)
            write_labels(job.result(folder, "labels"), labelled.labels)
            write_colors(job.result(folder, "color"), labelled.labels)
        except ImageError as error:
            return str(error)
        except MemoryError:
            return "out of memory"
        except OSError as error:
            return f"{error.strerror or error}: {error.filename}"
        report.add(job.name, labelled)
        return None


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

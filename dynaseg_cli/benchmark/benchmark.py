"""A benchmark: every method on every image, the methods taking turns so that a busy machine is unfair to none."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..batch.decoding import decode, read_source
from ..batch.discovery import discover
from ..batch.job import Job
from ..batch.output_folder import mark_output, refuse_foreign
from ..batch.summary import versions
from ..config import BatchConfig, EvaluateConfig, FelzenszwalbConfig, SegmentConfig
from ..engine.device import describe_device, resolve_device
from ..engine.memory import release_memory
from ..errors import ImageError, UsageError
from ..evaluation.agreement import Row
from ..evaluation.evaluate import Evaluation
from ..evaluation.label_folders import composed
from ..evaluation.pairing import scorable
from ..pictures.palette import palette_colors
from ..writing import write_colors, write_labels
from .memory import peak_bytes, reset_peak
from .methods import Method, make_method
from .region_curve import PROTOCOLS, RegionCurve, curve_steps, make_curve
from .report import MethodReport, Run
from .stream import Stream, steps_of_stream
from .variants import Variant

WARM_UP = 32
"""Side in pixels of the piece of the first image that each method is run on once, before anything is timed."""


class Benchmark:
    """Methods against each other on the same images. Everything is decided when it is made.

    `run` does the work. After it, `stream` times this tool as `segment` runs it, and `score` compares with the ground
    truth, `curves` at other numbers of regions, too.

    Parameters
    ----------
    inputs : image files, and folders of them.
    variants : the methods, each with its options.
    output : folder for the results: ``OUTPUT/VARIANT/labels/...`` and ``color/...``.
    truth : ground truth as `evaluate` takes it, or None for seconds alone.
    evaluate : how to score against it.
    max_images : take only so many, the first by name; 0 takes all.
    repeats : how often each method labels each image, the methods in reverse order every other time (A B B A).
    device : auto, cpu, cuda, cuda:N or mps; the classical methods compute on the CPU.

    Raises
    ------
    UsageError
        If there are no images, none has a ground truth, the device does not exist, or a result would replace a file
        that dynaseg did not write.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        variants: Sequence[Variant],
        output: Path,
        truth: Path | None = None,
        evaluate: EvaluateConfig | None = None,
        max_images: int = 0,
        repeats: int = 1,
        device: str = "auto",
    ) -> None:
        self._batch = BatchConfig()
        found = discover(inputs, [], output, self._batch)
        self.jobs: list[Job] = found.jobs[:max_images] if max_images else found.jobs
        self.reports = [MethodReport(variant) for variant in variants]
        self._output = output
        self.notes: list[str] = []
        """What a reader of the metrics must know, in whole sentences."""
        if found.passed_over:
            self.notes.append(f"Passed over: {found.passed_over.describe()}.")
        for variant in variants:
            results = (job.result(Path(), product) for job in self.jobs for product in ("labels", "color"))
            refuse_foreign(self._folder(variant), map(str, results))
        self.truth = truth
        self._evaluate = evaluate or EvaluateConfig()
        self._repeats = repeats
        self._device = resolve_device(device)
        self._methods: list[Method] = []
        self._scored: dict[str, Evaluation] = {}
        """By the variant's name."""
        for report in self.reports:
            started = time.perf_counter()
            self._methods.append(make_method(report.variant, str(self._device)))
            report.preparation = time.perf_counter() - started
        self._scorable: set[str] = set()
        if truth is not None:
            known = scorable((job.name for job in self.jobs), truth)
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
        return len(self.jobs) * len(self.reports) * self._repeats

    @property
    def stream_steps(self) -> int:
        """How many times `stream` yields where no image fails."""
        return len(self._streamed) * steps_of_stream(len(self.jobs), str(self._device)) if self.jobs else 0

    @property
    def curve_steps(self) -> int:
        """How many times `curves` yields where no image fails, unless the files turn out to need another protocol."""
        if self._evaluate.protocol not in ("auto", *PROTOCOLS):
            return 0
        return len(self._scorable) * sum(curve_steps(report.variant.config) for report in self._curved)

    @property
    def failures(self) -> int:
        return sum(len(report.failures) for report in self.reports)

    def run(self) -> Iterator[tuple[Job, Variant, str | None]]:
        """Every image by every method, as often as was asked; the third is why it failed."""
        warm = False
        for number, job in enumerate(self.jobs):
            started = time.perf_counter()
            image, reason = self._decode(job)
            decode_seconds = time.perf_counter() - started
            if image is not None and not warm:
                self._warm_up(image[:WARM_UP, :WARM_UP])
                warm = True
            # Each image is begun by another method: none is always the one that finds the caches cold.
            order = np.roll(np.arange(len(self.reports)), -number)
            for repeat in range(self._repeats):
                for index in order[:: -1 if repeat % 2 else 1]:
                    report = self.reports[index]
                    failed = reason
                    if image is not None:
                        failed = self._segment(job, image, report, self._methods[index], repeat, decode_seconds)
                    if failed is not None:
                        report.failures.append({"path": job.path, "reason": failed})
                    yield job, report.variant, failed

    def _warm_up(self, image: NDArray[np.uint8]) -> None:
        for report, method in zip(self.reports, self._methods, strict=True):
            started = time.perf_counter()
            with contextlib.suppress(ImageError):  # it fails again, and is named, when its turn comes
                method(image)
            report.preparation += time.perf_counter() - started

    def stream(self) -> Generator[tuple[Job, Variant, str | None], None, None]:
        """Every one of this tool's own methods on the images that it has labelled, each in a process of its own; the
        third is why it failed, which ends that method's stream. Closing the iterator ends the process.
        """
        for report, config in self._streamed:
            jobs = [job for job in self.jobs if job.name in set(report.done)]
            if not jobs:
                continue
            report.stream = Stream(config, jobs, str(self._device))
            release_memory(self._device)  # the other process needs it
            with contextlib.closing(report.stream.run(self._output)) as steps:
                for job, why in steps:
                    reason = None if why is None else f"as a stream: {why}"
                    if reason is not None:
                        report.failures.append({"path": job.path, "reason": reason})
                    yield job, report.variant, reason

    @property
    def _streamed(self) -> list[tuple[MethodReport, SegmentConfig]]:
        """The methods that `segment` has."""
        own = [report for report in self.reports if report.variant.method != "reference"]
        return [(report, report.variant.config) for report in own if isinstance(report.variant.config, SegmentConfig)]

    def score(self) -> None:
        """Compare what `run` wrote with the ground truth."""
        if self.truth is None:
            return
        for report in self.reports:
            # Not all that lies in the folder: an earlier run may have left more there.
            names = [name for name in report.done if name in self._scorable]
            if names:
                evaluation = Evaluation(self._folder(report.variant), self.truth, self._evaluate, names)
                for scored in evaluation.run():
                    if scored.reason is not None:
                        report.failures.append({"path": scored.pair.name, "reason": scored.reason})
                report.metrics = evaluation.metrics()
                report.ignored_fraction = evaluation.ignored_fraction
                self._scored[report.variant.name] = evaluation
                self.notes += [note for note in evaluation.notes if note not in self.notes]

    def curves(self) -> Generator[tuple[Job, Variant, str | None], None, None]:
        """What `score` has scored, at other numbers of regions, an image in several steps; the third is why it failed,
        which leaves it out of that method's curve. Closing the iterator leaves the curves as they are.
        """
        curves = self._make_curves()
        try:
            for job in self.jobs:
                name = composed(job.name)
                here = [(report, curve) for report, curve in curves if curve.takes(name)]
                image, reason = self._decode(job) if here else (None, None)
                for report, curve in here:
                    for why in [reason] if image is None else curve.add(name, image):
                        failed = None if why is None else f"in its curve: {why}"
                        if failed is not None:
                            report.failures.append({"path": job.path, "reason": failed})
                        yield job, report.variant, failed
        finally:
            if curves:
                counts = ", ".join(f"{report.variant.name} {curve.images}" for report, curve in curves)
                self.notes.append(f"Images in the curves over the number of segments: {counts}.")

    def _make_curves(self) -> list[tuple[MethodReport, RegionCurve]]:
        """An empty one for each method that has one under the protocol."""
        curves = []
        for report in self._curved:
            evaluation = self._scored.get(report.variant.name)
            curve = make_curve(report.variant.config, evaluation) if evaluation else None
            if curve is not None:
                report.curve = curve
                curves.append((report, curve))
        others = {evaluation.protocol for evaluation in self._scored.values()} - set(PROTOCOLS)
        self.notes += [
            f"No curves over the number of segments: protocol {protocol} compares none." for protocol in sorted(others)
        ]
        return curves

    @property
    def _curved(self) -> list[MethodReport]:
        """The methods that have a curve; of several Felzenszwalb's one, since all have the same."""
        own, theirs = (
            [report for report in self.reports if isinstance(report.variant.config, config)]
            for config in (SegmentConfig, FelzenszwalbConfig)
        )
        return own + theirs[:1]

    def document(self) -> dict[str, Any]:
        """What ``--save`` writes and ``--json`` prints."""
        return {
            "images": len(self.jobs),
            "ground_truth": None if self.truth is None else str(self.truth),
            "notes": self.notes,
            "device": describe_device(self._device),
            "cpu": describe_device(torch.device("cpu")),
            "platform": platform.platform(),
            "versions": {**versions(), "scikit-image": _version("scikit-image")},
            "repeats": self._repeats,
            "methods": [report.document(self._reference) for report in self.reports],
        }

    def rows(self) -> list[tuple[str, Row]]:
        """The table: a line for each method."""
        return [(report.variant.name, report.row(self._reference)) for report in self.reports]

    def tables(self) -> list[list[tuple[str, Row]]]:
        """More in the width of a terminal: speed, where seconds and memory go, and metrics, if any, beside seconds."""
        names = [report.variant.name for report in self.reports]
        speed = [report.speed(self._reference) for report in self.reports]
        costs = [report.costs(self._reference) for report in self.reports]
        quality = [
            {"seconds": row["seconds"], **report.quality} for report, row in zip(self.reports, speed, strict=True)
        ]
        scored = any(report.metrics for report in self.reports)
        return [list(zip(names, table, strict=True)) for table in (speed, costs, *([quality] if scored else []))]

    @property
    def _reference(self) -> MethodReport | None:
        """What the others' seconds are compared with, if it was asked for."""
        return next((report for report in self.reports if report.variant.method == "reference"), None)

    def _folder(self, variant: Variant) -> Path:
        # The path of a file of weights may be part of the name, which is to be one folder.
        return self._output / variant.name.replace("/", "_")

    def _decode(self, job: Job) -> tuple[NDArray[np.uint8] | None, str | None]:
        try:
            max_pixels = self._batch.max_pixels
            return decode(read_source(job.source, max_pixels)[0], max_pixels), None
        except ImageError as error:
            return None, str(error)
        except OSError as error:
            return None, error.strerror or str(error)

    def _segment(
        self,
        job: Job,
        image: NDArray[np.uint8],
        report: MethodReport,
        method: Method,
        repeat: int,
        decode_seconds: float,
    ) -> str | None:
        folder = self._folder(report.variant)
        reset_peak(self._device)
        try:
            labelled = method(image)
            host, device = peak_bytes(self._device)
            started = time.perf_counter()
            mark_output(folder)
            write_labels(job.result(folder, "labels"), labelled.labels)
            write_colors(job.result(folder, "color"), labelled.labels, palette_colors(int(labelled.labels.max()) + 1))
        except ImageError as error:
            return str(error)
        except MemoryError:
            return "out of memory"
        except OSError as error:
            return f"{error.strerror or error}: {error.filename}"
        report.runs.append(
            Run(
                image=job.name,
                width=labelled.labels.shape[1],
                height=labelled.labels.shape[0],
                repeat=repeat,
                iterations=labelled.iterations,
                stages=labelled.stages,
                decode=decode_seconds,
                write=time.perf_counter() - started,
                host_bytes=host,
                device_bytes=device,
                fused=labelled.fused,
                captured=labelled.captured,
            )
        )
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

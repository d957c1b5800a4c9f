"""A benchmark: every method on every image, the methods taking turns so that a busy machine is unfair to none.

Methods of one label space are fitted to all images first, one method after another.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..baselines.settings import FelzenszwalbConfig
from ..batch.discovery import discover
from ..batch.summary import versions
from ..config import BatchConfig, CutConfig, EvaluateConfig, Product, SegmentConfig
from ..engine.device import describe_device, release_memory, resolve_device
from ..errors import ImageError, UsageError, reason
from ..evaluation.class_scores import MANY_TO_ONE, without_many_to_one
from ..evaluation.evaluate import Evaluation
from ..evaluation.headings import Row, written
from ..evaluation.label_files import composed
from ..evaluation.pairing import scorable
from ..files.encoding import palette_png, png
from ..files.output_folder import Job, OutputFolder
from ..pictures.palette import palette_colors
from ..regions.hierarchy import boundary_map
from .folder_fits import FolderFit, make_folder_fit
from .measurement import FolderFitCosts, Run, peak_memory, reset_peak, return_freed_memory
from .methods import Method, make_method, read_pixels
from .region_curve import PROTOCOLS, Point, RegionCurve, curve_steps, make_curve, points_of_hierarchies
from .results import MethodResults
from .stream import Stream, steps_of_stream
from .variants import Variant
from .work_left import Kind, WorkLeft, expected_cost

WARM_UP = 32
"""Side in pixels of the piece of the first image that each method is run on once, before anything is timed."""

OF_ONE_IMAGE = (
    "Figures of classes mean nothing here: each image is segmented by itself, so that a label means something else in"
    " every image (`fit=folder` compares methods of one label space)."
)
NOT_COMPARED = (
    "Not among the methods, because they need what no folder of photos has: DenseSiam trains its dense features from"
    " those of another pretraining, HSG learns a hierarchy of pixel features from contours and another pretraining, and"
    " ReCo+ takes names of classes, a language-image model (CLIP) and an archive of photos to look them up in."
)
"""Of the methods of the paper's Tables II and III. Zhang et al. 2022, arXiv:2203.11075; Ke et al. 2022,
arXiv:2204.11432; Shin et al. 2022, arXiv:2206.07045."""

WRITTEN: tuple[Product, ...] = ("labels", "color", "raw")

Step = tuple[Job | None, Variant, str | None]
"""An image that a method was run on, None if the method failed as a whole; and the reason if it failed."""


class Benchmark:
    """Methods against each other on the same images. Everything is decided when it is made.

    `fit` fits methods of one label space, if there are any, and `run` does the work. After it, `stream` times this tool
    as `segment` runs it, `score` compares with the ground truth, and `curves` does so at other numbers of regions.

    Parameters
    ----------
    inputs : image files, and folders of them.
    variants : the methods, each with its options: all of one label space, or none.
    output : folder for the results: ``OUTPUT/VARIANT/labels/...`` and ``color/...``, of this tool's own methods
        ``raw/...``, and with a pretrained backbone ``hierarchy/...``, too.
    truth : ground truth as `evaluate` takes it, or None for seconds alone.
    evaluate : how to score against it.
    max_images : number of images to take, the first by name; 0 takes all.
    repeats : how often each method labels each image, the methods in reverse order every other time (A B B A).
    device : auto, cpu, cuda, cuda:N or mps; the classical methods compute on the CPU.
    hierarchies : of the same images by another method, as `evaluate` reads them; scored beside the methods.
    fit_on : folder of images, or a file, that methods of one label space are fitted to; None for the images themselves.

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
        hierarchies: Path | None = None,
        fit_on: Path | None = None,
    ) -> None:
        self._batch = BatchConfig()
        found = discover(inputs, [], output, self._batch)
        self.jobs: list[Job] = found.jobs[:max_images] if max_images else found.jobs
        self.results = [MethodResults(variant) for variant in variants]
        self._output = output
        self.notes: list[str] = []
        """Notes for readers of the metrics, in whole sentences."""
        if found.passed_over:
            self.notes.append(f"Passed over: {found.passed_over.describe()}.")
        self.fit_on = fit_on
        self._fit_jobs = self.jobs
        """The images that methods of one label space are fitted to."""
        if fit_on is not None:
            found = discover([fit_on], [], output, self._batch)
            self._fit_jobs = found.jobs
            if found.passed_over:
                self.notes.append(f"Passed over in {fit_on}: {found.passed_over.describe()}.")
        if not self._fit_jobs and any(variant.fits_folder for variant in variants):
            raise UsageError(f"{fit_on or inputs[0]}: there is no image that can be read, and so nothing to fit to")
        for variant in variants:
            folder = OutputFolder(self._folder(variant))
            results = (folder.result(job, product) for job in self.jobs for product in WRITTEN)
            folder.refuse_foreign(str(path.relative_to(folder.path)) for path in results)
        self.truth = truth
        self._evaluate = evaluate or EvaluateConfig()
        self._repeats = repeats
        self._device = resolve_device(device)
        self._methods: dict[str, Method | FolderFit] = {}
        self._scored: dict[str, Evaluation] = {}
        """Both by the variant's name."""
        self._left = WorkLeft({}, {})
        for result in self.results:
            started = time.perf_counter()
            variant = result.variant
            self._methods[variant.name] = (
                make_folder_fit(variant, self._device)
                if variant.fits_folder
                else make_method(variant, str(self._device))
            )
            result.preparation = time.perf_counter() - started
        self._scorable: set[str] = set()
        if truth is not None:
            known = scorable((job.name for job in self.jobs), truth)
            self._scorable = {job.name for job in self.jobs if composed(job.name) in known}
            if not self._scorable:
                raise UsageError(f"none of the images has a ground truth in {truth}: files pair by name")
            alone = [job.name for job in self.jobs if job.name not in self._scorable]
            if alone:
                self.notes.append(
                    f"Without a ground truth, and so without a score: {len(alone)} of the images, {alone[0]} first."
                )
        self._hierarchies: Evaluation | None = None
        if hierarchies is not None and truth is not None:
            names = [job.name for job in self.jobs if job.name in self._scorable]
            self._hierarchies = Evaluation(hierarchies, truth, replace(self._evaluate, use="hierarchy"), names)

    @property
    def fit_steps(self) -> int:
        """How many times `fit` yields where every method can be fitted."""
        return sum(method.looks(len(self._fit_jobs)) for _, method in self._fits)

    @property
    def steps(self) -> int:
        """How many times `run` yields where every method could be fitted."""
        return len(self.jobs) * len(self.results) * self._repeats

    @property
    def stream_steps(self) -> int:
        """How many times `stream` yields where no image fails."""
        return len(self._streamed) * steps_of_stream(len(self.jobs), str(self._device)) if self.jobs else 0

    @property
    def curve_steps(self) -> int:
        """How many times `curves` yields where no image fails, unless the files turn out to need another protocol."""
        if self._evaluate.protocol not in ("auto", *PROTOCOLS):
            return 0
        return len(self._scorable) * sum(curve_steps(result.variant.config) for result in self._curved)

    def expect(self, *, stream: bool, curves: bool) -> int:
        """How many steps there are with these parts, which `seconds_left` counts from now on."""
        kinds: dict[Kind, int] = {}
        for result in self.results:
            name, config = result.variant.name, result.variant.config
            if isinstance(method := self._methods[name], FolderFit):
                kinds["fit", name] = method.looks(len(self._fit_jobs))
            kinds["run", name] = len(self.jobs) * self._repeats
            if stream and any(result is streamed for streamed, _, _ in self._streamed):
                kinds["stream", name] = self.stream_steps // len(self._streamed)
            if curves and self.curve_steps and any(result is curved for curved in self._curved):
                kinds["curve", name] = len(self._scorable) * curve_steps(config)
        variants = {result.variant.name: result.variant for result in self.results}
        self._left = WorkLeft(kinds, {kind: expected_cost(kind[0], variants[kind[1]]) for kind in kinds})
        return sum(kinds.values())

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the expected steps are going to take; None before one was done."""
        return self._left.seconds

    @property
    def failures(self) -> int:
        theirs = len(self._hierarchies.failures) if self._hierarchies else 0
        return theirs + sum(len(result.failures) for result in self.results)

    def fit(self) -> Generator[Step, None, None]:
        """Fit every method of one label space; a step is a look at an image.

        A method that cannot be fitted fails, and is left out from there on. Closing the iterator ends the fit.
        """
        for result, method in self._fits:
            name, failed = result.variant.name, None
            release_memory(self._device)
            return_freed_memory()
            reset_peak(self._device)
            started = time.perf_counter()
            self._left.begin()
            try:
                with contextlib.closing(method.fit(self._fit_jobs, self._batch)) as looks:
                    for job, count in looks:
                        self._left.done(("fit", name), count=count)
                        for _ in range(count):
                            yield job, result.variant, None
                seconds = time.perf_counter() - started
                result.fit = FolderFitCosts(len(method.seen), seconds, *peak_memory(self._device))
            except (UsageError, ImageError, MemoryError, OSError) as error:
                failed = f"it could not be fitted: {reason(error)}"
            if failed is not None:
                self._left.ended(("fit", name))
                self._left.ended(("run", name))
                yield _step(None, result, failed)
        return_freed_memory()
        unreadable = {name for _, method in self._fits for name in method.unreadable}
        if self.fit_on is not None and unreadable:  # of the images themselves this is said when they are labelled
            self.notes.append(
                f"Left out of the fits, because they cannot be read: {len(unreadable)} of the images of {self.fit_on},"
                f" {min(unreadable)} first."
            )

    @property
    def _fits(self) -> list[tuple[MethodResults, FolderFit]]:
        """The methods of one label space."""
        found = [(result, self._methods[result.variant.name]) for result in self.results]
        return [(result, method) for result, method in found if isinstance(method, FolderFit)]

    def run(self) -> Iterator[Step]:
        """Run every method on every image, as often as was asked; without those that were to be fitted and are not."""
        results = [result for result in self.results if result.fit or not result.variant.fits_folder]
        warm = False
        for number, job in enumerate(self.jobs):
            started = time.perf_counter()
            image, failed = self._decode(job)
            decode_seconds = time.perf_counter() - started
            if image is not None and not warm:
                self._warm_up(results, image[:WARM_UP, :WARM_UP])
                warm = True
                self._left.begin()
            # Another method begins with each image, so that none always finds the caches cold.
            order = np.roll(np.arange(len(results)), -number)
            for repeat in range(self._repeats):
                for index in order[:: -1 if repeat % 2 else 1]:
                    result = results[index]
                    if image is not None:
                        failed = self._segment(job, image, result, repeat, decode_seconds)
                    self._left.done(("run", result.variant.name), failed=failed is not None)
                    yield _step(job, result, failed)

    def _warm_up(self, results: Sequence[MethodResults], image: NDArray[np.uint8]) -> None:
        for result in results:
            started = time.perf_counter()
            with contextlib.suppress(ImageError):  # it fails again, and is named, when its turn comes
                self._methods[result.variant.name](image)
            result.preparation += time.perf_counter() - started

    def stream(self) -> Generator[Step, None, None]:
        """Run this tool's own methods on the images that they have labelled, each in a process of its own.

        A failure ends that method's stream. Closing the iterator ends the process.
        """
        for result, config, cut in self._streamed:
            jobs = [job for job in self.jobs if job.name in set(result.done)]
            if not jobs:
                continue
            result.stream = Stream(config, jobs, str(self._device), cut)
            release_memory(self._device)  # the other process needs it
            self._left.begin()
            with contextlib.closing(result.stream.run(self._output)) as steps:
                for job, failed in steps:
                    self._left.done(("stream", result.variant.name), failed=failed is not None)
                    yield _step(job, result, failed and f"as a stream: {failed}")
            self._left.ended(("stream", result.variant.name))

    @property
    def _streamed(self) -> list[tuple[MethodResults, SegmentConfig, CutConfig]]:
        """The methods that `segment` has."""
        return [
            (result, result.variant.config, result.variant.cut)
            for result in self.results
            if result.variant.method != "reference"
            and isinstance(result.variant.config, SegmentConfig)
            and result.variant.cut is not None
            and not result.variant.fits_folder
        ]

    def score(self) -> None:
        """Compare what `run` wrote with the ground truth."""
        if self.truth is None:
            return
        for result in self.results:
            # Not all that lies in the folder: an earlier run may have left more there.
            names = [name for name in result.done if name in self._scorable]
            if names:
                evaluation = Evaluation(self._folder(result.variant), self.truth, self._evaluate, names)
                for scored in evaluation.run():
                    if scored.reason is not None:
                        result.failures.append({"path": scored.pair.name, "reason": scored.reason})
                result.metrics = evaluation.metrics()
                result.ignored_fraction = evaluation.ignored_fraction
                self._scored[result.variant.name] = evaluation
                notes = list(evaluation.notes)
                if evaluation.of_classes:
                    notes.append(NOT_COMPARED if result.variant.fits_folder else OF_ONE_IMAGE)
                self.notes += [note for note in notes if note not in self.notes]
        if self._hierarchies is not None:
            self.notes += [scored.reason for scored in self._hierarchies.run() if scored.reason is not None]
            found = self._hierarchies.readings()["covering"]
            ods, ois, best = (written("covering", found[name]) or "none" for name in ("ods", "ois", "best"))
            self.notes.append(
                f"{self._hierarchies.prediction}, {self._hierarchies.images} hierarchies:"
                f" covering ODS {ods}, OIS {ois}, best {best}."
            )

    @property
    def points_of_hierarchies(self) -> tuple[str, list[Point]] | None:
        """The folder of another method's hierarchies, and their curve, once they are scored."""
        if self._hierarchies is None:
            return None
        return str(self._hierarchies.prediction), points_of_hierarchies(self._hierarchies)

    def curves(self) -> Generator[Step, None, None]:
        """Score what `score` has scored at other numbers of regions, an image in several steps.

        An image that fails is left out of that method's curve. Closing the iterator leaves the curves as they are.
        """
        curves = self._make_curves()
        try:
            for job in self.jobs:
                name = composed(job.name)
                here = [(result, curve) for result, curve in curves if curve.takes(name)]
                image, unreadable = self._decode(job) if here else (None, None)
                for result, curve in here:
                    folder = OutputFolder(self._folder(result.variant))
                    files = folder.result(job, "raw"), folder.result(job, "hierarchy")
                    self._left.begin()
                    for failed in [unreadable] if image is None else curve.add(name, image, *files):
                        self._left.done(("curve", result.variant.name), failed=failed is not None)
                        yield _step(job, result, failed and f"in its curve: {failed}")
        finally:
            if curves:
                counts = [f"{result.variant.name} {curve.images}" for result, curve in curves]
                if self._hierarchies is not None:
                    counts.append(f"{self._hierarchies.prediction} {self._hierarchies.images}")
                self.notes.append(f"Images in the curves over the number of segments: {', '.join(counts)}.")

    def _make_curves(self) -> list[tuple[MethodResults, RegionCurve]]:
        """An empty curve for each method that has one under the protocol."""
        for result in self._curved:
            if (evaluation := self._scored.get(result.variant.name)) is not None:
                result.curve = make_curve(result.variant.config, evaluation)
        curved = [result.variant.name for result in self._curved]
        others = {self._scored[name].protocol for name in curved if name in self._scored} - set(PROTOCOLS)
        self.notes += [
            f"No curves over the number of segments: protocol {protocol} compares none." for protocol in sorted(others)
        ]
        return [(result, result.curve) for result in self._curved if result.curve is not None]

    @property
    def _curved(self) -> list[MethodResults]:
        """The methods that have a curve, but only the first of Felzenszwalb's, since all have the same."""
        own, theirs = (
            [one for one in self.results if isinstance(one.variant.config, config) and not one.variant.fits_folder]
            for config in (SegmentConfig, FelzenszwalbConfig)
        )
        return own + theirs[:1]

    def document(self) -> dict[str, Any]:
        """All figures as JSON."""
        return {
            "images": len(self.jobs),
            "ground_truth": None if self.truth is None else str(self.truth),
            "fit_on": None if self.fit_on is None else str(self.fit_on),
            "notes": self.notes,
            "device": describe_device(self._device),
            "cpu": describe_device(torch.device("cpu")),
            "platform": platform.platform(),
            "versions": {**versions(), "scikit-image": _version("scikit-image")},
            "repeats": self._repeats,
            "methods": [result.document(self._reference) for result in self.results],
            "hierarchies": self._hierarchies_document(),
        }

    def _hierarchies_document(self) -> dict[str, Any] | None:
        if self._hierarchies is None or self.points_of_hierarchies is None:
            return None
        path, points = self.points_of_hierarchies
        figures = self._hierarchies.document()
        return {
            "path": path,
            **{name: figures[name] for name in ("images", "failures", "metrics")},
            "region_curve": points,
        }

    def rows(self) -> list[tuple[str, Row]]:
        """The table: a row for each method."""
        return [(one.variant.name, one.row(self._reference)) for one in self.results]

    def tables(self) -> list[list[tuple[str, Row]]]:
        """Tables as wide as a terminal: speed; costs by stage and in memory; metrics, if any, beside seconds.

        Under protocols of classes the last one has the many-to-one metrics.
        """
        speed, costs, quality, many_to_one = [], [], [], []
        for one in self.results:
            speed.append((one.variant.name, one.speed(self._reference)))
            costs.append((one.variant.name, one.costs(self._reference)))
            metrics = without_many_to_one(one.quality)
            quality.append((one.variant.name, {"seconds": speed[-1][1]["seconds"], **metrics}))
            many_to_one.append((one.variant.name, {name: one.quality.get(name) for name in MANY_TO_ONE.values()}))
        tables = [speed, costs]
        if any(one.metrics for one in self.results):
            tables.append(quality)
        if any(evaluation.of_classes for evaluation in self._scored.values()):
            tables.append(many_to_one)
        return tables

    @property
    def _reference(self) -> MethodResults | None:
        """The method that the seconds of the others are compared with, if it was asked for."""
        return next((result for result in self.results if result.variant.method == "reference"), None)

    def _folder(self, variant: Variant) -> Path:
        # The path of a file of weights may be part of the name, which is to be one folder.
        return self._output / variant.name.replace("/", "_")

    def _decode(self, job: Job) -> tuple[NDArray[np.uint8] | None, str | None]:
        try:
            return read_pixels(job, self._batch.max_pixels), None
        except ImageError as error:
            return None, str(error)
        except OSError as error:
            return None, error.strerror or str(error)

    def _segment(
        self, job: Job, image: NDArray[np.uint8], result: MethodResults, repeat: int, decode_seconds: float
    ) -> str | None:
        """Run a method on an image and write its labels. Returns why it could not be done."""
        folder = OutputFolder(self._folder(result.variant))
        reset_peak(self._device)
        try:
            labelled = self._methods[result.variant.name](image)
            host, device = peak_memory(self._device)
            started = time.perf_counter()
            folder.mark()
            if labelled.raw is not None:
                folder.write(folder.result(job, "raw"), png(labelled.raw))
            if labelled.hierarchy is not None:
                folder.write(folder.result(job, "hierarchy"), png(boundary_map(labelled.hierarchy)))
            folder.write(folder.result(job, "labels"), png(labelled.labels))
            colors = palette_colors(int(labelled.labels.max()) + 1)
            folder.write(folder.result(job, "color"), palette_png(labelled.labels, colors))
        except (ImageError, MemoryError, OSError) as error:
            return reason(error)
        result.runs.append(
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


def _step(job: Job | None, result: MethodResults, failed: str | None) -> Step:
    """A step, noted with the failures of its method if it is one."""
    if failed is not None:
        result.failures.append({"path": job and job.path, "reason": failed})
    return job, result.variant, failed


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

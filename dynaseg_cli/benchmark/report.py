"""What was measured of one method: every run, and the figures that a table and a JSON document give of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ..evaluation.agreement import Row
from .region_curve import RegionCurve
from .stream import Stream
from .variants import Variant

Value = TypeVar("Value")


@dataclass(frozen=True)
class Run:
    """One image labelled by one method, once."""

    image: str
    width: int
    height: int
    repeat: int
    iterations: int | None
    """None for a method that does not count any."""
    stages: dict[str, float]
    """Seconds of wall time by stage, from decoded pixels to labels."""
    decode: float
    write: float
    """Seconds to read the image before, and to write label map and colours after."""
    host_bytes: int | None
    """Most memory resident in the process meanwhile."""
    device_bytes: int | None
    fused: bool | None = None
    """As in `Labelled`, and so is `captured`."""
    captured: bool | None = None

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def seconds(self) -> float:
        """From decoded pixels to labels."""
        return sum(self.stages.values())

    @property
    def ms_per_iteration(self) -> float | None:
        return 1000 * self.stages["fit"] / self.iterations if self.iterations else None


@dataclass
class MethodReport:
    """What one variant did, over the runs so far."""

    variant: Variant
    preparation: float = 0.0
    """Seconds to make the method ready and to run it on a small piece of an image: what only a first image pays."""
    runs: list[Run] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    stream: Stream | None = None
    """As `segment` runs it, where that was timed."""
    metrics: Row = field(default_factory=dict)
    """Against the ground truth, once everything is done."""
    ignored_fraction: float | None = None
    """Share of the ground truth's pixels that were ignored, 0..1."""
    curve: RegionCurve | None = None
    """Metrics at other numbers of regions, where they were asked for."""

    @property
    def done(self) -> list[str]:
        """Names of the images that this run has labelled."""
        return list(dict.fromkeys(run.image for run in self.runs))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Widths and heights of the images, the smallest first."""
        sizes = {(run.width, run.height) for run in self.runs}
        return sorted(sizes, key=lambda size: (size[0] * size[1], size))

    def runs_of_size(self, width: int, height: int) -> list[Run]:
        return [run for run in self.runs if (run.width, run.height) == (width, height)]

    @property
    def stages(self) -> dict[str, float | None]:
        """Median seconds of each stage, in the order of the work."""
        return _stages(self.runs)

    def row(self, reference: MethodReport | None) -> Row:
        """The line of the table: medians over the runs, and the metrics. Ratios are to the `reference`."""
        return {**self.speed(reference), **self.quality}

    @property
    def quality(self) -> Row:
        """The metrics as the table shows them; empty without a ground truth."""
        return {**self.metrics, "ignored_fraction": self.ignored_fraction} if self.metrics else {}

    def speed(self, reference: MethodReport | None) -> Row:
        """The part of the table's line that is no metric."""
        per_iteration, _ = self._ratios(reference)
        return {
            "seconds": _median(run.seconds for run in self.runs),
            "iterations": _median(run.iterations for run in self.runs),
            "ms_per_iteration": _median(run.ms_per_iteration for run in self.runs),
            "reference_ratio": _median(per_iteration),
            "images_per_second": self.stream.images_per_second if self.stream else None,
            "first_image_seconds": self.stream.first_image_seconds if self.stream else None,
        }

    def costs(self, reference: MethodReport | None) -> Row:
        """Where seconds and memory go, and how far the ratios to the `reference` spread."""
        ratios = _spread(self._ratios(reference)[0])
        bytes_of = peak_bytes(self.runs)
        return {
            **{f"{stage}_seconds": seconds for stage, seconds in self.stages.items()},
            **{f"{memory}_gigabytes": None if peak is None else peak / 1e9 for memory, peak in bytes_of.items()},
            "least_reference_ratio": ratios["least"],
            "most_reference_ratio": ratios["most"],
        }

    def document(self, reference: MethodReport | None) -> dict[str, Any]:
        """The figures as JSON."""
        runs = self.runs
        per_iteration, of_seconds = self._ratios(reference)
        return {
            "name": self.variant.name,
            "method": self.variant.method,
            "options": asdict(self.variant.config),
            "images": len(self.done),
            "failures": self.failures,
            "seconds": {**_spread(run.seconds for run in runs), "total": sum(run.seconds for run in runs)},
            "images_per_second": self.stream.images_per_second if self.stream else None,
            "stream": self.stream.document() if self.stream else None,
            "preparation_seconds": self.preparation,
            "iterations": _median(run.iterations for run in runs),
            "ms_per_iteration": _spread(run.ms_per_iteration for run in runs),
            "ratio_to_reference": {"ms_per_iteration": _spread(per_iteration), "seconds": _spread(of_seconds)},
            "stages": self.stages,
            "fused": _all(run.fused for run in runs),
            "captured": _all(run.captured for run in runs),
            "peak_bytes": peak_bytes(runs),
            "sizes": [_size_document(self.runs_of_size(*size)) for size in self.sizes],
            "metrics": self.metrics,
            "ignored_fraction": self.ignored_fraction,
            "region_curve": self.curve.points() if self.curve else [],
        }

    def _ratios(self, reference: MethodReport | None) -> tuple[list[float], list[float]]:
        """How many times as long the reference took, an iteration and in all, run by run on the same image."""
        if reference is None:
            return [], []
        theirs = {(run.image, run.repeat): run for run in reference.runs}
        pairs = [(theirs[run.image, run.repeat], run) for run in self.runs if (run.image, run.repeat) in theirs]
        of_seconds = [their.seconds / own.seconds for their, own in pairs]
        per_iteration = [
            their.ms_per_iteration / own.ms_per_iteration
            for their, own in pairs
            if their.ms_per_iteration and own.ms_per_iteration
        ]
        return per_iteration, of_seconds


def peak_bytes(runs: Sequence[Run]) -> dict[str, int | None]:
    """The most memory that any of the runs had."""
    return {
        "host": max((run.host_bytes for run in runs if run.host_bytes is not None), default=None),
        "device": max((run.device_bytes for run in runs if run.device_bytes is not None), default=None),
    }


def _size_document(runs: Sequence[Run]) -> dict[str, Any]:
    """What images of one size cost."""
    return {
        "width": runs[0].width,
        "height": runs[0].height,
        "images": len({run.image for run in runs}),
        "seconds": _spread(run.seconds for run in runs),
        "iterations": _median(run.iterations for run in runs),
        "stages": _stages(runs),
        "peak_bytes": peak_bytes(runs),
    }


def _stages(runs: Sequence[Run]) -> dict[str, float | None]:
    names = runs[0].stages if runs else {}
    return {
        "decode": _median(run.decode for run in runs),
        **{name: _median(run.stages[name] for run in runs) for name in names},
        "write": _median(run.write for run in runs),
    }


def _all(values: Iterable[bool | None]) -> bool | None:
    """Whether all are true; None if there are none."""
    known = _known(values)
    return all(known) if known else None


def _median(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return statistics.median(known) if known else None


def _spread(values: Iterable[float | None]) -> dict[str, float | None]:
    known = _known(values)
    return {"median": _median(known), "least": min(known, default=None), "most": max(known, default=None)}


def _known(values: Iterable[Value | None]) -> Sequence[Value]:
    return [value for value in values if value is not None]

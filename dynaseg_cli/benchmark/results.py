"""The results of one method, as a row of the table and as JSON; and the table as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..evaluation.headings import HEADINGS, Row, columns_of, written
from .measurement import FolderFitCosts, Run, known, median, peak_bytes, spread, stage_medians
from .region_curve import RegionCurve
from .stream import Stream
from .variants import Variant


@dataclass
class MethodResults:
    """The results of one variant over the runs so far. Ratios are to the `reference` that a method gets."""

    variant: Variant
    preparation: float = 0.0
    """Seconds to make the method ready and to run it on a small piece of an image: what only a first image pays."""
    fit: FolderFitCosts | None = None
    """Of a method of one label space, once it is fitted."""
    runs: list[Run] = field(default_factory=list)
    failures: list[dict[str, str | None]] = field(default_factory=list)
    """Path of the image, None if the method failed as a whole, and reason."""
    stream: Stream | None = None
    """The method as `segment` runs it, where that was timed."""
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
    def labelled_per_second(self) -> float | None:
        """Images a second, from decoded pixels to labels, of a method that is fitted once and then labels any."""
        seconds = sum(run.seconds for run in self.runs)
        return len(self.runs) / seconds if self.fit and seconds else None

    @property
    def stages(self) -> dict[str, float | None]:
        """Median seconds of each stage, in the order of the work."""
        return stage_medians(self.runs)

    @property
    def quality(self) -> Row:
        """The metrics as the table shows them; empty without a ground truth."""
        return {**self.metrics, "ignored_fraction": self.ignored_fraction} if self.metrics else {}

    def row(self, reference: MethodResults | None) -> Row:
        """The row of the table: medians over the runs, and the metrics."""
        return {**self.speed(reference), **self.quality}

    def speed(self, reference: MethodResults | None) -> Row:
        """The part of the row that is no metric."""
        per_iteration, _ = self._ratios(reference)
        return {
            "folder_fit_seconds": self.fit.seconds if self.fit else None,
            "labelled_per_second": self.labelled_per_second,
            "seconds": median(run.seconds for run in self.runs),
            "iterations": median(run.iterations for run in self.runs),
            "ms_per_iteration": median(run.ms_per_iteration for run in self.runs),
            "reference_ratio": median(per_iteration),
            "images_per_second": self.stream.images_per_second if self.stream else None,
            "first_image_seconds": self.stream.first_image_seconds if self.stream else None,
        }

    def costs(self, reference: MethodResults | None) -> Row:
        """Seconds by stage, memory, and how far the ratios spread."""
        ratios = spread(self._ratios(reference)[0])
        bytes_of = peak_bytes(self.runs)
        if self.fit:
            bytes_of |= {"folder_fit_host": self.fit.host_bytes, "folder_fit_device": self.fit.device_bytes}
        return {
            **{f"{stage}_seconds": seconds for stage, seconds in self.stages.items()},
            **{f"{memory}_gigabytes": None if peak is None else peak / 1e9 for memory, peak in bytes_of.items()},
            "least_reference_ratio": ratios["least"],
            "most_reference_ratio": ratios["most"],
        }

    def document(self, reference: MethodResults | None) -> dict[str, Any]:
        """All figures as JSON."""
        runs = self.runs
        per_iteration, of_seconds = self._ratios(reference)
        sizes = sorted({(run.width, run.height) for run in runs}, key=lambda size: (size[0] * size[1], size))
        return {
            "name": self.variant.name,
            "method": self.variant.method,
            "options": self.variant.as_options(),
            "images": len(self.done),
            "failures": self.failures,
            "seconds": {**spread(run.seconds for run in runs), "total": sum(run.seconds for run in runs)},
            "images_per_second": self.stream.images_per_second if self.stream else None,
            "stream": self.stream.document() if self.stream else None,
            "folder_fit": asdict(self.fit) if self.fit else None,
            "labelled_per_second": self.labelled_per_second,
            "preparation_seconds": self.preparation,
            "iterations": median(run.iterations for run in runs),
            "ms_per_iteration": spread(run.ms_per_iteration for run in runs),
            "ratio_to_reference": {"ms_per_iteration": spread(per_iteration), "seconds": spread(of_seconds)},
            "stages": self.stages,
            "fused": _all(run.fused for run in runs),
            "captured": _all(run.captured for run in runs),
            "peak_bytes": peak_bytes(runs),
            "sizes": [_size_document([run for run in runs if (run.width, run.height) == size]) for size in sizes],
            "metrics": self.metrics,
            "ignored_fraction": self.ignored_fraction,
            "region_curve": self.curve.points() if self.curve else [],
        }

    def _ratios(self, reference: MethodResults | None) -> tuple[list[float], list[float]]:
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


def markdown_table(rows: Sequence[tuple[str, Row]]) -> str:
    """The table as Markdown, one line for each name and its metrics."""
    columns = columns_of(row for _, row in rows)
    lines = [
        ["method", *(HEADINGS[column] for column in columns)],
        ["---", *("---:" for _ in columns)],
        *([f"`{name}`", *(written(column, row.get(column)) for column in columns)] for name, row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _size_document(runs: Sequence[Run]) -> dict[str, Any]:
    """The costs of images of one size."""
    return {
        "width": runs[0].width,
        "height": runs[0].height,
        "images": len({run.image for run in runs}),
        "seconds": spread(run.seconds for run in runs),
        "iterations": median(run.iterations for run in runs),
        "stages": stage_medians(runs),
        "peak_bytes": peak_bytes(runs),
    }


def _all(values: Iterable[bool | None]) -> bool | None:
    """Whether all are true; None if there are none."""
    found = known(values)
    return all(found) if found else None

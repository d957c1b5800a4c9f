"""The summary of a run: the content of `run.json`."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from .. import __version__
from .outcomes import Outcome
from .planning import Plan

NO_DEVICE = "none: no image was started"
"""Device reported when no worker was ready."""


@dataclass(frozen=True)
class Summary:
    """What became of the images of a run."""

    images: int
    """How many there are, and folders that could not be listed."""
    done: int
    """How many were written."""
    reused: int
    """How many of these took the labels of an earlier run."""
    skipped: int
    """How many were complete already."""
    failures: tuple[Outcome, ...]
    """Those that failed, each with its reason."""
    seconds: float
    """Wall time so far, or of the whole run."""
    device: str
    """Where it was computed; known once the last image is done."""

    def __str__(self) -> str:
        counts = [f"{self.done} of {self.images} images written"]
        counts += [f"{self.reused} from earlier labels"] if self.reused else []
        counts += [f"{self.skipped} complete already"] if self.skipped else []
        counts += [f"{len(self.failures)} failed"] if self.failures else []
        return f"{', '.join(counts)}, {self.seconds:.1f} s"


@dataclass
class RunSummary:
    """Counts of a run, updated with each outcome."""

    plan: Plan
    device: str = NO_DEVICE
    done: int = 0
    reused: int = 0
    """How many of these were written from the labels of an earlier run."""
    skipped: int = 0
    failures: list[Outcome] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """Number of labels of each written image."""
    warnings: list[dict[str, object]] = field(default_factory=list)
    """Path, page if any, and warning, for images that are done."""
    started: float | None = None
    """On the monotonic clock, as is the end; None before it."""
    ended: float | None = None

    def add(self, outcome: Outcome) -> None:
        self.warnings += [outcome.as_entry(warning=warning) for warning in outcome.warnings]
        if outcome.status == "failed":
            self.failures.append(outcome)
        elif outcome.status == "skipped":
            self.skipped += 1
        else:
            self.done += 1
            self.reused += outcome.segmented is False
            assert outcome.num_labels is not None
            self.labels.append(outcome.num_labels)

    @property
    def images(self) -> int:
        """Number of images in the plan, and of folders that could not be listed."""
        return len(self.plan.jobs) + len(self.plan.unlistable)

    @property
    def finished(self) -> int:
        return self.done + self.skipped + len(self.failures)

    @property
    def seconds(self) -> float:
        if self.started is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def so_far(self) -> Summary:
        """What became of the images by now, which stays as it is."""
        failures = tuple(self.failures)
        return Summary(self.images, self.done, self.reused, self.skipped, failures, self.seconds, self.device)

    def document(self, *, interrupted: bool = False) -> dict[str, Any]:
        """The content of ``run.json``, which ``--json`` prints as well."""
        plan, batch = self.plan, self.plan.batch
        return {
            "output": str(plan.folder),
            "images": self.images,
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "interrupted": interrupted,
            "shard": "/".join(map(str, batch.shard)),
            "seconds": round(self.seconds, 3),
            "failures": [failure.as_entry(reason=failure.reason) for failure in self.failures],
            "passed_over": dict(sorted(plan.passed_over.items())),
            "warnings": list(self.warnings),
            "options": plan.segment.as_options(),
            "cut": batch.cut.as_options(),
            "colors": batch.colors,
            **({} if batch.scribbles is None else {"scribbles": str(batch.scribbles)}),
            **({} if batch.mask is None else {"mask": str(batch.mask), "outside": batch.outside}),
            "versions": versions(),
            "device": self.device,
        }


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that its results depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "pillow")
    return {
        "dynaseg": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }

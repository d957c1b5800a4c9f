"""What became of a whole run: `run.json`."""

from __future__ import annotations

import errno
import platform
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..user_files import RUN_NAME
from ..writing import write_json
from .claims import Claims
from .outcome import Outcome
from .output_folder import mark_output
from .planning import Plan
from .resume import shows_regions

PATIENCE_S = 10.0
"""Longest wait for ``run.json`` to be written."""


@dataclass
class RunSummary:
    """Counts of a run as its outcomes come in."""

    plan: Plan
    done: int = 0
    reused: int = 0
    """Of those done, written from the labels of an earlier run."""
    skipped: int = 0
    failures: list[Outcome] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """Labels of each written image."""
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """Path and warning, for images that are done."""
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        self.warnings += [(outcome.path, warning) for warning in outcome.warnings]
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
        """Images that the run was asked for, and folders that it could not list."""
        return len(self.plan.jobs) + len(self.plan.unlistable)

    @property
    def finished(self) -> int:
        return self.done + self.skipped + len(self.failures)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def document(self, device: str, *, interrupted: bool = False) -> dict[str, Any]:
        """What ``run.json`` holds and ``--json`` prints."""
        return {
            "output": str(self.plan.output),
            "images": self.images,
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "interrupted": interrupted,
            "shard": "/".join(map(str, self.plan.batch.shard)),
            "seconds": round(self.seconds, 3),
            "failures": [{"path": failure.path, "reason": failure.reason} for failure in self.failures],
            "passed_over": dict(sorted(self.plan.passed_over.items())),
            "warnings": [{"path": path, "warning": warning} for path, warning in self.warnings],
            "options": self.plan.segment.as_options(),
            **({"cut": self.plan.batch.cut.as_options()} if shows_regions(self.plan.batch) else {}),
            "colors": self.plan.batch.colors,
            **({"scribbles": str(scribbles)} if (scribbles := self.plan.batch.scribbles) is not None else {}),
            "versions": versions(),
            "device": device,
        }

    def write(self, document: dict[str, Any]) -> None:
        """Write a `document` as ``OUT/run.json``.

        Raises
        ------
        OSError
            If it cannot be written, or a folder that hangs has not answered within `PATIENCE_S`.
        """
        written: Future[None] = Future()
        threading.Thread(target=_write, args=(self.plan.output, document, written), daemon=True).start()
        try:
            written.result(PATIENCE_S)
        except futures.TimeoutError:
            raise OSError(errno.ETIMEDOUT, "the folder does not answer") from None


def _write(output: Path, document: dict[str, Any], written: Future[None]) -> None:
    try:
        # A run that is interrupted early comes here before any worker.
        mark_output(output)
        with Claims(output) as claims:
            claims.take(RUN_NAME, wait=True)
            write_json(output / RUN_NAME, document, indent=2, claimed=claims.exclusive)
    except BaseException as error:
        written.set_exception(error)
    else:
        written.set_result(None)


def versions() -> dict[str, str]:
    """Versions of this package and of what its results depend on."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "pillow")
    return {
        "dynaseg": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }

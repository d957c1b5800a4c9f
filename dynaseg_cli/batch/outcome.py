"""What became of each image, and of the whole run: `outcomes.jsonl` and `run.json`."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from .. import __version__
from ..config import SegmentConfig
from .writing import write_json

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """One image: written, found complete, or failed for a reason. Numbers are those of a written one."""

    path: str
    status: Status
    reason: str | None = None
    num_labels: int | None = None
    iterations: int | None = None
    stop_reason: str | None = None
    seconds: float | None = None
    """Wall time in the engine."""


def append_outcome(output: Path, outcome: Outcome) -> None:
    """Add a line to ``OUT/outcomes.jsonl`` in one write, after ending a line that a killed run left half-written."""
    path = output / "outcomes.jsonl"
    entry = {key: value for key, value in vars(outcome).items() if value is not None}
    line = json.dumps({**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = "\n" + line
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass
class RunSummary:
    """Counts of a run as its outcomes come in."""

    output: Path
    images: int
    """Images that the run was asked for."""
    done: int = 0
    skipped: int = 0
    failures: list[Outcome] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """Labels of each written image."""
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            self.failures.append(outcome)
        elif outcome.status == "skipped":
            self.skipped += 1
        else:
            self.done += 1
            assert outcome.num_labels is not None
            self.labels.append(outcome.num_labels)

    @property
    def finished(self) -> int:
        return self.done + self.skipped + len(self.failures)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def document(self, config: SegmentConfig, device: str, *, interrupted: bool = False) -> dict[str, Any]:
        """What ``run.json`` holds and ``--json`` prints."""
        return {
            "output": str(self.output),
            "images": self.images,
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "interrupted": interrupted,
            "seconds": round(self.seconds, 3),
            "failures": [{"path": failure.path, "reason": failure.reason} for failure in self.failures],
            "options": config.as_options(),
            "versions": versions(),
            "device": device,
        }

    def write(self, config: SegmentConfig, device: str, *, interrupted: bool = False) -> dict[str, Any]:
        """Write ``OUT/run.json`` and return its document."""
        document = self.document(config, device, interrupted=interrupted)
        write_json(self.output / "run.json", document, indent=2)
        return document


def versions() -> dict[str, str]:
    """Versions of this package and of what its results depend on."""
    packages = ("torch", "numpy", "scikit-learn", "scipy", "pillow")
    return {
        "dynaseg": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }

"""Messages between the pool and its workers: plain values that can be pickled. Nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..batch.outcomes import Outcome
from ..batch.planning import Plan
from ..config import BatchConfig, SegmentConfig, WeightsFile, WorkersConfig
from ..files.output_folder import Job

Step = Literal["read", "decoded", "unreadable", "segmented", "written", "finished"]
"""The step an image is in; one that is decoded or finished waits for its turn. A fit leaves out what is unreadable."""

FILE_STEPS: tuple[Step, ...] = ("read", "written")
"""Steps that wait for files, and so may never end."""


@dataclass(frozen=True)
class Assignment:
    """The first message to a worker: everything that its images have in common. Then come jobs, and None at the end."""

    segment: SegmentConfig
    batch: BatchConfig
    output: str
    folder: str
    """The current folder, from which relative paths start."""
    device: str
    """As the user wrote it. If it names several, a worker takes one by its number."""
    number: int
    workers: int | None
    """Workers on this machine, 0 for a thread of the caller's process; None lets the worker decide."""
    threads: int | None
    """CPU threads of a worker; None is its share of the cores."""
    sequences: tuple[tuple[Job, ...], ...] = ()
    """With `sequence`: the sequences of the images, also with those that are done already."""
    fit: tuple[Job, ...] = ()
    """Images to fit a network to; the worker does nothing else then."""
    skip: frozenset[str] = frozenset()
    """Names of images that a fit must not read."""

    @classmethod
    def of(cls, plan: Plan, workers: WorkersConfig) -> Assignment:
        """The assignment of the first worker that segments the images of a plan."""
        return cls(
            segment=plan.segment,
            batch=plan.batch,
            output=str(plan.folder),
            folder=str(Path.cwd()),
            device=workers.device,
            number=0,
            workers=workers.workers,
            threads=workers.threads,
            sequences=tuple(map(tuple, plan.sequences)),
        )


@dataclass(frozen=True)
class Ready:
    """A worker has loaded everything and takes images."""

    device: str
    """As recorded beside the results."""
    workers: int
    """Workers that keep this machine busy, if the assignment does not say."""
    window: int
    """Images that keep the worker busy, from `batch.stages.window`."""
    version: str


@dataclass(frozen=True)
class Began:
    """An image, by its job's name, enters a step."""

    name: str
    step: Step


@dataclass(frozen=True)
class Iterated:
    """An image is at an iteration, with q' labels."""

    name: str
    iteration: int
    labels: int


@dataclass(frozen=True)
class FitProgress:
    """Progress of a folder fit."""

    step: str
    """In words: the epoch, or the work after the last one."""
    seen: int
    """Images read so far, in all epochs and after them."""
    before: int
    """How many of these an earlier run has read."""
    labels: int | None
    """q' of the last mosaic."""


@dataclass(frozen=True)
class Fitted:
    """A network is fitted to the folder, and saved."""

    model: WeightsFile


@dataclass(frozen=True)
class Finished:
    """An image is finished; the outcome is None if another process has it."""

    name: str
    outcome: Outcome | None


@dataclass(frozen=True)
class Warned:
    """A warning for the user."""

    text: str


@dataclass(frozen=True)
class Refused:
    """The worker cannot do its assignment: a usage error."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """An error that ends the run; the traceback is empty unless the program is at fault."""

    error: str
    traceback: str


@dataclass(frozen=True)
class Ended:
    """A worker has ended, as the pool's side found out."""

    reason: str


Message = Ready | Began | Iterated | Finished | FitProgress | Fitted | Warned | Refused | Broken | Ended

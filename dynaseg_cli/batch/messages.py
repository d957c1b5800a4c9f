"""What the dispatcher and its workers say to each other. Plain values that can be pickled; nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..config import BatchConfig, SegmentConfig, WeightsFile, WorkersConfig
from .job import Job
from .outcome import Outcome
from .planning import Plan

Step = Literal["read", "decoded", "segmented", "written"]
"""What an image is being, or, decoded, that it waits for its turn."""

FILE_STEPS: tuple[Step, ...] = ("read", "written")
"""Steps that depend on files, and so may never end."""


@dataclass(frozen=True)
class Assignment:
    """The first thing a worker is told: what all its images have in common. After it come jobs, and None at the end."""

    segment: SegmentConfig
    batch: BatchConfig
    output: str
    folder: str
    """The current folder, which relative paths start from."""
    device: str
    """As written by the user: it may name several, of which a worker takes the one of its number."""
    number: int
    workers: int | None
    """Workers that share this machine, 0 for the dispatcher's own thread; None is for the worker to tell."""
    threads: int | None
    """Threads of a worker; None is its share of the cores."""
    fit: tuple[Job, ...] = ()
    """Images to fit a network to, which is all there is to do then."""
    skip: frozenset[str] = frozenset()
    """Names of those that are not to be read."""

    @classmethod
    def of(cls, plan: Plan, workers: WorkersConfig) -> Assignment:
        """To segment the images of a plan, as the first of its workers."""
        return cls(
            segment=plan.segment,
            batch=plan.batch,
            output=str(plan.output),
            folder=str(Path.cwd()),
            device=workers.device,
            number=0,
            workers=workers.workers,
            threads=workers.threads,
        )


@dataclass(frozen=True)
class Ready:
    """A worker has loaded everything and takes images."""

    device: str
    """As recorded beside the results."""
    workers: int
    """How many it takes to keep this machine busy, if the assignment does not say."""
    window: int
    """Images that keep the worker busy: one being written, one segmented, and those read meanwhile."""
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
    """How far a folder fit is."""

    step: str
    """In words: an epoch, or what comes after the last."""
    seen: int
    """Images that went by so far, in all epochs and after them."""
    before: int
    """Of these, in an earlier run."""
    labels: int | None
    """q' of the last mosaic."""


@dataclass(frozen=True)
class Fitted:
    """A network is fitted to the folder, and kept."""

    model: WeightsFile


@dataclass(frozen=True)
class Finished:
    """An image is done with; None if another process works on it."""

    name: str
    outcome: Outcome | None


@dataclass(frozen=True)
class Warned:
    """Something that a person should know."""

    text: str


@dataclass(frozen=True)
class Refused:
    """The worker cannot do what it is asked: wrong usage."""

    reason: str


@dataclass(frozen=True)
class Broken:
    """A mistake in the program, for which the run ends."""

    error: str
    traceback: str


@dataclass(frozen=True)
class Ended:
    """A worker is no more; this one it cannot say itself."""

    reason: str


Message = Ready | Began | Iterated | Finished | FitProgress | Fitted | Warned | Refused | Broken | Ended

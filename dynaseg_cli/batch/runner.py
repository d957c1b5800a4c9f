"""A batch from its plan to its outcomes, by whichever workers it is to run on. Nothing here loads torch or Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..config import BatchConfig, SegmentConfig, WorkersConfig
from .dispatcher import Crew, Dispatcher, OnIteration
from .local_crew import LocalCrew, ProcessWorker, ThreadWorker
from .messages import Assignment
from .outcome import Outcome
from .planning import Plan, plan_batch


def segment_folder(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    config: SegmentConfig | None = None,
    batch: BatchConfig | None = None,
    workers: WorkersConfig | None = None,
) -> Iterator[Outcome]:
    """Segment every image below `inputs` into `output`, yielding an outcome as each is finished.

    The work is done by worker processes, which end when the iterator is closed.

    Raises
    ------
    UsageError
        If the options or the input are unusable: nothing is written then. That the device does not exist is found with
        the first outcome.
    """
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    plan = plan_batch([Path(path) for path in paths], Path(output), config, batch)
    return dispatcher_of(plan, workers or WorkersConfig()).run()


def dispatcher_of(plan: Plan, workers: WorkersConfig, on_iteration: OnIteration | None = None) -> Dispatcher:
    """What runs `plan` as `workers` says. Nothing is started before its `run` is iterated over."""
    assignment = Assignment(
        segment=plan.segment,
        batch=plan.batch,
        output=str(plan.output),
        folder=str(Path.cwd()),
        device=workers.device,
        number=0,
        workers=workers.workers,
        threads=workers.threads,
    )
    crew: Crew = LocalCrew(ThreadWorker if workers.workers == 0 else ProcessWorker)
    return Dispatcher(plan, crew, assignment, workers.workers or None, workers.timeout, on_iteration)

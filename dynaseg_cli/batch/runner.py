"""A batch from its plan to its outcomes, by whichever workers it is to run on. Nothing here loads torch or Ray."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType

from ..config import BatchConfig, SegmentConfig, WorkersConfig
from ..errors import UsageError, WorkerError
from ..weights_file import lacks_weights
from .dispatcher import NO_DEVICE, Crew, Dispatcher, OnIteration
from .exports import export_folder
from .folder_fit import fit_folder
from .folder_statistics import write_folder_statistics
from .local_crew import local_crew
from .messages import Assignment
from .outcome import Outcome
from .planning import Plan, plan_batch
from .report_page import write_report
from .summary import RunSummary

_log = logging.getLogger(__name__)


def segment_folder(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    config: SegmentConfig | None = None,
    batch: BatchConfig | None = None,
    workers: WorkersConfig | None = None,
) -> Iterator[Outcome]:
    """Segment every image below `inputs` into `output`, yielding an outcome as each is finished.

    The work is done by worker processes, which end when the iterator is closed. Where a network is to be fitted to the
    folder, that is done before the first outcome. After the last one, or when the iterator is closed, ``run.json`` is
    written; after the last one ``clusters.json``, the report page and exports, too, where they are asked for.

    Raises
    ------
    UsageError
        If the options or the input are unusable, or the ResNet's weights cannot be had: nothing is written then. That
        the device does not exist is found with the first outcome.
    OSError, ImageError
        After the last outcome, if ``run.json``, ``clusters.json``, the report page or an export cannot be written, or
        a link leads out of `output`.
    """
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    if "" in (*paths, output):  # as a Path it would be the current folder
        raise UsageError("the path of an input or of the output is empty: name one")
    plan = plan_batch([Path(path) for path in paths], Path(output), config, batch)
    if lacks_weights(plan.segment):
        from ..engine.weights import imagenet_weights  # noqa: PLC0415 - loads torch

        imagenet_weights()  # here and once, before there are workers who all need them
    workers = workers or WorkersConfig()
    check_executor(workers)
    return _run(plan, workers, None if plan.lacks_model else dispatcher_of(plan, workers))


def _run(plan: Plan, workers: WorkersConfig, dispatcher: Dispatcher | None) -> Iterator[Outcome]:
    summary = RunSummary(plan)
    try:
        if dispatcher is None:
            summary.plan = plan = fit_folder(plan, workers)
            dispatcher = dispatcher_of(plan, workers)
        with closing(dispatcher.run()) as outcomes:
            for outcome in outcomes:
                summary.add(outcome)
                yield outcome
    except (GeneratorExit, KeyboardInterrupt, WorkerError):
        with suppress(OSError):
            summary.write(summary.document(dispatcher.device if dispatcher else NO_DEVICE, interrupted=True))
        raise
    document = summary.document(dispatcher.device)
    summary.write(document)
    if plan.segment.model is not None and "stats" in plan.batch.save:
        write_folder_statistics(plan)
    if plan.batch.report:
        write_report(plan, document)
    if plan.batch.export:
        for failure in export_folder(plan):
            _log.warning("not exported as %s: %s: %s", failure.format, failure.name, failure.reason)


def check_executor(workers: WorkersConfig) -> None:
    """Find out before a fit to the whole folder, not after it, that Ray is asked for and not there.

    Raises
    ------
    UsageError
        If Ray is not installed.
    """
    if workers.executor == "ray":
        _ray_crew()


def dispatcher_of(plan: Plan, workers: WorkersConfig, on_iteration: OnIteration | None = None) -> Dispatcher:
    """What runs `plan` as `workers` says.

    A Ray cluster is joined or started here; workers are started when its `run` is iterated over.

    Raises
    ------
    UsageError
        If Ray is not installed, or there is no such cluster.
    """
    crew, posts = _crew(plan.segment, workers)
    return Dispatcher(plan, crew, Assignment.of(plan, workers), posts, workers.timeout, on_iteration)


def _crew(segment: SegmentConfig, workers: WorkersConfig) -> tuple[Crew, int | None]:
    """Who hires the workers, and how many: None is for the first one to tell."""
    if workers.executor == "local":
        return local_crew(workers), workers.workers or None
    crew = _ray_crew().RayCrew(segment, workers)
    return crew, crew.posts


def _ray_crew() -> ModuleType:
    try:
        return importlib.import_module(".ray_crew", __package__)
    except ImportError as error:
        raise UsageError(f"--executor ray needs Ray ({error}): pip install 'dynaseg[ray]'") from None

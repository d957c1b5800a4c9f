"""One run, from its plan to its last file, as a generator of typed events.

The command renders the events; `segment_folder` gives them to Python as a `Run`. Every file that belongs to a run as a
whole is written here: the model, ``run.json``, ``clusters.json``, the report page and exports.
"""

from __future__ import annotations

import dataclasses
import errno
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .batch.completed import completed_at_the_start
from .batch.exports import export_folder
from .batch.outcomes import Outcome
from .batch.planning import Plan
from .batch.report_files import comparison_content, last_outcomes, report_content
from .batch.summary import RunSummary
from .config import TIMM, SegmentConfig, WeightsFile, WorkersConfig
from .errors import DynasegError, InterruptedWorkError, WorkerError
from .export.exporting import Exported, ExportFailure
from .files.encoding import json_text
from .files.label_names import names_document
from .files.output_folder import CLUSTERS_NAME, NAMES_NAME, OutputFolder
from .files.user_files import RUN_NAME
from .files.weights import lacks_weights, read_weights
from .files.writing import write_atomically
from .folder.statistics import clusters_document
from .folder.supervisor import fit_folder
from .workers.messages import FitProgress
from .workers.pool import ImageProgress, check_executor, new_pool

WRITE_TIMEOUT_S = 10.0
"""Longest wait for ``run.json`` to be written."""


@dataclass(frozen=True)
class ModelReady:
    """The folder's network is ready."""

    model: WeightsFile
    fitted: bool
    """Whether this run fitted it; otherwise it was loaded."""


@dataclass(frozen=True)
class FileWritten:
    """A file of the whole run, or the folder of exports, was written."""

    path: Path
    document: dict[str, Any] | None = None
    """Its content, for JSON files."""


@dataclass(frozen=True)
class FileFailed:
    """A file of the whole run could not be written."""

    path: Path
    error: OSError | DynasegError


@dataclass(frozen=True)
class RunFinished:
    """The last event."""

    summary: RunSummary
    document: dict[str, Any]
    """The content of ``run.json``."""


Event = (
    FitProgress
    | ModelReady
    | ImageProgress
    | Outcome
    | Exported
    | ExportFailure
    | FileWritten
    | FileFailed
    | RunFinished
)


def run(
    plan: Plan,
    workers: WorkersConfig | None = None,
    stop: threading.Event | None = None,
    summary: RunSummary | None = None,
) -> Generator[Event, None, None]:
    """Do everything that a plan asks for.

    Worker processes do the work, and end when the iterator is closed. Files that were complete by then stay, and
    ``run.json`` says that the run was interrupted.

    Parameters
    ----------
    stop : once set, images in progress are dropped and the run ends in order: ``run.json`` and the report are written,
        exports are not.
    summary : one of this plan, without outcomes, which is kept up to date; for those who ask before the end.

    Raises
    ------
    UsageError
        If the device, Ray or the cluster does not exist, or no image can be read to fit a network to.
    WorkerError
        If workers cannot be started, one ended with a programming error, or the folder fit failed.
    """
    workers, stop = workers or WorkersConfig(), stop or threading.Event()
    check_executor(workers)
    summary = summary or RunSummary(plan)
    summary.started = time.monotonic()
    try:
        if plan.segment.fit == "folder":
            yield from _prepare_model(summary, workers, stop)
        with closing(_segment(summary, workers, stop)) as events:
            for event in events:
                if isinstance(event, Outcome):
                    summary.add(event)
                yield event
    except InterruptedWorkError:  # stopped during the folder fit
        pass
    except (GeneratorExit, KeyboardInterrupt, WorkerError):
        summary.ended = time.monotonic()
        with suppress(OSError):
            _write_run(plan.folder.path, summary.document(interrupted=True))
        raise
    yield from _finish(summary, stop)


def report_results(plan: Plan, stop: threading.Event | None = None) -> Generator[Event, None, None]:
    """Make the report page of a folder of results, and what it shows of images that were not reported so far.

    Parameters
    ----------
    plan : of `plan_of_results`.
    stop : once set, the page is not written.
    """
    from .batch.results import complete_entries, read_run  # noqa: PLC0415 - loads SciPy

    stop, failures = stop or threading.Event(), []
    for outcome in complete_entries(plan, stop):
        if outcome.status == "failed":
            failures.append(outcome.as_entry(reason=outcome.reason))
        yield outcome
    if not stop.is_set():
        yield from _keep_names(plan)
        run = read_run(plan.folder) or RunSummary(plan).document()
        yield _write_report(plan, {**run, "failures": [*run["failures"], *failures]})


def compare_results(plan: Plan, other: Plan, stop: threading.Event | None = None) -> Generator[Event, None, None]:
    """Make the page that shows two folders of results of the same photos side by side, in the first one.

    Parameters
    ----------
    plan, other : of `plan_of_results`.
    stop : once set, the page is not written.
    """
    from .batch.results import complete_entries, read_run  # noqa: PLC0415 - loads SciPy

    stop, folder = stop or threading.Event(), plan.folder
    for each in (plan, other):
        yield from complete_entries(each, stop)
    if not stop.is_set():
        yield from _keep_names(plan)
        run = read_run(folder) or RunSummary(plan).document()
        yield _write_page(folder, folder.comparison, lambda: comparison_content(plan, other, run))


def export_results(plan: Plan, stop: threading.Event | None = None) -> Generator[Event, None, None]:
    """Write the exports of a folder of results that its plan, of `plan_of_results`, asks for."""
    yield from _keep_names(plan)
    yield from _export(plan, stop or threading.Event())


def fetch_weights(config: SegmentConfig, *, progress: bool = False) -> None:
    """Download the backbone's weights if they are needed and missing: once, before several workers need them.

    Raises
    ------
    UsageError
        If they cannot be downloaded.
    """
    if lacks_weights(config):
        from .engine.pretrained_weights import imagenet_weights  # noqa: PLC0415 - loads torch

        imagenet_weights(progress=progress)
    elif config.backbone.startswith(TIMM) and config.weights is None and config.model is None:
        from .engine.timm_trunk import timm_weights  # noqa: PLC0415 - loads torch

        timm_weights(config.backbone.removeprefix(TIMM), progress=progress)


def _prepare_model(
    summary: RunSummary, workers: WorkersConfig, stop: threading.Event
) -> Generator[FitProgress | ModelReady, None, None]:
    """Fit the folder's network unless there is one, and save the copy that was asked for."""
    plan, model = summary.plan, summary.plan.segment.model
    fitted = model is None
    if model is None:
        model = yield from fit_folder(plan, workers, stop)
        summary.plan = dataclasses.replace(plan, segment=dataclasses.replace(plan.segment, model=model))
    yield ModelReady(model, fitted)
    copy = plan.batch.save_model
    if copy is not None:
        try:
            write_atomically(copy, read_weights(model, "the model"))
        except OSError as error:
            raise WorkerError(f"`save_model={copy}` cannot be written: {error.strerror}") from None


def _finish(summary: RunSummary, stop: threading.Event) -> Iterator[Event]:
    """Write the files of the whole run."""
    plan, folder, interrupted = summary.plan, summary.plan.folder, stop.is_set()
    document = summary.document(interrupted=interrupted)
    try:
        _write_run(folder.path, document)
    except OSError as error:
        answers = error.errno != errno.ETIMEDOUT
        yield FileFailed(folder.run, error)
    else:
        answers = True
        yield FileWritten(folder.run, document)
    # In a folder that hangs, every further write would hang as well, and Ctrl-C with it.
    if answers:
        yield from _keep_names(plan)
        if plan.segment.model is not None and "stats" in plan.batch.save:
            yield _write(folder, folder.clusters, CLUSTERS_NAME, lambda: clusters_document(plan))
        if plan.batch.report:
            yield _write_report(plan, document)
        if plan.batch.export and not interrupted:  # an interrupted run exports when it is continued
            yield from _export(plan, stop)
    else:
        if plan.batch.report:
            yield FileFailed(folder.report, _no_answer())
        if plan.batch.export and not interrupted:
            yield FileFailed(folder.export, _no_answer())
    summary.ended = time.monotonic()
    yield RunFinished(summary, document)


def _keep_names(plan: Plan) -> Iterator[FileWritten | FileFailed]:
    """Keep the names of labels that the command was given, for later ones."""
    if plan.batch.names is not None:
        document = names_document(plan.names, plan.segment.as_options()["model"])
        yield _write(plan.folder, plan.folder.names, NAMES_NAME, lambda: document)


def _write(folder: OutputFolder, path: Path, name: str, make: Callable[[], dict[str, Any]]) -> FileWritten | FileFailed:
    """Write a JSON document that is made only once no other process is writing it.

    Of shards that end together, the last one then sees the results of all.
    """
    try:
        with folder:
            folder.claim(name, wait=True)
            document = make()
            folder.write(path, json_text(document, indent=2))
    except OSError as error:
        return FileFailed(path, error)
    return FileWritten(path, document)


def _write_report(plan: Plan, run: dict[str, Any]) -> FileWritten | FileFailed:
    # Not within the claim: where locks belong to processes, closing the log releases it.
    outcomes = {} if plan.batch.shard[1] == 1 else last_outcomes(plan.folder.log)
    return _write_page(plan.folder, plan.folder.report, lambda: report_content(plan, run, outcomes))


def _write_page(folder: OutputFolder, path: Path, make: Callable[[], Iterator[bytes]]) -> FileWritten | FileFailed:
    """Write a page that is made only once no other process is writing it; see `_write`."""
    try:
        with folder:
            folder.claim(path.name, wait=True)
            page = make()
            with folder.open(path) as stream:
                stream.writelines(page)
    except OSError as error:
        return FileFailed(path, error)
    return FileWritten(path)


def _export(plan: Plan, stop: threading.Event) -> Iterator[Exported | ExportFailure | FileWritten | FileFailed]:
    try:
        with closing(export_folder(plan)) as events:
            for event in events:
                if stop.is_set():
                    return
                yield event
    except (OSError, DynasegError) as error:
        yield FileFailed(plan.folder.export, error)
    else:
        yield FileWritten(plan.folder.export)


def _segment(
    summary: RunSummary, workers: WorkersConfig, stop: threading.Event
) -> Generator[Outcome | ImageProgress, None, None]:
    """Pass over the first images that are complete, and let workers do what is left, if anything is."""
    plan = summary.plan
    done = 0
    if workers.device in ("auto", "cpu"):  # whether another one is there, a worker finds out
        for job in completed_at_the_start(plan, stop):
            done += 1
            yield Outcome(job.path, "skipped", page=job.page)
    plan = dataclasses.replace(plan, jobs=plan.jobs[done:])
    if done and not plan.jobs and not plan.unlistable:
        return
    pool = new_pool(plan, workers, stop)
    try:
        with closing(pool.run()) as events:
            yield from events
    finally:
        summary.device = pool.device


def _write_run(output: Path, document: dict[str, Any]) -> None:
    """Write ``run.json``; raise OSError if that fails, or the folder does not answer within `WRITE_TIMEOUT_S`."""
    written: Future[None] = Future()
    threading.Thread(target=_write_run_now, args=(output, document, written), daemon=True).start()
    try:
        written.result(WRITE_TIMEOUT_S)
    except futures.TimeoutError:
        raise _no_answer() from None


def _no_answer() -> OSError:
    return OSError(errno.ETIMEDOUT, "the folder does not answer")


def _write_run_now(output: Path, document: dict[str, Any], written: Future[None]) -> None:
    folder = OutputFolder(output)
    try:
        folder.mark()  # a run that is interrupted early has no worker that did it
        with folder:
            folder.claim(RUN_NAME, wait=True)
            folder.write(folder.run, json_text(document, indent=2))
    except BaseException as error:
        written.set_exception(error)
    else:
        written.set_result(None)

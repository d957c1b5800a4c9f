"""The stream: jobs -> decoded images -> engine -> files -> outcomes, one bad image never stopping the rest."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..config import BatchConfig, SegmentConfig
from ..engine.device import describe_device
from ..engine.engine import Engine
from ..engine.segmentation import Segmentation
from ..errors import ImageError, InterruptedWorkError, UsageError
from ..method.silhouette import Silhouette
from .decoding import decode, read_source
from .job import Job
from .outcome import Outcome, append_outcome
from .pipeline import work_ahead
from .planning import Plan, plan_batch
from .resume import is_complete
from .statistics import stats_document
from .writing import write_colors, write_json, write_labels

OnIteration = Callable[[Job, int, int], None]
"""Called from the engine's thread with the job, the iteration and q'."""

_log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class _Decoded:
    image: NDArray[np.uint8]
    sha256: str
    silhouette: Silhouette | None


@dataclass(frozen=True)
class _Segmented:
    decoded: _Decoded
    segmentation: Segmentation


def segment_folder(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    config: SegmentConfig | None = None,
    batch: BatchConfig | None = None,
    device: str = "auto",
) -> Iterator[Outcome]:
    """Segment every image below `inputs` into `output`, yielding an outcome as each is finished.

    Raises
    ------
    UsageError
        Before anything is started, if the options or the input are unusable.
    """
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    plan = plan_batch([Path(path) for path in paths], Path(output), config, batch)
    return run_batch(plan, Engine(plan.segment, device))


def run_batch(plan: Plan, engine: Engine, on_iteration: OnIteration | None = None) -> Generator[Outcome, None, None]:
    """Do a plan's jobs in order. Closing the iterator drops the image at hand and leaves the finished ones."""
    stop = threading.Event()
    device = describe_device(engine.device)

    def read(job: Job, source: Path) -> _Decoded | Outcome:
        content, sha256 = read_source(source)
        if not plan.batch.overwrite and is_complete(job, plan.output, sha256, plan.segment, plan.batch.save):
            return Outcome(str(source), "skipped")
        image = decode(content, plan.batch.max_pixels)
        return _Decoded(image, sha256, engine.find_silhouette(image))

    def segment(job: Job, decoded: _Decoded) -> _Segmented:
        def watch(iteration: int, labels: int) -> None:
            if stop.is_set():
                raise InterruptedWorkError
            if on_iteration is not None:
                on_iteration(job, iteration, labels)

        return _Segmented(decoded, engine.segment(decoded.image, decoded.silhouette, watch))

    def write(job: Job, segmented: _Segmented) -> Outcome:
        return _write_results(plan, job, segmented, device)

    _make_folder(plan.output)
    jobs = ((job, job.source) for job in plan.jobs)
    readers = 1 if engine.device.type == "cpu" else min(8, os.cpu_count() or 1)
    with (
        closing(work_ahead(_stage(read), jobs, readers, readers + 1, stop)) as decoded,
        closing(work_ahead(_stage(segment), decoded, 1, 2, stop)) as segmented,
    ):
        outcomes = (outcome for _, outcome in map(_stage(write), segmented))
        for outcome in chain(plan.unlistable, outcomes):
            assert isinstance(outcome, Outcome)
            _record(plan.output, outcome)
            yield outcome
            if outcome.status == "failed" and plan.batch.fail_fast:
                return


def _stage(work: Callable[[Job, In], Out]) -> Callable[[tuple[Job, In | Outcome]], tuple[Job, Out | Outcome]]:
    """A step of the stream, with the one per-image exception boundary.

    A job that has an outcome already passes through. Named errors, failing files and exhausted memory become the
    job's outcome; anything else is a programming error and surfaces.
    """

    def step(item: tuple[Job, In | Outcome]) -> tuple[Job, Out | Outcome]:
        job, value = item
        if isinstance(value, Outcome):
            return job, value
        try:
            return job, work(job, value)
        except ImageError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        except MemoryError:
            reason = "out of memory"
        return job, Outcome(str(job.source), "failed", reason)

    return step


def _write_results(plan: Plan, job: Job, segmented: _Segmented, device: str) -> Outcome:
    decoded, segmentation = segmented.decoded, segmented.segmentation
    stats = job.result(plan.output, "stats")
    # No stats while other files are replaced: it is the mark that they belong together.
    stats.unlink(missing_ok=True)
    if "labels" in plan.batch.save:
        write_labels(job.result(plan.output, "labels"), segmentation.labels)
    if "color" in plan.batch.save:
        write_colors(job.result(plan.output, "color"), segmentation.labels)
    if "stats" in plan.batch.save:
        document = stats_document(str(job.source), decoded.sha256, decoded.image, segmentation, plan.segment, device)
        write_json(stats, document)
    return Outcome(
        path=str(job.source),
        status="done",
        num_labels=segmentation.num_labels,
        iterations=segmentation.fit.iterations,
        stop_reason=segmentation.fit.stop_reason,
        seconds=round(segmentation.seconds, 3),
    )


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output} cannot be created: {error.strerror}; name another folder with -o") from error


def _record(output: Path, outcome: Outcome) -> None:
    """Note an outcome in ``outcomes.jsonl``; a full disk costs the line, not the run. Skipped ones have theirs."""
    if outcome.status == "skipped":
        return
    try:
        append_outcome(output, outcome)
    except OSError as error:
        _log.warning("outcomes.jsonl in %s lacks %s: %s", output, outcome.path, error.strerror)

"""A first look at a run: images that are complete already need no worker. Nothing here loads torch or scipy."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from ..errors import ImageError
from ..files.output_folder import Job
from .planning import Plan
from .resume import Stats, is_complete, stats_to_continue
from .sequences import history_including, history_of

LOOK_S = 5.0
"""Seconds after which the rest is left to the workers, which are several and give up files that hang."""


def completed_at_the_start(plan: Plan, stop: threading.Event | None = None) -> Iterator[Job]:
    """Yield the first jobs of a plan for as long as they are complete.

    It ends with the first that is not, that cannot be read or that was made otherwise, and after `LOOK_S`.
    """
    if plan.batch.overwrite:
        return
    history: str | None = None
    starts = {sequence[0].name for sequence in plan.sequences}
    stop, enough, answers = stop or threading.Event(), threading.Event(), queue.SimpleQueue[bool]()

    def look() -> None:
        nonlocal history
        for job in plan.jobs:
            if enough.is_set():
                return
            stats = _stats_if_complete(plan, job)
            if plan.segment.sequence:
                history = None if job.name in starts else history
                stats = stats if stats is not None and history_of(stats) == history else None
                history = history if stats is None else history_including(stats)
            answers.put(stats is not None)
            if stats is None:
                return

    # In a thread, because a file that hangs cannot be given up otherwise.
    threading.Thread(target=look, daemon=True).start()
    until = time.monotonic() + LOOK_S
    try:
        for job in plan.jobs:
            if stop.is_set() or not answers.get(timeout=max(0.0, until - time.monotonic())):
                return
            yield job
    except queue.Empty:
        return
    finally:
        enough.set()


def _stats_if_complete(plan: Plan, job: Job) -> Stats | None:
    """As a worker finds out; an image on which that fails is the worker's to name."""
    from ..images.masks import read_mask  # noqa: PLC0415 - so that a run of new images does not wait for it
    from ..images.pages import read_job  # noqa: PLC0415

    batch, drawn = plan.batch, None
    try:
        source = read_job(job, batch.max_pixels)
        if batch.scribbles is not None:
            from ..images.scribbles import read_scribbles  # noqa: PLC0415 - loads scipy

            drawn = read_scribbles(job, batch.scribbles, batch.max_pixels)
        mask = read_mask(job, batch.mask, batch.max_pixels)
        stats = stats_to_continue(job, plan.folder, source, drawn, mask, plan.segment, batch)
        return stats if stats is not None and is_complete(job, plan.folder, stats, batch) else None
    except (ImageError, OSError, MemoryError):
        return None

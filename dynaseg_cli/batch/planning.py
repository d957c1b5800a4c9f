"""A batch decided before it starts: what there is to do, and that it can be done. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from shlex import quote

from ..config import BatchConfig, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..model_file import read_model
from ..user_files import LOG_NAME, RUN_NAME, PassedOver
from .discovery import Discovery, discover
from .job import EXTENSIONS, MANY_REGIONS, SCRIBBLES, Job
from .outcome import Outcome
from .output_folder import (
    CHECKPOINT_NAME,
    CLUSTERS_NAME,
    EXPORT_FOLDER,
    MODEL_NAME,
    REPORT_FOLDER,
    REPORT_NAME,
    refuse_foreign,
)
from .resume import Stats, differing_options, made_otherwise, read_stats, refuse_other_options


@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know."""

    jobs: list[Job]
    found: list[Job]
    """Those of all shards."""
    output: Path
    segment: SegmentConfig
    """Its model, if there is one already."""
    batch: BatchConfig
    unlistable: list[Outcome]
    """Folders below the inputs that could not be listed: failures from the start."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    doubts: list[str] = field(default_factory=list)
    """Notes on options and inputs that may be mistakes, in whole sentences."""
    unused_scribbles: list[Path] = field(default_factory=list)
    """Files in the folder of scribbles that are named as no image is."""

    @property
    def lacks_model(self) -> bool:
        """Whether a network has to be fitted to the folder before an image can be segmented."""
        return self.segment.fit == "folder" and self.segment.model is None

    def complete(self) -> Iterator[tuple[Job, Stats]]:
        """The images that have statistics made with these options, by this run, another shard, or an earlier one."""
        options = self.segment.as_options()
        for job in self.found:
            stats = read_stats(job.result(self.output, "stats"))
            if stats is not None and stats["options"] == options:
                yield job, stats


def plan_batch(
    inputs: Sequence[Path],
    output: Path,
    segment: SegmentConfig | None = None,
    batch: BatchConfig | None = None,
    listed: Sequence[Path] = (),
) -> Plan:
    """Find the images below `inputs` and in `listed`, and check that `output` can take their results.

    Writes nothing. Every shard finds all images before it takes its own: so the partition is the same on every machine,
    and what cannot be written together is refused by all. A shard may be left with none.

    Raises
    ------
    UsageError
        If an input is unusable, results would collide, `output` cannot be written, or holds results made with other
        options (unless they are to be overwritten), or there are no scribbles where they should be.
    """
    segment, batch = segment or SegmentConfig(), batch or BatchConfig()
    _refuse_lost_folder()
    _refuse_loop(output)
    if segment.fit == "folder" and not segment.refine and "recording" in batch.save:
        raise UsageError(
            "--record shows the iterations on each image, and a folder's network is applied in one pass: leave it out,"
            " or add --load-model and --refine"
        )
    if batch.scribbles is not None:
        if segment.fit == "folder":
            raise UsageError(
                "--scribbles draw labels of one image, and a folder's network has labels of its own: leave one out"
            )
        _refuse_folder_of_scribbles(batch.scribbles, inputs, output)
    found = discover(inputs, listed, output, batch)
    index, count = batch.shard
    jobs = found.jobs[index - 1 :: count]
    _refuse_unwritable(output)
    refuse_foreign(output, _targets(found.jobs, segment, batch))
    if batch.scribbles is not None:
        _refuse_no_scribbles(batch.scribbles, found.jobs)
    if segment.fit == "folder" and segment.model is None:
        if not batch.overwrite:
            segment = dataclasses.replace(segment, model=earlier_model(output, segment))
        elif count > 1:
            raise UsageError(
                "--overwrite fits a new network, and so would each shard: fit it in one run without --shard, or name a"
                " new folder with -o"
            )
    if not batch.overwrite:
        refuse_other_options(jobs, output, segment, scribbled=batch.scribbles is not None, value_range=batch.range)
    return Plan(
        jobs=jobs,
        found=found.jobs,
        output=output,
        segment=segment,
        batch=batch,
        unlistable=[Outcome(str(folder), "failed", reason) for folder, reason in found.unreadable],
        passed_over=found.passed_over,
        doubts=_doubts(found, output),
        unused_scribbles=[] if batch.scribbles is None else _unused_scribbles(batch.scribbles, found.jobs),
    )


def _targets(jobs: Sequence[Job], segment: SegmentConfig, batch: BatchConfig) -> Iterator[str]:
    """Paths below the output folder that a run may write. A product that exists is made again, asked for or not."""
    yield from (LOG_NAME, RUN_NAME)
    if segment.fit == "folder":
        yield from (MODEL_NAME, CHECKPOINT_NAME, CLUSTERS_NAME)
    if batch.report:
        yield from (REPORT_NAME, f"{REPORT_FOLDER}/")
    if batch.export:
        yield f"{EXPORT_FOLDER}/"
    for job in jobs:
        for product, extension in EXTENSIONS.items():
            yield f"{product}/{job.name}{extension}"
        yield f"regions/{job.name}{MANY_REGIONS}"


def _doubts(found: Discovery, output: Path) -> list[str]:
    doubts = [f"{glob} matched nothing" for glob in found.unmatched_globs]
    for folder in found.results:
        if folder.is_dir():
            doubts.append(
                f"{folder} is a folder of results and was not read; to write results there, use {_as_output(folder)}"
            )
    for folder in found.empty:
        doubts.append(
            f"no images in {folder}; results go to {output}. To write them to {folder}, use {_as_output(folder)}"
        )
    return doubts


def _as_output(folder: Path) -> str:
    return f"-o {quote(str(folder))}"


def earlier_model(output: Path, segment: SegmentConfig) -> WeightsFile | None:
    """The network that an earlier run with the same options fitted to the folder; None if there is none.

    Raises
    ------
    UsageError
        If it was made with other options, or cannot be read.
    """
    path = output / MODEL_NAME
    if not path.exists():
        return None
    earlier = read_model(path, "the model")
    differing = differing_options(dataclasses.replace(earlier, model=None).as_options(), segment)
    if differing:
        raise UsageError(made_otherwise(path, differing))
    return earlier.model


def _refuse_lost_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"the current folder is gone ({error.strerror}): change to another one") from None


def _refuse_loop(output: Path) -> None:
    try:
        output.resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        raise UsageError(f"{output} is a link that leads to itself; name another folder with -o") from None


def _refuse_unwritable(output: Path) -> None:
    existing = output
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{output} cannot be a folder: {existing} is a file; name another one with -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{output} cannot be written: no permission in {existing}; name another folder with -o")


def _refuse_folder_of_scribbles(folder: Path, inputs: Sequence[Path], output: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"--scribbles {folder} is not a folder; name the one in which scribbles are, as label PNGs")
    there = folder.resolve()
    for path in inputs:
        if path.resolve() == there:
            raise UsageError(f"--scribbles {folder} is the input itself; keep scribbles in a folder of their own")
    for written in (*EXTENSIONS, EXPORT_FOLDER):
        if there.is_relative_to((output / written).resolve()):
            raise UsageError(f"--scribbles {folder} is where {written} are written; copy scribbles to another folder")


def _refuse_no_scribbles(folder: Path, jobs: Sequence[Job]) -> None:
    if jobs and not any(os.path.isfile(job.scribbles(folder)) for job in jobs):  # noqa: PTH113 - never raises
        raise UsageError(
            f"--scribbles {folder} has none for any image; that for {jobs[0].path} would be {jobs[0].scribbles(folder)}"
        )


def _unused_scribbles(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """What may have been meant for one of the images, jobs in order of their names, and is not found by it."""
    unused = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == SCRIBBLES:
            name = path.relative_to(folder).as_posix()
            at = bisect_left(jobs, name.removesuffix(SCRIBBLES), key=attrgetter("name"))
            if at == len(jobs) or jobs[at].name + SCRIBBLES != name:
                unused.append(path)
    return unused

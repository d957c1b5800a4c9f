"""A batch decided before it starts: what there is to do, and that it can be done. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import BatchConfig, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..model_file import read_model
from .discovery import discover
from .job import Job
from .outcome import Outcome
from .resume import differing_options, made_otherwise, refuse_other_options

MODEL_NAME = "model.safetensors"
"""Of the network that was fitted to the folder, in the output folder."""


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
    links_out: int
    """Symbolic links that were not followed."""

    @property
    def lacks_model(self) -> bool:
        """Whether a network has to be fitted to the folder before an image can be segmented."""
        return self.segment.fit == "folder" and self.segment.model is None


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
        options (unless they are to be overwritten).
    """
    segment, batch = segment or SegmentConfig(), batch or BatchConfig()
    _refuse_lost_folder()
    found = discover(inputs, listed, output, batch)
    index, count = batch.shard
    jobs = found.jobs[index - 1 :: count]
    _refuse_unwritable(output)
    if segment.fit == "folder" and segment.model is None and not batch.overwrite:
        segment = dataclasses.replace(segment, model=earlier_model(output, segment))
    if not batch.overwrite:
        refuse_other_options(jobs, output, segment)
    return Plan(
        jobs=jobs,
        found=found.jobs,
        output=output,
        segment=segment,
        batch=batch,
        unlistable=[Outcome(str(folder), "failed", reason) for folder, reason in found.unreadable],
        links_out=found.links_out,
    )


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


def _refuse_unwritable(output: Path) -> None:
    existing = output
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{output} cannot be a folder: {existing} is a file; name another one with -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{output} cannot be written: no permission in {existing}; name another folder with -o")

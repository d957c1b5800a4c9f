"""The plan of a run: what there is to do, checked before any work starts. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from pathlib import Path

from ..config import BatchConfig, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..export.exporting import refuse_names, refuse_uninstalled
from ..export.source import refuse_unknown_labels
from ..files.label_names import kept_names, read_names, refuse_foreign_names
from ..files.output_folder import (
    CHECKPOINT_NAME,
    CLUSTERS_NAME,
    DRAWN,
    EXPORT_FOLDER,
    EXTENSIONS,
    KEPT_HIERARCHY_FOLDER,
    KEPT_RAW_FOLDER,
    MANY_REGIONS,
    MODEL_NAME,
    NAMES_NAME,
    OLD_OVERLAY,
    REPORT_FOLDER,
    REPORT_NAME,
    SEQUENCE_FOLDER,
    Job,
    OutputFolder,
)
from ..files.user_files import LOG_NAME, RUN_NAME, PassedOver
from ..files.weights import read_model, read_weights
from ..files.writing import refuse_unwritable_file
from .discovery import Discovery, discover
from .outcomes import Outcome
from .resume import Stats, differing_options, made_otherwise, read_stats, refuse_other_options
from .sequences import sequences_of


@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know."""

    jobs: list[Job]
    found: list[Job]
    """The jobs of all shards."""
    folder: OutputFolder
    segment: SegmentConfig
    """With its model, if there is one already."""
    batch: BatchConfig
    unlistable: list[Outcome]
    """Folders below the inputs that could not be listed; they count as failures."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    doubts: list[str] = field(default_factory=list)
    """Notes on options and inputs that may be mistakes, in whole sentences."""
    unused_scribbles: list[Path] = field(default_factory=list)
    """Files in the folder of scribbles that no image has the name of."""
    unused_masks: list[Path] = field(default_factory=list)
    """The same in the folder of masks."""
    names: dict[int, str] = field(default_factory=dict)
    """Names of labels, for exports and the report; those of other labels are not known."""

    @property
    def lacks_model(self) -> bool:
        """Whether a network must be fitted to the folder first."""
        return self.segment.fit == "folder" and self.segment.model is None

    @property
    def sequences(self) -> list[list[Job]]:
        """The sequences of the jobs, each with all its images, and none without the option."""
        if not self.segment.sequence:
            return []
        own = {job.name for job in self.jobs}
        return [jobs for jobs in sequences_of(self.found) if any(job.name in own for job in jobs)]

    @property
    def fit_visits(self) -> int:
        """Images that a folder fit reads."""
        return self.segment.fit_visits(len(self.found))

    def complete(self) -> Iterator[tuple[Job, Stats]]:
        """Images with statistics made with these options, by this run, another shard or an earlier run."""
        options = self.segment.as_options()
        for job in self.found:
            stats = read_stats(job, self.folder)
            # The second, slower, is true of results of an earlier version, which lacked an option.
            if stats is not None and (
                stats["options"] == options or not differing_options(stats["options"], self.segment)
            ):
                yield job, stats


def plan_batch(
    inputs: Sequence[Path],
    output: Path,
    segment: SegmentConfig | None = None,
    batch: BatchConfig | None = None,
    listed: Sequence[Path] = (),
) -> Plan:
    """Find the images below `inputs` and in `listed`, and check that `output` can take their results.

    Writes nothing. Every shard finds all images before it takes its own, so the partition is the same on every machine,
    and all shards refuse results that collide. A shard may be left with no image.

    Raises
    ------
    UsageError
        If an input is unusable, results would collide, `output` cannot be written or holds results made with other
        options (unless they are to be overwritten), no scribbles or masks are found, or what an export needs is not
        installed.
    """
    segment, batch = segment or SegmentConfig(), batch or BatchConfig()
    folder = OutputFolder(output)
    _refuse_lost_folder()
    _refuse_loop(output)
    refuse_uninstalled(batch.export)
    _refuse_contradictions(segment, batch)
    drawn = _drawn_folders(batch)
    for name, there in drawn.items():
        _refuse_folder_of(name, there, inputs, output)
    found = discover(inputs, listed, output, batch)
    index, count = batch.shard
    if segment.sequence:
        jobs = list(chain.from_iterable(sequences_of(found.jobs)[index - 1 :: count]))
    else:
        jobs = found.jobs[index - 1 :: count]
    _refuse_unwritable(output)
    folder.refuse_foreign(_targets(found.jobs, segment, batch))
    for name, there in drawn.items():
        _refuse_none_drawn(name, there, found.jobs)
    if segment.fit == "folder" and segment.model is None:
        if not batch.overwrite:
            segment = dataclasses.replace(segment, model=earlier_model(folder, segment))
        elif count > 1:
            raise UsageError(
                "`overwrite=True` fits a new network, and so would each shard: fit it without `shard`, or name"
                " a new `output` folder"
            )
    if batch.save_model is not None:
        _refuse_save_model(batch.save_model, segment, overwrite=batch.overwrite)
    if not batch.overwrite:
        refuse_other_options(
            jobs,
            folder,
            segment,
            scribbled=batch.scribbles is not None,
            masked=batch.mask is not None,
            value_range=batch.range,
            channels=batch.channels,
        )
    names, doubts = named_labels(folder, segment, batch, scribbled=batch.scribbles is not None)
    return Plan(
        jobs=jobs,
        found=found.jobs,
        folder=folder,
        segment=segment,
        batch=batch,
        unlistable=[Outcome(str(folder), "failed", reason) for folder, reason in found.unreadable],
        passed_over=found.passed_over,
        doubts=[*_doubts(found, output), *doubts],
        unused_scribbles=_unused(drawn["scribbles"], found.jobs) if "scribbles" in drawn else [],
        unused_masks=_unused(drawn["mask"], found.jobs) if "mask" in drawn else [],
        names=names,
    )


_DRAWN = {
    "scribbles": ("scribbles", "as label PNGs"),
    "mask": ("masks", "as PNGs that are 0 where photos do not count"),
}
"""Options that name folders of drawings: what is drawn, and how."""


def _drawn_folders(batch: BatchConfig) -> dict[str, Path]:
    """The folders of drawings, by the options that name them."""
    options = {"scribbles": batch.scribbles, "mask": None if batch.mask in ("alpha", "nodata") else batch.mask}
    return {name: Path(folder) for name, folder in options.items() if folder is not None}


def named_labels(
    folder: OutputFolder, segment: SegmentConfig, batch: BatchConfig, *, scribbled: bool
) -> tuple[dict[int, str], list[str]]:
    """The names of labels that the options give, or else an earlier command kept; and doubts about them.

    Parameters
    ----------
    scribbled : whether labels mean what was drawn with them.

    Raises
    ------
    UsageError
        If the names are unusable, or an export cannot hold them, or is to be of labels that there are not.
    """
    doubts = []
    if batch.names is not None:
        names = read_names(batch.names, segment.clusters)
        refuse_foreign_names(folder)
        if segment.fit == "image" and not scribbled:
            doubts.append(
                "names mean little here: each image has a network of its own, so label 0 is the largest of each image,"
                " whatever it shows"
            )
    elif batch.report or batch.export:
        names, note = kept_names(folder, segment.as_options()["model"], segment.clusters)
        doubts += [note] if note else []
    else:
        names = {}
    refuse_names(batch.export, names)
    refuse_unknown_labels(batch.export_config, names, segment.clusters)
    return names, doubts


def _refuse_contradictions(segment: SegmentConfig, batch: BatchConfig) -> None:
    """Refuse options of images that go against how labels are found."""
    if segment.sequence:
        _refuse_with_sequence(batch)
    if segment.fit != "folder":
        if batch.tiles:
            raise UsageError(
                "`tiles` need labels that mean the same in each of them: `fit=folder`, or a loaded `model`"
            )
        return
    if not segment.refine and "recording" in batch.save:
        raise UsageError(
            "`record` shows the iterations on each image, but a folder's network is applied in one pass: leave it out,"
            " or add `model` and `refine`"
        )
    if batch.scribbles is not None:
        raise UsageError(
            "`scribbles` draw labels of one image, but a folder's network has labels of its own: leave one out"
        )
    if batch.outside == "background":
        raise UsageError(
            "`outside=background` is label 0, but a folder's network has a label 0 of its own: `outside=255` is none"
        )


def _refuse_with_sequence(batch: BatchConfig) -> None:
    if batch.scribbles is not None:
        raise UsageError(
            "`scribbles` draw labels of one image, but those of a `sequence` go on from image to image: leave one out"
        )
    if batch.mask is not None:
        raise UsageError("`mask` goes without `sequence`, whose images depend on those before: leave one out")
    if "stats" not in batch.save:
        raise UsageError("`sequence` needs the statistics to know which images are done: add stats to `save`")


def _targets(jobs: Sequence[Job], segment: SegmentConfig, batch: BatchConfig) -> Iterator[str]:
    """Paths below the output folder that a run may write or remove, requested or replaced because they exist."""
    yield from (LOG_NAME, RUN_NAME)
    if segment.fit == "folder":
        yield from (MODEL_NAME, CHECKPOINT_NAME, CLUSTERS_NAME)
    if batch.names is not None:
        yield NAMES_NAME
    if batch.report:
        yield from (REPORT_NAME, f"{REPORT_FOLDER}/")
    if batch.export:
        yield f"{EXPORT_FOLDER}/"
    if "raw" in batch.save:
        yield "raw/"
    if segment.sequence:
        yield from (f"{SEQUENCE_FOLDER}/{sequence[0].name}.safetensors" for sequence in sequences_of(jobs))
    for job in jobs:
        for product, extension in EXTENSIONS.items():
            if product != "raw":
                yield f"{product}/{job.name}{extension}"
        yield f"regions/{job.name}{MANY_REGIONS}"
        yield f"overlay/{job.name}{OLD_OVERLAY}"
        yield f"{KEPT_RAW_FOLDER}/{job.name}{EXTENSIONS['raw']}"
        yield f"{KEPT_HIERARCHY_FOLDER}/{job.name}{EXTENSIONS['hierarchy']}"


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
    return f"`output={folder}`"


def earlier_model(folder: OutputFolder, segment: SegmentConfig) -> WeightsFile | None:
    """The network that an earlier run fitted to the folder with the same options; None if there is none.

    Raises
    ------
    UsageError
        If it was made with other options, or cannot be read.
    """
    path = folder.model
    if not path.exists():
        return None
    earlier = read_model(path, "the model")
    differing = differing_options(dataclasses.replace(earlier, model=None).as_options(), segment)
    if differing:
        raise UsageError(made_otherwise(path, differing))
    return earlier.model


def _refuse_save_model(path: Path, segment: SegmentConfig, *, overwrite: bool) -> None:
    """Refuse to save a model if no network is fitted, or in place of another file."""
    if segment.fit != "folder":
        raise UsageError("`save_model` keeps the network of a folder: it goes with `fit=folder`")
    refuse_unwritable_file("save_model", path, _is_model)
    if not path.exists() or not path.stat().st_size or overwrite:
        return
    if segment.model is None or path.read_bytes() != read_weights(segment.model, "the model"):
        raise UsageError(f"`save_model={path}` is another model; `overwrite=True` replaces it, or choose another name")


def _is_model(path: Path) -> bool:
    try:
        read_model(path)
    except UsageError:
        return False
    return True


def _refuse_lost_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"the current folder is gone ({error.strerror}): change to another one") from None


def _refuse_loop(output: Path) -> None:
    try:
        output.resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        raise UsageError(f"{output} is a link that leads to itself; name another `output` folder") from None


def _refuse_unwritable(output: Path) -> None:
    existing = output
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{output} cannot be a folder: {existing} is a file; name another `output` folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{output} cannot be written: no permission in {existing}; name another `output` folder")


def _refuse_folder_of(name: str, folder: Path, inputs: Sequence[Path], output: Path) -> None:
    """Refuse a folder of scribbles or masks, the option `name`, that is none, or one of photos or results."""
    option, (what, how) = f"`{name}={folder}`", _DRAWN[name]
    if not folder.is_dir():
        raise UsageError(f"{option} is not a folder; name the folder with the {what}, {how}")
    there = folder.resolve()
    for path in inputs:
        if path.resolve() == there:
            raise UsageError(f"{option} is the input itself; keep {what} in a folder of their own")
    for written in (*EXTENSIONS, KEPT_RAW_FOLDER, KEPT_HIERARCHY_FOLDER, EXPORT_FOLDER):
        if there.is_relative_to((output / written).resolve()):
            raise UsageError(f"{option} is where {written} are written; copy {what} to another folder")


def _refuse_none_drawn(name: str, folder: Path, jobs: Sequence[Job]) -> None:
    if jobs and not any(os.path.isfile(job.drawing(folder)) for job in jobs):  # noqa: PTH113 - never raises
        raise UsageError(
            f"`{name}={folder}` has none for any image; for {jobs[0].shown} it would be {jobs[0].drawing(folder)}"
        )


def _unused(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """Files in a folder of scribbles or masks that no job has the name of; the jobs are sorted by name."""
    unused = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() == DRAWN:
            name = path.relative_to(folder).as_posix()
            at = bisect_left(jobs, name.removesuffix(DRAWN), key=attrgetter("name"))
            if at == len(jobs) or jobs[at].name + DRAWN != name:
                unused.append(path)
    return unused


_SLURM = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT"))


def parse_shard(text: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """(I, N) from ``I/N``, or from the environment for ``auto``; `BatchConfig` checks their range.

    Raises
    ------
    UsageError
        If the text is neither, or ``auto`` does not find an array without gaps.
    """
    if text == "auto":
        return _of_slurm_array(environment)
    numbers = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if numbers is None:
        raise UsageError(f"`shard` must be I/N, such as 2/8, or auto, not {text}")
    return int(numbers[1]), int(numbers[2])


def _of_slurm_array(environment: Mapping[str, str]) -> tuple[int, int]:
    try:
        task, first, last, step, count = (int(environment[name]) for name in _SLURM)
    except (KeyError, ValueError):
        raise UsageError(
            f"`shard=auto` needs a task of a Slurm array, with numbers in {', '.join(_SLURM)}; elsewhere give I/N,"
            " such as `shard=2/8`"
        ) from None
    if step < 1 or (task - first) % step or count != (last - first) // step + 1:
        raise UsageError(
            f"`shard=auto` needs a Slurm array without gaps, and this one has {count} tasks from {first} to {last} in"
            f" steps of {step}; give I/N, such as `shard=2/{count}`"
        )
    return (task - first) // step + 1, count

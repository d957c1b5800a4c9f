"""Which images are complete already: their ``stats`` file says with which options and from which content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import BatchConfig, CutConfig, Product, SegmentConfig
from ..errors import DecodeError, ImageError, UsageError
from ..images import read_file
from .job import Job
from .report_entry import ReportEntry
from .stats_shape import parse_stats

Stats = dict[str, Any]

OF_CUT: frozenset[Product] = frozenset(("regions", "overlay"))
"""What regions are cut for."""
IN_COLORS: frozenset[Product] = frozenset(("color", "overlay", "recording"))
"""What has the labels' colours."""

MOST_BYTES = 1 << 28
"""Of a ``stats`` document: those of 65,536 labels and as many regions have less."""

LOOKED_AT = 1000
"""Earlier results that are asked for their options before a start: enough to notice those of another run, and few
enough not to delay the start, as those of a million images would by minutes."""


def read_stats(path: Path) -> Stats | None:
    """A ``stats`` document, or None where there is none or it is not one of ours."""
    try:
        return parse_stats(read_file(path, MOST_BYTES, "statistics have"))
    except (OSError, DecodeError):
        return None


def refuse_other_options(jobs: Sequence[Job], output: Path, config: SegmentConfig, *, scribbled: bool = False) -> None:
    """Raise a UsageError if a job has a result that was made with other options, naming those that differ.

    `scribbled` says whether this run takes scribbles: by one that does not, what was made with some is left alone.
    Looks at `LOOKED_AT` jobs at most: the first, the last, and others evenly between them. What it misses is found when
    its turn comes, and is left alone then.
    """
    if not (output / "stats").is_dir():
        return
    last, steps = len(jobs) - 1, min(len(jobs), LOOKED_AT) - 1
    for job in (jobs[step * last // max(steps, 1)] for step in range(steps + 1)):
        path = job.result(output, "stats")
        differing = _differing_options(read_stats(path), config, scribbled=scribbled)
        if differing:
            raise UsageError(made_otherwise(path, differing))


def earlier_stats(
    job: Job,
    output: Path,
    sha256: str,
    scribbles: str | None,
    config: SegmentConfig,
    *,
    scribbled: bool = False,
) -> Stats | None:
    """The ``stats`` document that an earlier run left of this very content, None where there is none.

    Parameters
    ----------
    sha256 : of the image's content.
    scribbles : SHA-256 of what is drawn on it, None if nothing is.
    scribbled : whether this run takes scribbles.

    Raises
    ------
    ImageError
        If it was made with other options, which is for a person to decide about.
    """
    path = job.result(output, "stats")
    stats = read_stats(path)
    differing = _differing_options(stats, config, scribbled=scribbled)
    if differing:
        raise ImageError(made_otherwise(path, differing))
    source = _entry(stats, "source")
    same = source.get("sha256") == sha256 and _entry(source, "scribbles").get("sha256") == scribbles
    return stats if same else None


def is_complete(job: Job, output: Path, stats: Stats, batch: BatchConfig) -> bool:
    """Whether all that is asked for is there, beside its `stats`, with regions cut and colours chosen as asked."""
    if is_cut_otherwise(stats, batch) or is_colored_otherwise(stats, batch):
        return False
    if "hierarchy" in batch.save and "levels" not in stats:
        return False
    if batch.report and not ReportEntry(job, output).is_there:
        return False
    return all(job.has(output, product) for product in batch.save)


def shows_regions(batch: BatchConfig) -> bool:
    """Whether something is asked for that regions are cut for."""
    return batch.report or not OF_CUT.isdisjoint(batch.save)


def cut_of(stats: Stats | None, batch: BatchConfig) -> CutConfig:
    """How an image's regions are to be cut.

    Those that `stats` tell of stay as they are, unless regions are to be saved, or it is said how they are to be cut.
    """
    asked = "regions" in batch.save or (shows_regions(batch) and batch.cut != CutConfig())
    before = None if stats is None or asked else stats.get("cut")
    return batch.cut if before is None else CutConfig(**before)


def is_cut_otherwise(stats: Stats, batch: BatchConfig) -> bool:
    """Whether something is asked for that has regions, and those there are were not cut as it is asked."""
    return shows_regions(batch) and stats.get("cut") != cut_of(stats, batch).as_options()


def is_colored_otherwise(stats: Stats, batch: BatchConfig) -> bool:
    """Whether something is asked for that has colours, and those of the labels were not chosen as it is asked."""
    return (batch.report or not IN_COLORS.isdisjoint(batch.save)) and stats.get("colors") != batch.colors


def _entry(document: Stats | None, name: str) -> dict[str, Any]:
    """An object within one, empty where there is none."""
    entry = None if document is None else document.get(name)
    return entry if isinstance(entry, dict) else {}


def _differing_options(stats: Stats | None, config: SegmentConfig, *, scribbled: bool) -> list[str]:
    if stats is None:
        return []
    differing = differing_options(stats["options"], config)
    drawn = _entry(_entry(stats, "source"), "scribbles").get("path")
    if drawn is not None and not scribbled:
        differing.append(f"scribbles were {drawn}, now none")
    return differing


def differing_options(before: dict[str, Any], config: SegmentConfig) -> list[str]:
    """In words, the options of an earlier run that are not those of `config`."""
    options = config.as_options()
    return [
        f"{name.replace('_', '-')} was {before.get(name)}, now {options.get(name)}"
        for name in sorted(options.keys() | before.keys())
        if before.get(name) != options.get(name)
    ]


def made_otherwise(path: Path, differing: list[str]) -> str:
    """What to say of a file of an earlier run with other options."""
    return (
        f"{path} was made with other options ({'; '.join(differing)});"
        " use --overwrite to redo it or another output folder"
    )

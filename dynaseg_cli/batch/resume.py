"""Which images are complete already: their ``stats`` file says with which options and from which content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..config import BatchConfig, CutConfig, Product, SegmentConfig, ValueRange, range_text
from ..errors import DecodeError, ImageError, UsageError
from ..images import read_file
from .decoding import is_deep
from .job import Job
from .report_entry import ReportEntry
from .stats_shape import is_whole, parse_stats

Stats = dict[str, Any]

OF_CUT: frozenset[Product] = frozenset(("regions", "overlay"))
"""What regions are cut for."""
IN_COLORS: frozenset[Product] = frozenset(("color", "overlay", "recording"))
"""What has the labels' colours."""

MOST_BYTES = 1 << 28
"""Limit on a ``stats`` document; those of 65,536 labels and as many regions are smaller."""

LOOKED_AT = 1000
"""Earlier results that are asked for their options before a start: enough to notice those of another run, and few
enough not to delay the start, as those of a million images would by minutes."""


def read_stats(path: Path) -> Stats | None:
    """A ``stats`` document, or None where there is none or it is not one of ours."""
    try:
        return parse_stats(read_file(path, MOST_BYTES, "statistics have"))
    except (OSError, DecodeError):
        return None


def refuse_other_options(
    jobs: Sequence[Job],
    output: Path,
    config: SegmentConfig,
    *,
    scribbled: bool = False,
    value_range: ValueRange = BatchConfig.range,
) -> None:
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
        differing = _differing_options(read_stats(path), config, value_range, scribbled=scribbled)
        if differing:
            raise UsageError(made_otherwise(path, differing))


def earlier_stats(
    job: Job,
    output: Path,
    sha256: str,
    scribbles: str | None,
    config: SegmentConfig,
    value_range: ValueRange = BatchConfig.range,
    content: bytes = b"",
    *,
    scribbled: bool = False,
) -> Stats | None:
    """The ``stats`` document that an earlier run left of this very content, None where there is none.

    Parameters
    ----------
    sha256 : of the image's content.
    scribbles : SHA-256 of what is drawn on it, None if nothing is.
    content : the content itself. Its header is read if no range was recorded, as for images of 8 bits and in results
        of versions without ranges.
    scribbled : whether this run takes scribbles.

    Raises
    ------
    ImageError
        If it was made with other options, which is for a person to decide about.
    """
    path = job.result(output, "stats")
    stats = read_stats(path)
    differing = _differing_options(stats, config, value_range, scribbled=scribbled)
    if stats is not None and _recorded_range(stats) is None and value_range != BatchConfig.range and is_deep(content):
        differing.append(Difference("range", None, range_text(value_range)))
    if differing:
        raise ImageError(made_otherwise(path, differing))
    source = _entry(stats, "source")
    same = source.get("sha256") == sha256 and _entry(source, "scribbles").get("sha256") == scribbles
    return stats if same else None


def is_complete(job: Job, output: Path, stats: Stats, batch: BatchConfig) -> bool:
    """Whether all that is asked for is there, beside its `stats`, with regions cut and colours chosen as asked."""
    if not is_whole(stats) or is_cut_otherwise(stats, batch) or is_colored_otherwise(stats, batch):
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


def _recorded_range(stats: Stats | None) -> str | None:
    option = _entry(_entry(stats, "source"), "range").get("option")
    return option if isinstance(option, str) else None


def _differing_options(
    stats: Stats | None, config: SegmentConfig, value_range: ValueRange, *, scribbled: bool
) -> list[Difference]:
    if stats is None:
        return []
    differing = differing_options(stats["options"], config)
    drawn = _entry(_entry(stats, "source"), "scribbles").get("path")
    if drawn is not None and not scribbled:
        differing.append(Difference("scribbles", drawn, None))
    recorded, now = _recorded_range(stats), range_text(value_range)
    if recorded is not None and recorded != now:
        differing.append(Difference("range", recorded, now))
    return differing


class Difference(NamedTuple):
    """An option whose value differs from that of an earlier run."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        before, now = ("none" if value is None else value for value in (self.before, self.now))
        return f"{self.name.replace('_', '-')} was {before}, now {now}"


def differing_options(before: dict[str, Any], config: SegmentConfig) -> list[Difference]:
    """The options in which an earlier run differs from `config`.

    An option that was not recorded was added after that run, and counts as its default.
    """
    defaults = SegmentConfig().as_options()
    options = config.as_options()
    return [
        Difference(name, was, options.get(name))
        for name in sorted(options.keys() | before.keys())
        if (was := before.get(name, defaults.get(name))) != options.get(name)
    ]


def made_otherwise(path: Path, differing: Sequence[Difference]) -> str:
    """The message about a file that was made with other options: which they were, and how to continue."""
    again = _written_again(differing)
    return (
        f"{path} was made with other options ({'; '.join(map(str, differing))});"
        f" {f'{again} continues with it, ' if again else ''}--overwrite redoes it, -o names another folder"
    )


NOT_WRITTEN = frozenset(
    ("blocks", "learning_rate", "momentum", "weight_decay", "literal", "model", "weights", "scribbles")
)
"""Options that the command line lacks, or whose recorded value is not what was written there."""


def _written_again(differing: Sequence[Difference]) -> str:
    """The options that restore the earlier values on the command line; empty if not all can be given."""
    known = {*SegmentConfig().as_options(), "range"}
    of_folder = ("fit", "folder") in [one[:2] for one in differing]
    words = []
    for name, before, _ in differing:
        if name == "model" and of_folder:  # found in the output folder
            continue
        if name in NOT_WRITTEN or name not in known or before is False or (name, before) == ("range", None):
            return ""
        flag = "--classes" if name == "clusters" and of_folder else f"--{name.replace('_', '-')}"
        if before is not None:
            words.append(flag if before is True else f"{flag} {before}")
    return " ".join(words)

"""Which images are complete already: their ``stats`` file says with which options and from which content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..config import CutConfig, Product, SegmentConfig
from ..errors import ImageError, UsageError
from .job import Job

Stats = dict[str, Any]

LOOKED_AT = 1000
"""Earlier results that are asked for their options before a start: enough to notice those of another run, and few
enough not to delay the start, as those of a million images would by minutes."""


def read_stats(path: Path) -> Stats | None:
    """A ``stats`` document, or None where there is none or it is not one of ours."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("options"), dict):
        return None
    return document


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


def is_complete(job: Job, output: Path, stats: Stats, save: Iterable[Product], cut: CutConfig) -> bool:
    """Whether all products of a job are there, beside its `stats`, and its regions, if asked for, are cut like this."""
    if "regions" in save and stats.get("cut") != cut.as_options():
        return False
    if "hierarchy" in save and "levels" not in stats:
        return False
    return all(job.has(output, product) for product in save)


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

"""Sequences of images: which images belong together, and what a result in one depends on. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..files.output_folder import Job
from ..files.tiles import Tile


def sequences_of(jobs: Iterable[Job]) -> list[list[Job]]:
    """Group jobs to sequences: the pages of one file, or the other files of one folder, in the order of the jobs."""
    found: dict[tuple[str, bool], list[Job]] = {}
    for job in jobs:
        is_page = job.page is not None
        found.setdefault((job.path if is_page else job.name.rpartition("/")[0], is_page), []).append(job)
    return list(found.values())


def history_of(stats: Mapping[str, Any]) -> str | None:
    """What the statistics of an image say that was before it in its sequence; None for the first image."""
    history = stats["source"].get("history")
    return history if isinstance(history, str) else None


def history_after(before: str | None, sha256: str, page: int | Tile | None) -> str:
    """SHA-256 in hexadecimal of the history of an image and of its content: the history of the next image.

    Together with the options, it says which network the next fit starts from.
    """
    return hashlib.sha256(json.dumps([before, sha256, page]).encode()).hexdigest()


def history_including(stats: Mapping[str, Any]) -> str:
    """`history_after` of an image with these statistics."""
    source = stats["source"]
    return history_after(history_of(stats), str(source.get("sha256")), source.get("page"))

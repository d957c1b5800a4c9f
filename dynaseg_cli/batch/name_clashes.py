"""Images whose results would have one name, or whose result would be the folder of another: refused before any work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter

from ..config import Product
from ..errors import UsageError
from .job import EXTENSIONS, MANY_REGIONS, Job
from .output_folder import folded

BY_NAME = attrgetter("name")


def repeated(jobs: Sequence[Job]) -> Iterator[int]:
    """Indices of jobs, which are sorted by name, whose file another job of the same name has already.

    Raises
    ------
    UsageError
        If two different files have the same name.
    """
    kept = None
    for index, job in enumerate(jobs):
        if kept is None or kept.name != job.name:
            kept = job
        elif kept.source.samefile(job.source):
            yield index
        else:
            _refuse(kept, job)


def refuse_same_name_in_another_case(jobs: Sequence[Job]) -> None:
    """Raise UsageError if two names differ only in case or in how an accent is encoded.

    Their results would be one file wherever the output folder is copied to a disk that ignores this.
    """
    hashes = [hash(folded(job.name)) for job in jobs]
    if len(set(hashes)) == len(hashes):
        return
    first: dict[str, Job] = {}
    for job in jobs:
        other = first.setdefault(folded(job.name), job)
        if other is not job:
            _refuse(other, job)


def refuse_result_in_the_place_of_a_folder(jobs: Sequence[Job], save: Sequence[Product]) -> None:
    """Raise UsageError if a result of one job would be a folder of another; the jobs are sorted by name."""
    extensions = {EXTENSIONS[product] for product in save}
    if "regions" in save:
        extensions.add(MANY_REGIONS)
    folders: dict[str, Job] = {}
    for job in jobs:
        folder = job.name.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = job
            folder = folder.rpartition("/")[0]
    for folder, below in folders.items():
        for extension in sorted(extensions):
            name = folder.removesuffix(extension)
            at = bisect_left(jobs, name, key=BY_NAME)
            if name != folder and at < len(jobs) and jobs[at].name == name:
                raise UsageError(
                    f"{jobs[at].path} would be written as {folder}, which is a folder for {below.path};"
                    " rename one of them or run them separately"
                )


def _refuse(one: Job, other: Job) -> None:
    in_case = "" if one.name == other.name else " where upper and lower case are one"
    raise UsageError(
        f"{one.path} and {other.path} would both be written as {other.name}.png{in_case};"
        " --keep-extension tells them apart if their extensions differ, else run them separately"
    )

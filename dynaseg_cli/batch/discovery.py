"""Finding the images: files, folders and lists of files become jobs, sorted, each with a name of its own."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal

from ..config import BatchConfig, Product
from ..errors import UsageError
from ..images import PHOTO_SUFFIXES
from .job import EXTENSIONS, MANY_REGIONS, Job

_BY_NAME = attrgetter("name")


@dataclass
class Discovery:
    """What was found below the inputs."""

    jobs: list[Job] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that could not be listed, and why."""
    links_out: int = 0
    """Symbolic links that were not followed."""


def discover(inputs: Sequence[Path], listed: Sequence[Path], output: Path, options: BatchConfig) -> Discovery:
    """Find every image of `inputs` (files and folders) and `listed` (files).

    A folder's tree is mirrored below the output; a file of `inputs` goes to its top; a file of `listed` keeps its
    path as written, less a leading ``/`` and any ``..``. `output` itself is never read back, nor is the folder of
    scribbles.

    Raises
    ------
    UsageError
        If an input does not exist, nothing is found, or two images would write the same file.
    """
    found = Discovery()
    for path in inputs:
        if _kind(path) == "folder":
            if path.resolve() == output.resolve():
                raise UsageError(f"{path} is both input and output; name another folder with -o")
            found.jobs += _walk(path, output, options, found)
        else:
            found.jobs.append(Job(_regular(path), _name(path.name, options)))
    for path in listed:
        kept = (part for part in path.parts if part not in (path.anchor, ".."))
        found.jobs.append(Job(_regular(path), _name("/".join(kept), options)))
    found.jobs.sort(key=_BY_NAME)
    found.jobs = _unique(found.jobs)
    _refuse_results_that_are_folders(found.jobs, options.save)
    if not found.jobs and not found.unreadable:
        places = ", ".join(str(path) for path in inputs) or "the list"
        raise UsageError(
            f"no images in {places}: looked for files ending in {' '.join(PHOTO_SUFFIXES)}"
            + (" that --include and --exclude let through" if options.include or options.exclude else "")
        )
    return found


def _walk(root: Path, output: Path, options: BatchConfig, found: Discovery) -> Iterator[Job]:
    """Images below `root`; what is left out for a reason is noted in `found`.

    A file costs no system call and no more than a few strings here: what it is comes with the listing.
    """
    top, inside = _prefix(root), _prefix(root.resolve())
    forbidden = {_prefix(folder.resolve()) for folder in (output, options.scribbles) if folder is not None}
    seen = {inside}
    folders = [("", inside)]
    while folders:
        below, real = folders.pop()
        images: list[str] = []
        others: list[os.DirEntry[str]] = []
        try:
            for entry in os.scandir(top + below or "."):
                if not entry.is_file(follow_symlinks=False):
                    others.append(entry)
                elif _looks_like_image(entry.name):
                    images.append(entry.name)
        except OSError as error:
            found.unreadable.append((Path(top + below), f"cannot be listed: {error.strerror or error}"))
            continue
        for entry in sorted(others, key=lambda entry: entry.name):
            path = Path(top + below + entry.name)
            kind = _kind(entry)
            if (
                entry.is_symlink()
                and not options.follow_symlinks
                and not (kind == "file" and str(path.resolve()).startswith(inside))
            ):
                found.links_out += kind == "folder" or (kind == "file" and _looks_like_image(entry.name))
            elif kind == "folder":
                there = _prefix(path.resolve()) if entry.is_symlink() else f"{real}{entry.name}/"
                if options.recursive and there not in forbidden and there not in seen:
                    seen.add(there)
                    folders.append((f"{below}{entry.name}/", there))
            elif kind == "file" and _looks_like_image(entry.name):
                images.append(entry.name)
        images.sort()
        for name in images:
            relative = below + name
            if _selected(relative, name, options):
                yield Job(top + relative, _name(relative, options))


def _prefix(folder: Path) -> str:
    """What the paths of its files begin with: the folder and a slash, or nothing for the current one."""
    return str(folder / "_")[:-1]


def _kind(place: Path | os.DirEntry[str]) -> Literal["file", "folder", "other"]:
    """What is at a place, links followed; a link to itself and what cannot be looked at are neither file nor folder."""
    try:
        return "folder" if place.is_dir() else "file" if place.is_file() else "other"
    except OSError:
        return "other"


def _suffix(path: str) -> str:
    """From the last dot of a file's name, unless the name begins or ends with it."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def _looks_like_image(name: str) -> bool:
    return _suffix(name).lower() in PHOTO_SUFFIXES


def _selected(path: str, name: str, options: BatchConfig) -> bool:
    """Globs with a slash match the path below the input, others the file's name."""

    def matches(globs: Iterable[str]) -> bool:
        return any(fnmatchcase(path if "/" in glob else name, glob) for glob in globs)

    return (not options.include or matches(options.include)) and not matches(options.exclude)


def _regular(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if S_ISDIR(mode):
        raise UsageError(f"{path} is a folder: give it as INPUT, a list names files")
    if not S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file")
    return str(path)


def _name(relative: str, options: BatchConfig) -> str:
    return relative if options.keep_extension else relative.removesuffix(_suffix(relative))


def _unique(jobs: list[Job]) -> list[Job]:
    """Drop repeated files from jobs in order of their names; refuse two files with one result."""
    kept: list[Job] = []
    for job in jobs:
        if not kept or kept[-1].name != job.name:
            kept.append(job)
        elif kept[-1].path != job.path and not kept[-1].source.samefile(job.source):
            raise UsageError(
                f"{kept[-1].path} and {job.path} would both be written as {job.name}.png;"
                " --keep-extension tells them apart if their extensions differ, else run them separately"
            )
    return kept


def _refuse_results_that_are_folders(jobs: list[Job], save: Sequence[Product]) -> None:
    """Refuse a result that would be the folder of another, of jobs in order of names."""
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
            at = bisect_left(jobs, name, key=_BY_NAME)
            if name != folder and at < len(jobs) and jobs[at].name == name:
                raise UsageError(
                    f"{jobs[at].path} would be written as {folder}, which is a folder for {below.path};"
                    " rename one of them or run them separately"
                )

"""Finding the images: files, folders and lists of files become jobs, sorted, each with a name of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISREG
from typing import Literal

from ..config import BatchConfig
from ..errors import UsageError
from ..images import PHOTO_SUFFIXES
from .job import EXTENSIONS, Job


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
    path as written, less a leading ``/`` and any ``..``. `output` itself is never read back.

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
            files = _walk(path, output, options, found)
            found.jobs += (Job(str(file), _name(file.relative_to(path), options)) for file in files)
        else:
            found.jobs.append(Job(_regular(path), _name(Path(path.name), options)))
    for path in listed:
        kept = [part for part in path.parts if part not in (path.anchor, "..")]
        found.jobs.append(Job(_regular(path), _name(Path(*kept), options)))
    found.jobs = _unique(found.jobs)
    if not found.jobs and not found.unreadable:
        places = ", ".join(str(path) for path in inputs) or "the list"
        raise UsageError(
            f"no images in {places}: looked for files ending in {' '.join(PHOTO_SUFFIXES)}"
            + (" that --include and --exclude let through" if options.include or options.exclude else "")
        )
    found.jobs.sort(key=lambda job: job.name)
    return found


def _walk(root: Path, output: Path, options: BatchConfig, found: Discovery) -> Iterator[Path]:
    """Image files below `root`; what is left out for a reason is noted in `found`."""
    inside, forbidden = root.resolve(), output.resolve()
    seen = {inside}
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable.append((folder, f"cannot be listed: {error.strerror or error}"))
            continue
        for entry in entries:
            path = folder / entry.name
            kind = _kind(path)
            if (
                entry.is_symlink()
                and not options.follow_symlinks
                and not (kind == "file" and path.resolve().is_relative_to(inside))
            ):
                found.links_out += kind == "folder" or (kind == "file" and _looks_like_image(path))
            elif kind == "folder":
                real = path.resolve()
                if options.recursive and real != forbidden and real not in seen:
                    seen.add(real)
                    folders.append(path)
            elif kind == "file" and _looks_like_image(path) and _selected(path.relative_to(root), options):
                yield path


def _kind(path: Path) -> Literal["file", "folder", "other", "missing"]:
    """What is at a path, links followed; a link that leads nowhere or to itself is missing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "missing"
    return "file" if S_ISREG(mode) else "folder" if S_ISDIR(mode) else "other"


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES


def _selected(path: Path, options: BatchConfig) -> bool:
    """Globs with a slash match the path below the input, others the file's name."""

    def matches(globs: Iterable[str]) -> bool:
        return any(fnmatchcase(path.as_posix() if "/" in glob else path.name, glob) for glob in globs)

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


def _name(relative: Path, options: BatchConfig) -> str:
    name = relative.as_posix()
    return name if options.keep_extension else name.removesuffix(relative.suffix)


def _unique(jobs: list[Job]) -> list[Job]:
    """Drop repeated files; refuse two files with one result, or one whose result is another's folder."""
    by_name: dict[str, Job] = {}
    for job in jobs:
        other = by_name.setdefault(job.name, job)
        if other.path != job.path and not other.source.samefile(job.source):
            raise UsageError(
                f"{other.path} and {job.path} would both be written as {job.name}.png;"
                " --keep-extension tells them apart if their extensions differ, else run them separately"
            )
    folders = {str(folder): job for job in by_name.values() for folder in PurePosixPath(job.name + ".png").parents}
    for job in by_name.values():
        for extension in sorted(set(EXTENSIONS.values())):
            below = folders.get(job.name + extension)
            if below is not None:
                raise UsageError(
                    f"{job.path} would be written as {job.name}{extension}, which is a folder for {below.path};"
                    " rename one of them or run them separately"
                )
    return list(by_name.values())

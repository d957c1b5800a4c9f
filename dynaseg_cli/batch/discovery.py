"""Finding the images: files, folders and lists of files become jobs, sorted, each with a name of its own."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal

from ..config import BatchConfig, Product
from ..errors import UsageError
from ..images import PHOTO_SUFFIXES, UNREADABLE_SUFFIXES
from ..user_files import LOG_NAME, MARK, RUN_NAME, SYSTEM_FOLDERS, is_output_folder, kind_passed_over
from .job import EXTENSIONS, MANY_REGIONS, Job
from .output_folder import FOLDERS, folded

Kind = Literal["file", "folder", "other"]

_BY_NAME = attrgetter("name")
_MARKS = frozenset((MARK, LOG_NAME, RUN_NAME))

RESULTS, DUPLICATE, LINK = "results", "duplicate", "link"
"""Kinds of what is passed over, beside those of `user_files` and `UNREADABLE_SUFFIXES`."""


@dataclass
class Discovery:
    """What was found below the inputs."""

    jobs: list[Job] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that could not be listed, and why."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """How many files and folders were not taken for input, by kind."""
    results: list[Path] = field(default_factory=list)
    """Inputs that dynaseg wrote itself, and so passed over."""
    empty: list[Path] = field(default_factory=list)
    """Folders among the inputs in which there is no image."""
    unmatched_globs: list[str] = field(default_factory=list)
    """``--include`` and ``--exclude`` options, as written, that no file or folder matched."""


def discover(inputs: Sequence[Path], listed: Sequence[Path], output: Path, options: BatchConfig) -> Discovery:
    """Find every image of `inputs` (files and folders) and `listed` (files).

    A folder's tree is mirrored below the output; a file of `inputs` goes to its top; a file of `listed` keeps its
    path as written, less a leading ``/`` and any ``..``. A file that is named twice is taken once, as it is named
    first. Hidden files, those that systems leave beside photos, whatever dynaseg wrote, and the folder of scribbles are
    never read.

    Raises
    ------
    UsageError
        If an input does not exist, nothing is found, or two images would write the same file.
    """
    search = _Search(output, options, several=len(inputs) + bool(listed) > 1 or len(listed) > 1)
    for number, path in enumerate(inputs):
        if _kind(path) != "folder":
            search.add_file(path, path.name, last_of_several=0 < number == len(inputs) - 1)
        elif path.resolve() == output.resolve():
            raise UsageError(f"{path} is both input and output; name another folder with -o")
        else:
            search.add_folder(path)
    for path in listed:
        search.add_file(path, "/".join(part for part in path.parts if part not in (path.anchor, "..")))
    found = search.found
    found.jobs.sort(key=_BY_NAME)
    found.jobs = _unique(found)
    _refuse_names_that_differ_in_case(found.jobs)
    _refuse_results_that_are_folders(found.jobs, options.save)
    found.unmatched_globs = search.globs.unmatched
    if not found.jobs and not found.unreadable:
        raise UsageError(_nothing_found(found, inputs, options))
    return found


class _Search:
    """What is known while inputs are looked through, one after another."""

    def __init__(self, output: Path, options: BatchConfig, *, several: bool) -> None:
        self.found = Discovery()
        self.globs = _Globs(options)
        self._options = options
        self._output = _prefix(output.resolve())
        self._scribbles = None if options.scribbles is None else _prefix(options.scribbles.resolve())
        self._taken: set[str] | None = set() if several else None
        """Files by their real folder and their name, where one may be named twice."""
        self._folders: dict[Path, tuple[str, bool]] = {}
        """Of files named one by one: the folder's real path, and whether dynaseg wrote it."""

    def add_file(self, path: Path, relative: str, *, last_of_several: bool = False) -> None:
        """A file that was named by itself, with a path for its results."""
        text = _regular(path, last_of_several=last_of_several)
        kind = next(filter(None, map(kind_passed_over, relative.split("/"))), None)
        if kind is not None:
            self._pass_over(kind)
            return
        folder, written = self._folder_of(path)
        if written:
            self._pass_over(RESULTS)
            self.found.results.append(path)
        elif self.globs.select(relative) and self._take(folder + path.name):
            self.found.jobs.append(Job(text, _name(relative, self._options)))

    def add_folder(self, root: Path) -> None:
        real = root.resolve()
        if is_output_folder(real) or is_result(real):
            self._pass_over(RESULTS)
            self.found.results.append(root)
            return
        before = len(self.found.jobs) + self.found.passed_over[DUPLICATE]
        self.found.jobs += self._walk(root, real)
        if len(self.found.jobs) + self.found.passed_over[DUPLICATE] == before:
            self.found.empty.append(root)

    def _walk(self, root: Path, real_root: Path) -> Iterator[Job]:
        """Images below `root`; what is passed over is counted.

        A file costs no system call and no more than a few strings here: what it is comes with the listing.
        """
        top, inside = _prefix(root), _prefix(real_root)
        seen = {inside}
        folders = [("", inside)]
        while folders:
            below, real = folders.pop()
            try:
                images, others = self._list(top + below or ".")
            except OSError as error:
                reason = f"cannot be listed: {error.strerror or error}"
                self.found.unreadable.append((Path(top + below), reason))
                continue
            if images is None:
                self._pass_over(RESULTS)
                continue
            for entry in sorted(others, key=lambda entry: entry.name):
                path = Path(top + below + entry.name)
                kind = self._kind_of_link(path, inside) if entry.is_symlink() else _kind(entry)
                if kind == "folder":
                    there = _prefix(path.resolve()) if entry.is_symlink() else f"{real}{entry.name}/"
                    if there in seen or not self._goes_into(below + entry.name, there):
                        continue
                    seen.add(there)
                    folders.append((f"{below}{entry.name}/", there))
                elif kind == "file" and _looks_like_image(entry.name):
                    images.append(entry.name)
            images.sort()
            for name in images:
                relative = below + name
                if self.globs.select(relative) and self._take(real + name):
                    yield Job(top + relative, _name(relative, self._options))

    def _list(self, folder: str) -> tuple[list[str] | None, list[os.DirEntry[str]]]:
        """The names of a folder's images, None if dynaseg wrote it; and what is no regular file of a user's."""
        images: list[str] = []
        others: list[os.DirEntry[str]] = []
        marks: set[str] = set()
        passed_over: Counter[str] = Counter()
        for entry in os.scandir(folder):
            name = entry.name
            regular = entry.is_file(follow_symlinks=False)
            kind: str | None = kind_passed_over(name)
            if kind is not None:
                if name == MARK and regular:
                    marks.add(name)
                elif _looks_like_image(name) if regular else entry.is_dir(follow_symlinks=False):
                    passed_over[kind] += 1
            elif not regular:
                others.append(entry)
            elif _looks_like_image(name):
                images.append(name)
            elif (suffix := _suffix(name).lower()) in UNREADABLE_SUFFIXES:
                passed_over[UNREADABLE_SUFFIXES[suffix]] += 1
            elif name in _MARKS:
                marks.add(name)
        if marks and is_output_folder(Path(folder), marks):
            return None, []
        self.found.passed_over += passed_over
        return images, others

    def _kind_of_link(self, link: Path, inside: str) -> Kind:
        """What a link leads to: other where it is not to be followed; `inside` is how real paths in the input begin."""
        kind = _kind(link)
        if kind == "other" or (kind == "file" and not _looks_like_image(link.name)):
            return "other"
        real = link.resolve()
        if not self._options.follow_symlinks and not (kind == "file" and str(real).startswith(inside)):
            self._pass_over(LINK)
            return "other"
        if kind == "file" and is_result(real.parent):
            self._pass_over(RESULTS)
            return "other"
        return kind

    def _goes_into(self, relative: str, real: str) -> bool:
        if not self._options.recursive or self.globs.leave_out(relative):
            return False
        if real == self._output:
            self._pass_over(RESULTS)
            return False
        return real != self._scribbles

    def _folder_of(self, path: Path) -> tuple[str, bool]:
        """The real path of a file's folder, with a slash, and whether the file, links followed, is a result."""
        if path.parent not in self._folders:
            real = path.parent.resolve()
            self._folders[path.parent] = _prefix(real), is_result(real)
        folder, written = self._folders[path.parent]
        return folder, is_result(path.resolve().parent) if path.is_symlink() else written

    def _take(self, place: str) -> bool:
        """Whether a file is named for the first time, by its real folder and its name."""
        if self._taken is None:
            return True
        if place in self._taken:
            self._pass_over(DUPLICATE)
            return False
        self._taken.add(place)
        return True

    def _pass_over(self, kind: str) -> None:
        self.found.passed_over[kind] += 1


def is_result(real: Path) -> bool:
    """Whether a folder, by its real path, is one that dynaseg writes results to, or lies in one."""
    return any(
        folded(real.relative_to(above).parts[0]) in FOLDERS and is_output_folder(above) for above in real.parents
    )


class _Globs:
    """``--include`` and ``--exclude``. Letters match in either case, as photos are called ``a.JPG`` or ``a.jpg``."""

    def __init__(self, options: BatchConfig) -> None:
        self._include = [_Glob("--include", glob) for glob in options.include]
        self._exclude = [_Glob("--exclude", glob) for glob in options.exclude]

    @property
    def unmatched(self) -> list[str]:
        return [glob.written for glob in (*self._include, *self._exclude) if not glob.has_matched]

    def select(self, path: str) -> bool:
        """Whether the image of a path below its input is to be taken."""
        if not self._include and not self._exclude:
            return True
        # All are asked, so that none is said to match nothing because another one did first.
        included = [glob.matches(path) for glob in self._include]
        excluded = [glob.matches(path) for glob in self._exclude]
        return (any(included) or not included) and not any(excluded)

    def leave_out(self, folder: str) -> bool:
        """Whether a folder, by its path below the input, is to be left out with all that it holds."""
        matched = [glob.matches(folder) for glob in self._exclude]  # all are asked, as in `select`
        return any(matched)


class _Glob:
    """With a slash it matches a path, without one a name: of the image, or of a folder on the way to it."""

    def __init__(self, option: str, glob: str) -> None:
        self.written = f"{option} {glob}"
        self.has_matched = False
        glob = glob.removeprefix("./").rstrip("/")
        self._of_paths = "/" in glob
        self._matches = re.compile(fnmatch.translate(glob), re.IGNORECASE).match

    def matches(self, path: str) -> bool:
        parts = path.split("/")
        tried = ("/".join(parts[:end]) for end in range(len(parts), 0, -1)) if self._of_paths else reversed(parts)
        if any(map(self._matches, tried)):
            self.has_matched = True
            return True
        return False


def _nothing_found(found: Discovery, inputs: Sequence[Path], options: BatchConfig) -> str:
    places = ", ".join(str(path) for path in inputs) or "the list"
    if found.results:
        first = found.results[0]
        if not is_output_folder(first):
            return f"{first} is a result of dynaseg, and results are never input; name the photos instead"
        return (
            f"{first} is a folder of results (it has the mark {MARK}), and results are never input; name another"
            f" folder, or name photos in this one individually: {first}/*.jpg"
        )
    text = f"no images in {places}: looked for files ending in {' '.join(PHOTO_SUFFIXES)}"
    if options.include or options.exclude:
        text += " that --include and --exclude let through"
    if found.passed_over:
        text += f"; passed over: {describe_passed_over(found.passed_over)}"
    return text


def describe_passed_over(counts: Counter[str]) -> str:
    """In words: ``3 hidden, 2 HEIC (convert them to JPEG or PNG)``."""
    unreadable = {kind: counts[kind] for kind in dict.fromkeys(UNREADABLE_SUFFIXES.values()) if counts[kind]}
    kinds = {
        "hidden": ("hidden", "hidden"),
        "sidecar": ("sidecar of macOS (._*)", "sidecars of macOS (._*)"),
        "system folder": ("system folder", f"system folders ({', '.join(sorted(SYSTEM_FOLDERS))})"),
        RESULTS: ("written by dynaseg", "written by dynaseg"),
        DUPLICATE: ("named twice", "named twice"),
        LINK: ("link out of the input (--follow-symlinks)", "links out of the input (--follow-symlinks)"),
    }
    parts = [f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in kinds.items() if counts[kind]]
    parts += [f"{count} {kind}" for kind, count in unreadable.items()]
    return ", ".join(parts) + (" (convert them to JPEG, PNG or TIFF)" if unreadable else "")


def _prefix(folder: Path) -> str:
    """What the paths of its files begin with: the folder and a slash, or nothing for the current one."""
    return str(folder / "_")[:-1]


def _kind(place: Path | os.DirEntry[str]) -> Kind:
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


def _regular(path: Path, *, last_of_several: bool = False) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        meant = last_of_several and not _looks_like_image(path.name)
        hint = f"; if the results are to go there: -o {shlex.quote(str(path))}" if meant else ""
        raise UsageError(f"{path} does not exist{hint}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if S_ISDIR(mode):
        raise UsageError(f"{path} is a folder: give it as INPUT, a list names files")
    if not S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file")
    return str(path)


def _name(relative: str, options: BatchConfig) -> str:
    return relative if options.keep_extension else relative.removesuffix(_suffix(relative))


def _unique(found: Discovery) -> list[Job]:
    """The jobs, in order of their names, less links to the same file; two files with one result are refused."""
    kept: list[Job] = []
    for job in found.jobs:
        if not kept or kept[-1].name != job.name:
            kept.append(job)
        elif kept[-1].source.samefile(job.source):
            found.passed_over[DUPLICATE] += 1
        else:
            _refuse_pair(kept[-1], job)
    return kept


def _refuse_names_that_differ_in_case(jobs: list[Job]) -> None:
    """Their results would be one file wherever the output folder is copied to a disk that ignores case."""
    hashes = [hash(folded(job.name)) for job in jobs]
    if len(set(hashes)) == len(hashes):
        return
    first: dict[str, Job] = {}
    for job in jobs:
        other = first.setdefault(folded(job.name), job)
        if other is not job:
            _refuse_pair(other, job)


def _refuse_pair(one: Job, other: Job) -> None:
    in_case = "" if one.name == other.name else " where upper and lower case are one"
    raise UsageError(
        f"{one.path} and {other.path} would both be written as {other.name}.png{in_case};"
        " --keep-extension tells them apart if their extensions differ, else run them separately"
    )


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

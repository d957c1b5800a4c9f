"""Finding the images: files, folders and lists of files become jobs, sorted by name."""

from __future__ import annotations

import fnmatch
import math
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Literal

from ..config import BatchConfig, Product
from ..errors import DecodeError, UsageError
from ..files.output_folder import EXTENSIONS, MANY_REGIONS, Job, folded, is_result
from ..files.reading import DICOM_INSTALLED, PHOTO_SUFFIXES, UNREADABLE_SUFFIXES, open_file
from ..files.tiles import MOST_TILES, grid_size, tiles_of
from ..files.user_files import (
    DUPLICATE,
    FEW_PAGES,
    LINK,
    LOG_NAME,
    MARK,
    RESULTS,
    RUN_NAME,
    PassedOver,
    is_output_folder,
    kind_passed_over,
)

Place = Literal["file", "folder", "other"]

_MARKS = frozenset((MARK, LOG_NAME, RUN_NAME))


@dataclass
class Discovery:
    """The result of `discover`."""

    jobs: list[Job] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that could not be listed, and why."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    results: list[Path] = field(default_factory=list)
    """Inputs that were passed over because dynaseg wrote them."""
    empty: list[Path] = field(default_factory=list)
    """Folders among the inputs that hold no image."""
    unmatched_globs: list[str] = field(default_factory=list)
    """`include` and `exclude` globs that matched nothing, with the field's name."""


def discover(inputs: Sequence[Path], listed: Sequence[Path], output: Path, options: BatchConfig) -> Discovery:
    """Find every image of `inputs` (files and folders) and `listed` (files).

    A folder's tree is mirrored below the output; a file of `inputs` goes to the top; a file of `listed` keeps its path
    as written, without a leading ``/`` and any ``..``. A file that is named twice is taken once, by its first name.
    Pages and tiles that are asked for are jobs of their own. Hidden files, files that operating systems leave beside
    photos, results of dynaseg, scribbles and masks are not input.

    Raises
    ------
    UsageError
        If an input does not exist, nothing is found, or two images would write the same file.
    """
    search = _Search(output, options, several=len(inputs) + bool(listed) > 1 or len(listed) > 1)
    for number, path in enumerate(inputs):
        if _place(path) != "folder":
            search.add_file(path, path.name, last_of_several=0 < number == len(inputs) - 1)
        elif path.resolve() == output.resolve():
            raise UsageError(f"{path} is both input and output; name another `output` folder")
        else:
            search.add_folder(path)
    for path in listed:
        search.add_file(path, "/".join(part for part in path.parts if part not in (path.anchor, "..")))
    found = search.found
    found.jobs.sort(key=BY_NAME)
    for index in reversed(list(repeated(found.jobs))):
        found.passed_over.add(DUPLICATE, found.jobs.pop(index).source)
    refuse_same_name_in_another_case(found.jobs)
    refuse_result_named_like_a_folder(found.jobs, options.save)
    found.unmatched_globs = search.globs.unmatched
    if not found.jobs and not found.unreadable:
        raise UsageError(_nothing_found(found, inputs, options))
    return found


class _Search:
    """A search through the inputs, one after another."""

    def __init__(self, output: Path, options: BatchConfig, *, several: bool) -> None:
        self.found = Discovery()
        self.globs = Globs(options)
        self._options = options
        self._output = _prefix(output.resolve())
        drawn = options.scribbles, None if options.mask in ("alpha", "nodata") else options.mask
        self._drawn = {_prefix(Path(folder).resolve()) for folder in drawn if folder is not None}
        self._taken: set[str] | None = set() if several else None
        """Real path of each file, if files may be named twice."""
        self._folders: dict[Path, tuple[str, bool]] = {}
        """For folders of files that were named individually: the real path, and whether dynaseg wrote it."""

    def add_file(self, path: Path, relative: str, *, last_of_several: bool = False) -> None:
        """Add a file that was named individually; `relative`, with extension, says where its results go."""
        text = _regular(path, last_of_several=last_of_several)
        kind = next(filter(None, map(kind_passed_over, relative.split("/"))), None)
        if kind is not None:
            self._pass_over(kind, path)
            return
        folder, is_written = self._folder_of(path)
        if is_written:
            self._pass_over(RESULTS, path)
            self.found.results.append(path)
        elif self.globs.takes(relative) and self._take(folder + path.name, path):
            self.found.jobs += self._jobs(text, relative)

    def add_folder(self, root: Path) -> None:
        real = root.resolve()
        if is_output_folder(real) or is_result(real):
            self._pass_over(RESULTS, root)
            self.found.results.append(root)
            return
        before = self._images
        self.found.jobs += self._walk(root, real)
        if self._images == before:
            self.found.empty.append(root)

    @property
    def _images(self) -> int:
        return len(self.found.jobs) + self.found.passed_over[DUPLICATE] + self.found.passed_over[FEW_PAGES]

    def _walk(self, root: Path, real_root: Path) -> Iterator[Job]:
        """Images below `root`.

        No system call per file: the listing tells what each entry is.
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
            for entry in sorted(others, key=lambda entry: entry.name):
                path = Path(top + below + entry.name)
                place = self._place_of_link(path, inside) if entry.is_symlink() else _place(entry)
                if place == "folder":
                    there = _prefix(path.resolve()) if entry.is_symlink() else f"{real}{entry.name}/"
                    if there in seen or not self._goes_into(path, below + entry.name, there):
                        continue
                    seen.add(there)
                    folders.append((f"{below}{entry.name}/", there))
                elif place == "file" and _looks_like_image(entry.name):
                    images.append(entry.name)
            images.sort()
            for name in images:
                relative = below + name
                if self.globs.takes(relative) and self._take(real + name, top + relative):
                    yield from self._jobs(top + relative, relative)

    def _jobs(self, path: str, relative: str) -> Iterator[Job]:
        """The job of a file, or those of its pages."""
        options, extension = self._options, _suffix(relative)
        if extension[1:].isdigit() and _is_unnamed_dicom(Path(path)):  # part of a name such as 1.2.840.113
            extension = ""
        stem = relative.removesuffix(extension)
        kept = extension if options.keep_extension else ""
        if options.tiles:
            yield from self._tiles(path, stem + kept)
            return
        if options.pages == "first":
            yield Job(path, stem + kept)
            return
        from ..images.pages import count_pages  # noqa: PLC0415 - loads NumPy and Pillow

        count = count_pages(Path(path), options.max_pixels)
        first, last = (1, count or 1) if isinstance(options.pages, str) else options.pages
        if first > (count or 1):
            self._pass_over(FEW_PAGES, path)
        elif count is None:
            yield Job(path, stem + kept)
        else:
            for page in range(first, min(last, count) + 1, options.every):
                yield Job(path, f"{stem}-p{page:0{len(str(count))}}{kept}", page)

    def _tiles(self, path: str, name: str) -> Iterator[Job]:
        """The tiles of a large TIFF; of other files the job of the whole image, whose reader says what is wrong."""
        from ..images.windows import size_to_cut  # noqa: PLC0415 - loads NumPy and Pillow

        side = self._options.tiles
        size = size_to_cut(Path(path))
        if size is None or max(size) <= side or math.prod(grid_size(*size, side)) > MOST_TILES:
            yield Job(path, name)
        else:
            yield from (Job(path, f"{name}/{tile.name}", tile) for tile in tiles_of(*size, side))

    def _list(self, folder: str) -> tuple[list[str], list[os.DirEntry[str]]]:
        """The names of a folder's images, and the entries that are not regular files."""
        images: list[str] = []
        others: list[os.DirEntry[str]] = []
        marks: set[str] = set()
        passed_over: list[tuple[str, str]] = []
        for entry in os.scandir(folder):
            name = entry.name
            is_regular = entry.is_file(follow_symlinks=False)
            kind = kind_passed_over(name)
            if is_regular and name in _MARKS:
                marks.add(name)
            elif kind is not None:
                if _looks_like_image(name) if is_regular else entry.is_dir(follow_symlinks=False):
                    passed_over.append((kind, name))
            elif not is_regular:
                others.append(entry)
            elif _looks_like_image(name) or _is_unnamed_dicom(Path(folder, name)):
                images.append(name)
            elif (suffix := _suffix(name).lower()) in UNREADABLE_SUFFIXES:
                passed_over.append((UNREADABLE_SUFFIXES[suffix], name))
        if marks and is_output_folder(Path(folder), marks):
            self._pass_over(RESULTS, folder)
            return [], []
        for kind_of_entry, name in sorted(passed_over):
            self._pass_over(kind_of_entry, os.path.join(folder, name))  # noqa: PTH118 - text, as the rest here
        return images, others

    def _place_of_link(self, link: Path, inside: str) -> Place:
        """The target's kind, "other" if the link is not followed. Real paths below the input start with `inside`."""
        place = _place(link)
        if place == "other" or (place == "file" and not _looks_like_image(link.name)):
            return "other"
        real = link.resolve()
        if not self._options.follow_symlinks and not (place == "file" and str(real).startswith(inside)):
            self._pass_over(LINK, link)
            return "other"
        if place == "file" and is_result(real.parent):
            self._pass_over(RESULTS, link)
            return "other"
        return place

    def _goes_into(self, folder: Path, relative: str, real: str) -> bool:
        if not self._options.recursive or self.globs.leaves_out(relative):
            return False
        if real == self._output:
            self._pass_over(RESULTS, folder)
            return False
        return real not in self._drawn

    def _folder_of(self, path: Path) -> tuple[str, bool]:
        """The real path of a file's folder, ending with a slash, and whether the file (links followed) is a result."""
        if path.parent not in self._folders:
            real = path.parent.resolve()
            self._folders[path.parent] = _prefix(real), is_result(real)
        folder, is_written = self._folders[path.parent]
        return folder, is_result(path.resolve().parent) if path.is_symlink() else is_written

    def _take(self, real: str, path: str | Path) -> bool:
        """Whether a file, given by its real path, is named for the first time."""
        if self._taken is None:
            return True
        if real in self._taken:
            self._pass_over(DUPLICATE, path)
            return False
        self._taken.add(real)
        return True

    def _pass_over(self, kind: str, path: str | Path) -> None:
        self.found.passed_over.add(kind, Path(path))


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
        text += " that `include` and `exclude` let through"
    return text + (f"; passed over: {found.passed_over.describe()}" if found.passed_over else "")


def _prefix(folder: Path) -> str:
    """The folder with a slash at its end; empty for the current folder."""
    return str(folder / "_")[:-1]


def _place(path: Path | os.DirEntry[str]) -> Place:
    """The kind of a path, links followed; "other" for links to themselves and paths that cannot be read."""
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else "other"
    except OSError:
        return "other"


def _suffix(path: str) -> str:
    """The file name from its last dot, unless the name begins or ends with that dot."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def _looks_like_image(name: str) -> bool:
    return _suffix(name).lower() in PHOTO_SUFFIXES


def _is_unnamed_dicom(path: Path) -> bool:
    """Whether a file is DICOM without an extension that says so, as scanners write it: ``IM0001``, ``1.2.840.113``."""
    ending = _suffix(path.name)[1:]
    if not DICOM_INSTALLED or path.name == "DICOMDIR" or not (ending.isdigit() or not ending):
        return False
    try:
        with open_file(path) as (file, _):
            return file.read(132)[128:] == b"DICM"
    except (OSError, DecodeError):
        return False


def _regular(path: Path, *, last_of_several: bool = False) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        is_meant = last_of_several and not _looks_like_image(path.name)
        hint = f"; if the results are to go there: `output={path}`" if is_meant else ""
        raise UsageError(f"{path} does not exist{hint}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if S_ISDIR(mode):
        raise UsageError(f"{path} is a folder: name it as an input; a list names files")
    if not S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file")
    return str(path)


class Globs:
    """The globs of both fields. Case is ignored: a camera writes ``a.JPG``, a program ``a.jpg``."""

    def __init__(self, options: BatchConfig) -> None:
        self._include = [_Glob("include", glob) for glob in options.include]
        self._exclude = [_Glob("exclude", glob) for glob in options.exclude]

    @property
    def unmatched(self) -> list[str]:
        """The globs that have matched no file or folder so far, with the field's name."""
        return [glob.written for glob in (*self._include, *self._exclude) if not glob.has_matched]

    def takes(self, path: str) -> bool:
        """Whether to take the image at `path`, which is relative to its input."""
        if not self._include and not self._exclude:
            return True
        # Ask every glob, or one that also matches would be reported as unmatched.
        included = [glob.matches(path) for glob in self._include]
        excluded = [glob.matches(path) for glob in self._exclude]
        return (any(included) or not included) and not any(excluded)

    def leaves_out(self, folder: str) -> bool:
        """Whether to leave out a folder, given relative to its input, with everything in it."""
        excluded = [glob.matches(folder) for glob in self._exclude]  # as above
        return any(excluded)


class _Glob:
    """With a slash it matches a path, without one a name: the image's own, or that of a folder above it."""

    def __init__(self, field: str, glob: str) -> None:
        self.written = f"`{field}={glob}`"
        self.has_matched = False
        glob = glob.removeprefix("./").rstrip("/")
        self._matches_paths = "/" in glob
        self._match = re.compile(fnmatch.translate(glob), re.IGNORECASE).match

    def matches(self, path: str) -> bool:
        names = path.split("/")
        candidates = names
        if self._matches_paths:
            candidates = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
        if any(map(self._match, candidates)):
            self.has_matched = True
            return True
        return False


BY_NAME = attrgetter("name")


def repeated(jobs: Sequence[Job]) -> Iterator[int]:
    """Indices of jobs that repeat the file of an earlier job; the jobs are sorted by name.

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


def refuse_result_named_like_a_folder(jobs: Sequence[Job], save: Sequence[Product]) -> None:
    """Raise UsageError if a result of one job would have the path of another's folder; the jobs are sorted by name."""
    extensions = {EXTENSIONS[product] for product in save}
    if "regions" in save:
        extensions.add(MANY_REGIONS)
    if "stats" in save:
        extensions.add(EXTENSIONS["raw"])
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
        " `keep_extension=True` tells them apart if their extensions differ, else run them separately"
    )

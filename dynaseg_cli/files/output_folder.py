"""The output folder: the names of everything in it, its mark, claims, writing, and the user's own files in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Set
from contextlib import AbstractContextManager
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import BinaryIO, NamedTuple

from .. import __version__
from ..config import Product
from ..errors import UsageError
from .claims import Claims
from .tiles import Tile
from .user_files import LOG_NAME, MARK, RUN_NAME, is_output_folder
from .writing import Content, FileBatch, open_atomically, refuse_unwritable, write_atomically

DRAWN = ".png"
"""Extension of images that are drawn for photos: scribbles and masks."""


class Job(NamedTuple):
    """One image file, or a page or tile of it, and the name of its results below each product's folder.

    The name has no extension. It is text, not a path: the stem of ``..jpg`` is ``.``, which a path would drop. Jobs are
    small and quickly made because a folder may hold a million images.
    """

    path: str
    name: str
    page: int | Tile | None = None
    """The part of the file: the number of a page, from 1, or a tile; None for the first picture of a file as it is."""

    @property
    def source(self) -> Path:
        """The image file."""
        return Path(self.path)

    @property
    def file_name(self) -> str:
        """The image file's path below its input: ``sub/cat.jpg``, or as if a page or tile were a file.

        ``stack-p003.tif``, ``slide/r003-c012.tif``.
        """
        file = os.path.basename(self.path)  # noqa: PTH119 - text, like the name
        if self.page is not None:
            extension = os.path.splitext(file)[1]  # noqa: PTH122
            return self.name.removesuffix(extension) + extension
        folder, slash, _ = self.name.rpartition("/")
        return folder + slash + file

    @property
    def shown(self) -> str:
        """The image as messages name it."""
        return shown_image(self.path, self.page)

    def drawing(self, folder: Path) -> Path:
        """The image in a folder of scribbles or masks that belongs to this job: ``DIR/sub/cat.png``."""
        return folder / (self.name + DRAWN)


def shown_image(path: str, page: int | Tile | None) -> str:
    """A file, or a part of one, as messages name it: ``stack.tif, page 3``, ``slide.tif, tile r003-c012``."""
    if isinstance(page, Tile):
        return f"{path}, tile {page.name}"
    return path if page is None else f"{path}, page {page}"


EXTENSIONS: dict[Product, str] = {
    "labels": ".png",
    "color": ".png",
    "overlay": ".jpg",
    "regions": ".png",
    "hierarchy": ".png",
    "raw": ".png",
    "recording": ".webp",
    "stats": ".json",
}
MANY_REGIONS = ".tif"
"""Extension of a map with more regions than 16 bits can number."""
KEPT_RAW_FOLDER = ".raw"
"""Holds the raw label maps that nobody asked for: another cut is made from them."""
KEPT_HIERARCHY_FOLDER = ".hierarchy"
"""Holds the hierarchies that nobody asked for, where a pretrained network had a part in them."""
SEQUENCE_FOLDER = ".sequence"
"""Holds the network after the last finished image of each sequence."""
OLD_OVERLAY = ".png"
"""Extension of overlays in earlier versions."""
REPORT_FOLDER = "report"
EXPORT_FOLDER = "export"
_KEPT_FOLDERS = (KEPT_RAW_FOLDER, KEPT_HIERARCHY_FOLDER, SEQUENCE_FOLDER)
FOLDERS = frozenset((*EXTENSIONS, *_KEPT_FOLDERS, REPORT_FOLDER, EXPORT_FOLDER))

MODEL_NAME = "model.safetensors"
CHECKPOINT_NAME = "model-unfinished.safetensors"
CLUSTERS_NAME = "clusters.json"
REPORT_NAME = "report.html"
COMPARISON_NAME = "comparison.html"
NAMES_NAME = "names.json"
FILES = frozenset(
    (LOG_NAME, RUN_NAME, MODEL_NAME, CHECKPOINT_NAME, CLUSTERS_NAME, REPORT_NAME, COMPARISON_NAME, NAMES_NAME)
)

FOLDERS_OF_VERSION_1 = FOLDERS - {"raw", *_KEPT_FOLDERS}
"""Where results went before marks said so."""

_FOREIGN, _FOLDERS = "foreign", "folders"


class OutputFolder:
    """A folder of results.

    As a context manager it can claim names, so that other processes leave them alone. A file that is written then has a
    predictable temporary name, and what a killed process left under that name is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / LOG_NAME
        """One line per image as it finishes; also holds the locks of `claim`."""
        self.run = path / RUN_NAME
        self.model = path / MODEL_NAME
        """The network that was fitted to the folder."""
        self.checkpoint = path / CHECKPOINT_NAME
        """That network after its last whole epoch, until the fit is finished."""
        self.clusters = path / CLUSTERS_NAME
        self.report = path / REPORT_NAME
        self.comparison = path / COMPARISON_NAME
        """The page that shows these results beside those of another folder."""
        self.names = path / NAMES_NAME
        """The names of labels that a command was given last."""
        self.export = path / EXPORT_FOLDER
        self._claims: Claims | None = None

    def __enter__(self) -> OutputFolder:
        self._claims = Claims(self.log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._claims is not None
        self._claims.close()
        self._claims = None

    def __str__(self) -> str:
        return str(self.path)

    def claim(self, name: str, *, wait: bool = False) -> bool:
        """Claim a name, of a job or of a file; False if another process has it and `wait` is not set."""
        assert self._claims is not None
        return self._claims.take(name, wait=wait)

    def release(self, name: str) -> None:
        """Release a name, claimed or not."""
        assert self._claims is not None
        self._claims.release(name)

    def result(self, job: Job, product: Product) -> Path:
        """The file of one product of an image: ``OUT/labels/sub/cat.png``."""
        return self.path / product / (job.name + EXTENSIONS[product])

    def many_regions(self, job: Job) -> Path:
        """The file that replaces ``result(job, "regions")`` when 16 bits cannot number the regions."""
        return self.path / "regions" / (job.name + MANY_REGIONS)

    def kept_raw(self, job: Job) -> Path:
        """The file that stands in for ``result(job, "raw")`` where that was not asked for."""
        return self.path / KEPT_RAW_FOLDER / (job.name + EXTENSIONS["raw"])

    def kept_hierarchy(self, job: Job) -> Path:
        """The file that stands in for ``result(job, "hierarchy")`` where that was not asked for."""
        return self.path / KEPT_HIERARCHY_FOLDER / (job.name + EXTENSIONS["hierarchy"])

    def sequence_network(self, first: Job) -> Path:
        """The file of the network of the sequence that begins with a job."""
        return self.path / SEQUENCE_FOLDER / (first.name + ".safetensors")

    def old_overlay(self, job: Job) -> Path:
        """The file that ``result(job, "overlay")`` was in earlier versions."""
        return self.path / "overlay" / (job.name + OLD_OVERLAY)

    def find(self, job: Job, product: Product) -> Path | None:
        """The file of a product, under the name that it has now or another one; None if there is none."""
        others = {"regions": self.many_regions, "overlay": self.old_overlay}
        usual = self.result(job, product)
        if usual.is_file() and not (product == "raw" and self.raw_is_foreign):
            return usual
        other = others[product](job) if product in others else usual
        return other if other != usual and other.is_file() else None

    def has(self, job: Job, product: Product) -> bool:
        """Whether the file of a product exists, under the name that it has now or another one."""
        return self.find(job, product) is not None

    @property
    def raw_is_foreign(self) -> bool:
        """Whether ``OUT/raw`` has files of the user: many people call the folder of their photos so."""
        return any(name.startswith("raw/") for name in self.foreign_files())

    def write(self, path: Path, content: Content) -> None:
        """Create or replace a file of this folder atomically; raises OSError."""
        write_atomically(path, content, self._temporary(path))

    def open(self, path: Path) -> AbstractContextManager[BinaryIO]:
        """A stream whose content becomes a file of this folder when the block ends without an error."""
        return open_atomically(path, self._temporary(path))

    def batch(self) -> FileBatch:
        """Files of this folder that take their names together."""
        return FileBatch(self._temporary)

    def _temporary(self, path: Path) -> str | None:
        if self._claims is None or not self._claims.exclusive:
            return None
        # A hash, since the longest names that the file system allows have no room for a suffix.
        return f".dynaseg-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.tmp"

    def refuse_unwritable(self, path: Path) -> None:
        """Find out before the work whether a file of this folder can be written; raises like `refuse_unwritable`."""
        refuse_unwritable(path, self.path)

    def mark(self) -> None:
        """Create the folder if needed, and mark it as dynaseg's before anything else is written to it.

        The mark lists the files that already lie where results go. They stay the user's for good. The mark of an
        earlier version, whose results went to fewer folders, gets those in the others.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        mark = self.path / MARK
        outdated = mark.is_file()
        if outdated and _read_mark(self.path).folders >= FOLDERS:
            return
        entries = {"dynaseg": __version__, _FOLDERS: sorted(FOLDERS), _FOREIGN: sorted(self.foreign_files())}
        content = json.dumps(entries) + "\n"
        temporary = self.path / f"{MARK}-{secrets.token_hex(8)}.tmp"
        try:
            with temporary.open("x") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            if outdated:
                temporary.replace(mark)
            else:
                # A link, not a rename: if two runs start at once, the first mark must stay, since the second may list
                # results of the first.
                os.link(temporary, mark)
        except FileExistsError:
            pass
        except OSError:
            if not temporary.is_file():
                raise
            temporary.replace(mark)  # a file system without hard links
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def foreign_files(self) -> frozenset[str]:
        """The user's files where results go, as `folded` paths below the folder; links to folders end with a slash.

        In a folder that dynaseg wrote, these are the files that its mark lists. In any other folder, and where results
        did not go when it was marked, all files count.

        Raises
        ------
        UsageError
            If the mark is damaged, so that they are not known.
        """
        mark = _read_mark(self.path)
        if mark.folders >= FOLDERS:
            return mark.foreign
        found = frozenset(map(folded, _where_results_go(self.path, mark.folders)))
        # Another run may have started meanwhile. It marks the folder first: its results are never seen without a mark.
        marked_since = _read_mark(self.path)
        return marked_since.foreign if marked_since.folders >= FOLDERS else mark.foreign | found

    def refuse_foreign(self, targets: Iterable[str]) -> None:
        """Refuse to replace a user's files.

        Parameters
        ----------
        targets : paths below the folder that are to be written. A slash at the end stands for all files below.

        Raises
        ------
        UsageError
            If a target exists (ignoring case) and dynaseg did not write it, or if a folder on the way to it is a link
            or a user's file.
        """
        foreign = self.foreign_files()
        if not foreign:
            return
        below = _folders_of(foreign)
        checked: set[str] = set()
        """Folders on the way to targets that were checked."""
        for target in map(folded, targets):
            if target in foreign or (target.endswith("/") and target[:-1] in below):
                self._refuse(target)
            for folder in _folders_above(target.rstrip("/"), checked):
                if folder in foreign or folder + "/" in foreign:
                    self._refuse(folder)

    def _refuse(self, target: str) -> None:
        path = self.path / _as_spelled(self.path, target)
        if path.is_symlink() and path.is_dir():
            why = f"is a link to {path.resolve()}, and results are not written through links"
        else:
            why = "exists and was not written by dynaseg: no result may replace it, not even with `overwrite=True`"
        raise UsageError(f"{path} {why}; choose another `output` folder")


def folded(name: str) -> str:
    """A name for comparison as on file systems that ignore case and how accents are encoded."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def is_result(real: Path) -> bool:
    """Whether a folder, given by its real path, is one that dynaseg writes results to, or lies in one."""
    return any(_is_written_to(above, folded(real.relative_to(above).parts[0])) for above in real.parents)


def _is_written_to(output: Path, folder: str) -> bool:
    if folder not in FOLDERS or not is_output_folder(output):
        return False
    return folder != "raw" or not OutputFolder(output).raw_is_foreign


class _Mark(NamedTuple):
    foreign: frozenset[str]
    folders: frozenset[str]
    """Where results went when the output folder was marked; empty if it was not."""


def _read_mark(output: Path) -> _Mark:
    if not is_output_folder(output):
        return _Mark(frozenset(), frozenset())
    mark = output / MARK
    try:
        entries = json.loads(mark.read_bytes())
        foreign = frozenset(map(str, entries[_FOREIGN]))
        return _Mark(foreign, frozenset(map(str, entries.get(_FOLDERS, FOLDERS_OF_VERSION_1))))
    except FileNotFoundError:  # earlier versions left none
        return _Mark(frozenset(), FOLDERS_OF_VERSION_1)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(
            f"{mark} is damaged: it says which files of {mark.parent} must not be replaced; choose another `output`"
            " folder"
        ) from None


def _where_results_go(output: Path, known: Set[str]) -> Iterator[str]:
    """The files in folders of results that are not `known`; and files of runs, if none is."""
    try:
        names = os.listdir(output)  # noqa: PTH208 - text
    except OSError:  # not there; or unusable, which is reported elsewhere
        return
    for name in names:
        if folded(name) in FOLDERS - known:
            yield from _below(output, name)
        elif not known and folded(name) in FILES and not (output / name).is_dir() and not _is_empty(output / name):
            yield name


def _is_empty(path: Path) -> bool:
    """Whether a file has no content to lose, like the log of a run that was killed at its start."""
    status = path.lstat()
    return S_ISREG(status.st_mode) and not status.st_size


def _below(output: Path, folder: str) -> Iterator[str]:
    top = str(output / folder)
    if not os.path.isdir(top):  # noqa: PTH112 - text, like what os.walk gives
        yield folder
        return
    if os.path.islink(top):  # noqa: PTH114
        yield folder + "/"
        return
    for parent, folders, files in os.walk(top):
        here = folder + parent[len(top) :]
        yield from (f"{here}/{name}" for name in files)
        yield from (f"{here}/{name}/" for name in folders if os.path.islink(f"{parent}/{name}"))  # noqa: PTH114


def _folders_of(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        for _ in _folders_above(path, found):
            pass
    return found


def _folders_above(path: str, seen: set[str]) -> Iterator[str]:
    """The folders above a path, from the nearest up to the first one `seen` before; adds them to `seen`."""
    folder = path.rpartition("/")[0]
    while folder and folder not in seen:
        seen.add(folder)
        yield folder
        folder = folder.rpartition("/")[0]


def _as_spelled(output: Path, target: str) -> Path:
    """A `folded` path below `output`, spelled as the file system spells it."""
    found = Path()
    for part in target.rstrip("/").split("/"):
        try:
            names = os.listdir(output / found)  # noqa: PTH208 - text
        except OSError:
            names = []
        found /= next((name for name in names if folded(name) == part), part)
    return found

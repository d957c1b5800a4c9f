"""The output folder: the names of everything written there, its mark, and the user's own files in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from stat import S_ISREG

from .. import __version__
from ..errors import UsageError
from ..user_files import LOG_NAME, MARK, RUN_NAME, is_output_folder
from .job import EXTENSIONS

MODEL_NAME = "model.safetensors"
"""The network that was fitted to the folder."""
CHECKPOINT_NAME = "model-unfinished.safetensors"
"""That network after its last whole epoch, until it is finished."""
CLUSTERS_NAME = "clusters.json"
"""Statistics of the folder's labels."""
REPORT_NAME = "report.html"
"""The page that shows all images."""
REPORT_FOLDER = "report"
"""What that page shows of each image."""
EXPORT_FOLDER = "export"
"""Results in the formats of other tools."""

FOLDERS = frozenset((*EXTENSIONS, REPORT_FOLDER, EXPORT_FOLDER))
FILES = frozenset((LOG_NAME, RUN_NAME, MODEL_NAME, CHECKPOINT_NAME, CLUSTERS_NAME, REPORT_NAME))

_FOREIGN = "foreign"


def folded(name: str) -> str:
    """A name for comparison as on file systems that ignore case and how accents are encoded."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def is_result(real: Path) -> bool:
    """Whether a folder, given by its real path, is one that dynaseg writes results to, or lies in one."""
    return any(
        folded(real.relative_to(above).parts[0]) in FOLDERS and is_output_folder(above) for above in real.parents
    )


def mark_output(output: Path) -> None:
    """Create the output folder if needed, and mark it as dynaseg's before anything else is written to it.

    The mark lists the files that were already there where results go. They stay the user's for good.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    mark = output / MARK
    if mark.is_file():
        return
    content = json.dumps({"dynaseg": __version__, _FOREIGN: sorted(foreign_files(output))}) + "\n"
    temporary = output / f"{MARK}-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("x") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # Not a rename: if two runs start at once, the first mark must stay. The second may list the first's results.
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


def foreign_files(output: Path) -> frozenset[str]:
    """The user's files where results go, as `folded` paths below `output`; links to folders end with a slash.

    In a folder that dynaseg wrote, these are the files that its mark lists. In any other folder, all files count.

    Raises
    ------
    UsageError
        If the mark is damaged, so that they are not known.
    """
    if is_output_folder(output):
        return _listed_in_mark(output / MARK)
    found = frozenset(folded(path) for path in _where_results_go(output))
    # Another run may have started meanwhile. It marks the folder first, so its results are never seen without a mark.
    return _listed_in_mark(output / MARK) if is_output_folder(output) else found


def _listed_in_mark(mark: Path) -> frozenset[str]:
    try:
        return frozenset(map(str, json.loads(mark.read_bytes())[_FOREIGN]))
    except FileNotFoundError:  # an earlier version left none
        return frozenset()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(
            f"{mark} is damaged: it says which files of {mark.parent} must not be replaced; choose another one with -o"
        ) from None


def _where_results_go(output: Path) -> Iterator[str]:
    try:
        names = os.listdir(output)  # noqa: PTH208 - text
    except OSError:  # not there; or not usable, which is reported elsewhere
        return
    for name in names:
        if folded(name) in FOLDERS:
            yield from _below(output, name)
        elif folded(name) in FILES and not (output / name).is_dir() and not _is_empty(output / name):
            yield name


def _is_empty(path: Path) -> bool:
    """Whether a file has no content to lose, like the log of a run that was killed at its start."""
    status = path.lstat()
    return S_ISREG(status.st_mode) and not status.st_size


def _below(output: Path, folder: str) -> Iterator[str]:
    top = str(output / folder)
    if not os.path.isdir(top):  # noqa: PTH112 - text, as what os.walk gives
        yield folder
        return
    if os.path.islink(top):  # noqa: PTH114
        yield folder + "/"
        return
    for parent, folders, files in os.walk(top):
        here = folder + parent[len(top) :]
        yield from (f"{here}/{name}" for name in files)
        yield from (f"{here}/{name}/" for name in folders if os.path.islink(f"{parent}/{name}"))  # noqa: PTH114


def refuse_foreign(output: Path, targets: Iterable[str]) -> None:
    """Refuse to replace a user's files.

    Parameters
    ----------
    targets : paths below `output` that are to be written. A path that ends with a slash stands for all files below it.

    Raises
    ------
    UsageError
        If a target exists (ignoring case) and dynaseg did not write it, or if a folder on the way to it is a link or a
        file of the user's.
    """
    foreign = foreign_files(output)
    if not foreign:
        return
    below = _folders_of(foreign)
    checked: set[str] = set()
    """Folders on the way to targets that were checked."""
    for target in map(folded, targets):
        if target in foreign or (target.endswith("/") and target[:-1] in below):
            _refuse(output, target)
        folder = target.rstrip("/").rpartition("/")[0]
        while folder and folder not in checked:
            if folder in foreign or folder + "/" in foreign:
                _refuse(output, folder)
            checked.add(folder)
            folder = folder.rpartition("/")[0]


def _folders_of(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _refuse(output: Path, target: str) -> None:
    path = output / _as_spelled(output, target)
    if path.is_symlink() and path.is_dir():
        why = f"is a link to {path.resolve()}, and results are not written through links"
    else:
        why = "exists and was not written by dynaseg: no result may replace it, not even with --overwrite"
    raise UsageError(f"{path} {why}; choose another folder with -o")


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

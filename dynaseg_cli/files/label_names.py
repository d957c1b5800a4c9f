"""Names of labels: a file that a person writes, and the copy of it in the output folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DecodeError, UsageError
from ..fields import quoted
from .names import shown
from .output_folder import NAMES_NAME, OutputFolder
from .reading import read_file

MOST_BYTES = 16 << 20
MOST_CHARACTERS = 200
"""Of a name."""
MOST_DIGITS = 9
"""A longer number is no label."""
CSV_HEAD = "label,name"
_MAKER, _NAMES, _MODEL = "dynaseg", "names", "model"
"""Keys of the copy; the first one says that dynaseg wrote it."""

_Entries = Iterable[tuple[int | str, Any]]


def read_names(path: Path, most_labels: int) -> dict[int, str]:
    """The names in a file, by label.

    It is UTF-8: one name a line, from label 0, where an empty line leaves a label without a name; or CSV, whose first
    line is ``label,name``; or JSON, a list of names or an object from labels to names, which may lie below a key
    ``names``.

    Parameters
    ----------
    most_labels : labels that an image can have, from 0.

    Raises
    ------
    UsageError
        If it cannot be read, is none of these, names a label twice, or no label or one that there cannot be, or if a
        name is that of another label, too long, or has characters that are not seen.
    """
    where = f"`names={path}`"
    text = _read(path, where)
    if text.lstrip()[:1] in ("{", "["):
        entries = _json_entries(_parsed(text, where), where)
    elif text.partition("\n")[0].strip().lower() == CSV_HEAD:
        entries = _csv_entries(text, where)
    else:
        entries = enumerate(io.StringIO(text, newline=None))
    return _checked(entries, where, most_labels)


def kept_names(folder: OutputFolder, model: str | None, most_labels: int) -> tuple[dict[int, str], str]:
    """The names that an earlier command kept in the output folder, and a note if there are some that do not apply.

    Parameters
    ----------
    model : fingerprint of the network that all labels are of; None if each image has its own. Names of labels of
        another network do not apply.
    most_labels : labels that an image can have, from 0.

    Raises
    ------
    UsageError
        If they cannot be read, or a person changed them to something that `read_names` would refuse.
    """
    document = _kept(folder)
    if document is None:
        return {}, ""
    if document.get(_MODEL) != model:
        return {}, f"the names in {folder.names} are those of another network's labels, and are not used"
    where = str(folder.names)
    return _checked(_json_entries(document, where), where, most_labels), ""


def refuse_foreign_names(folder: OutputFolder) -> None:
    """Raise UsageError if the copy would replace a file of the user: marks of earlier versions do not tell."""
    if folder.names.exists() and _kept(folder) is None:
        raise UsageError(
            f"{folder.names} exists and was not written by dynaseg: no result may replace it; move it elsewhere"
        )


def names_document(names: Mapping[int, str], model: str | None) -> dict[str, Any]:
    """The content of the copy; `model` is the fingerprint of the network that all labels are of."""
    return {_MAKER: __version__, _MODEL: model, _NAMES: {str(label): names[label] for label in sorted(names)}}


def label_in(text: str) -> int | None:
    """The label whose number a text is; None if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def _kept(folder: OutputFolder) -> dict[str, Any] | None:
    """The copy; None if there is none, or its place is taken by a file of the user."""
    if not folder.names.exists() or NAMES_NAME in folder.foreign_files():
        return None
    where = str(folder.names)
    document = _parsed(_read(folder.names, where), where)
    return document if isinstance(document, dict) and _MAKER in document else None


def _read(path: Path, where: str) -> str:
    try:
        return read_file(path, MOST_BYTES, "a file of names may have").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from None
    except DecodeError as error:
        raise UsageError(f"{where} cannot be read: {error}") from None


def _parsed(text: str, where: str) -> Any:
    def refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
            raise UsageError(f"{where} has {quoted(twice)} twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=refuse_twice)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from None


def _json_entries(document: Any, where: str) -> _Entries:
    if isinstance(document, dict) and _NAMES in document:
        document = document[_NAMES]
    if isinstance(document, dict):
        return document.items()
    if isinstance(document, list):
        return enumerate(document)
    raise UsageError(f"{where} must be a list of names, or an object from labels to names")


def _csv_entries(text: str, where: str) -> _Entries:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row][1:]
    except csv.Error as error:
        raise UsageError(f"{where} is not CSV: {error}") from None
    for row in rows:
        if len(row) != 2:
            raise UsageError(f"{where}: {quoted(','.join(row))} is not a label and its name; quote names with commas")
    return [(label, name) for label, name in rows]


def _checked(entries: _Entries, where: str, most_labels: int) -> dict[int, str]:
    """Names by label, without those that are empty."""
    names: dict[int, str] = {}
    label_of: dict[str, int] = {}
    seen: set[int] = set()
    for key, value in entries:
        label = _label(key, where)
        if label in seen:
            raise UsageError(f"{where} names label {label} twice")
        seen.add(label)
        name = _name(value, label, where)
        if not name:
            continue
        if label >= most_labels:
            raise UsageError(f"{where} names label {label}, {quoted(name)}, and labels are 0 to {most_labels - 1}")
        if name in label_of:
            raise UsageError(f"{where}: labels {label_of[name]} and {label} are both called {quoted(name)}")
        names[label], label_of[name] = name, label
    if not names:
        raise UsageError(f"{where} names no label")
    return names


def _label(key: int | str, where: str) -> int:
    label = label_in(str(key).strip())
    if label is None:
        raise UsageError(f"{where}: {quoted(str(key))} is no number of a label; labels are 0, 1, 2 and so on")
    return label


def _name(value: Any, label: int, where: str) -> str:
    if not isinstance(value, str | None):
        raise UsageError(f"{where}: the name of label {label} must be text, not {quoted(json.dumps(value))}")
    name = (value or "").strip()
    if len(name) > MOST_CHARACTERS:
        raise UsageError(f"{where}: the name of label {label} has more than {MOST_CHARACTERS} characters")
    if shown(name) != name:
        raise UsageError(f"{where}: the name of label {label} has characters that are not seen: {shown(name)}")
    if re.fullmatch(r"label \d+", name) and name != f"label {label}":
        raise UsageError(f"{where} calls label {label} {quoted(name)}, as another label is called without a name")
    return name

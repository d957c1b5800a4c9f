"""Options from a TOML file, for pipelines that repeat themselves: a table for each command."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from ..errors import UsageError
from ..fields import Option, quoted, written

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN, SHARED = Path("dynaseg.toml"), Path("pyproject.toml")
"""Files that are looked for in the current folder, in this order."""
TABLE = ("tool", "dynaseg")
"""The table of the second that holds those of the commands."""


def read_options(path: Path | None, command: str, options: Collection[Option]) -> tuple[Path | None, dict[str, Any]]:
    """The file that was read, and by field the values of a command's options in it, as a person would write them.

    Values are text, truth values for switches, and lists of text for options that can be repeated.

    Parameters
    ----------
    path : of a file with a table for each command; None to look for one.

    Raises
    ------
    UsageError
        If the file cannot be read, or has something in it that is no option of the command.
    """
    tables: Any = None
    if path is not None:
        tables = _parse(path)
    elif OWN.is_file():
        path, tables = OWN, _parse(OWN)
    elif SHARED.is_file() and f"{'.'.join(TABLE)}".encode() in SHARED.read_bytes():
        path, tables = SHARED, _parse(SHARED).get(TABLE[0], {}).get(TABLE[1], {})
    if not isinstance(tables, dict) or path is None:
        return None, {}
    table = tables.get(command, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {command} must be a table of options")
    keys = {key: one for one in options if not one.positional and one.name != "config" for key in keys_of(one)}
    values = {}
    for key, value in table.items():
        one = keys.get(key.replace("_", "-"))
        if one is None:
            near = difflib.get_close_matches(key.replace("_", "-"), keys, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{path}: {quoted(key)} is no option of {command}{hint}")
        values[one.name] = _as_written(value, one, f"{path}: {key}")
    return path, values


def _parse(path: Path) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"`config={path}` cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    return parsed


def keys_of(one: Option) -> set[str]:
    """The keys of an option: its flag without the dashes, and its field."""
    flag = one.spellings[0].partition("/")[0]
    return {flag.lstrip("-"), one.name.replace("_", "-")}


def _as_written(value: Any, one: Option, where: str) -> Any:
    if one.kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{where} must be true or false, not {quoted(value)}")
        return value
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, (str, int, float)) for item in items):
        raise UsageError(f"{where} must be a text or a number, or a list of them, not {quoted(value)}")
    texts = [written(item) for item in items]
    return texts if get_args(one.kind) in ((str, ...), (Path, ...)) else ",".join(texts)

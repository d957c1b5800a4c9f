"""Fields of options dataclasses, each declared once: its default, its range, its help.

Checks, docstrings, the command line, its documentation and the schema of recorded options follow from the declaration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import operator
import os
import textwrap
from collections.abc import Collection
from dataclasses import MISSING, dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import UsageError

MOST = 2**31 - 1
"""Upper limit of whole numbers that declare none, so that none overflows."""
MOST_QUOTED = 100
"""Longest value that a message repeats in full, in characters."""

Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class Option:
    """A declared field. Its texts name other fields in backticks.

    Attributes
    ----------
    help : one or two sentences.
    group : heading of its group in ``--help``; empty for a field that is not on the command line.
    metavar : placeholder for its value; empty to derive it from the type.
    least, most, above, below : limits of a number, the last two exclusive.
    zero : meaning of 0, if 0 is allowed beside the range.
    default_text : words for a default whose value does not speak for itself.
    flags : spellings on the command line; empty for the name with dashes.
    positional : whether it is an argument of the command and no option.
    listed : words of a list that is one text; a tuple's follow from its type.
    name, kind, default : of the field, with the resolved type; `MISSING` is the default of one that must be given.
    """

    help: str
    group: str = ""
    metavar: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    zero: str = ""
    default_text: str = ""
    flags: tuple[str, ...] = ()
    positional: bool = False
    listed: tuple[str, ...] = ()
    name: str = ""
    kind: Any = None
    default: Any = None

    @property
    def spellings(self) -> tuple[str, ...]:
        """How it is written on the command line; a switch with two positions is ``--on/--off``."""
        dashed = self.name.replace("_", "-")
        return self.flags or (f"--{dashed}/--no-{dashed}" if self.default is True else f"--{dashed}",)

    @property
    def placeholder(self) -> str:
        """The placeholder of its value in help; empty for a switch."""
        names, others = alternatives(self.kind)
        words = {int: "N", float: "F", bool: ""}
        return self.metavar or "|".join([*names, *(words.get(other, "TEXT") for other in others)])

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a list of them is made of; empty if it is no list, or of anything."""
        items = (get_args(other)[0] for other in alternatives(self.kind)[1] if get_args(other)[1:] == (Ellipsis,))
        return self.listed or next((alternatives(item)[0] for item in items), ())

    @property
    def default_words(self) -> str:
        """Its default as it is shown; empty if it has none."""
        return self.default_text or ("" if self.default is MISSING else written(self.default))


def option(default: Any, help: str, group: str = "", **declared: Any) -> Any:  # noqa: A002
    """A dataclass field that is an `Option`, to whose attributes `declared` belongs."""
    return dataclasses.field(default=default, metadata={"option": Option(help, group, **declared)})


@functools.cache
def options_of(config: type) -> tuple[Option, ...]:
    """The declared fields of a dataclass."""
    kinds = get_type_hints(config)
    return tuple(
        dataclasses.replace(field.metadata["option"], name=field.name, kind=kinds[field.name], default=field.default)
        for field in dataclasses.fields(config)
        if "option" in field.metadata
    )


_ACCEPTED: dict[Any, Any] = {int: Integral, float: Real, Path: (str, os.PathLike)}
"""Types whose relatives are accepted as well."""


@functools.cache
def alternatives(kind: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names and the types that a type allows: ("auto",) and (int,) for ``int | Literal["auto"] | None``."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    names = tuple(name for part in parts if get_origin(part) is Literal for name in get_args(part))
    return names, tuple(part for part in parts if get_origin(part) is not Literal and part is not NoneType)


def described(kind: Any) -> str:
    """A type in words, to go on after "must be"."""
    names, others = alternatives(kind)
    listed = ", ".join(names)
    if not others:
        return f"one of {listed}" if len(names) > 1 else listed
    words = " or ".join(_in_words(other) for other in others)
    return f"{listed} or {words}" if names else words


def _in_words(kind: Any) -> str:
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if items[-1] is Ellipsis:
            names, _ = alternatives(items[0])
            return f"one or more of {', '.join(names)}" if names else "a list"
        return {int: "two whole numbers", float: "two numbers such as 0,4095"}[items[0]]
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(kind) or f"a {kind.__name__}"


def quoted(value: object) -> str:
    """A value for a message, text in quotes, shortened if long."""
    if not isinstance(value, str):
        return str(value)
    return repr(value if len(value) <= MOST_QUOTED else f"{value[:MOST_QUOTED]}…")


def written(value: object) -> str:
    """A value as a person writes it, the inverse of `read_value`; empty for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
    if isinstance(value, tuple):
        return ",".join(map(written, value))
    return "" if value is None else str(value)


def read_value(name: str, text: str, kind: Any) -> Any:
    """Text as a value of a field's type.

    Raises
    ------
    UsageError
        If the type allows no such value.
    """
    names, others = alternatives(kind)
    if text in names:
        return text
    for other in others:
        if get_origin(other) is tuple:
            parts, kinds = [part.strip() for part in text.split(",")], get_args(other)
            if kinds[-1] is Ellipsis:
                if any(parts):
                    return tuple(dict.fromkeys(filter(None, parts)))
            elif len(parts) == len(kinds):
                with contextlib.suppress(UsageError):
                    return tuple(map(read_value, [name, name], parts, kinds))
        elif other is bool and text in ("true", "false"):
            return text == "true"
        elif other in (int, float):
            with contextlib.suppress(ValueError):
                return other(text)
        elif other in (str, Path):
            return other(text)
    raise UsageError(f"`{name}` must be {described(kind)}, not {quoted(text)}")


def check_fields(config: object) -> None:
    """Check every declared field of a dataclass instance against its type, its choices and its range.

    Raises
    ------
    UsageError
        For the first field that does not fit.
    """
    for one in options_of(type(config)):  # type: ignore[arg-type]  # mypy takes the hash of an instance for the type's
        value = getattr(config, one.name)
        if value is one.default:
            continue
        misfit = _misfit(value, one.kind)
        if misfit is not MISSING:
            raise UsageError(f"`{one.name}` must be {described(one.kind)}, not {quoted(misfit)}")
        if isinstance(value, Real) and not isinstance(value, bool):
            _check_range(value, one)


def _misfit(value: object, kind: Any) -> object:
    """The part of a value that is not of the type; MISSING if all of it is."""
    names, others = alternatives(kind)
    if (value is None and NoneType in get_args(kind)) or (isinstance(value, str) and value in names):
        return MISSING
    for other in others:
        items = get_args(other)
        if not items:
            if isinstance(value, _ACCEPTED.get(other, other)):
                return MISSING
        elif isinstance(value, Collection) and not isinstance(value, str):
            if items[-1] is Ellipsis:
                return next((part for item in value if (part := _misfit(item, items[0])) is not MISSING), MISSING)
            if len(value) == len(items) and all(part is MISSING for part in map(_misfit, value, items)):
                return MISSING
    return value


def _check_range(value: Any, limits: Option) -> None:
    if limits.zero and value == 0:
        return
    most = MOST if limits.most is None and isinstance(value, Integral) else limits.most
    for limit, holds, words in (
        (limits.least, operator.ge, "at least"),
        (limits.above, operator.gt, "above"),
        (most, operator.le, "at most"),
        (limits.below, operator.lt, "below"),
    ):
        if limit is not None and not holds(value, limit):
            bound = "finite" if limit == math.inf else f"{words} {written(limit)}"
            otherwise = f"0 for {limits.zero}, or " if limits.zero and limit == limits.least else ""
            raise UsageError(f"`{limits.name}` must be {otherwise}{bound}, not {written(value)}")


def documented(config: Class) -> Class:
    """Append the sections Parameters and Raises to the docstring of a dataclass, from its declarations."""
    lines = [inspect.cleandoc(config.__doc__ or ""), "\nParameters\n----------"]
    for one in options_of(config):
        lines.append(f"{one.name} : {described(one.kind)}, default {one.default_words or 'none'}")
        lines += textwrap.wrap(one.help, 100, initial_indent="    ", subsequent_indent="    ")
    lines.append("\nRaises\n------\nUsageError\n    If a value is out of its range, or options contradict each other.")
    config.__doc__ = "\n".join(lines)
    return config

"""Which methods are compared, as a person writes them: ``scf``, or ``kmeans:clusters=8:window=7``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..config import METHODS, MethodConfig, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..weights_file import identify


@dataclass(frozen=True)
class Variant:
    """A method with its options; `name` is what was written, and names its results."""

    name: str
    method: str
    config: MethodConfig


def parse_variants(text: str, iterations: int | None = None) -> list[Variant]:
    """Read a list separated by commas, each a method's name and ``:option=value`` for what differs from its defaults.

    `iterations` is for every method that iterates and does not say otherwise itself.

    Raises
    ------
    UsageError
        If a method, an option or a value does not exist, or a variant is named twice, or a file cannot be read.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--methods needs at least one of {', '.join(METHODS)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--methods names {twice} twice")
    return [_parse(name, iterations) for name in names]


def _parse(name: str, iterations: int | None) -> Variant:
    method, *assignments = name.split(":")
    if method not in METHODS:
        raise UsageError(f"--methods: there is no {method}; choose from {', '.join(METHODS)}")
    defaults = METHODS[method]
    fields = {field.name for field in dataclasses.fields(defaults)}
    if isinstance(defaults, SegmentConfig):
        # The mode is the method's name, and every image is segmented by itself.
        fields -= {"mode", "fit", "epochs", "model", "refine"}
    changes: dict[str, Any] = {}
    if iterations is not None and "iterations" in fields:
        changes["iterations"] = iterations
    kinds = get_type_hints(type(defaults))
    for assignment in assignments:
        option, equals, value = assignment.partition("=")
        option = option.replace("-", "_")
        if option not in fields or not equals:
            raise UsageError(
                f"--methods: {assignment!r} is no option=value of {method}; its options are {', '.join(sorted(fields))}"
            )
        changes[option] = _value(value, kinds[option], f"{method}: {option}")
    if method == "reference" and changes.get("backbone", "cnn") != "cnn":
        raise UsageError("--methods: reference is the literal loop of the cnn; scf and fsf have other backbones")
    return Variant(name, method, dataclasses.replace(defaults, **changes))


def _value(text: str, kind: Any, option: str) -> Any:
    """`text` as the type that a field is declared with."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if any(get_origin(one) is Literal and text in get_args(one) for one in kinds):
        return text
    if WeightsFile in kinds:
        return identify(text, f"--methods: {option}")
    for one in kinds:
        if one is bool and text in ("true", "false"):
            return text == "true"
        if one in (int, float):
            try:
                return one(text)
            except ValueError:
                continue
    raise UsageError(f"--methods: {option} cannot be {text!r}")

"""The methods to compare, as a person writes them: ``scf``, or ``kmeans:clusters=8:window=7``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from ..baselines.settings import FelzenszwalbConfig, IicConfig, KMeansConfig, SuperpixelCnnConfig
from ..config import PRESETS, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..fields import read_value
from ..files.weights import identify

MethodConfig = SegmentConfig | KMeansConfig | FelzenszwalbConfig | SuperpixelCnnConfig | IicConfig

METHODS: dict[str, MethodConfig] = {
    "scf": SegmentConfig(mode="scf"),
    "fsf": SegmentConfig(mode="fsf"),
    "fixed": SegmentConfig(mode="fixed"),
    "reference": PRESETS["paper"],
    "kmeans": KMeansConfig(),
    "felzenszwalb": FelzenszwalbConfig(),
    "superpixel-cnn": SuperpixelCnnConfig(),
    "iic": IicConfig(),
}
"""Methods that `benchmark` can compare, each with its own defaults."""


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
        raise UsageError(f"`methods` needs at least one of {', '.join(METHODS)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"`methods` names {twice} twice")
    return [_parse(name, iterations) for name in names]


def _parse(name: str, iterations: int | None) -> Variant:
    method, *assignments = name.split(":")
    if method not in METHODS:
        raise UsageError(f"`methods`: there is no {method}; choose from {', '.join(METHODS)}")
    defaults = METHODS[method]
    fields = {field.name for field in dataclasses.fields(defaults)}
    if isinstance(defaults, SegmentConfig):
        # The mode is the method's name, and every image is segmented by itself.
        fields -= {"mode", "fit", "epochs", "model", "refine"}
    changes: dict[str, Any] = {}
    if iterations is not None and "iterations" in fields:
        changes["iterations"] = iterations
    kinds = get_type_hints(type(defaults))
    try:
        for assignment in assignments:
            option, equals, value = assignment.partition("=")
            option = option.replace("-", "_")
            if option not in fields or not equals:
                raise UsageError(f"{assignment!r} is no option=value; its options are {', '.join(sorted(fields))}")
            is_file = WeightsFile in get_args(kinds[option]) and value != "random"
            changes[option] = identify(value, option) if is_file else read_value(option, value, kinds[option])
        if method == "reference" and changes.get("backbone", "cnn") != "cnn":
            raise UsageError("it is the literal loop of the cnn; scf and fsf have other backbones")
        return Variant(name, method, dataclasses.replace(defaults, **changes))
    except UsageError as error:
        raise UsageError(f"`methods`: {method}: {error}") from None

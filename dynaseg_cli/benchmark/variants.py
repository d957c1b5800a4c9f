"""The methods to compare, as a person writes them: ``scf``, or ``kmeans:clusters=8:window=7``."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from ..baselines.settings import FelzenszwalbConfig, IicConfig, KMeansConfig, SuperpixelCnnConfig
from ..config import PRESET_CUTS, PRESETS, TIMM, CutConfig, SegmentConfig, WeightsFile
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
    cut: CutConfig | None = None
    """How far regions are merged, for methods of this tool."""

    def as_options(self) -> dict[str, Any]:
        """The values as a JSON document has them."""
        options = dataclasses.asdict(self.config)
        return options if self.cut is None else {**options, **self.cut.as_options()}


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
    # The name of a backbone may have a colon of its own.
    method, *assignments = re.split(f"(?<!={TIMM[:-1]}):", name)
    if method not in METHODS:
        raise UsageError(f"`methods`: there is no {method}; choose from {', '.join(METHODS)}")
    defaults = METHODS[method]
    kinds = get_type_hints(type(defaults))
    fields, of_cut = {field.name for field in dataclasses.fields(defaults)}, set[str]()
    if isinstance(defaults, SegmentConfig):
        # The mode is the method's name, and every image is segmented by itself.
        fields -= {"mode", "sequence", "fit", "epochs", "model", "refine"}
        if method != "reference":
            of_cut = {field.name for field in dataclasses.fields(CutConfig)}
            kinds = {**kinds, **get_type_hints(CutConfig)}
    changes: dict[str, Any] = {}
    if iterations is not None and "iterations" in fields:
        changes["iterations"] = iterations
    try:
        for assignment in assignments:
            option, equals, value = assignment.partition("=")
            option = option.replace("-", "_")
            if option not in fields | of_cut or not equals:
                known = ", ".join(sorted(fields | of_cut))
                raise UsageError(f"{assignment!r} is no option=value; its options are {known}")
            is_file = WeightsFile in get_args(kinds[option]) and value != "random"
            changes[option] = identify(value, option) if is_file else read_value(option, value, kinds[option])
        if method == "reference" and changes.get("backbone", "cnn") != "cnn":
            raise UsageError("it is the literal loop of the cnn; scf and fsf have other backbones")
        cut = {option: changes.pop(option) for option in of_cut & changes.keys()}
        config = dataclasses.replace(defaults, **changes)
        if not isinstance(config, SegmentConfig):
            return Variant(name, method, config)
        return Variant(name, method, config, PRESET_CUTS["paper"] if method == "reference" else CutConfig(**cut))
    except UsageError as error:
        raise UsageError(f"`methods`: {method}: {error}") from None

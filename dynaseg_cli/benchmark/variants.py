"""The methods to compare, as a person writes them: ``scf``, or ``kmeans:clusters=8:window=7``."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from ..baselines.folder.settings import (
    DeepClusteringConfig,
    FeatureKMeansConfig,
    FolderIicConfig,
    FolderMethodConfig,
    PicieConfig,
)
from ..baselines.settings import FelzenszwalbConfig, IicConfig, KMeansConfig, SuperpixelCnnConfig
from ..config import FOLDER_FIT, PRESET_CUTS, PRESETS, TIMM, CutConfig, Fit, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..fields import read_value
from ..files.weights import identify

MethodConfig = SegmentConfig | KMeansConfig | FelzenszwalbConfig | SuperpixelCnnConfig | IicConfig | FolderMethodConfig

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

FOLDER_METHODS: dict[str, MethodConfig] = {
    "scf": SegmentConfig(mode="scf", **FOLDER_FIT),
    "fsf": SegmentConfig(mode="fsf", **FOLDER_FIT),
    "fixed": SegmentConfig(mode="fixed", **FOLDER_FIT),
    "kmeans-features": FeatureKMeansConfig(),
    "deep-clustering": DeepClusteringConfig(),
    "iic": FolderIicConfig(),
    "picie": PicieConfig(),
}
"""The same for one label space."""

OF_ALL = {"classes": "clusters", "backbone": "backbone", "epochs": "epochs", "iterations": "iterations"}
"""Options of all methods that have the field, and do not say otherwise themselves."""


@dataclass(frozen=True)
class Variant:
    """A method with its options; `name` is what was written, and names its results."""

    name: str
    method: str
    config: MethodConfig
    cut: CutConfig | None = None
    """How far regions are merged, for methods of this tool and of one label space."""

    @property
    def fits_folder(self) -> bool:
        """Whether it gives the folder one label space."""
        config = self.config
        return config.fit == "folder" if isinstance(config, SegmentConfig) else isinstance(config, FolderMethodConfig)

    def as_options(self) -> dict[str, Any]:
        """The values as a JSON document has them."""
        options = dataclasses.asdict(self.config)
        return options if self.cut is None else {**options, **self.cut.as_options()}


def parse_variants(text: str, fit: Fit = "image", **of_all: int | str | None) -> list[Variant]:
    """Read a list separated by commas, each a method's name and ``:option=value`` for what differs from its defaults.

    Parameters
    ----------
    fit : whether methods segment each image by itself, or give the folder one label space.
    of_all : `OF_ALL`, for every method that has such a field and does not say otherwise itself; None for its default.

    Raises
    ------
    UsageError
        If a method, an option or a value does not exist, or a variant is named twice, or a file cannot be read.
    """
    methods = METHODS if fit == "image" else FOLDER_METHODS
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"`methods` needs at least one of {', '.join(methods)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"`methods` names {twice} twice")
    given = {OF_ALL[name]: value for name, value in of_all.items() if value is not None}
    return [_parse(name, fit, given) for name in names]


def _parse(name: str, fit: Fit, given: dict[str, Any]) -> Variant:
    # The name of a backbone may have a colon of its own.
    method, *assignments = re.split(f"(?<!={TIMM[:-1]}):", name)
    methods, others = (METHODS, FOLDER_METHODS) if fit == "image" else (FOLDER_METHODS, METHODS)
    if method not in methods:
        problem = f"there is no {method}"
        if method in others:
            problem = f"{method} is for `fit={'folder' if fit == 'image' else 'image'}`"
        raise UsageError(f"`methods`: {problem}; with `fit={fit}` choose from {', '.join(methods)}")
    defaults = methods[method]
    kinds = get_type_hints(type(defaults))
    fields, of_cut = {field.name for field in dataclasses.fields(defaults)}, set[str]()
    if isinstance(defaults, SegmentConfig):
        # The mode is the method's name, and `fit` is chosen for all methods.
        fields -= {"mode", "sequence", "fit", "model", "refine"}
        if fit == "image":
            fields -= {"epochs"}
    if isinstance(defaults, SegmentConfig | FolderMethodConfig) and method != "reference":
        of_cut = {field.name for field in dataclasses.fields(CutConfig)}
        kinds = {**kinds, **get_type_hints(CutConfig)}
    changes = {option: value for option, value in given.items() if option in fields}
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
        return Variant(name, method, config, _cut(config, cut, method))
    except UsageError as error:
        raise UsageError(f"`methods`: {method}: {error}") from None


def _cut(config: MethodConfig, given: dict[str, Any], method: str) -> CutConfig | None:
    """How far a method's regions are merged; those of other authors are as published unless asked otherwise."""
    if method == "reference" or (isinstance(config, FolderMethodConfig) and not given):
        return PRESET_CUTS["paper"]
    return CutConfig(**given) if isinstance(config, SegmentConfig | FolderMethodConfig) else None

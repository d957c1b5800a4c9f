"""Checks of ``stats`` documents read from disk, which may have been edited or damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

from ..config import BatchConfig, CutConfig, Outside, parse_channels
from ..errors import UsageError
from ..files.tiles import is_tile_entry

Check = Callable[[Any], bool]

MOST_LABELS = 1 << 16
"""Labels have at most 16 bits."""
MOST = 1 << 53
"""Limit on counts of pixels and other numbers."""


def parse_stats(content: bytes) -> dict[str, Any] | None:
    """The document, or None if a part that dynaseg uses is present but not as dynaseg writes it."""
    try:
        document = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None
    return document if _is_object(_DOCUMENT, required=("options",))(document) else None


def is_whole(stats: Mapping[str, Any]) -> bool:
    """Whether a document has all parts that reports, exports and folder statistics need."""
    return has_fit(stats) and stats.keys() >= _OF_LABELS


def has_fit(stats: Mapping[str, Any]) -> bool:
    """Whether a document says how the labels were fitted; without the rest, they are being cut anew."""
    return stats.keys() >= _OF_FIT and all(parts <= stats[section].keys() for section, parts in _PARTS.items())


def is_of_version_1(stats: Mapping[str, Any]) -> bool:
    """Whether the label map beside a document is the network's own, as in the first version."""
    return bool(stats.get("schema_version", 1) == 1)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _is_count(value: Any, most: int = MOST) -> bool:
    return isinstance(value, int) and 0 <= value <= most


def _is_size(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_label(value: Any) -> bool:
    return _is_count(value, MOST_LABELS - 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= MOST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_level(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 255


def _is_any_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_list(check: Check, length: int | None = None, least: int = 0) -> Check:
    def is_list(value: Any) -> bool:
        if not isinstance(value, list) or len(value) < least or length not in (None, len(value)):
            return False
        return all(map(check, value))

    return is_list


def _is_object(checks: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    def is_object(value: Any) -> bool:
        if not isinstance(value, dict) or not all(name in value for name in required):
            return False
        return all(check(value[name]) for name, check in checks.items() if name in value)

    return is_object


def _is_cut(value: Any) -> bool:
    try:
        CutConfig(**value)
    except (TypeError, UsageError):
        return False
    return True


def _is_channels(value: Any) -> bool:
    try:
        BatchConfig(channels=parse_channels(value))
    except (TypeError, AttributeError, UsageError):
        return False
    return True


def _is_silhouette(value: Any) -> bool:
    return value is None or _is_object({"k": _is_count, "scores": _is_object({})}, ("k", "scores"))(value)


_COLOR = _is_list(_is_level, 3)
_SEGMENT: dict[str, Check] = {
    "label": _is_label,
    "pixels": _is_size,
    "fraction": _is_number,
    "mean_rgb": _COLOR,
    "std_rgb": _COLOR,
}
_CLUSTER = _is_object({**_SEGMENT, "regions": _is_count, "color": _COLOR}, (*_SEGMENT, "regions", "color"))
_REGION = _is_object(_SEGMENT, ("label", "mean_rgb"))
_FIT: dict[str, Check] = {
    **dict.fromkeys(("width", "height", "iterations"), _is_count),
    **dict.fromkeys(("loss", "similarity_loss", "continuity_loss"), _is_list(_is_any_number)),
    "levels": _is_list(_is_object({})),
    "stop_reason": _is_text,
    "threshold": _is_count,
    "silhouette": _is_silhouette,
    "labels_per_iteration": _is_list(_is_count),
    "precision": _is_text,
    "seconds": _is_number,
}
_SOURCE: dict[str, Check] = {"path": _is_text, "width": _is_size, "height": _is_size, "sha256": _is_text}
_MASK: dict[str, Check] = {
    **dict.fromkeys(("path", "sha256"), _is_text),
    "from": lambda value: value in ("alpha", "nodata"),
    "outside": lambda value: value in get_args(Outside),
    "pixels": _is_size,
}


def _is_mask(value: Any) -> bool:
    return _is_object(_MASK, ("outside", "pixels"))(value) and ("from" in value or {"path", "sha256"} <= value.keys())


_OF_SOURCE: dict[str, Check] = {
    **_SOURCE,
    "page": _is_size,
    "tile": is_tile_entry,
    "channels": _is_channels,
    "mask": _is_mask,
}
_DOCUMENT: dict[str, Check] = {
    "schema_version": _is_count,
    "options": _is_object({}),
    "source": _is_object(_OF_SOURCE),
    "device": _is_text,
    "fit": _is_object(_FIT),
    "raw_labels": _is_count,
    "num_labels": _is_count,
    "clusters": _is_list(_CLUSTER, least=1),
    "cut": _is_cut,
    "colors": _is_text,
    "regions": _is_list(_REGION, least=1),
}
_OF_FIT = frozenset(("source", "device", "fit"))
_OF_LABELS = frozenset(("num_labels", "clusters"))
_PARTS = {"source": _SOURCE.keys(), "fit": _FIT.keys()}

"""What `segment` left beside the maps that it wrote: read as the JSON that it is, where there is any."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from ..config import Use
from ..errors import DecodeError
from ..images import read_file

MOST_BYTES = 256 << 20
"""Limit on the size of a JSON file that `segment` wrote."""
MOST_CLUSTERS = 1 << 16
"""More than this no map tells apart, and no silhouette phase has tried."""


def options_of_run(prediction: Path) -> dict[str, Any] | None:
    """The options that `segment` wrote these maps with; None if it did not."""
    here = prediction.resolve()
    outputs = [here, *(folder.parent for folder in (here, *here.parents) if folder.name in get_args(Use))]
    for folder in outputs:
        options = _read(folder / "run.json", "options")
        if isinstance(options, dict):
            return options
    return None


def silhouette_of_image(path: Path) -> int | None:
    """The number of clusters that the silhouette phase chose for the image of a map; None where that is not known."""
    here = path.absolute()
    for folder in here.parents:
        if folder.name in get_args(Use):
            stats = folder.parent / "stats" / here.relative_to(folder).with_suffix(".json")
            k = _read(stats, "fit", "silhouette", "k")
            if isinstance(k, int) and not isinstance(k, bool) and 0 < k <= MOST_CLUSTERS:
                return k
    return None


def _read(path: Path, *keys: str) -> Any:
    """What a JSON file has under these keys, one inside the other; None for whatever reason it has nothing."""
    try:
        return _inside(json.loads(read_file(path, MOST_BYTES, "is looked at")), keys)
    except (DecodeError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _inside(document: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        document = document[key]
    return document

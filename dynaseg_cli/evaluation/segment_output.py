"""The folder that `segment` wrote: its maps to score, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..config import Product, Use
from ..errors import DecodeError, ImageError, UsageError
from ..files.output_folder import KEPT_RAW_FOLDER, Job
from ..files.reading import read_file
from ..files.tiles import part_of
from ..files.user_files import RUN_NAME, is_output_folder
from ..images.decoding import decode
from ..images.pages import read_job

PRODUCTS = get_args(Product)
"""Folders that `segment` writes below an output folder."""
MAPS = (*get_args(Use), KEPT_RAW_FOLDER)
"""Those of them that hold maps to score."""
MOST_BYTES = 256 << 20
"""Limit on the size of a JSON file that `segment` wrote."""
MOST_CLUSTERS = 1 << 16
"""Most clusters that a silhouette phase can have chosen: as many as a 16-bit map tells apart."""


def maps_folder(prediction: Path, use: Use) -> Path:
    """The folder of the maps to `use` if `segment` wrote `prediction`, else `prediction` itself.

    Raises
    ------
    UsageError
        If `segment` wrote it without these maps.
    """
    names: tuple[str, ...] = (use, KEPT_RAW_FOLDER) if use == "raw" else (use,)
    maps = next((prediction / name for name in names if (prediction / name).is_dir()), None)
    if maps is not None:
        return maps
    # Below the folder of the maps itself are the folders of the photos, which may be called anything.
    itself = prediction.resolve().name == use
    written = () if use == "labels" else ("labels", "stats")
    if not itself and (is_output_folder(prediction) or any((prediction / folder).is_dir() for folder in written)):
        saved = ",".join(dict.fromkeys(("labels", "color", "stats", use)))
        raise UsageError(f"{prediction} has no {use}/, which segment writes with --save {saved}")
    return prediction


def lies_in_output(path: Path) -> bool:
    """Whether dynaseg wrote a folder or one above it."""
    here = path.resolve()
    return any(is_output_folder(folder) for folder in (here, *here.parents))


def options_of_run(prediction: Path) -> dict[str, Any] | None:
    """The options that `segment` wrote these maps with; None if it did not."""
    here = prediction.resolve()
    outputs = [here, *(folder.parent for folder in (here, *here.parents) if folder.name in MAPS)]
    found = (_read(folder / RUN_NAME, "options") for folder in outputs)
    return next((options for options in found if isinstance(options, dict)), None)


def silhouette_of_image(path: Path) -> int | None:
    """The number of clusters that the silhouette phase chose for the image of a map; None where that is not known."""
    for stats in _stats_of_map(path):
        k = _read(stats, "fit", "silhouette", "k")
        if isinstance(k, int) and not isinstance(k, bool) and 0 < k <= MOST_CLUSTERS:
            return k
    return None


def photo_of_map(path: Path, max_pixels: int) -> NDArray[np.uint8] | None:
    """The photo that a map was made from, (H, W, 3) RGB; None where it is not known, changed, or cannot be read."""
    for stats in _stats_of_map(path):
        source = _read(stats, "source")
        if not isinstance(source, dict) or not isinstance(source.get("path"), str):
            continue
        try:
            found = read_job(Job(source["path"], "", part_of(source)), max_pixels)
            if found.sha256 == source.get("sha256"):
                return decode(found.content, max_pixels)
        except (ImageError, OSError, ValueError):
            continue
    return None


def _stats_of_map(path: Path) -> Iterator[Path]:
    """Where the statistics of a map's image may be."""
    here = path.absolute()
    for folder in here.parents:
        if folder.name in MAPS:
            yield folder.parent / "stats" / here.relative_to(folder).with_suffix(".json")


def _read(path: Path, *keys: str) -> Any:
    """The value that a JSON file has under these keys, one inside the other; None if it cannot be read."""
    try:
        value = json.loads(read_file(path, MOST_BYTES, "is looked at"))
        for key in keys:
            value = value[key]
    except (DecodeError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return value

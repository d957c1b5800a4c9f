"""The files of one image in a report: four pictures, and details in a script, which a page from disk can load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.names import shown
from ..pictures.overlay import overlay
from ..regions.hierarchy import Hierarchy
from .granularity import granularity_entry
from .packing import packed, runs_of
from .page import ENTRY_FILES
from .thumbnail import lossless, lossy, shrunk_map, shrunk_photo

CALLED = "dynasegEntry"
"""The function of the page that each script calls with its key and the details."""
DIGITS = 5
"""Significant digits of a loss: more than a chart can show."""


def report_entry(
    key: str,
    photo: NDArray[np.uint8],
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    colors: NDArray[np.uint8],
    regions: NDArray[np.int32],
    hierarchy: Hierarchy | None,
    stats: dict[str, Any],
    files: dict[str, str],
    photo_url: str | None,
) -> Iterator[tuple[str, bytes]]:
    """The end of the name and the content of each file, in the order of `ENTRY_FILES`.

    Parameters
    ----------
    key : identifies the image in the page and in the names of its files.
    photo : (H, W, 3) uint8 RGB, of any size.
    labels : (H, W).
    colors : (K, 3) uint8 RGB of the labels.
    regions : (H, W) 0..R-1, or -1 outside an area.
    hierarchy : from which the regions were cut; None if the page is not to offer other cuts.
    stats : the statistics of the image (``stats.schema.json``), with regions.
    files : URL, relative to the page, of each product's file.
    photo_url : URL of the image file, if a browser shows it as it was segmented.
    """
    photo_file, labels_file, regions_file, overlay_file, details_file = ENTRY_FILES
    small, small_regions = shrunk_photo(photo), shrunk_map(regions)
    # The last one is also that of -1.
    means = np.rint([*(region["mean_rgb"] for region in stats["regions"]), [0, 0, 0]]).astype(np.uint8)
    labelled = colors[[region["label"] for region in stats["regions"]]]
    yield photo_file, lossy(small)
    small_labels = shrunk_map(labels)
    yield labels_file, lossless(colors[small_labels])
    yield regions_file, lossless(means[small_regions])
    yield overlay_file, lossy(overlay(small, small_regions, labelled))
    details = {**_details(stats), "map": _map_entry(small_labels), "files": files, "photo": photo_url}
    if hierarchy is not None:
        details["granularity"] = granularity_entry(hierarchy, photo, stats["cut"])
    yield details_file, f"{CALLED}({_json(key)}, {_json(details)});\n".encode("ascii")


def _details(stats: dict[str, Any]) -> dict[str, Any]:
    source, fit = stats["source"], stats["fit"]
    found = fit["silhouette"]
    # An image of one colour has no score.
    silhouette = found and {"k": found["k"], "score": found["scores"].get(str(found["k"]))}
    return {
        "source": {**{name: source[name] for name in ("width", "height", "sha256")}, "path": shown(source["path"])},
        "device": shown(stats["device"]),
        "raw_labels": stats["raw_labels"],
        "fit": {
            **{name: fit[name] for name in ("width", "height", "levels", "iterations", "stop_reason", "threshold")},
            **{name: fit[name] for name in ("labels_per_iteration", "precision", "seconds")},
            **{name: _significant(fit[name]) for name in ("loss", "similarity_loss", "continuity_loss")},
            "silhouette": silhouette,
        },
        "clusters": [
            {
                **{name: cluster[name] for name in ("label", "pixels", "regions", "color")},
                "fraction": float(f"{cluster['fraction']:.4g}"),
                "mean_rgb": [round(value) for value in cluster["mean_rgb"]],
            }
            for cluster in stats["clusters"]
        ],
    }


def _map_entry(labels: NDArray[np.integer]) -> dict[str, Any]:
    """The labels of a thumbnail: "runs" (uint16) and "labels" (uint16) of pixels in a row, `packed`."""
    runs, values = runs_of(labels)
    height, width = labels.shape
    return {"width": width, "height": height, "runs": packed(runs, "<u2"), "labels": packed(values, "<u2")}


def _significant(values: list[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _json(value: Any) -> str:
    """JSON in ASCII, which is valid JavaScript."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))

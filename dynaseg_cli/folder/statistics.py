"""Statistics of a folder whose labels mean the same in every image: the content of `clusters.json`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..batch.planning import Plan
from ..batch.resume import Stats
from ..config import Colors
from ..pictures.palette import label_color

SCHEMA_VERSION = 1
EXAMPLES = 5
"""Images named for each label, those with the largest share of it."""


def clusters_document(plan: Plan) -> dict[str, Any]:
    """The content of ``clusters.json``, from all images that the plan's model was applied to, in any shard or run."""
    found = (stats for _, stats in plan.complete() if _is_usable(stats, plan.segment.clusters))
    return {
        "schema_version": SCHEMA_VERSION,
        "options": plan.segment.as_options(),
        "dynaseg": __version__,
        **folder_statistics(found, plan.segment.clusters, plan.batch.colors),
    }


def _is_usable(stats: Stats, clusters: int) -> bool:
    """Whether a document has all the entries needed here, and only labels of the folder."""
    entries = stats.get("clusters", [])
    return bool(entries) and "path" in stats.get("source", {}) and all(entry["label"] < clusters for entry in entries)


@dataclass
class _Cluster:
    """Sums over the images so far, for one label."""

    pixels: int = 0
    images: int = 0
    regions: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    examples: list[tuple[float, int, str]] = field(default_factory=list)
    """A heap of (share, minus the image's number, path)."""


def folder_statistics(documents: Iterable[Stats], clusters: int, colors: Colors = "calm") -> dict[str, Any]:
    """The combined statistics of the images of a folder, read one at a time.

    Parameters
    ----------
    documents : of ``stats.schema.json``, by one network with so many `clusters`.

    Returns
    -------
    dict of images, pixels, num_labels (those that occur in some image), and clusters: one entry a label that occurs, of
    {label, pixels, fraction (of all pixels), images (in which it occurs), regions, mean_rgb, std_rgb, color, examples
    [{path, fraction}] (the images with the largest share of it)}.
    """
    totals = [_Cluster() for _ in range(clusters)]
    images = pixels = 0
    for document in documents:
        images += 1
        for entry in document["clusters"]:
            _add(totals[entry["label"]], entry, images, document["source"]["path"])
            pixels += entry["pixels"]
    present = [(label, total) for label, total in enumerate(totals) if total.pixels]
    return {
        "images": images,
        "pixels": pixels,
        "num_labels": len(present),
        "clusters": [_entry(label, total, pixels, colors) for label, total in present],
    }


def _add(total: _Cluster, entry: dict[str, Any], number: int, path: str) -> None:
    mean, deviation = np.array(entry["mean_rgb"]), np.array(entry["std_rgb"])
    total.pixels += entry["pixels"]
    total.images += 1
    total.regions += entry["regions"]
    total.sums += entry["pixels"] * mean
    total.squares += entry["pixels"] * (deviation**2 + mean**2)
    heapq.heappush(total.examples, (entry["fraction"], -number, path))
    if len(total.examples) > EXAMPLES:
        heapq.heappop(total.examples)


def _entry(label: int, total: _Cluster, pixels: int, colors: Colors) -> dict[str, Any]:
    mean = total.sums / total.pixels
    deviation = np.sqrt(np.maximum(total.squares / total.pixels - mean**2, 0))
    return {
        "label": label,
        "pixels": total.pixels,
        "fraction": total.pixels / pixels,
        "images": total.images,
        "regions": total.regions,
        "mean_rgb": [round(value, 3) for value in mean.tolist()],
        "std_rgb": [round(value, 3) for value in deviation.tolist()],
        "color": [round(value) for value in mean.tolist()] if colors == "mean" else list(label_color(label, colors)),
        "examples": [{"path": path, "fraction": share} for share, _, path in sorted(total.examples, reverse=True)],
    }

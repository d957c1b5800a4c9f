"""The statistics of one image: the content of its ``stats`` JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from .. import __version__
from ..config import Colors, CutConfig, SegmentConfig, channels_text
from ..engine.segmentation import FitRecord, Segmentation
from ..files.tiles import Tile, part_entry
from ..images.decoding import Photo
from ..images.scribbles import ScribbleFile
from ..pictures.palette import label_color, palette_colors
from ..regions.segments import connected_regions, neighbours_of_each, value_of_each
from ..regions.tidying import Labels, Tidied, main_labels

SCHEMA_VERSION = 2
BAND = 256
"""Rows that are summed at a time, to bound memory."""


def stats_of_fit(
    path: str,
    sha256: str,
    photo: Photo,
    segmentation: Segmentation,
    config: SegmentConfig,
    device: str,
    scribbles: ScribbleFile | None = None,
    page: int | Tile | None = None,
) -> dict[str, Any]:
    """The part of the document of ``stats.schema.json`` for one image that no cut changes."""
    height, width = photo.pixels.shape[:2]
    source: dict[str, Any] = {"path": path, "width": width, "height": height, "sha256": sha256}
    source |= part_entry(page)
    if photo.channels is not None:
        source["channels"] = channels_text(photo.channels)
    if photo.range is not None:
        source["range"] = photo.range.as_entry()
    if photo.frames > 1:
        source["frames"] = photo.frames
    if scribbles is not None:
        source["scribbles"] = {"path": scribbles.path, "sha256": scribbles.sha256}
    return {
        "schema_version": SCHEMA_VERSION,
        "source": source,
        "options": config.as_options(),
        "device": device,
        "dynaseg": __version__,
        "fit": _fit_entry(segmentation.fit),
        "raw_labels": segmentation.num_labels,
    }


def stats_of_labels(tidied: Tidied, image: NDArray[np.uint8], cut: CutConfig, colors: Colors) -> dict[str, Any]:
    """The part that describes the labels and regions of a cut."""
    clusters = in_colors(cluster_statistics(tidied.labels, image), colors)
    entries: dict[str, Any] = {
        "cut": cut.as_options(),
        "num_labels": len(clusters),
        "colors": colors,
        "clusters": clusters,
    }
    if tidied.hierarchy is not None:
        levels = tidied.hierarchy.levels()
        entries["levels"] = [{"granularity": granularity, "regions": count} for granularity, count in levels]
    return {**entries, "regions": region_statistics(tidied.regions, tidied.labels, image)}


OF_LABELS = ("cut", "num_labels", "colors", "clusters", "levels", "regions")
"""The keys of `stats_of_labels`."""


def cluster_statistics(labels: Labels, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """One entry per label that occurs, in order of the labels.

    Parameters
    ----------
    labels : (H, W) label map.
    image : (H, W, 3) uint8 RGB.

    Returns
    -------
    list of {label, entries of `segment_statistics`, regions (number of 4-connected parts)}.
    """
    found, regions = np.unique(value_of_each(connected_regions(labels), labels), return_counts=True)
    return [
        {"label": label, **entry, "regions": parts}
        for label, parts, entry in zip(found.tolist(), regions.tolist(), segment_statistics(labels, image), strict=True)
    ]


def in_colors(clusters: list[dict[str, Any]], colors: Colors) -> list[dict[str, Any]]:
    """Entries of `cluster_statistics` with a color [r, g, b] added, which pictures use."""
    if colors == "mean":
        return [{**entry, "color": [round(value) for value in entry["mean_rgb"]]} for entry in clusters]
    return [{**entry, "color": list(label_color(entry["label"], colors))} for entry in clusters]


def color_table(clusters: list[dict[str, Any]], labels: Labels) -> NDArray[np.uint8]:
    """(N, 3) uint8 RGB: the colors of the entries of `in_colors`, indexed by label, for all values in `labels`."""
    table = palette_colors(1 + max(int(labels.max()), *(entry["label"] for entry in clusters)))
    for entry in clusters:
        table[entry["label"]] = entry["color"]
    return table


def region_statistics(regions: NDArray[np.int32], labels: Labels, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """One entry per region, in order of the regions 0..R-1, all of which occur.

    Parameters
    ----------
    regions, labels : (H, W).
    image : (H, W, 3) uint8 RGB.

    Returns
    -------
    list of {region, entries of `segment_statistics`, label (the most frequent one), neighbours (regions that share a
    boundary with it)}.
    """
    label_of = main_labels(regions, labels).tolist()
    neighbours = neighbours_of_each(regions, np.arange(len(label_of)))
    return [
        {"region": region, **entry, "label": label, "neighbours": touching.tolist()}
        for region, (entry, label, touching) in enumerate(
            zip(segment_statistics(regions, image), label_of, neighbours, strict=True)
        )
    ]


def segment_statistics(segments: NDArray[np.integer], image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """One entry per value that occurs in an (H, W) map of small numbers, in order.

    Returns
    -------
    list of {pixels, fraction, mean_rgb, std_rgb (population, 0..255), bbox [x0, y0, x1, y1] half-open, centroid [x, y]
    in pixel centres}.
    """
    height, width = segments.shape
    count = int(segments.max()) + 1
    pixels = np.zeros(count, dtype=np.int64)
    sums = np.zeros((5, count))  # red, green, blue, x, y
    squares = np.zeros((3, count))
    boxes = np.tile([width, height, 0, 0], (count, 1))
    x = np.arange(width, dtype=np.float64)
    for top in range(0, height, BAND):
        band = segments[top : top + BAND].astype(np.int32)
        flat = band.reshape(-1)
        pixels += np.bincount(flat, minlength=count)
        y = np.arange(top, top + band.shape[0], dtype=np.float64)
        for index in range(3):
            values = image[top : top + BAND, :, index].astype(np.float64)
            sums[index] += np.bincount(flat, values.reshape(-1), count)
            squares[index] += np.bincount(flat, (values**2).reshape(-1), count)
        sums[3] += np.bincount(flat, np.broadcast_to(x, band.shape).reshape(-1), count)
        sums[4] += np.bincount(flat, np.broadcast_to(y[:, None], band.shape).reshape(-1), count)
        for segment, found in enumerate(find_objects(band + 1, count)):
            if found is not None:
                rows, columns = found
                box = boxes[segment]
                box[:2] = np.minimum(box[:2], (columns.start, top + rows.start))
                box[2:] = np.maximum(box[2:], (columns.stop, top + rows.stop))
    occurring = np.flatnonzero(pixels)
    means = sums[:, occurring] / pixels[occurring]
    deviations = np.sqrt(np.maximum(squares[:, occurring] / pixels[occurring] - means[:3] ** 2, 0))
    return [
        {
            "pixels": int(pixels[segment]),
            "fraction": int(pixels[segment]) / segments.size,
            "mean_rgb": _rounded(means[:3, column]),
            "std_rgb": _rounded(deviations[:, column]),
            "bbox": boxes[segment].tolist(),
            "centroid": _rounded(means[3:, column]),
        }
        for column, segment in enumerate(occurring.tolist())
    ]


def _fit_entry(fit: FitRecord) -> dict[str, Any]:
    silhouette = fit.silhouette
    return {
        "width": fit.width,
        "height": fit.height,
        "levels": [vars(level) for level in fit.levels],
        "iterations": fit.iterations,
        "stop_reason": fit.stop_reason,
        "threshold": fit.threshold,
        "silhouette": None
        if silhouette is None
        else {"k": silhouette.k, "scores": {str(k): round(score, 6) for k, score in silhouette.scores.items()}},
        "labels_per_iteration": fit.labels_per_iteration,
        "loss": _significant(fit.loss),
        "similarity_loss": _significant(fit.similarity_loss),
        "continuity_loss": _significant(fit.continuity_loss),
        "changed_fraction": _significant(fit.changed_fraction),
        "precision": fit.precision,
        "fused": fit.fused,
        "captured": fit.captured,
        "seconds": round(fit.seconds, 3),
    }


def _significant(values: list[float]) -> list[float]:
    """Values rounded to seven significant digits, the precision of float32."""
    return [float(f"{value:.7g}") for value in values]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 3) for value in values.tolist()]

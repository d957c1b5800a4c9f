"""The statistics of one image: the content of its ``stats`` JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import coo_array

from .. import __version__
from ..config import Colors, CutConfig, SegmentConfig
from ..engine.segmentation import FitRecord, Segmentation
from ..images.decoding import Photo
from ..images.scribbles import ScribbleFile
from ..pictures.palette import label_color, palette_colors
from ..regions.hierarchy import Hierarchy
from ..regions.segments import connected_regions, value_of_each

SCHEMA_VERSION = 1
BAND = 256
"""Rows that are summed at a time, to bound memory."""


def stats_document(
    path: str,
    sha256: str,
    photo: Photo,
    segmentation: Segmentation,
    config: SegmentConfig,
    device: str,
    colors: Colors = "palette",
    scribbles: ScribbleFile | None = None,
) -> dict[str, Any]:
    """The document of ``stats.schema.json`` for one segmented image, without regions."""
    image = photo.pixels
    height, width = image.shape[:2]
    source: dict[str, Any] = {"path": path, "width": width, "height": height, "sha256": sha256}
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
        "num_labels": segmentation.num_labels,
        "colors": colors,
        "clusters": in_colors(cluster_statistics(segmentation.labels, image), colors),
    }


def region_entries(
    hierarchy: Hierarchy,
    regions: NDArray[np.int32] | None,
    cut: CutConfig,
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    image: NDArray[np.uint8],
) -> dict[str, Any]:
    """Entries of the document about a hierarchy and, if given, the `regions` that `cut` takes from it."""
    entries: dict[str, Any] = {
        "levels": [{"granularity": granularity, "regions": count} for granularity, count in hierarchy.levels()]
    }
    if regions is not None:
        entries |= {"cut": cut.as_options(), "regions": region_statistics(regions, hierarchy, labels, image)}
    return entries


REGION_ENTRIES = ("levels", "cut", "regions")
"""The keys of `region_entries`."""


def cluster_statistics(
    labels: NDArray[np.uint8] | NDArray[np.uint16], image: NDArray[np.uint8]
) -> list[dict[str, Any]]:
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
    return [{**entry, "color": list(label_color(entry["label"]))} for entry in clusters]


def color_table(clusters: list[dict[str, Any]], labels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(N, 3) uint8 RGB: the colors of the entries of `in_colors`, indexed by label, for all values in `labels`."""
    table = palette_colors(1 + max(int(labels.max()), *(entry["label"] for entry in clusters)))
    for entry in clusters:
        table[entry["label"]] = entry["color"]
    return table


def region_statistics(
    regions: NDArray[np.int32],
    hierarchy: Hierarchy,
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    image: NDArray[np.uint8],
) -> list[dict[str, Any]]:
    """One entry per region, in order of the regions 0..R-1, all of which occur.

    Parameters
    ----------
    regions : (H, W) map that was cut from the `hierarchy` over the (H, W) `labels`.
    image : (H, W, 3) uint8 RGB.

    Returns
    -------
    list of {region, entries of `segment_statistics`, label (the most frequent one), neighbours (regions that share a
    boundary with it)}.
    """
    areas = np.bincount(hierarchy.fragments.reshape(-1))
    region_of, label_of = (value_of_each(hierarchy.fragments, values) for values in (regions, labels))
    count, num_labels = int(region_of.max()) + 1, int(label_of.max()) + 1
    shares = coo_array((areas, (region_of, label_of)), shape=(count, num_labels)).tocsr()
    ones, others = region_of[hierarchy.first], region_of[hierarchy.second]
    apart = ones != others
    ones, others = np.concatenate([ones[apart], others[apart]]), np.concatenate([others[apart], ones[apart]])
    touching = coo_array((np.ones(len(ones)), (ones, others)), shape=(count, count)).tocsr()
    return [
        {"region": region, **entry, "label": int(label), "neighbours": row.tolist()}
        for region, (entry, label, row) in enumerate(
            zip(
                segment_statistics(regions, image),
                np.asarray(shares.argmax(axis=1)).reshape(-1),
                np.split(touching.indices, touching.indptr[1:-1]),
                strict=True,
            )
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

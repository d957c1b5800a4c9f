"""The statistics JSON of one image: its source, how it was made, and its clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from .. import __version__
from ..config import SegmentConfig
from ..engine.segmentation import FitRecord, Segmentation
from ..regions.connected import connected_regions
from .palette import label_color

SCHEMA_VERSION = 1
BAND = 256
"""Rows that are summed at a time, which bounds the memory whatever the image's size."""


def stats_document(
    path: str,
    sha256: str,
    image: NDArray[np.uint8],
    segmentation: Segmentation,
    config: SegmentConfig,
    device: str,
) -> dict[str, Any]:
    """The document of ``stats.schema.json`` for one segmented image."""
    height, width = image.shape[:2]
    return {
        "schema_version": SCHEMA_VERSION,
        "source": {"path": path, "width": width, "height": height, "sha256": sha256},
        "options": config.as_options(),
        "device": device,
        "dynaseg": __version__,
        "fit": _fit_entry(segmentation.fit),
        "num_labels": segmentation.num_labels,
        "clusters": cluster_statistics(segmentation.labels, image),
    }


def cluster_statistics(
    labels: NDArray[np.uint8] | NDArray[np.uint16], image: NDArray[np.uint8]
) -> list[dict[str, Any]]:
    """One entry a label, in order of the labels 0..K-1, all of which occur.

    Parameters
    ----------
    labels : (H, W) label map.
    image : (H, W, 3) uint8 RGB.

    Returns
    -------
    list of {label, pixels, fraction, mean_rgb, std_rgb (population, 0..255), bbox [x0, y0, x1, y1] half-open,
    centroid [x, y] in pixel centres, regions (4-connected parts), color [r, g, b] in the colourised map}.
    """
    height, width = labels.shape
    count = int(labels.max()) + 1
    pixels = np.zeros(count, dtype=np.int64)
    sums = np.zeros((5, count))  # red, green, blue, x, y
    squares = np.zeros((3, count))
    boxes: list[list[int]] = [[width, height, 0, 0] for _ in range(count)]
    x = np.arange(width, dtype=np.float64)
    for top in range(0, height, BAND):
        band = labels[top : top + BAND].astype(np.int32)
        flat = band.reshape(-1)
        pixels += np.bincount(flat, minlength=count)
        y = np.arange(top, top + band.shape[0], dtype=np.float64)
        for index in range(3):
            values = image[top : top + BAND, :, index].astype(np.float64)
            sums[index] += np.bincount(flat, values.reshape(-1), count)
            squares[index] += np.bincount(flat, (values**2).reshape(-1), count)
        sums[3] += np.bincount(flat, np.broadcast_to(x, band.shape).reshape(-1), count)
        sums[4] += np.bincount(flat, np.broadcast_to(y[:, None], band.shape).reshape(-1), count)
        for box, found in zip(boxes, find_objects(band + 1, count), strict=True):
            if found is not None:
                rows, columns = found
                box[0], box[1] = min(box[0], columns.start), min(box[1], top + rows.start)
                box[2], box[3] = max(box[2], columns.stop), max(box[3], top + rows.stop)
    means = sums / pixels
    deviations = np.sqrt(np.maximum(squares / pixels - means[:3] ** 2, 0))
    regions = _regions_per_label(labels, count)
    return [
        {
            "label": label,
            "pixels": int(pixels[label]),
            "fraction": int(pixels[label]) / labels.size,
            "mean_rgb": _rounded(means[:3, label]),
            "std_rgb": _rounded(deviations[:, label]),
            "bbox": boxes[label],
            "centroid": _rounded(means[3:, label]),
            "regions": int(regions[label]),
            "color": list(label_color(label)),
        }
        for label in range(count)
    ]


def _regions_per_label(labels: NDArray[np.uint8] | NDArray[np.uint16], count: int) -> NDArray[np.int64]:
    regions = connected_regions(labels).reshape(-1)
    label_of = np.empty(int(regions.max()) + 1, dtype=labels.dtype)
    label_of[regions] = labels.reshape(-1)
    return np.bincount(label_of, minlength=count)


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
        "seconds": round(fit.seconds, 3),
    }


def _significant(values: list[float]) -> list[float]:
    """Seven significant digits: what a float32 holds."""
    return [float(f"{value:.7g}") for value in values]


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 3) for value in values.tolist()]

"""The statistics of one image: the content of its ``stats`` JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..config import Colors, CutConfig, SegmentConfig, channels_text
from ..engine.segmentation import FitRecord, Segmentation
from ..files.tiles import Tile, part_entry
from ..images.decoding import Photo
from ..images.masks import Mask
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
    mask: Mask | None = None,
    history: str | None = None,
) -> dict[str, Any]:
    """The part of the document of ``stats.schema.json`` for one image that no cut changes."""
    height, width = photo.pixels.shape[:2]
    source: dict[str, Any] = {"path": path, "width": width, "height": height, "sha256": sha256}
    source |= part_entry(page)
    if history is not None:
        source["history"] = history
    if photo.channels is not None:
        source["channels"] = channels_text(photo.channels)
    if photo.range is not None:
        source["range"] = photo.range.as_entry()
    if photo.frames > 1:
        source["frames"] = photo.frames
    if scribbles is not None:
        source["scribbles"] = {"path": scribbles.path, "sha256": scribbles.sha256}
    if mask is not None:
        area = segmentation.area
        source["mask"] = {**mask.entry, "pixels": width * height if area is None else area.pixels}
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
    labels: NDArray[np.integer] = tidied.labels
    if tidied.outside is not None:
        labels = np.where(tidied.regions < 0, -1, tidied.labels.astype(np.int32))
    clusters = in_colors(cluster_statistics(labels, image), colors)
    entries: dict[str, Any] = {
        "cut": cut.as_options(),
        "num_labels": len(clusters),
        "colors": colors,
        "clusters": clusters,
    }
    if tidied.hierarchy is not None:
        levels = tidied.hierarchy.levels()
        entries["levels"] = [{"granularity": granularity, "regions": count} for granularity, count in levels]
    return {**entries, "regions": region_statistics(tidied.regions, tidied.labels, image, tidied.first)}


OF_LABELS = ("cut", "num_labels", "colors", "clusters", "levels", "regions")
"""The keys of `stats_of_labels`."""


def cluster_statistics(labels: NDArray[np.integer], image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """One entry per label that occurs, in order of the labels.

    Parameters
    ----------
    labels : (H, W) label map, -1 where nothing counts.
    image : (H, W, 3) uint8 RGB.

    Returns
    -------
    list of {label, entries of `segment_statistics`, regions (number of 4-connected parts)}.
    """
    found, regions = np.unique(value_of_each(connected_regions(labels), labels), return_counts=True)
    found, regions = found[found >= 0], regions[found >= 0]
    return [
        {"label": label, **entry, "regions": parts}
        for label, parts, entry in zip(found.tolist(), regions.tolist(), segment_statistics(labels, image), strict=True)
    ]


def in_colors(clusters: list[dict[str, Any]], colors: Colors) -> list[dict[str, Any]]:
    """Entries of `cluster_statistics` with a color [r, g, b] added, which pictures use."""
    if colors == "mean":
        return [{**entry, "color": [round(value) for value in entry["mean_rgb"]]} for entry in clusters]
    return [{**entry, "color": list(label_color(entry["label"], colors))} for entry in clusters]


def color_table(clusters: list[dict[str, Any]], labels: Labels, outside: int | None = None) -> NDArray[np.uint8]:
    """(N, 3) uint8 RGB: the colors of the entries of `in_colors`, indexed by label, for all values in `labels`.

    The label `outside` an area has no entry, and is black.
    """
    table = palette_colors(1 + max(int(labels.max()), *(entry["label"] for entry in clusters)))
    for entry in clusters:
        table[entry["label"]] = entry["color"]
    if outside is not None:
        table[outside] = 0
    return table


def region_statistics(
    regions: NDArray[np.int32], labels: Labels, image: NDArray[np.uint8], first: int = 0
) -> list[dict[str, Any]]:
    """One entry per region, in order of the regions 0..R-1, all of which occur; -1 is where nothing counts.

    Parameters
    ----------
    regions, labels : (H, W).
    image : (H, W, 3) uint8 RGB.
    first : the number that region 0 has in files.

    Returns
    -------
    list of {region, entries of `segment_statistics`, label (the most frequent one), neighbours (regions that share a
    boundary with it)}.
    """
    label_of = main_labels(regions, labels).tolist()
    neighbours = neighbours_of_each(regions + 1, np.arange(1, len(label_of) + 1))
    return [
        {"region": first + region, **entry, "label": label, "neighbours": (touching[touching > 0] - 1 + first).tolist()}
        for region, (entry, label, touching) in enumerate(
            zip(segment_statistics(regions, image), label_of, neighbours, strict=True)
        )
    ]


def segment_statistics(segments: NDArray[np.integer], image: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """One entry per value that occurs in an (H, W) map of small numbers, in order. Pixels of -1 do not count.

    Returns
    -------
    list of {pixels, fraction (of those that count), mean_rgb, std_rgb (population, 0..255), bbox [x0, y0, x1, y1]
    half-open, centroid [x, y] in pixel centres}.
    """
    height, width = segments.shape
    count = int(segments.max()) + 2  # the first is for -1
    totals = np.zeros((9, count))
    pixels, sums = totals[0], totals[1:]  # red, green, blue, x, y; squares of the colours
    boxes = np.tile([width, height, 0, 0], (count, 1))
    for top in range(0, height, BAND):
        band = segments[top : top + BAND]
        colours = image[top : top + BAND].reshape(-1, 3)
        # Runs of pixels of one segment in a row are far fewer than pixels.
        is_start = np.ones(band.shape, dtype=bool)
        np.not_equal(band[:, 1:], band[:, :-1], out=is_start[:, 1:])
        starts = np.flatnonzero(is_start)
        length = np.diff(starts, append=band.size)
        y, x = np.divmod(starts, width)
        y += top
        segment = band.reshape(-1)[starts].astype(np.intp) + 1
        run_sums = np.add.reduceat(colours, starts, axis=0, dtype=np.int64)
        run_squares = np.add.reduceat(np.square(colours, dtype=np.uint16), starts, axis=0, dtype=np.int64)
        run_x = length * x + length * (length - 1) // 2
        of_runs = length, *run_sums.T, run_x, length * y, *run_squares.T
        totals += np.stack([np.bincount(segment, values, count) for values in of_runs])
        for side, values in enumerate((x, y)):
            np.minimum.at(boxes[:, side], segment, values)
        for side, values in enumerate((x + length, y + 1), 2):
            np.maximum.at(boxes[:, side], segment, values)
    occurring = 1 + np.flatnonzero(pixels[1:])
    counted = int(pixels[1:].sum())
    means = sums[:5, occurring] / pixels[occurring]
    deviations = np.sqrt(np.maximum(sums[5:, occurring] / pixels[occurring] - means[:3] ** 2, 0))
    return [
        {
            "pixels": int(pixels[segment]),
            "fraction": int(pixels[segment]) / counted,
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

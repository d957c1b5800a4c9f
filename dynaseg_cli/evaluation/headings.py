"""Metrics by name, and how they are named and written for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Row = dict[str, float | None]
"""Metrics by their names in the JSON and the CSV; None where there is nothing to measure."""

HEADINGS = {
    "folder_fit_seconds": "fit s",
    "labelled_per_second": "photos/s",
    "seconds": "s/image",
    "iterations": "iter.",
    "ms_per_iteration": "ms/iter.",
    "reference_ratio": "x ref./iter.",
    "images_per_second": "images/s",
    "first_image_seconds": "first image s",
    "decode_seconds": "decode",
    "silhouette_seconds": "silhouette",
    "features_seconds": "features",
    "fit_seconds": "fit",
    "label_seconds": "label",
    "merge_seconds": "merge",
    "write_seconds": "write",
    "folder_fit_host_gigabytes": "fit host GB",
    "folder_fit_device_gigabytes": "fit device GB",
    "host_gigabytes": "host GB",
    "device_gigabytes": "device GB",
    "least_reference_ratio": "x least",
    "most_reference_ratio": "x most",
    "miou_all": "All",
    "miou_fine": "Fine",
    "miou_coarse": "Coarse",
    "miou_mean": "Mean",
    "miou": "mIoU",
    "pixel_accuracy": "accuracy",
    "miou_things": "things",
    "miou_stuff": "stuff",
    "covering": "covering",
    "pri": "PRI",
    "voi": "VoI",
    "segments": "segments",
    "miou_many_to_one": "many-to-one mIoU",
    "pixel_accuracy_many_to_one": "many-to-one accuracy",
    "ignored_fraction": "ignored",
    "ods": "ODS",
    "ods_granularity": "granularity",
    "ois": "OIS",
    "best": "best",
}
"""Every column by the metric's name, in the order of columns; the last are those of the readings of hierarchies."""

Better = Literal["higher", "lower"]

HIGHER_IS_BETTER = {
    *("labelled_per_second", "images_per_second", "reference_ratio", "least_reference_ratio", "most_reference_ratio"),
    *("miou", "miou_all", "miou_fine", "miou_coarse", "miou_mean", "miou_things", "miou_stuff", "miou_many_to_one"),
    *("pixel_accuracy", "pixel_accuracy_many_to_one", "covering", "pri"),
}
LOWER_IS_BETTER = {
    *("seconds", "ms_per_iteration", "first_image_seconds", "folder_fit_seconds", "voi"),
    *("host_gigabytes", "device_gigabytes", "folder_fit_host_gigabytes", "folder_fit_device_gigabytes"),
}


def better(metric: str) -> Better | None:
    """Which way a metric is better; None for a count or a part, which is not good or bad by itself."""
    return "higher" if metric in HIGHER_IS_BETTER else "lower" if metric in LOWER_IS_BETTER else None


def metric_in_words(metric: str, *, classes: bool = False) -> str:
    """A metric as an axis says it; mIoU is that of `classes`, or of segments and what overlaps them best."""
    miou = "mIoU" if classes else "best-overlap mIoU"
    return {"miou": miou, "miou_mean": f"{miou}, Mean"}.get(metric, HEADINGS[metric])


def columns_of(rows: Iterable[Row]) -> list[str]:
    """The metrics that at least one row has, in the order of columns."""
    present = {name for row in rows for name, value in row.items() if value is not None}
    return [name for name in HEADINGS if name in present]


def written(metric: str, value: float | None) -> str:
    """A metric as people read it; nothing where there is none."""
    if value is None:
        return ""
    if metric in ("segments", "iterations"):
        return f"{value:,.0f}"
    if value < (0.1 if metric == "seconds" else 1) and metric.endswith(("seconds", "images_per_second")):
        return f"{value:.3f}"
    if metric.endswith(("seconds", "ratio", "gigabytes", "per_second")) or metric == "ms_per_iteration":
        return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"{value:.2f}" if metric in ("voi", "ods_granularity") else f"{value:.3f}"

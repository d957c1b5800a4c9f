"""What a page reads of the files of a report, read again for the tests; and entries to be made of small photos."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynaseg_cli.batch.statistics import stats_of_labels
from dynaseg_cli.config import CutConfig
from dynaseg_cli.pictures.palette import label_palette
from dynaseg_cli.regions.hierarchy import Hierarchy, build_hierarchy
from dynaseg_cli.regions.tidying import Tidied
from dynaseg_cli.report.entry import report_entry

CALL = "dynasegEntry("


def stats_of(
    photo: NDArray[np.uint8], labels: NDArray[np.uint8], hierarchy: Hierarchy, iterations: int = 30, **fit: Any
) -> dict[str, Any]:
    """A document of ``stats.schema.json``."""
    height, width = labels.shape
    curve = [1 / (index + 1) + 0.123456789 for index in range(iterations)]
    return {
        "schema_version": 2,
        "source": {"path": "photos/cat.jpg", "width": width, "height": height, "sha256": "ab" * 32},
        "options": {},
        "device": "cpu",
        "dynaseg": "0",
        "fit": {
            "width": width,
            "height": height,
            "levels": [
                {"width": 16, "height": 12, "iterations": iterations // 2},
                {"width": 32, "height": 24, "iterations": iterations - iterations // 2},
            ],
            "iterations": iterations,
            "stop_reason": "converged",
            "threshold": 3,
            "silhouette": {"k": 3, "scores": {"3": 0.5, "4": 0.4}},
            "labels_per_iteration": [100 - 2 * index for index in range(iterations)],
            "loss": curve,
            "similarity_loss": curve,
            "continuity_loss": curve,
            "changed_fraction": curve,
            "precision": "float32",
            "seconds": 1.5,
            **fit,
        },
        "raw_labels": len(np.unique(labels)) + 3,
        **stats_of_labels(
            Tidied(labels, hierarchy.cut(), np.arange(256, dtype=np.int32), hierarchy), photo, CutConfig(), "calm"
        ),
    }


def entry_files(
    key: str,
    photo: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    hierarchical: bool = True,
    files: dict[str, str] | None = None,
    photo_url: str | None = None,
    **fit: Any,
) -> tuple[dict[str, bytes], dict[str, Any], Hierarchy]:
    """The files of an entry by their suffix, the statistics and the hierarchy that they were made of."""
    hierarchy = build_hierarchy(labels, photo)
    stats = stats_of(photo, labels, hierarchy, **fit)
    cut_from = hierarchy if hierarchical else None
    entry = report_entry(key, photo, labels, label_palette(), hierarchy.cut(), cut_from, stats, files or {}, photo_url)
    return dict(entry), stats, hierarchy


def details_of(script: bytes) -> tuple[str, dict[str, Any]]:
    """The key and the details that a script gives to the page."""
    text = script.decode("ascii")
    assert text.startswith(CALL)
    assert text.endswith(");\n")
    key, details = json.loads(f"[{text[len(CALL) : -3]}]")
    return key, details


def unpacked(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype)


def cut_as_the_page_does(entry: dict[str, Any], regions: int) -> NDArray[np.int64]:
    """(h, w) map of regions, each named by one of its fragments: what the page does, in Python."""
    fragments = np.repeat(unpacked(entry["fragments"], "<u4"), unpacked(entry["runs"], "<u2"))
    joins, left = unpacked(entry["joins"], "<u4").reshape(-1, 2), unpacked(entry["left"], "<u4")
    parent = list(range(len(unpacked(entry["areas"], "<u4"))))

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    for (one, other), after in zip(joins.tolist(), left.tolist(), strict=True):
        if after < regions:
            break
        parent[root(one)] = root(other)
    groups = np.array([root(at) for at in range(len(parent))])
    return groups[fragments].reshape(entry["height"], entry["width"])

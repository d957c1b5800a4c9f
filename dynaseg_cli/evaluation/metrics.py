"""The metrics of one contingency table: how well a prediction's segments agree with a ground truth's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .contingency import ContingencyTable


def best_overlaps(table: ContingencyTable) -> NDArray[np.float64]:
    """For each ground-truth segment, (R,), the largest intersection over union with any predicted segment.

    Their mean is the best-overlap mIoU of the DynaSeg paper (its section IV-A); weighted by `truth_areas` it is the
    segmentation covering of Arbelaez et al. 2011, section 2.3.2, doi 10.1109/TPAMI.2010.161.
    """
    union = table.truth_areas[table.rows] + table.prediction_areas[table.columns] - table.counts
    best = np.zeros(len(table.truth_areas))
    np.maximum.at(best, table.rows, table.counts / union)
    return best


def rand_index(table: ContingencyTable) -> float:
    """Fraction of the pairs of pixels that both maps join, or both separate (Rand 1971); 1 for a single pixel.

    Averaged over an image's annotations it is the probabilistic Rand index (Unnikrishnan, Pantofaru and Hebert 2007,
    doi 10.1109/TPAMI.2007.1046).
    """
    pairs = _pairs(np.array([table.pixels]))
    if pairs == 0:
        return 1.0
    joined_by_both = _pairs(table.counts)
    joined_by_one = _pairs(table.truth_areas) + _pairs(table.prediction_areas) - 2 * joined_by_both
    return 1 - joined_by_one / pairs


def variation_of_information(table: ContingencyTable) -> float:
    """Entropy of each map given the other, summed, in bits (Meila 2005, doi 10.1145/1102351.1102424); 0 if equal."""
    joint = table.counts / table.pixels
    given_truth = table.counts / table.truth_areas[table.rows]
    given_prediction = table.counts / table.prediction_areas[table.columns]
    return float(-(joint * (np.log2(given_truth) + np.log2(given_prediction))).sum()) + 0.0  # never -0.0


def match_clusters(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign clusters to classes one to one, so that as many pixels as possible are right (Hungarian method).

    `confusion` is (classes, clusters), pixels; the result is (classes,), the cluster of each class or -1 for none.
    """
    cluster = np.full(confusion.shape[0], -1, dtype=np.int64)
    classes, clusters = linear_sum_assignment(confusion, maximize=True)
    cluster[classes] = clusters
    return cluster


def class_ious(confusion: NDArray[np.int64], cluster: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class with its cluster, (classes,): 0 without one, NaN for an absent class."""
    hits = matched_pixels(confusion, cluster)
    areas = confusion.sum(1)
    union = areas + np.where(cluster >= 0, confusion.sum(0)[cluster], 0) - hits
    return np.where(areas > 0, hits / np.maximum(union, 1), np.nan)


def matched_pixels(confusion: NDArray[np.int64], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of each class, (classes,), that its cluster covers."""
    hits: NDArray[np.int64] = np.where(cluster >= 0, confusion[np.arange(len(cluster)), cluster], 0)
    return hits


def _pairs(areas: NDArray[np.int64]) -> int:
    # Exact: the squares of 3 gigapixels still fit 64 bits.
    return int((areas * (areas - 1) // 2).sum())

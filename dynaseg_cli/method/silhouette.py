"""The silhouette phase (III-C.2): the number of colour clusters in an image, found before its optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

CANDIDATES = range(3, 27)
"""The values of k tried."""
SAMPLE = 2000
"""Pixels that are clustered and scored. A fixed number, so that the cost is the same for every image."""


@dataclass(frozen=True)
class Silhouette:
    """k_sil, and the mean silhouette coefficient, -1..1, of every k tried."""

    k: int
    scores: dict[int, float]


def silhouette_phase(image: NDArray[np.uint8], seed: int) -> Silhouette:
    """Find the k with the best silhouette score by k-means on a seeded sample of an RGB (H, W, 3) uint8 image.

    k is at most the number of distinct colours in the sample. If that leaves no k, k_sil is that number.
    """
    pixels = image.reshape(-1, 3)
    if len(pixels) > SAMPLE:
        pixels = pixels[np.random.default_rng(seed).choice(len(pixels), SAMPLE, replace=False)]
    sample = pixels.astype(np.float32)
    colours = len(np.unique(pixels, axis=0))
    candidates = [k for k in CANDIDATES if k <= min(colours, len(sample) - 1)]
    if not candidates:
        return Silhouette(colours, {})
    scores = mean_silhouettes(_distances(sample), _clusterings(sample, candidates, seed))
    # A single cluster has no score.
    found = {k: score for k, score in zip(candidates, scores, strict=True) if score is not None}
    return Silhouette(max(found, key=lambda k: found[k]), found) if found else Silhouette(colours, {})


def mean_silhouettes(distances: NDArray[np.float32], clusterings: Sequence[NDArray[np.integer]]) -> list[float | None]:
    """Mean over samples of (b - a) / max(a, b), Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7, of each clustering.

    a is a sample's mean distance to the others of its cluster, and b the smallest mean distance to another cluster. A
    sample alone in its cluster counts 0, and a single cluster has no score (None).

    Parameters
    ----------
    distances : (n, n), between the samples.
    clusterings : labels, (n,). One matrix product serves all of them.
    """
    indices = [np.unique(labels, return_inverse=True)[1] for labels in clusterings]
    members = [np.eye(index.max() + 1, dtype=np.float32)[index] for index in indices]
    totals = distances @ np.hstack(members)  # (n, clusters of all): sum of distances from each sample to each cluster
    ends = np.cumsum([member.shape[1] for member in members])
    return [
        _mean_silhouette(part, member.sum(0), index)
        for part, member, index in zip(np.split(totals, ends[:-1], axis=1), members, indices, strict=True)
    ]


def _mean_silhouette(totals: NDArray[np.float32], sizes: NDArray[np.float32], index: NDArray[np.intp]) -> float | None:
    """Score from the sums of distances (n, clusters) to the clusters, their sizes, and each sample's own cluster."""
    if len(sizes) == 1:
        return None
    rows = np.arange(len(index))
    own = sizes[index]
    within = totals[rows, index] / np.maximum(own - 1, 1)
    means = totals / sizes
    means[rows, index] = np.inf
    between = means.min(1)
    widest = np.maximum(within, between)
    coefficient = np.divide(between - within, widest, out=np.zeros_like(widest), where=widest > 0)
    return float(np.where(own > 1, coefficient, 0).mean(dtype=np.float64))


def _clusterings(sample: NDArray[np.float32], candidates: Sequence[int], seed: int) -> list[NDArray[np.integer]]:
    """Labels (n,) by k-means for every k, in ascending order. Each starts from the centres of the previous one.

    Additional centres come from one run of k-means++, which draws each far from all those before it.
    """
    # Slow to import, and not needed if the stop threshold is given.
    from sklearn.cluster import KMeans, kmeans_plusplus  # noqa: PLC0415

    seeds, _ = kmeans_plusplus(sample, candidates[-1], random_state=seed)
    centres = seeds[:0]
    labels: list[NDArray[np.integer]] = []
    # One thread: k-means adds the partial sums of its threads in any order, and equal runs must give equal bytes.
    with threadpool_limits(limits=1, user_api="openmp"):  # affects only the calling thread
        for k in candidates:
            start = np.concatenate((centres, seeds[len(centres) : k]))
            clustering = KMeans(k, init=start, n_init=1, random_state=seed).fit(sample)
            centres = clustering.cluster_centers_
            labels.append(clustering.labels_)
    return labels


def _distances(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distances between rows of (n, 3) integer colours. Squares are exact, so equal rows have distance 0."""
    squared = (sample**2).sum(1)
    distances: NDArray[np.float32] = sample @ (-2 * sample.T)
    distances += squared[:, None]
    distances += squared
    np.maximum(distances, 0, out=distances)
    return np.sqrt(distances, out=distances)

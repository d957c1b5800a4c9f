"""The silhouette phase (III-C.2): how many colour clusters an image has, asked once before its optimisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

CANDIDATES = range(3, 27)
"""k = 3..26, the numbers of clusters tried."""
SAMPLE = 2000
"""Pixels that are clustered and scored: a fixed number, so that the phase costs the same for every image."""


@dataclass(frozen=True)
class Silhouette:
    """k_sil, and the mean silhouette coefficient in -1..1 of every k that was tried."""

    k: int
    scores: dict[int, float]


def silhouette_phase(image: NDArray[np.uint8], seed: int) -> Silhouette:
    """Find the k with the best silhouette score by k-means on a seeded sample of an RGB (H, W, 3) uint8 image.

    A sample with fewer distinct colours than a k cannot be split so far: that k is not tried. Where no k is left,
    k_sil is the number of distinct colours.
    """
    pixels = image.reshape(-1, 3)
    if len(pixels) > SAMPLE:
        pixels = pixels[np.random.default_rng(seed).choice(len(pixels), SAMPLE, replace=False)]
    sample = pixels.astype(np.float32)
    colours = len(np.unique(pixels, axis=0))
    distances = _distances(sample)
    scores: dict[int, float] = {}
    # One thread: k-means adds up its threads' partial sums in any order, and equal runs must give equal bytes.
    with threadpool_limits(limits=1, user_api="openmp"):  # a setting of the calling thread alone
        for k in CANDIDATES:
            if k > min(colours, len(sample) - 1):
                break
            labels = KMeans(k, n_init=1, random_state=seed).fit_predict(sample)
            if len(np.unique(labels)) > 1:
                scores[k] = mean_silhouette(distances, labels)
    if not scores:
        return Silhouette(colours, {})
    return Silhouette(max(scores, key=lambda k: scores[k]), scores)


def mean_silhouette(distances: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """Mean over samples of (b - a) / max(a, b), Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7.

    a is a sample's mean distance to the others of its cluster, b the least mean distance to another cluster; a sample
    alone in its cluster counts 0. One distance matrix (n, n) serves every clustering of the same samples.
    """
    index = np.unique(labels, return_inverse=True)[1]
    member = np.eye(index.max() + 1, dtype=np.float32)[index]
    sizes = member.sum(0)
    totals = distances @ member  # (n, clusters): sum of distances from each sample to each cluster
    rows = np.arange(len(index))
    own = sizes[index]
    within = totals[rows, index] / np.maximum(own - 1, 1)
    means = totals / sizes
    means[rows, index] = np.inf
    between = means.min(1)
    widest = np.maximum(within, between)
    coefficient = np.divide(between - within, widest, out=np.zeros_like(widest), where=widest > 0)
    return float(np.where(own > 1, coefficient, 0).mean(dtype=np.float64))


def _distances(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distances between all rows of (n, 3) whole-numbered colours; exact, so twins are at distance 0."""
    squared = (sample**2).sum(1)
    product = sample @ sample.T
    distances: NDArray[np.float32] = np.sqrt(np.maximum(squared[:, None] + squared[None, :] - 2 * product, 0))
    return distances

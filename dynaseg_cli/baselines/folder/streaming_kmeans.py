"""k-means of vectors that come in parts: memory does not grow with their number."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

KEPT = 1 << 16
"""Vectors that are collected before centres are found; further ones move these."""
ITERATIONS = 50
"""Most iterations of k-means on the vectors collected."""


class StreamingKMeans:
    """Centres of vectors: by k-means of the first `KEPT` of them, and then moved by each further part.

    A centre moves towards the mean of those of a part that are nearest to it, by their share in all that have been
    nearest to it so far (Sculley 2010, "Web-scale k-means clustering", doi:10.1145/1772690.1772862, algorithm 1, for a
    part at a time). So do the authors of PiCIE, who collect the features of 20 batches.

    Parameters
    ----------
    clusters : k; with fewer distinct vectors, each is a centre.
    starts : times that k-means starts from other centres; the best result is taken.
    """

    def __init__(self, clusters: int, seed: int, starts: int = 1) -> None:
        self._clusters, self._seed, self._starts = clusters, seed, starts
        self._kept: list[NDArray[np.float32]] = []
        self._centres = np.empty((0, 0), dtype=np.float32)
        self._counts = np.zeros(0)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Take a part, (n, C)."""
        if len(self._counts):
            self._move(vectors)
            return
        self._kept.append(vectors)
        if sum(map(len, self._kept)) >= KEPT:
            self._start()

    @property
    def centres(self) -> NDArray[np.float32]:
        """(k, C), once there are vectors."""
        if not len(self._counts):
            self._start()
        return self._centres

    @property
    def shares(self) -> NDArray[np.float32]:
        """(k,) share of the vectors that were nearest to each centre when they came."""
        if not len(self._counts):
            self._start()
        found: NDArray[np.float32] = (self._counts / self._counts.sum()).astype(np.float32)
        return found

    def _start(self) -> None:
        from sklearn.cluster import KMeans  # noqa: PLC0415 - imports half of SciPy
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

        vectors = np.concatenate(self._kept)
        self._kept.clear()
        wanted = min(self._clusters, len(vectors))
        means = KMeans(wanted, n_init=self._starts, max_iter=ITERATIONS, random_state=self._seed, copy_x=False)
        # One thread: k-means adds the partial sums of its threads in any order, and equal runs must give equal centres.
        with threadpool_limits(limits=1, user_api="openmp"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # too few vectors differ
            labels = means.fit_predict(vectors)
        found, counts = np.unique(labels, return_counts=True)
        self._centres = means.cluster_centers_[found]
        self._counts = counts.astype(np.float64)

    def _move(self, vectors: NDArray[np.float32]) -> None:
        nearest = (vectors @ self._centres.T - (self._centres**2).sum(1) / 2).argmax(1)
        counts = np.bincount(nearest, minlength=len(self._centres))
        found = np.flatnonzero(counts)
        sums = np.zeros_like(self._centres)
        np.add.at(sums, nearest, vectors)
        self._counts += counts
        share = (counts[found] / self._counts[found])[:, None]
        self._centres[found] += (share * (sums[found] / counts[found, None] - self._centres[found])).astype(np.float32)

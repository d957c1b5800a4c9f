"""k-means clustering of the colours around each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

SAMPLE = 50_000
"""Most pixels that the clusters are fitted on, a third of a BSDS500 photo. It bounds the time for larger photos."""
CHUNK = 50_000
"""Pixels labelled at a time. Their windows are copied, 12 * window * window bytes per pixel."""


def segment_by_kmeans(image: NDArray[np.uint8], *, clusters: int, window: int, seed: int) -> NDArray[np.int32]:
    """Cluster the pixels of an RGB (H, W, 3) uint8 image by the colours around them: (H, W) int32, 0..clusters-1.

    Lloyd's algorithm from a k-means++ start: Lloyd 1982, doi:10.1109/TIT.1982.1056489; Arthur and Vassilvitskii 2007,
    "k-means++: the advantages of careful seeding". Large images are clustered on a seeded sample of their pixels.

    Parameters
    ----------
    clusters : k; with fewer distinct windows, each is a cluster.
    window : side in pixels, odd, of the window whose window * window * 3 colour values are a pixel's features.
    seed : of the sample and the start, 0 to 2**32 - 1.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 - as in `method.silhouette`

    height, width = image.shape[:2]
    windows = pixel_windows(image, window)
    pixels = height * width
    sample = np.random.default_rng(seed).choice(pixels, SAMPLE, replace=False) if pixels > SAMPLE else np.arange(pixels)
    features = _features(windows, sample)
    # One thread: k-means adds the partial sums of its threads in any order, and equal runs must give equal labels.
    with threadpool_limits(limits=1, user_api="openmp"):  # affects only the calling thread
        kmeans = KMeans(_distinct(features, clusters), n_init=1, random_state=seed).fit(features)
    labels = np.empty(pixels, dtype=np.int32)
    for start in range(0, pixels, CHUNK):
        stop = min(start + CHUNK, pixels)
        labels[start:stop] = kmeans.predict(_features(windows, np.arange(start, stop)))
    return labels.reshape(height, width)


def pixel_windows(image: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """The `window` x `window` colours around each pixel, mirrored at the border: an (H, W, 3, window, window) view."""
    reach = window // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return sliding_window_view(padded, (window, window), axis=(0, 1))


def _features(windows: NDArray[np.uint8], pixels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """The windows of some pixels, given by index in scan order, flattened to rows."""
    rows, columns = np.divmod(pixels, windows.shape[1])
    return windows[rows, columns].reshape(len(pixels), -1).astype(np.float32)


def _distinct(features: NDArray[np.float32], most: int) -> int:
    """The number of distinct rows, at most `most`: there cannot be more clusters."""
    seen: set[bytes] = set()
    for row in features:
        seen.add(row.tobytes())
        if len(seen) == most:
            break
    return len(seen)

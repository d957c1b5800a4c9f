"""Mean features of regions: what a pretrained network sees in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, kron

from ..resampling import middle_indices, working_size
from .cues import CUE_SIZE
from .segments import BAND_PIXELS

Features = Sequence[NDArray[np.float32]]
"""Maps of a photo's features, each (h, w, C) of vectors of unit length that cover the whole photo."""


def pixels_of_each(regions: NDArray[np.integer], size: tuple[int, ...], count: int) -> csr_array:
    """(`count`, h * w) how many pixels of each region of an (H, W) map lie at each pixel of a map of `size`."""
    height, width = regions.shape
    rows, columns = map(middle_indices, size, regions.shape)
    pixels = csr_array((count, size[0] * size[1]), dtype=np.float32)
    for top in range(0, height, step := max(BAND_PIXELS // width, 1)):
        band = regions[top : top + step].reshape(-1)
        near = (rows[top : top + step, None] * size[1] + columns).reshape(-1)
        pixels += coo_array((np.ones(len(band), dtype=np.float32), (band, near)), shape=pixels.shape).tocsr()
    return pixels


def summed_features(pixels: csr_array, size: tuple[int, ...], features: Features) -> NDArray[np.float32]:
    """Features summed over regions: (R, C), the channels of all maps side by side; C is 0 without maps.

    Parameters
    ----------
    pixels : (R, h * w) how often each pixel of an (h, w) map of `size` counts in each region.
    features : interpolated bilinearly to that size.
    """
    rows, columns = size
    parts = [np.empty((pixels.shape[0], 0), dtype=np.float32)]
    for of_map in features:
        height, width, channels = of_map.shape
        places = pixels @ kron(interpolation(height, rows), interpolation(width, columns), format="csr")
        parts.append((places @ of_map.reshape(-1, channels)).astype(np.float32))
    return np.concatenate(parts, axis=1)


def region_means(regions: NDArray[np.integer], features: Features) -> NDArray[np.float32]:
    """(R, C) mean features of each of the regions 0..R-1 of an (H, W) map, all of which occur."""
    width, height = working_size(regions.shape[1], regions.shape[0], CUE_SIZE)
    areas = np.bincount(regions.reshape(-1)).astype(np.float32)
    pixels = pixels_of_each(regions, (height, width), len(areas))
    return summed_features(pixels, (height, width), features) / areas[:, None]


def interpolation(coarse: int, fine: int) -> csr_array:
    """(fine, coarse) weights of linear interpolation along an axis, between centres of pixels, constant beyond them."""
    position = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    before = np.minimum(position.astype(np.int64), max(coarse - 2, 0))
    after = np.minimum(before + 1, coarse - 1)
    share = (position - before).astype(np.float32)
    values, fine_pixels = np.concatenate([1 - share, share]), np.tile(np.arange(fine), 2)
    return coo_array((values, (fine_pixels, np.concatenate([before, after]))), shape=(fine, coarse)).tocsr()


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors along the last axis, scaled to length 1; 0 stays 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(length, np.float32(1e-12))
    return scaled

"""Channels of images that have more than a picture shows: some are chosen, or all are projected to three."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodeError
from .deep import StoredImage
from .value_range import CHUNK, valid_numbers

MOST_PROJECTED = 1024
"""Limit on channels that are projected: their covariances are a matrix of that size."""
COMPONENTS = 3
_TIE = 1e-6
"""Loadings that differ by less than this share are equally large: two channels always have such a pair."""


def projected(stored: StoredImage) -> StoredImage:
    """Project all N channels to three: the principal components of the standardised channels of this image.

    Of every channel the mean is subtracted, and the rest is divided by the standard deviation (of the population; a
    channel of one value becomes 0). Components are the eigenvectors of the correlation matrix with the three largest
    eigenvalues, in that order, of length 1. The sign of each makes its largest loading positive, or the first of
    several that are equal within a millionth. With fewer than three channels, the missing components are 0.

    Pixels count, and get a value, if they have data in every channel (see `to_8_bits`), are not wholly transparent and
    not left out by `counts`.

    Parameters
    ----------
    stored : values of (H, W, N), of any type.

    Returns
    -------
    StoredImage with (H, W, 3) float32 values in standard deviations, NaN where there is no data.

    Raises DecodeError for more than `MOST_PROJECTED` channels.
    """
    values = stored.values
    height, width, count = values.shape
    if count > MOST_PROJECTED:
        raise DecodeError(
            f"it has {count} channels, and `channels=all` projects at most {MOST_PROJECTED}: choose one or three"
        )
    is_valid, step = valid_numbers(stored), max(1, CHUNK // (width * count))
    bands = [slice(top, min(top + step, height)) for top in range(0, height, step)]

    def mask(rows: slice) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.all(is_valid(values[rows]), axis=2)
        considered = stored.considered(rows)
        return found if considered is None else found & considered

    def seen(rows: slice) -> NDArray[np.float64]:
        return values[rows][mask(rows)].astype(np.float64)

    pixels = max(1, sum(int(np.count_nonzero(mask(rows))) for rows in bands))
    mean = sum((seen(rows).sum(axis=0) for rows in bands), np.zeros(count)) / pixels
    covariance = np.zeros((count, count))
    for rows in bands:
        centred = seen(rows) - mean
        covariance += centred.T @ centred
    deviation = np.sqrt(np.diag(covariance) / pixels)
    scale = np.divide(1, deviation, out=np.zeros(count), where=deviation > 0)
    vectors = scale[:, None] * _components(covariance / pixels * np.outer(scale, scale))
    components = np.full((height, width, COMPONENTS), np.nan, np.float32)
    for rows in bands:
        components[rows][mask(rows)] = (seen(rows) - mean) @ vectors
    return replace(stored, values=components, full=None, nodata=None, white_is_zero=False)


def _components(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) the eigenvectors of the largest eigenvalues, with the sign that `projected` states; 0 if N is smaller."""
    _, vectors = np.linalg.eigh(correlation)  # by rising eigenvalue
    vectors = vectors[:, ::-1][:, :COMPONENTS]
    size = np.abs(vectors)
    largest = (size > (1 - _TIE) * size.max(axis=0)).argmax(axis=0)
    vectors = vectors * np.sign(np.take_along_axis(vectors, largest[None], axis=0))
    return np.pad(vectors, ((0, 0), (0, COMPONENTS - vectors.shape[1])))


def checked(channels: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The numbers of channels, from 1; raises DecodeError if an image with `count` of them lacks one."""
    missing = next((number for number in channels if number > count), None)
    if missing is not None:
        raise DecodeError(f"it has {count} channels, and `channels` asks for number {missing}")
    return channels

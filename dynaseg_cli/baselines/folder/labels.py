"""Labels of a photo from responses to its places, which are few."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BAND_ROWS = 64
"""Rows labelled at a time: labels times columns times so many responses are in memory."""


def response_to_centres(vectors: Tensor, centres: Tensor) -> Tensor:
    """(k, h, w) for (C, h, w) vectors and (k, C) centres: the greater, the nearer, and linear in the vectors.

    It is half of what the squared distance lacks to the squared length of the vector.
    """
    return torch.einsum("kc,chw->khw", centres, vectors) - (centres**2).sum(1)[:, None, None] / 2


def labels_of(response: Tensor, height: int, width: int) -> NDArray[np.int32]:
    """(H, W) the labels whose response, (k, h, w), is greatest where it is interpolated bilinearly to that size."""
    rows, columns = (
        interpolation(coarse, fine).to(response)
        for coarse, fine in zip(response.shape[1:], (height, width), strict=True)
    )
    across = response @ columns.T
    labels = np.empty((height, width), dtype=np.int32)
    for top in range(0, height, BAND_ROWS):
        some = slice(top, top + BAND_ROWS)
        labels[some] = torch.matmul(rows[some], across).argmax(0).cpu().numpy()
    return labels


def interpolation(coarse: int, fine: int, start: float = 0.0, share: float = 1.0) -> Tensor:
    """(fine, coarse) weights of linear interpolation of a line of pixels, or of its part from `start` on, of 0..1.

    It is between centres of pixels, and constant beyond the first and the last.
    """
    position = (((torch.arange(fine) + 0.5) / fine * share + start) * coarse - 0.5).clamp(0, coarse - 1)
    return (1 - (position[:, None] - torch.arange(coarse)).abs()).clamp(min=0)

"""The loss of eq. 7: similarity and continuity (eq. 1 to 6), the weight between them (eq. 8, 9), and a scribble loss.

All losses are means, not sums: the published weights only make sense with means.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from ..config import FREE, Mode

Count = TypeVar("Count", float, Tensor)

_IGNORED = -100
"""Not a label, unlike `FREE`, which is one if there are more than 255 clusters."""


def similarity_loss(response: Tensor, labels: Tensor, scribbles: Tensor | None = None) -> Tensor:
    """Cross-entropy of the response map against its own argmax, mean over the pixels (eq. 1).

    With scribbles, the mean is over the free pixels only, and 0 without any.

    Parameters
    ----------
    response : (1, q, H, W) float tensor, r' (or (N, q), one row per pixel).
    labels : (1, H, W) int64 tensor, c_n (or (N,)).
    scribbles : as in `scribble_loss`, or None.
    """
    if scribbles is None:
        return functional.cross_entropy(response, labels)
    free = scribbles == FREE
    total = functional.cross_entropy(
        response, labels.masked_fill(~free, _IGNORED), ignore_index=_IGNORED, reduction="sum"
    )
    return total / free.sum().clamp(min=1)


def continuity_loss(response: Tensor) -> Tensor:
    """Mean absolute horizontal plus mean absolute vertical difference of r' (eq. 2 to 6).

    `response` is (1, q, H, W). Along an axis of length 1 there are no differences, which counts as 0.
    """
    horizontal = response[..., 1:] - response[..., :-1]
    vertical = response[..., 1:, :] - response[..., :-1, :]
    return _mean_absolute(horizontal) + _mean_absolute(vertical)


def similarity_loss_of_regions(response: Tensor, labels: Tensor, area: Tensor) -> Tensor:
    """The similarity loss (eq. 1) of maps that are constant in each of R regions.

    Parameters
    ----------
    response : (R, q) float tensor, r' in each region.
    labels : (R,) int64 tensor, c_n.
    area : (R,) share of the pixels, which sums to 1.
    """
    return (area * functional.cross_entropy(response, labels, reduction="none")).sum()


def continuity_loss_of_regions(response: Tensor, pairs: Tensor, length: Tensor) -> Tensor:
    """The continuity loss (eq. 2 to 6) of maps that are constant in each of R regions.

    Parameters
    ----------
    response : (R, q) float tensor, r' in each region.
    pairs : (P, 2) int64 tensor, the regions that touch each other.
    length : (P,) share of the horizontal plus share of the vertical pairs of pixels that lie on the boundary.
    """
    differences = (response[pairs[:, 0]] - response[pairs[:, 1]]).abs().mean(1)
    return (length * differences).sum()


def scribble_loss(response: Tensor, scribbles: Tensor) -> Tensor:
    """Cross-entropy of the response map against the scribbles, mean over the pixels drawn on; 0 without any.

    L_scr of Kim, Kanezaki and Tanaka, "Unsupervised Learning of Image Segmentation Based on Differentiable Feature
    Clustering", doi:10.1109/TIP.2020.3011269, which is added to eq. 7 with a weight of its own. As in their program, a
    pixel counts either here or in the similarity loss.

    Parameters
    ----------
    response : (1, q, H, W) float tensor, r'.
    scribbles : (1, H, W) int64 tensor, the label wanted, in 0..q-1, or `FREE`.
    """
    total = functional.cross_entropy(response, scribbles, ignore_index=FREE, reduction="sum")
    return total / (scribbles != FREE).sum().clamp(min=1)


def continuity_weight(mode: Mode, weight: float, labels: Count) -> Count | float:
    """mu of L = L_sim + mu L_con (eq. 7).

    Parameters
    ----------
    mode : "scf": mu = alpha / q' (eq. 9); "fsf": mu = q' / alpha (eq. 8); "fixed": mu is constant.
    weight : alpha of scf and fsf, mu of fixed.
    labels : q', the number of labels present, but at least the stop threshold, so that eq. 9 cannot blow up.
    """
    if mode == "scf":
        return weight / labels
    if mode == "fsf":
        return labels / weight
    return weight


def _mean_absolute(difference: Tensor) -> Tensor:
    return torch.sum(difference.abs()) / max(difference.numel(), 1)

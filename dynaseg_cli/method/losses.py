"""The two losses (eq. 1 to 6), and a third where a user has scribbled on the image.

All are means, not sums: the published weights only make sense with means.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..config import FREE

_IGNORED = -100
"""No label: `FREE` may be one, of more than 255 clusters."""


def similarity_loss(response: Tensor, labels: Tensor, scribbles: Tensor | None = None) -> Tensor:
    """Cross-entropy of the response map against its own argmax, mean over the pixels (eq. 1).

    Where a user drew, what the network believes does not count: the mean is over the other pixels, 0 without any.

    Parameters
    ----------
    response : (1, q, H, W) float tensor, r' (or (N, q), one row a pixel).
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

    `response` is (1, q, H, W). A map of one row or one column has no differences along that axis: they count as 0.
    """
    horizontal = response[..., 1:] - response[..., :-1]
    vertical = response[..., 1:, :] - response[..., :-1, :]
    return _mean_absolute(horizontal) + _mean_absolute(vertical)


def scribble_loss(response: Tensor, scribbles: Tensor) -> Tensor:
    """Cross-entropy of the response map against what a user drew, mean over the pixels drawn on; 0 without any.

    L_scr of Kim, Kanezaki and Tanaka, "Unsupervised Learning of Image Segmentation Based on Differentiable Feature
    Clustering", doi:10.1109/TIP.2020.3011269, which is added to eq. 7 with a weight of its own. As in their program, a
    pixel is in one of this and the similarity loss.

    Parameters
    ----------
    response : (1, q, H, W) float tensor, r'.
    scribbles : (1, H, W) int64 tensor, the label wanted, in 0..q-1, or `FREE`.
    """
    total = functional.cross_entropy(response, scribbles, ignore_index=FREE, reduction="sum")
    return total / (scribbles != FREE).sum().clamp(min=1)


def _mean_absolute(difference: Tensor) -> Tensor:
    return torch.sum(difference.abs()) / max(difference.numel(), 1)

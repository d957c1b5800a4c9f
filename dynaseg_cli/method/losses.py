"""The two losses (eq. 1 to 6). Both are means, not sums: the published weights only make sense with means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def similarity_loss(response: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the response map against its own argmax, mean over the pixels (eq. 1).

    Parameters
    ----------
    response : (1, q, H, W) float tensor, r' (or (N, q), one row a pixel).
    labels : (1, H, W) int64 tensor, c_n (or (N,)).
    """
    return functional.cross_entropy(response, labels)


def continuity_loss(response: Tensor) -> Tensor:
    """Mean absolute horizontal plus mean absolute vertical difference of r' (eq. 2 to 6).

    `response` is (1, q, H, W). A map of one row or one column has no differences along that axis: they count as 0.
    """
    horizontal = response[..., 1:] - response[..., :-1]
    vertical = response[..., 1:, :] - response[..., :-1, :]
    return _mean_absolute(horizontal) + _mean_absolute(vertical)


def _mean_absolute(difference: Tensor) -> Tensor:
    return torch.sum(difference.abs()) / max(difference.numel(), 1)

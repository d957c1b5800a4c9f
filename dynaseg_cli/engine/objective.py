"""One optimisation step's labels, loss and gradient.

`method.losses` and `method.weighting` say what is computed. `literal_objective` does it by them, operation for
operation as the reference does. `banded_objective` does it in the order that memory likes: two passes over bands of
rows small enough for the processor's cache, no intermediate of the size of the response map, no synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..config import Mode
from ..method.losses import continuity_loss, similarity_loss
from ..method.weighting import continuity_weight

BAND_BYTES = 1 << 20
"""Response-map bytes a band on the CPU: what a core's second-level cache holds."""


@dataclass(frozen=True)
class Objective:
    """What an iteration computed. Scalars stay on the device until the caller reads them."""

    loss: Tensor
    """Total loss (eq. 7), differentiable, shape ()."""
    similarity: Tensor
    continuity: Tensor
    present: Tensor
    """q', the number of labels present, int64, shape ()."""
    labels: Tensor
    """(H, W) int64, the argmax of every pixel."""


def literal_objective(response: Tensor, mode: Mode, weight: float, threshold: int) -> Objective:
    """Labels, q' and the loss of eq. 7 for a (1, q, H, W) float32 response map, in the reference's own operations.

    The optimisation amplifies the last bit of a sum to the third digit of the loss within ten iterations: only the same
    operations in the same order reproduce the reference.
    """
    labels = response.detach().argmax(1)
    present = _count_present(labels, response.shape[1])
    similarity = similarity_loss(response, labels)
    continuity = continuity_loss(response)
    mu = continuity_weight(mode, weight, max(int(present), threshold))
    return Objective(similarity + mu * continuity, similarity.detach(), continuity.detach(), present, labels[0])


def banded_objective(response: Tensor, mode: Mode, weight: float, threshold: int) -> Objective:
    """Labels, q' and the loss of eq. 7 for a (1, q, H, W) float32 response map in channels_last memory format."""
    loss, similarity, continuity, present, labels = _Objective.apply(response, mode, weight, threshold)
    return Objective(loss, similarity, continuity, present, labels)


def _rows(pixels: Tensor) -> int:
    """Rows of the (H, W, q) map that are worked on at a time."""
    if pixels.device.type != "cpu":
        return pixels.shape[0]
    return max(1, BAND_BYTES // (pixels.shape[1] * pixels.shape[2] * pixels.element_size()))


class _Objective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, response: Tensor, mode: Mode, weight: float, threshold: int) -> tuple[Tensor, ...]:
        pixels = response[0].permute(1, 2, 0)  # (H, W, q), a view
        height, width, clusters = pixels.shape
        labels = torch.empty((height, width), dtype=torch.int64, device=pixels.device)
        log_partition = torch.empty((height, width, 1), device=pixels.device)
        # MPS has no float64, and sees the map in one band: there are no partial sums to lose digits in.
        exact = torch.float32 if pixels.device.type == "mps" else torch.float64
        similarity = torch.zeros((), device=pixels.device, dtype=exact)
        horizontal = torch.zeros_like(similarity)
        vertical = torch.zeros_like(similarity)
        rows = _rows(pixels)
        for top in range(0, height, rows):
            band = pixels[top : top + rows]
            peak, labels[top : top + rows] = band.max(-1)  # several times faster than argmax on a CPU
            partition = torch.logsumexp(band, -1)
            log_partition[top : top + rows, :, 0] = partition
            similarity += (partition - peak).sum()  # eq. 1: the target is the argmax
            horizontal += (band[:, 1:] - band[:, :-1]).abs_().sum()
            below = pixels[top + 1 : top + rows + 1]
            vertical += (below - band[: below.shape[0]]).abs_().sum()
        similarity = (similarity / (height * width)).float()
        continuity = (
            horizontal / max(height * (width - 1) * clusters, 1) + vertical / max((height - 1) * width * clusters, 1)
        ).float()
        present = _count_present(labels, clusters)
        mu = torch.as_tensor(
            continuity_weight(mode, weight, present.clamp(min=threshold).float()), device=pixels.device
        )
        ctx.save_for_backward(response, labels, log_partition, mu)
        ctx.mark_non_differentiable(similarity, continuity, present, labels)
        return similarity + mu * continuity, similarity, continuity, present, labels

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        response, labels, log_partition, mu = ctx.saved_tensors
        pixels = response[0].permute(1, 2, 0)
        height, width, clusters = pixels.shape
        result = torch.empty_like(response)
        gradient = result[0].permute(1, 2, 0)
        per_pixel = upstream[0] / (height * width)
        across = upstream[0] * mu / max(height * (width - 1) * clusters, 1)
        down = upstream[0] * mu / max((height - 1) * width * clusters, 1)
        minus_one = gradient.new_full((1, 1, 1), -1.0)
        rows = _rows(pixels)
        for top in range(0, height, rows):
            band = pixels[top : top + rows]
            out = gradient[top : top + rows]
            torch.sub(band, log_partition[top : top + rows], out=out)
            out.exp_().scatter_add_(-1, labels[top : top + rows, :, None], minus_one.expand(band.shape[0], width, 1))
            out *= per_pixel  # softmax minus the one-hot target
            step = torch.sign(band[:, 1:] - band[:, :-1]).mul_(across)
            out[:, 1:] += step
            out[:, :-1] -= step
            first, last = max(top - 1, 0), top + band.shape[0]  # the row above is written already
            step = torch.sign(pixels[first + 1 : last] - pixels[first : last - 1]).mul_(down)
            gradient[first + 1 : last] += step
            gradient[first : last - 1] -= step
        return result, None, None, None


def _count_present(labels: Tensor, clusters: int) -> Tensor:
    """How many of the `clusters` labels occur, without the sort of unique or the synchronisation of bincount."""
    slots = torch.zeros(clusters, dtype=torch.int64, device=labels.device)
    slots[labels.reshape(-1)] = 1
    return slots.sum()

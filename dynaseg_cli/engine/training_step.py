"""One iteration on one image: the response, its labels and loss (eq. 1 to 9), then the gradients of the network.

`AutogradStep` uses autograd and the operations of `method`, for any network. For the CNN there is `BandedStep`, whose
gradients are written by hand. On CUDA, `cuda.fused_step.FusedStep` does more than these two: it is a whole iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import SCRIBBLE_WEIGHT, SegmentConfig
from ..method.losses import continuity_loss, continuity_weight, scribble_loss, similarity_loss
from .networks import Network
from .precision import computing_in


@dataclass(frozen=True)
class Objective:
    """Loss and labels of one iteration. Scalars stay on the device until the caller reads them."""

    loss: Tensor
    """Total loss, shape (): eq. 7, plus the weighted scribble loss if there are scribbles."""
    similarity: Tensor
    continuity: Tensor
    present: Tensor
    """q', the number of labels present, int64, shape ()."""
    labels: Tensor
    """(H, W) int64, the argmax at every pixel."""


class TrainingStep(Protocol):
    """Made for one network and one image size; reused for any number of images of this size."""

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        """Set the image, (1, 3, H, W) float32 in [0, 1].

        `scribbles`, (H, W) int64 with labels and `FREE`, are required if the step was made for them.
        """

    def evaluate(self, threshold: Tensor) -> Objective:
        """Compute labels and loss, and set the running statistics to those of this pass.

        `threshold`, int64 of shape (), is the lowest label count used in mu.
        """

    def backward(self) -> None:
        """Set the gradients of the network's parameters for the loss evaluated last."""


class AutogradStep:
    """The operations of the reference, in the same order, for any network.

    The optimisation amplifies the last bit of a sum to the third digit of the loss within ten iterations, so only the
    same operations in the same order reproduce the reference.
    """

    def __init__(self, network: Network, config: SegmentConfig, dtype: torch.dtype) -> None:
        self._network = network
        self._config = config
        self._dtype = dtype

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        self._image = image.contiguous()
        self._scribbles = None if scribbles is None else scribbles[None]

    def evaluate(self, threshold: Tensor) -> Objective:
        with computing_in(self._dtype, self._image.device):
            response = self._network(self._image)
        labels = response.detach().argmax(1)
        present = count_present(labels, response.shape[1])
        similarity = similarity_loss(response, labels, self._scribbles)
        continuity = continuity_loss(response)
        # mu is computed on the host in double precision: for some alpha, float32 would differ in the last bit.
        mu = continuity_weight(self._config.mode, self._config.weight, max(int(present), int(threshold)))
        self._loss = similarity + mu * continuity
        if self._scribbles is not None:
            self._loss = self._loss + SCRIBBLE_WEIGHT * scribble_loss(response, self._scribbles)
        return Objective(self._loss.detach(), similarity.detach(), continuity.detach(), present, labels[0])

    def backward(self) -> None:
        self._network.zero_grad()
        self._loss.backward()  # type: ignore[no-untyped-call]


def count_present(labels: Tensor, clusters: int) -> Tensor:
    """How many of the `clusters` labels occur, without the sort of `unique` or the synchronisation of `bincount`."""
    slots = torch.zeros(clusters, dtype=torch.int64, device=labels.device)
    return slots.index_fill_(0, labels.flatten(), 1).sum()

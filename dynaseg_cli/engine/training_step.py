"""One iteration of the optimisation on one image: response, labels and loss, then the gradients of the network.

`method.network` and `method.losses` say what is computed. `LiteralStep` does it by them and autograd, operation for
operation as the reference does. `BandedStep` does it by hand, in memory that is allocated once and worked on in bands
of rows that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..config import SegmentConfig
from ..method.losses import continuity_loss, similarity_loss
from ..method.network import SegmentationNetwork
from ..method.weighting import continuity_weight
from .bands import band_rows, bands
from .convolution import Convolution
from .normalisation import Normalisation
from .objective import BandedObjective, Objective, count_present
from .pointwise import Pointwise


class TrainingStep(Protocol):
    def evaluate(self, threshold: int) -> Objective:
        """Labels and loss of the network as it is; its running statistics become those of this pass."""

    def backward(self) -> None:
        """Set the gradients of the network's parameters to those of the loss evaluated last."""


class LiteralStep:
    """The reference's own operations in their order.

    The optimisation amplifies the last bit of a sum to the third digit of the loss within ten iterations: only the same
    operations in the same order reproduce the reference.
    """

    def __init__(self, network: SegmentationNetwork, image: Tensor, config: SegmentConfig, dtype: torch.dtype) -> None:
        self._network = network
        self._image = image
        self._config = config
        self._dtype = dtype

    def evaluate(self, threshold: int) -> Objective:
        with torch.autocast(self._image.device.type, self._dtype, enabled=self._dtype != torch.float32):
            response = self._network(self._image)
        labels = response.detach().argmax(1)
        present = count_present(labels, response.shape[1])
        similarity = similarity_loss(response, labels)
        continuity = continuity_loss(response)
        mu = continuity_weight(self._config.mode, self._config.weight, max(int(present), threshold))
        self._loss = similarity + mu * continuity
        return Objective(self._loss.detach(), similarity.detach(), continuity.detach(), present, labels[0])

    def backward(self) -> None:
        self._network.zero_grad()
        self._loss.backward()  # type: ignore[no-untyped-call]


class BandedStep:
    """The same by hand, without autograd.

    Parameters
    ----------
    network : float32, its parameters' gradients are replaced.
    image : (1, 3, H, W) float32 in [0, 1].
    dtype : arithmetic and storage of the feature maps, float32 or bfloat16; everything else is float32.
    """

    def __init__(self, network: SegmentationNetwork, image: Tensor, config: SegmentConfig, dtype: torch.dtype) -> None:
        self._config = config
        self._height, width = image.shape[2:]
        features, clusters = network.classifier.in_channels, network.classifier.out_channels
        self._rows = band_rows(width, max(features, clusters), image.device)
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)

        def new_map(channels: int, of: torch.dtype, border: int = 0) -> Tensor:
            size = (self._height + 2 * border, width + 2 * border, channels)
            return torch.zeros(size, dtype=of, device=image.device)

        first, *others = network.feature_convolutions
        # The image never changes: with the 3 x 3 pixels around each at hand, the first convolution is a matrix product.
        self._around = surroundings(image).to(dtype)
        self._first = Pointwise(first, dtype)
        behind = new_map(features, dtype, border=1)
        self._convolutions = [Convolution(layer, behind) for layer in others]
        self._classifier = Pointwise(network.classifier, dtype)
        self._layers: list[Pointwise | Convolution] = [self._first, *self._convolutions, self._classifier]
        gradient = new_map(features, dtype)
        self._norms = [Normalisation(norm, new_map(features, dtype), gradient) for norm in network.feature_norms]
        response, gradient = new_map(clusters, torch.float32), new_map(clusters, torch.float32)
        self._response_norm = Normalisation(network.response_norm, response, gradient, relu=False)
        self._objective = BandedObjective(self._height, width, clusters, image.device)

    @torch.no_grad()
    def evaluate(self, threshold: int) -> Objective:
        for layer in self._layers:
            layer.begin()
        norm = self._norms[0]
        norm.begin()
        for rows in self._bands():
            norm.add(rows, self._first.output(self._around[rows]))
        norm.finish()
        for convolution, following in zip(self._convolutions, self._norms[1:], strict=True):
            for rows in self._bands():
                convolution.set_input(rows, norm.output(rows))
            following.begin()
            for rows in self._bands():
                following.add(rows, convolution.output(rows))
            following.finish()
            norm = following
        response = self._response_norm
        response.begin()
        for rows in self._bands():
            response.add(rows, self._classifier.output(norm.output(rows)).float())
        response.finish()
        return self._objective.evaluate(
            response.output, self._bands(), self._config.mode, self._config.weight, threshold
        )

    @torch.no_grad()
    def backward(self) -> None:
        for layer in self._layers:
            layer.begin_gradient()
        response, norm = self._response_norm, self._norms[-1]
        response.begin_gradient()
        for rows in self._bands():
            response.add_gradient(rows, self._objective.gradient(response.output, rows))
        response.finish_gradient()
        norm.begin_gradient()
        for rows in self._bands():
            gradient = response.input_gradient(rows)
            self._classifier.add_gradient(norm.output(rows), gradient)
            norm.add_gradient(rows, self._classifier.input_gradient(gradient))
        norm.finish_gradient()
        for convolution, previous in zip(reversed(self._convolutions), reversed(self._norms[:-1]), strict=True):
            for rows in self._bands():
                convolution.add_gradient(rows, norm.input_gradient(rows))
            previous.begin_gradient()
            for rows in self._bands():
                previous.add_gradient(rows, convolution.input_gradient(rows))
            previous.finish_gradient()
            norm = previous
        for rows in self._bands():
            self._first.add_gradient(self._around[rows], norm.input_gradient(rows))
        for layer in self._layers:
            layer.finish_gradient()

    def _bands(self) -> Iterator[slice]:
        return bands(self._height, self._rows)


def surroundings(image: Tensor) -> Tensor:
    """The 3 x 3 pixels around each of (1, 3, H, W), zeros beyond the border: (H, W, 27), by row, column, colour."""
    windows = functional.pad(image, (1, 1, 1, 1))[0].unfold(1, 3, 1).unfold(2, 3, 1)  # (3, H, W, 3, 3)
    return windows.permute(1, 2, 3, 4, 0).flatten(2)

"""One iteration of the optimisation on one image: response, labels and loss, then the gradients of the network.

`method` says what is computed. `AutogradStep` does it by the network, the losses and autograd, operation for operation
as the reference does. `BandedStep` does it for the CNN by hand, in memory that is allocated once and worked on in bands
of rows that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..config import SCRIBBLE_WEIGHT, SegmentConfig
from ..method.losses import continuity_loss, scribble_loss, similarity_loss
from ..method.network import SegmentationNetwork
from ..method.weighting import continuity_weight
from .bands import band_rows, bands
from .convolution import Convolution
from .networks import Network
from .normalisation import Normalisation
from .objective import BandedObjective, Objective, count_present
from .pointwise import Pointwise


class TrainingStep(Protocol):
    """Made once for a network and a size; any number of images of this size can be loaded one after another."""

    fused: bool
    """Whether fused kernels do the work between the convolutions."""

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        """Take the image to work on, (1, 3, H, W) float32 in [0, 1].

        `scribbles`, where the step was made for images that have some: (H, W) int64, labels and `FREE`.
        """

    def evaluate(self, threshold: Tensor) -> Objective:
        """Labels and loss of the network as it is; its running statistics become those of this pass.

        `threshold`, int64 of shape (): the weight of the continuity loss counts no fewer labels.
        """

    def backward(self) -> None:
        """Set the gradients of the network's parameters to those of the loss evaluated last."""


class AutogradStep:
    """The reference's own operations in their order, on any network.

    The optimisation amplifies the last bit of a sum to the third digit of the loss within ten iterations: only the same
    operations in the same order reproduce the reference.
    """

    fused = False

    def __init__(self, network: Network, config: SegmentConfig, dtype: torch.dtype) -> None:
        self._network = network
        self._config = config
        self._dtype = dtype

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        self._image = image.contiguous()
        self._scribbles = None if scribbles is None else scribbles[None]

    def evaluate(self, threshold: Tensor) -> Objective:
        with torch.autocast(self._image.device.type, self._dtype, enabled=self._dtype != torch.float32):
            response = self._network(self._image)
        labels = response.detach().argmax(1)
        present = count_present(labels, response.shape[1])
        scribbles = self._scribbles
        similarity = similarity_loss(response, labels, scribbles)
        continuity = continuity_loss(response)
        # On the host, in double precision: a mu of float32 would differ in the last bit for some alpha.
        mu = continuity_weight(self._config.mode, self._config.weight, max(int(present), int(threshold)))
        self._loss = similarity + mu * continuity
        if scribbles is not None:
            self._loss = self._loss + SCRIBBLE_WEIGHT * scribble_loss(response, scribbles)
        return Objective(self._loss.detach(), similarity.detach(), continuity.detach(), present, labels[0])

    def backward(self) -> None:
        self._network.zero_grad()
        self._loss.backward()  # type: ignore[no-untyped-call]


class BandedStep:
    """The same by hand, without autograd and without a synchronisation with the device.

    Parameters
    ----------
    network : float32, on the device; its parameters' gradients are overwritten in place.
    height, width : of the images.
    dtype : arithmetic and storage of the feature maps, float32 or bfloat16; everything else is float32.
    scribbled : whether the images have scribbles.
    """

    fused = False

    def __init__(
        self,
        network: SegmentationNetwork,
        height: int,
        width: int,
        config: SegmentConfig,
        dtype: torch.dtype,
        *,
        scribbled: bool = False,
    ) -> None:
        self._height = height
        device = network.classifier.weight.device
        features, clusters = network.classifier.in_channels, network.classifier.out_channels
        self._rows = band_rows(width, max(features, clusters), device)
        prepare_gradients(network)

        def new_map(channels: int, of: torch.dtype, border: int = 0) -> Tensor:
            return torch.zeros((height + 2 * border, width + 2 * border, channels), dtype=of, device=device)

        first, *others = network.feature_convolutions
        # The image never changes: with the 3 x 3 pixels around each at hand, the first convolution is a matrix product.
        self._around = new_map(27, dtype)
        self._first = Pointwise(first, dtype)
        behind = new_map(features, dtype, border=1)
        self._convolutions = [Convolution(layer, behind) for layer in others]
        self._classifier = Pointwise(network.classifier, dtype)
        self._layers: list[Pointwise | Convolution] = [self._first, *self._convolutions, self._classifier]
        gradient = new_map(features, dtype)
        self._norms = [Normalisation(norm, new_map(features, dtype), gradient) for norm in network.feature_norms]
        response, gradient = new_map(clusters, torch.float32), new_map(clusters, torch.float32)
        self._response_norm = Normalisation(network.response_norm, response, gradient, relu=False)
        self._objective = BandedObjective(
            self._response_norm, self._rows, config.mode, config.weight, scribbled=scribbled
        )

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        self._around.copy_(surroundings(image))
        self._objective.load(scribbles)

    @torch.no_grad()
    def evaluate(self, threshold: Tensor) -> Objective:
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
        return self._objective.evaluate(threshold)

    @torch.no_grad()
    def backward(self) -> None:
        for layer in self._layers:
            layer.begin_gradient()
        response, norm = self._response_norm, self._norms[-1]
        response.begin_gradient()
        for rows in self._bands():
            response.add_gradient(rows, self._objective.gradient(rows))
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


def prepare_gradients(network: SegmentationNetwork) -> None:
    """See that every parameter has a gradient of its own layout, in memory that stays the same."""
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def surroundings(image: Tensor) -> Tensor:
    """The 3 x 3 pixels around each of (1, 3, H, W), zeros beyond the border: (H, W, 27), by row, column, colour."""
    windows = functional.pad(image, (1, 1, 1, 1))[0].unfold(1, 3, 1).unfold(2, 3, 1)  # (3, H, W, 3, 3)
    return windows.permute(1, 2, 3, 4, 0).flatten(2)

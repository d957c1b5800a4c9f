"""An iteration on a CUDA device: convolutions by the library, everything between and after them by fused kernels.

It computes what `BandedStep`, `Trajectory.take` and torch's SGD compute, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config import SegmentConfig
from ...method.network import SegmentationNetwork
from ..banded_layers import as_image, as_pixels, surroundings, weight_gradient
from ..iteration import Trajectory
from ..networks import CHANNEL_MULTIPLE, rounded_up
from .norm_kernels import (
    Activation,
    Normalisation,
    finish_gradient,
    finish_statistics,
    finish_sum,
    input_gradient,
    measure,
    measure_gradient,
    normalise,
)
from .objective_kernels import ObjectiveBuffers, evaluate_objective, finish_objective, objective_gradient
from .update_kernels import Weight, descend, pack


@dataclass
class Block:
    """Convolution, ReLU and BatchNorm."""

    convolution: nn.Conv2d
    packed: Tensor
    """The weights as the library takes them."""
    norm: Normalisation
    bias_gradient: Tensor
    """(K,) float32."""


class FusedStep:
    """See `Step`. It never waits for the device, so it can be captured in a CUDA graph.

    Nothing that an iteration allocates outlives it, so graphs of several steps can share their memory.

    Parameters
    ----------
    network : float32, on the device, its convolutions in channels-last order.
    momenta : one for each parameter that is trained, in their order.
    dtype : of the feature maps and convolutions, float32 or bfloat16; everything else is float32.
    """

    fused = True

    def __init__(
        self,
        network: SegmentationNetwork,
        momenta: Sequence[Tensor],
        trajectory: Trajectory,
        config: SegmentConfig,
        dtype: torch.dtype,
    ) -> None:
        self._trajectory = trajectory
        self._config = config
        self._classifier = classifier = network.classifier
        device = classifier.weight.device
        height, width = trajectory.labels.shape
        # The image never changes, so its 3 x 3 surroundings are gathered once: the first convolution is pointwise then.
        self._around = torch.zeros((height, width, rounded_up(27, CHANNEL_MULTIPLE)), dtype=dtype, device=device)
        self._blocks: list[Block] = []
        for convolution, module in zip(network.feature_convolutions, network.feature_norms, strict=True):
            packed = torch.zeros_like(convolution.weight, dtype=dtype)
            if not self._blocks:
                packed = self._around.new_zeros((convolution.out_channels, self._around.shape[2]))
            assert convolution.bias is not None
            norm = Normalisation(module, convolution.out_channels)
            self._blocks.append(Block(convolution, packed, norm, torch.zeros_like(convolution.bias)))
        clusters = classifier.out_channels
        channels = rounded_up(clusters, CHANNEL_MULTIPLE)
        self._classifying = self._around.new_zeros((channels, classifier.in_channels))
        # A bias before a BatchNorm changes nothing but the running mean, so it is not added to the map. Its gradient is
        # 0; a sum over all pixels would only add up rounding errors.
        self._response_norm = Normalisation(network.response_norm, channels, classifier.bias)
        self._no_bias = torch.zeros(channels, device=device)
        self._objective = ObjectiveBuffers(height, width, clusters, device)
        trained = (parameter for parameter in network.parameters() if parameter.requires_grad)
        self._momenta = dict(zip(trained, momenta, strict=True))
        self._packed = {block.convolution.weight: block.packed for block in self._blocks}
        self._packed[classifier.weight] = self._classifying
        assert classifier.bias is not None
        self.gradients = {classifier.bias: self._no_bias}
        """By parameter; those of weights are there from `backward` to `descend`, with the padding of `Weight`."""
        for block in self._blocks:
            assert block.convolution.bias is not None
            self.gradients[block.convolution.bias] = block.bias_gradient
        for norm in (*(block.norm for block in self._blocks), self._response_norm):
            self.gradients[norm.module.weight] = norm.weight_gradient
            self.gradients[norm.module.bias] = norm.bias_gradient
        self._pack()

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        assert scribbles is None
        self._around[..., :27] = surroundings(image)
        self._pack()
        # Should the last iteration have been broken off half-way.
        self._objective.slots.zero_()

    @torch.no_grad()
    def evaluate(self) -> None:
        x = self._around
        # Per block, its input, and the output of its convolution without bias.
        self._passed: list[tuple[Tensor, Activation]] = []
        for block in self._blocks:
            z = _convolved(x, block.packed)
            assert block.convolution.bias is not None
            activation = Activation(z, block.convolution.bias)
            finish_statistics(measure(activation), block.norm)
            self._passed.append((x, activation))
            x = torch.empty_like(z)
            normalise(activation, block.norm, x)
        z = _convolved(x, self._classifying)
        response = Activation(z, self._no_bias, relu=False)
        self._passed.append((x, response))
        norm, objective = self._response_norm, self._objective
        finish_statistics(measure(response), norm)
        partials = evaluate_objective(z, norm, objective, self._trajectory)
        finish_objective(partials, objective, self._trajectory, self._config)

    @torch.no_grad()
    def descend(self) -> None:
        self.backward()
        weights = [
            Weight(parameter, momentum, self.gradients[parameter], self._packed.get(parameter))
            for parameter, momentum in self._momenta.items()
        ]
        descend(weights, self._trajectory.ended, self._config)
        for parameter in self._packed:
            del self.gradients[parameter]

    @torch.no_grad()
    def backward(self) -> None:
        """Set the gradients for the loss evaluated last."""
        x, response = self._passed.pop()
        norm, z = self._response_norm, response.z
        pixels = z.shape[0] * z.shape[1]
        gradient = torch.empty(z.shape, device=z.device)
        partials = objective_gradient(z, norm, self._objective, self._trajectory.labels, gradient)
        finish_gradient(partials, pixels, norm)
        by_output = torch.empty_like(z)
        input_gradient(gradient, response, norm, by_output)
        self.gradients[self._classifier.weight] = weight_gradient(by_output, x)
        gradient = by_output @ self._classifying
        while self._passed:
            block = self._blocks[len(self._passed) - 1]
            x, activation = self._passed.pop()
            finish_gradient(measure_gradient(gradient, activation, block.norm), pixels, block.norm)
            finish_sum(input_gradient(gradient, activation, block.norm, gradient), block.bias_gradient)
            weight = block.convolution.weight
            if x is self._around:
                self.gradients[weight] = weight_gradient(gradient, x)
            else:
                gradient, self.gradients[weight] = _convolved_back(gradient, x, block.packed)

    def _pack(self) -> None:
        pack(list(self._packed), list(self._packed.values()))


def _convolved(x: Tensor, weight: Tensor) -> Tensor:
    """(H, W, K) from (H, W, C), by a weight of (K, C) or (K, C, 3, 3), which sees zeros beyond the frame."""
    if weight.ndim == 2:
        return functional.linear(x, weight)
    # Copies only if the library left channels-last order, which cuDNN does not.
    return as_pixels(functional.conv2d(as_image(x), weight, padding=1)).contiguous()


def _convolved_back(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients with respect to the input, (H, W, C), and the weight, in channels-last order."""
    by_input, by_weight, _ = torch.ops.aten.convolution_backward(
        as_image(gradient), as_image(x), weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    # Copies only if the library left channels-last order, as above.
    return as_pixels(by_input).contiguous(), by_weight.contiguous(memory_format=torch.channels_last)

"""The training step on a CUDA device: convolutions by the library, everything between them by fused kernels.

It computes what `BandedStep` computes, in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config import SegmentConfig
from ...method.network import SegmentationNetwork
from ..banded_layers import as_image, as_pixels, gradients, prepare_gradients, surroundings, weight_gradient
from ..networks import CHANNEL_MULTIPLE, rounded_up
from ..training_step import Objective
from . import kernels
from .kernels import Activation, NormBuffers, ObjectiveBuffers


class FusedStep:
    """See `TrainingStep`. It never waits for the device, so it can be captured in a CUDA graph.

    The parameters are those of `BandedStep`. Images with scribbles are not supported.
    """

    fused = True

    def __init__(
        self, network: SegmentationNetwork, height: int, width: int, config: SegmentConfig, dtype: torch.dtype
    ) -> None:
        self._config = config
        self._dtype = dtype
        self._first, *self._convolutions = network.feature_convolutions
        self._classifier = network.classifier
        prepare_gradients(network)
        device = self._classifier.weight.device
        # The image never changes, so its 3 x 3 surroundings are gathered once: the first convolution is pointwise then.
        self._around = torch.zeros((height, width, rounded_up(27, CHANNEL_MULTIPLE)), dtype=dtype, device=device)
        self._norms = [FusedNormalisation(norm, norm.num_features) for norm in network.feature_norms]
        self._response_norm = FusedNormalisation(
            network.response_norm, rounded_up(self._classifier.out_channels, CHANNEL_MULTIPLE)
        )
        # The classifier adds its bias itself.
        self._no_bias = torch.zeros(self._response_norm.channels, device=device)
        self._objective = ObjectiveBuffers(height, width, self._classifier.out_channels, device)

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        assert scribbles is None
        self._around[..., :27] = surroundings(image)

    @torch.no_grad()
    def evaluate(self, threshold: Tensor) -> Objective:
        first = self._first.weight.permute(0, 2, 3, 1).flatten(1)
        self._weights = [convolution.weight.to(self._dtype) for convolution in self._convolutions]
        self._classifying = _padded(self._classifier.weight.flatten(1), self._response_norm.channels).to(self._dtype)
        z = functional.linear(self._around, functional.pad(first, (0, self._around.shape[2] - 27)).to(self._dtype))
        # Per block, the output of the convolution without its bias, and the output of the BatchNorm.
        self._activations: list[Activation] = []
        self._outputs: list[Tensor] = []
        layers = zip((self._first, *self._convolutions), self._norms, strict=True)
        for index, (convolution, norm) in enumerate(layers):
            if index:
                z = _convolved(self._outputs[-1], self._weights[index - 1])
            assert convolution.bias is not None
            activation = Activation(z, convolution.bias)
            norm.measure(activation)
            output = torch.empty_like(z)
            kernels.normalise(activation, norm.buffers, output)
            self._activations.append(activation)
            self._outputs.append(output)
        response = self._response_norm
        assert self._classifier.bias is not None
        bias = _padded(self._classifier.bias, response.channels).to(self._dtype)
        z = functional.linear(self._outputs[-1], self._classifying, bias)
        self._response = Activation(z, self._no_bias, relu=False)
        response.measure(self._response)
        objective = self._objective
        partials = kernels.evaluate_objective(z, response.buffers, objective)
        kernels.finish_objective(partials, threshold, self._config.mode, self._config.weight, objective)
        loss, similarity, continuity, _ = objective.scalars.unbind()
        return Objective(loss, similarity, continuity, objective.present, objective.labels)

    @torch.no_grad()
    def backward(self) -> None:
        response, z = self._response_norm, self._response.z
        gradient = torch.empty(z.shape, device=z.device)
        response.finish_gradient(kernels.objective_gradient(z, response.buffers, self._objective, gradient), z)
        by_output = torch.empty_like(z)
        sums = kernels.input_gradient(gradient, self._response, response.buffers, by_output)
        _set_gradient(self._classifier, weight_gradient(by_output, self._outputs[-1]), sums)
        gradient = by_output @ self._classifying
        layers = zip((self._first, *self._convolutions), self._norms, self._activations, strict=True)
        for index, (convolution, norm, activation) in reversed(list(enumerate(layers))):
            norm.finish_gradient(kernels.measure_gradient(gradient, activation, norm.buffers), z)
            sums = kernels.input_gradient(gradient, activation, norm.buffers, gradient)
            if index:
                gradient, weight = _convolved_back(gradient, self._outputs[index - 1], self._weights[index - 1])
            else:
                weight = weight_gradient(gradient, self._around)[:, :27].reshape(-1, 3, 3, 3).permute(0, 3, 1, 2)
            _set_gradient(convolution, weight, sums)


class FusedNormalisation:
    """A BatchNorm in training mode.

    Parameters
    ----------
    module : provides the weights and receives their gradients and, as running statistics, those of each pass.
    channels : of the maps; channels beyond the module's are padding.
    """

    def __init__(self, module: nn.BatchNorm2d, channels: int) -> None:
        self._module = module
        self.channels = channels
        self.buffers = NormBuffers(channels, module.weight.device)

    def measure(self, activation: Activation) -> None:
        """Set mean, scale and shift from a map."""
        module, features = self._module, self._module.num_features
        assert module.running_mean is not None and module.running_var is not None
        weight, bias = _padded(module.weight, self.channels), _padded(module.bias, self.channels)
        kernels.finish_statistics(kernels.measure(activation), weight, bias, module.eps, self.buffers)
        module.running_mean.copy_(self.buffers.running_mean[:features])
        module.running_var.copy_(self.buffers.running_var[:features])

    def finish_gradient(self, partials: Tensor, z: Tensor) -> None:
        """Set the gradients of the weights, and the coefficients of the input gradient."""
        kernels.finish_gradient(partials, z.shape[0] * z.shape[1], self.buffers)
        weight, bias = gradients(self._module)
        weight.copy_(self.buffers.weight_gradient[: len(weight)])
        bias.copy_(self.buffers.bias_gradient[: len(bias)])


def _padded(values: Tensor, length: int) -> Tensor:
    """Zero-pad the first axis to `length`."""
    missing = length - len(values)
    return functional.pad(values, (0, 0) * (values.ndim - 1) + (0, missing)) if missing else values


def _convolved(x: Tensor, weight: Tensor) -> Tensor:
    """(H, W, K) from (H, W, C)."""
    # Copies only if the library left channels-last order, which cuDNN does not.
    return as_pixels(functional.conv2d(as_image(x), weight, padding=1)).contiguous()


def _convolved_back(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients with respect to the input, (H, W, C), and the weight."""
    by_input, by_weight, _ = torch.ops.aten.convolution_backward(
        as_image(gradient), as_image(x), weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    return as_pixels(by_input).contiguous(), by_weight


def _set_gradient(layer: nn.Conv2d, weight: Tensor, bias_sums: Tensor) -> None:
    by_weight, by_bias = gradients(layer)
    by_weight.copy_(weight[: layer.out_channels].reshape(layer.weight.shape))
    bias = torch.empty(len(weight), device=weight.device)
    kernels.finish_sum(bias_sums, bias)
    by_bias.copy_(bias[: layer.out_channels])

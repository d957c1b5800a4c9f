"""One iteration on a CUDA device: convolutions by the library, everything between them in the fewest passes.

The same as `BandedStep`, which says what is computed in which order; the passes are those of `kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import SegmentConfig
from ..method.network import SegmentationNetwork
from . import kernels
from .alignment import CHANNEL_MULTIPLE, rounded_up
from .kernels import Activation
from .layout import as_image, as_pixels
from .objective import Objective
from .pointwise import weight_gradient
from .training_step import prepare_gradients, surroundings


class FusedStep:
    """See `TrainingStep`. Nothing waits for the device: it can be captured in a CUDA graph.

    The parameters are those of `BandedStep`, which serves images with scribbles as well; this does not.
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
        # The image never changes: with the 3 x 3 pixels around each at hand, the first convolution is a matrix product.
        self._around = torch.zeros((height, width, rounded_up(27, CHANNEL_MULTIPLE)), dtype=dtype, device=device)
        self._norms = [FusedNormalisation(norm, norm.num_features) for norm in network.feature_norms]
        self._response_norm = FusedNormalisation(
            network.response_norm, rounded_up(self._classifier.out_channels, CHANNEL_MULTIPLE)
        )
        # The classifier's product adds its own bias.
        self._no_bias = torch.zeros(self._response_norm.channels, device=device)
        self._scalars = torch.zeros(4, device=device)
        self._present = torch.zeros((), dtype=torch.int64, device=device)
        self._labels = torch.zeros((height, width), dtype=torch.int64, device=device)
        self._log_partition = torch.zeros((height, width), device=device)
        self._slots = torch.zeros(self._classifier.out_channels, dtype=torch.int32, device=device)

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        assert scribbles is None
        self._around[..., :27] = surroundings(image)

    @torch.no_grad()
    def evaluate(self, threshold: Tensor) -> Objective:
        first = self._first.weight.permute(0, 2, 3, 1).flatten(1)
        self._weights = [convolution.weight.to(self._dtype) for convolution in self._convolutions]
        self._classifying = _padded(self._classifier.weight.flatten(1), self._response_norm.channels).to(self._dtype)
        z = functional.linear(self._around, functional.pad(first, (0, self._around.shape[2] - 27)).to(self._dtype))
        # By block: what the convolution gave, before its bias is added; and what the BatchNorm makes of it.
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
            kernels.normalise(activation, norm.scale, norm.shift, output)
            self._activations.append(activation)
            self._outputs.append(output)
        response = self._response_norm
        assert self._classifier.bias is not None
        bias = _padded(self._classifier.bias, response.channels).to(self._dtype)
        z = functional.linear(self._outputs[-1], self._classifying, bias)
        self._response = Activation(z, self._no_bias, relu=False)
        response.measure(self._response)
        partials = kernels.evaluate_objective(
            self._response.z, response.scale, response.shift, len(self._slots), self._labels, self._log_partition,
            self._slots,
        )  # fmt: skip
        kernels.finish_objective(
            partials, self._slots, threshold, self._labels.numel(), self._config.mode, self._config.weight,
            self._scalars, self._present,
        )  # fmt: skip
        loss, similarity, continuity, self._mu = self._scalars.unbind()
        return Objective(loss, similarity, continuity, self._present, self._labels)

    @torch.no_grad()
    def backward(self) -> None:
        response, z = self._response_norm, self._response.z
        gradient = torch.empty(z.shape, device=z.device)
        partials = kernels.objective_gradient(
            z, response.scale, response.shift, len(self._slots), self._labels, self._log_partition, self._mu,
            response.mean, gradient,
        )  # fmt: skip
        response.finish_gradient(partials, self._labels.numel())
        by_output = torch.empty_like(z)
        sums = kernels.input_gradient(gradient, self._response, response.coefficients, by_output)
        _set_gradient(self._classifier, weight_gradient(by_output, self._outputs[-1]), sums)
        gradient = by_output @ self._classifying
        layers = zip((self._first, *self._convolutions), self._norms, self._activations, strict=True)
        for index, (convolution, norm, activation) in reversed(list(enumerate(layers))):
            norm.finish_gradient(kernels.measure_gradient(gradient, activation, norm.mean), self._labels.numel())
            sums = kernels.input_gradient(gradient, activation, norm.coefficients, gradient)
            if index:
                gradient, weight = _convolved_back(gradient, self._outputs[index - 1], self._weights[index - 1])
            else:
                weight = weight_gradient(gradient, self._around)[:, :27].reshape(-1, 3, 3, 3).permute(0, 3, 1, 2)
            _set_gradient(convolution, weight, sums)


class FusedNormalisation:
    """A BatchNorm in training mode.

    Parameters
    ----------
    module : its running statistics become those of each pass, its weights' gradients those of each backward pass.
    channels : of the maps; where they are more than the module's, the last ones are nothing to it.
    """

    def __init__(self, module: nn.BatchNorm2d, channels: int) -> None:
        self._module = module
        self.channels = channels
        device = module.weight.device
        self.mean, self._inverse, self.scale, self.shift = torch.zeros((4, channels), device=device)
        self._running_mean, self._running_var = torch.zeros((2, channels), device=device)
        self._gradients = torch.zeros((2, channels), device=device)
        self.coefficients = torch.zeros((3, channels), device=device)

    def measure(self, activation: Activation) -> None:
        """Set mean, scale and shift to those of a map."""
        module, features = self._module, self._module.num_features
        assert module.running_mean is not None and module.running_var is not None
        kernels.finish_statistics(
            kernels.measure(activation), _padded(module.weight, self.channels), _padded(module.bias, self.channels),
            module.eps, self.mean, self._inverse, self.scale, self.shift, self._running_mean, self._running_var,
        )  # fmt: skip
        module.running_mean.copy_(self._running_mean[:features])
        module.running_var.copy_(self._running_var[:features])

    def finish_gradient(self, partials: Tensor, pixels: int) -> None:
        """Set the gradients of the weights, and the coefficients of that by the input."""
        module, features = self._module, self._module.num_features
        assert module.weight.grad is not None and module.bias.grad is not None
        by_weight, by_bias = self._gradients
        kernels.finish_gradient(
            partials, pixels, self.mean, self._inverse, self.scale, by_weight, by_bias, self.coefficients
        )
        module.weight.grad.copy_(by_weight[:features])
        module.bias.grad.copy_(by_bias[:features])


def _padded(values: Tensor, length: int) -> Tensor:
    """With zeros after the last along the first axis."""
    missing = length - len(values)
    return functional.pad(values, (0, 0) * (values.ndim - 1) + (0, missing)) if missing else values


def _convolved(x: Tensor, weight: Tensor) -> Tensor:
    """(H, W, K) of (H, W, C)."""
    # Nothing is copied if the library kept to channels-last order, as cuDNN does.
    return as_pixels(functional.conv2d(as_image(x), weight, padding=1)).contiguous()


def _convolved_back(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by the input, (H, W, C), and by the weight."""
    by_input, by_weight, _ = torch.ops.aten.convolution_backward(
        as_image(gradient), as_image(x), weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
    )
    return as_pixels(by_input).contiguous(), by_weight


def _set_gradient(layer: nn.Conv2d, weight: Tensor, bias_sums: Tensor) -> None:
    assert layer.weight.grad is not None and layer.bias is not None and layer.bias.grad is not None
    outputs = layer.out_channels
    layer.weight.grad.copy_(weight[:outputs].reshape(layer.weight.shape))
    bias = torch.empty(len(weight), device=weight.device)
    kernels.finish_sum(bias_sums, bias)
    layer.bias.grad.copy_(bias[:outputs])

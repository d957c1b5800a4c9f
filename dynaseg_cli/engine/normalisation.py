"""A BatchNorm in training mode, with the ReLU before it, over a map that comes and goes in bands of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalisation:
    """y = gamma (a - mean) / sqrt(var + eps) + beta over (H, W, C), where a = relu(z), or z itself.

    Forward: `begin`, `add` each band of z, `finish`; then `output` gives any rows of y. Backward: `begin_gradient`,
    `add_gradient` each band of the loss's gradient by y, `finish_gradient`; then `input_gradient` gives that by z.

    Parameters
    ----------
    module : its weight and bias are gamma and beta; its running statistics become those of each pass, its weights'
        gradients those of each backward pass.
    activation : (H, W, C) of any floating type, where a is kept.
    gradient : (H, W, C), where the gradient by y is kept; Normalisations that take turns may share it.
    relu : whether z goes through a ReLU first.
    """

    def __init__(self, module: nn.BatchNorm2d, activation: Tensor, gradient: Tensor, *, relu: bool = True) -> None:
        self._module = module
        self._activation = activation
        self._gradient = gradient
        self._relu = relu
        self._pixels = activation.shape[0] * activation.shape[1]
        # MPS has no float64, and sees the map in one band: there are no partial sums to lose digits in.
        exact = torch.float32 if activation.device.type == "mps" else torch.float64
        self._sums = torch.zeros((2, activation.shape[2]), dtype=exact, device=activation.device)
        self._coefficients = torch.empty((3, activation.shape[2]), device=activation.device)

    def begin(self) -> None:
        self._sums.zero_()

    def add(self, rows: slice, z: Tensor) -> None:
        """Take rows of z, (r, W, C), which are overwritten."""
        a = z.relu_() if self._relu else z
        self._activation[rows] = a
        if rows.start == 0:
            # Values around one of them: the variance of nearly equal ones is not lost in the square of their mean.
            self._pivot = a[0, 0].float()
        centred = (a.float() - self._pivot).flatten(0, 1)
        self._sums[0] += centred.sum(0)
        self._sums[1] += centred.mul_(centred).sum(0)

    def finish(self) -> None:
        module, (first, second) = self._module, self._sums / self._pixels
        variance = (second - first.square()).clamp_(min=0)
        assert module.running_mean is not None and module.running_var is not None
        self._mean = (first + self._pivot).float()
        self._inverse = (variance + module.eps).rsqrt().float()
        module.running_mean.copy_(self._mean)
        module.running_var.copy_(variance * (self._pixels / max(self._pixels - 1, 1)))
        self._scale = module.weight * self._inverse
        self._shift = module.bias - self._mean * self._scale

    def output(self, rows: slice) -> Tensor:
        """Rows of y, (r, W, C) float32."""
        return torch.addcmul(self._shift, self._activation[rows], self._scale)

    def begin_gradient(self) -> None:
        self._sums.zero_()

    def add_gradient(self, rows: slice, gradient: Tensor) -> None:
        """Take rows of the gradient by y, (r, W, C)."""
        self._gradient[rows] = gradient
        self._sums[0] += gradient.flatten(0, 1).sum(0, dtype=torch.float32)
        self._sums[1] += (self._activation[rows] - self._mean).mul_(gradient).flatten(0, 1).sum(0)

    def finish_gradient(self) -> None:
        module, (total, projected) = self._module, self._sums.float()
        assert module.weight.grad is not None and module.bias.grad is not None
        torch.mul(projected, self._inverse, out=module.weight.grad)
        module.bias.grad.copy_(total)
        along = -self._scale * self._inverse.square() * projected / self._pixels
        torch.stack(
            (self._scale, along, -self._scale * total / self._pixels - along * self._mean), out=self._coefficients
        )

    def input_gradient(self, rows: slice) -> Tensor:
        """Rows of the gradient by z, (r, W, C) float32."""
        activation = self._activation[rows]
        by_gradient, by_activation, constant = self._coefficients
        result = torch.addcmul(constant, activation, by_activation).addcmul_(self._gradient[rows], by_gradient)
        return torch.ops.aten.threshold_backward(result, activation, 0.0) if self._relu else result

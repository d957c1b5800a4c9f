"""A convolution over values that lie ready at each pixel: a matrix product, and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Pointwise:
    """(H, W, J) to (H, W, K), in bands of rows.

    Parameters
    ----------
    module : its weights are used, their gradients set. J is its kernel's rows, columns and channels, in this order.
    dtype : arithmetic of the products, float32 or bfloat16.
    """

    def __init__(self, module: nn.Conv2d, dtype: torch.dtype) -> None:
        assert module.bias is not None
        self._module = module
        self._kernel = module.weight.permute(0, 2, 3, 1)  # (K, rows, columns, channels), a view
        self._module_bias = module.bias
        self._dtype = dtype
        self._total = torch.zeros_like(self._kernel.flatten(1))
        self._bias_total = torch.zeros_like(module.bias)

    def begin(self) -> None:
        """Take over the weights."""
        self._weight = self._kernel.flatten(1).to(self._dtype)
        self._bias = self._module_bias.to(self._dtype)

    def output(self, x: Tensor) -> Tensor:
        """(r, W, K) of (r, W, J)."""
        return functional.linear(x.to(self._dtype), self._weight, self._bias)

    def begin_gradient(self) -> None:
        self._total.zero_()
        self._bias_total.zero_()

    def add_gradient(self, x: Tensor, gradient: Tensor) -> None:
        """Take rows of the loss's gradient by the output, (r, W, K), and of the input, (r, W, J)."""
        self._bias_total += gradient.flatten(0, 1).sum(0)
        self._total += weight_gradient(gradient.to(self._dtype), x.to(self._dtype))

    def finish_gradient(self) -> None:
        """Set the gradients of the weights."""
        weight, bias = self._module.weight.grad, self._module_bias.grad
        assert weight is not None and bias is not None
        weight.permute(0, 2, 3, 1).copy_(self._total.view(self._kernel.shape))
        bias.copy_(self._bias_total)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Rows of the gradient by the input, (r, W, J), from that by the output."""
        return gradient.to(self._dtype) @ self._weight


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Gradient of the weight of a product at each pixel, (K, J).

    It follows from the gradient of the product's output, (r, W, K), and its input, (r, W, J).
    On a CUDA device it is summed and returned in float32, even for bfloat16 maps.
    """
    by_output, by_pixel = gradient.flatten(0, 1).T, x.flatten(0, 1)
    if x.is_cuda and x.dtype != torch.float32:
        return torch.mm(by_output, by_pixel, out_dtype=torch.float32)
    return by_output @ by_pixel

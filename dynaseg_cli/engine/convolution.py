"""A 3x3 convolution and its gradients, with input and output kept the way a CPU likes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layout import as_image, as_pixels

CHUNK = 4096
"""Pixels whose share in the weight gradient is computed at a time: about what a core's second-level cache holds."""


def library_is_slow_at_weight_gradients(device: torch.device) -> bool:
    """On a CPU without AVX-512, up to eight times slower than the library's own forward pass."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512"


class Convolution:
    """(H, W, C) to (H, W, K), zeros beyond the border, in bands of rows.

    Input and gradient are kept with a border of zeros. So each band is a convolution of its own. And as a shift by rows
    and columns is a shift by pixels in memory, the gradient of each of the 9 weights of two channels can come from
    plain matrix products, which every CPU is fast at, where the library's own weight gradient is slow.

    Parameters
    ----------
    module : its weights are used, and their gradients set.
    gradient : (H + 2, W + 2, K), zero in the border, where the gradient by the output is kept; convolutions that take
        turns may share it.
    """

    def __init__(self, module: nn.Conv2d, gradient: Tensor) -> None:
        self._module = module
        self._gradient = gradient
        height, width, _ = gradient.shape
        self._input = gradient.new_zeros((height, width, module.in_channels))
        self._shifts = [(row - 1) * width + column - 1 for row in range(3) for column in range(3)]
        self._total = torch.zeros((9, module.out_channels, module.in_channels), device=gradient.device)
        self._bias_total = torch.zeros(module.out_channels, device=gradient.device)
        self._by_products = library_is_slow_at_weight_gradients(gradient.device)

    def begin(self) -> None:
        """Take over the weights, in the arithmetic of the maps."""
        self._weight = self._module.weight.to(self._input)
        self._bias = None if self._module.bias is None else self._module.bias.to(self._input)
        transposed = self._weight.transpose(0, 1).flip(2, 3)
        self._transposed = transposed.contiguous(memory_format=torch.channels_last)

    def set_input(self, rows: slice, x: Tensor) -> None:
        """Take rows of the input, (r, W, C)."""
        self._input[rows.start + 1 : rows.stop + 1, 1:-1] = x

    def output(self, rows: slice) -> Tensor:
        """Rows of the output, (r, W, K); the input must be there to one row below."""
        return _convolved(self._input[rows.start : rows.stop + 2], self._weight, self._bias)

    def begin_gradient(self) -> None:
        self._total.zero_()
        self._bias_total.zero_()

    def add_gradient(self, rows: slice, gradient: Tensor) -> None:
        """Take rows of the loss's gradient by the output, (r, W, K)."""
        self._gradient[rows.start + 1 : rows.stop + 1, 1:-1] = gradient
        self._bias_total += gradient.flatten(0, 1).sum(0)
        if self._by_products:
            self._add_products(rows)
        else:
            self._total += self._library_gradient(rows)

    def finish_gradient(self) -> None:
        """Set the gradients of the weights."""
        weight, bias = self._module.weight, self._module.bias
        assert weight.grad is not None and bias is not None and bias.grad is not None
        bias.grad.copy_(self._bias_total)
        weight.grad.permute(2, 3, 0, 1).copy_(self._total.view(3, 3, *self._total.shape[1:]))

    def input_gradient(self, rows: slice) -> Tensor:
        """Rows of the gradient by the input, (r, W, C); that by the output must be there to one row below."""
        return _convolved(self._gradient[rows.start : rows.stop + 2], self._transposed, None)

    def _library_gradient(self, rows: slice) -> Tensor:
        """(9, K, C), the share of rows in the weight gradient."""
        x = as_image(self._input[rows.start : rows.stop + 2])
        gradient = as_image(self._gradient[rows.start + 1 : rows.stop + 1, 1:-1])
        weight: Tensor
        _, weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, self._weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
        )
        return weight.permute(2, 3, 0, 1).flatten(0, 1)

    def _add_products(self, rows: slice) -> None:
        width = self._gradient.shape[1]
        before, after = self._input.flatten(0, 1), self._gradient.flatten(0, 1)
        # From the first pixel within the border of the first row to the last one of the last row.
        first, last = (rows.start + 1) * width + 1, (rows.stop + 1) * width - 1
        for start in range(first, last, CHUNK):
            stop = min(start + CHUNK, last)
            by_output = after[start:stop].T
            for weight, shift in zip(self._total, self._shifts, strict=True):
                by_input = before[start + shift : stop + shift]
                if by_input.dtype == torch.float32:
                    weight.addmm_(by_output, by_input)
                else:
                    weight.add_(by_output @ by_input)


def _convolved(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return as_pixels(functional.conv2d(as_image(padded), weight, bias))

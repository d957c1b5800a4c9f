"""The layers of the CNN, forward and backward, computed in bands of rows.

A feature map is (H, W, C) with its channels contiguous. Each band is small enough that what one operation writes is
still in the processor's cache when the next one reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

BAND_BYTES = 1 << 21
"""Size of a band in float32 on a CPU, about one operation's share of a core's cache. Smaller bands cost more in calls
than they save."""
CHUNK = 4096
"""Pixels per matrix product in `Convolution`'s weight gradient: about what a core's second-level cache holds."""


def band_rows(width: int, channels: int, device: torch.device) -> int:
    """Rows in a band of (H, width, channels) float32. A GPU, which has no such cache, takes all rows at once."""
    return max(1, BAND_BYTES // (width * channels * 4)) if device.type == "cpu" else 1 << 62


def bands(height: int, rows: int) -> Iterator[slice]:
    """Slices of at most `rows` rows that cover `height`, from the top."""
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def as_image(pixels: Tensor) -> Tensor:
    """View (H, W, C) as (1, C, H, W), in channels-last order."""
    return pixels[None].permute(0, 3, 1, 2)


def as_pixels(image: Tensor) -> Tensor:
    """View (1, C, H, W) as (H, W, C)."""
    return image[0].permute(1, 2, 0)


def surroundings(image: Tensor) -> Tensor:
    """The 3 x 3 pixels around each pixel of (1, 3, H, W), zero-padded: (H, W, 27), ordered by row, column, colour."""
    windows = functional.pad(image, (1, 1, 1, 1))[0].unfold(1, 3, 1).unfold(2, 3, 1)  # (3, H, W, 3, 3)
    return windows.permute(1, 2, 3, 4, 0).flatten(2)


def weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Weight gradient, (K, J), of a linear layer at each pixel, from its output gradient (r, W, K) and input (r, W, J).

    On CUDA it is summed and returned in float32, even for bfloat16 maps.
    """
    outputs, inputs = gradient.flatten(0, 1).T, x.flatten(0, 1)
    if x.is_cuda and x.dtype != torch.float32:
        return torch.mm(outputs, inputs, out_dtype=torch.float32)
    return outputs @ inputs


class Pointwise:
    """A convolution whose whole receptive field is already at each pixel: a linear layer, (H, W, J) to (H, W, K).

    Parameters
    ----------
    module : provides the weights and receives their gradients; J counts its kernel's rows, columns and channels, in
        this order.
    dtype : of the products, float32 or bfloat16.
    """

    def __init__(self, module: nn.Conv2d, dtype: torch.dtype) -> None:
        self._module = module
        self._dtype = dtype
        self._kernel = module.weight.permute(0, 2, 3, 1)  # (K, rows, columns, channels), a view
        self._weight_total = torch.zeros_like(self._kernel.flatten(1))
        self._bias_total = self._weight_total.new_zeros(module.out_channels)

    def begin(self) -> None:
        """Copy the weights, in the dtype of the products."""
        assert self._module.bias is not None
        self._weight = self._kernel.flatten(1).to(self._dtype)
        self._bias = self._module.bias.to(self._dtype)

    def output(self, x: Tensor) -> Tensor:
        """(r, W, K) from (r, W, J)."""
        return functional.linear(x.to(self._dtype), self._weight, self._bias)

    def begin_gradient(self) -> None:
        self._weight_total.zero_()
        self._bias_total.zero_()

    def add_gradient(self, x: Tensor, gradient: Tensor) -> None:
        """Add a band to the weights' gradients: its input (r, W, J) and output gradient (r, W, K)."""
        self._bias_total += gradient.flatten(0, 1).sum(0)
        self._weight_total += weight_gradient(gradient.to(self._dtype), x.to(self._dtype))

    def finish_gradient(self) -> None:
        """Set the gradients of the module's weights."""
        weight, bias = gradients(self._module)
        weight.permute(0, 2, 3, 1).copy_(self._weight_total.view(self._kernel.shape))
        bias.copy_(self._bias_total)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """A band of the input gradient, (r, W, J), from the output gradient (r, W, K)."""
        return gradient.to(self._dtype) @ self._weight


class Convolution:
    """A 3x3 convolution with zero padding, (H, W, C) to (H, W, K).

    Input and output gradient are kept with a border of zeros, so each band is a convolution of its own. The weight
    gradient comes from the library where that is fast. On a CPU without AVX-512 the library takes up to eight times as
    long as for the forward pass, so matrix products compute it: a shift by rows and columns is a shift by pixels in
    memory, and each of the 9 kernel positions is one product of two shifted maps.

    Parameters
    ----------
    module : provides the weights and receives their gradients.
    gradient : (H + 2, W + 2, K) buffer with a zero border for the output gradient; convolutions may share it.
    """

    def __init__(self, module: nn.Conv2d, gradient: Tensor) -> None:
        self._module = module
        self._gradient = gradient
        height, width, _ = gradient.shape
        self._input = gradient.new_zeros((height, width, module.in_channels))
        self._shifts = [(row - 1) * width + column - 1 for row in range(3) for column in range(3)]
        self._weight_total = torch.zeros((9, module.out_channels, module.in_channels), device=gradient.device)
        self._bias_total = torch.zeros(module.out_channels, device=gradient.device)
        self._by_products = gradient.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512"

    def begin(self) -> None:
        """Copy the weights, in the dtype of the maps."""
        assert self._module.bias is not None
        self._weight = self._module.weight.to(self._input)
        self._bias = self._module.bias.to(self._input)
        transposed = self._weight.transpose(0, 1).flip(2, 3)
        self._transposed = transposed.contiguous(memory_format=torch.channels_last)

    def set_input(self, rows: slice, x: Tensor) -> None:
        """Store a band of the input, (r, W, C)."""
        self._input[rows.start + 1 : rows.stop + 1, 1:-1] = x

    def output(self, rows: slice) -> Tensor:
        """A band of the output, (r, W, K). The input must be set down to one row below it."""
        return _convolve(self._input[rows.start : rows.stop + 2], self._weight, self._bias)

    def begin_gradient(self) -> None:
        self._weight_total.zero_()
        self._bias_total.zero_()

    def add_gradient(self, rows: slice, gradient: Tensor) -> None:
        """Store a band of the output gradient, (r, W, K), and add it to the weights' gradients."""
        self._gradient[rows.start + 1 : rows.stop + 1, 1:-1] = gradient
        self._bias_total += gradient.flatten(0, 1).sum(0)
        if self._by_products:
            self._add_products(rows)
        else:
            self._weight_total += self._library_gradient(rows)

    def finish_gradient(self) -> None:
        """Set the gradients of the module's weights."""
        weight, bias = gradients(self._module)
        weight.permute(2, 3, 0, 1).copy_(self._weight_total.view(3, 3, *self._weight_total.shape[1:]))
        bias.copy_(self._bias_total)

    def input_gradient(self, rows: slice) -> Tensor:
        """A band of the input gradient, (r, W, C). The output gradient must be added down to one row below it."""
        return _convolve(self._gradient[rows.start : rows.stop + 2], self._transposed, None)

    def _library_gradient(self, rows: slice) -> Tensor:
        """(9, K, C), a band's share of the weight gradient."""
        x = as_image(self._input[rows.start : rows.stop + 2])
        gradient = as_image(self._gradient[rows.start + 1 : rows.stop + 1, 1:-1])
        weight: Tensor
        _, weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, self._weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
        )
        return weight.permute(2, 3, 0, 1).flatten(0, 1)

    def _add_products(self, rows: slice) -> None:
        width = self._gradient.shape[1]
        x, by_output = self._input.flatten(0, 1), self._gradient.flatten(0, 1)
        # From the first pixel inside the border of the first row to the last one of the last row.
        first, last = (rows.start + 1) * width + 1, (rows.stop + 1) * width - 1
        for start in range(first, last, CHUNK):
            stop = min(start + CHUNK, last)
            gradient = by_output[start:stop].T
            for total, shift in zip(self._weight_total, self._shifts, strict=True):
                shifted = x[start + shift : stop + shift]
                if x.dtype == torch.float32:
                    total.addmm_(gradient, shifted)
                else:
                    total.add_(gradient @ shifted)


class Normalisation:
    """A BatchNorm in training mode and the ReLU before it: y = gamma (a - mean) / sqrt(var + eps) + beta, a = relu(z).

    Forward: `begin`, `add` each band of z, `finish`; then `output` gives any band of y. Backward: `begin_gradient`,
    `add_gradient` each band of the gradient with respect to y, `finish_gradient`; then `input_gradient` gives any band
    of the gradient with respect to z.

    Parameters
    ----------
    module : provides gamma and beta and receives their gradients and, as running statistics, those of each pass.
    activation : (H, W, C) buffer for a, of any floating type.
    gradient : (H, W, C) buffer of the same type for the gradient with respect to y; layers may share it.
    relu : apply the ReLU; otherwise a = z.
    """

    def __init__(self, module: nn.BatchNorm2d, activation: Tensor, gradient: Tensor, *, relu: bool = True) -> None:
        self._module = module
        self.activation = activation
        self._gradient = gradient
        self._relu = relu
        self._pixels = activation.shape[0] * activation.shape[1]
        self._exact = exact_dtype(activation.device)
        self._coefficients = torch.empty((3, activation.shape[2]), device=activation.device)
        # With running statistics passed, the library returns a band's own in float32. Nothing reads these.
        self._unread = torch.zeros(activation.shape[2], device=activation.device)

    def begin(self) -> None:
        self._bands: list[tuple[int, Tensor, Tensor]] = []

    def add(self, rows: slice, z: Tensor) -> None:
        """Take a band of z, (r, W, C), which is overwritten."""
        a = self.activation[rows]
        a.copy_(z.relu_() if self._relu else z)
        if a.device.type == "cpu":
            mean, variance = torch.batch_norm_update_stats(as_image(a), self._unread, self._unread, 1.0)
        else:
            variance, mean = torch.var_mean(a.float(), (0, 1), correction=0)
        self._bands.append((a.shape[0] * a.shape[1], mean, variance))

    def finish(self) -> None:
        """Combine the bands' statistics: Chan et al., doi:10.1007/978-3-642-51461-6_3."""
        module, exact = self._module, self._exact
        shares = [pixels / self._pixels for pixels, _, _ in self._bands]
        means = torch.stack([mean for _, mean, _ in self._bands]).to(exact)
        variances = torch.stack([variance for _, _, variance in self._bands]).to(exact)
        share = torch.tensor(shares, dtype=exact, device=means.device) if len(shares) > 1 else means.new_ones(1)
        mean = share @ means
        variance = share @ (variances + (means - mean).square())
        assert module.running_mean is not None and module.running_var is not None
        self._mean = mean.float()
        self._inverse = (variance + module.eps).rsqrt().float()
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance * (self._pixels / max(self._pixels - 1, 1)))
        self._scale = module.weight * self._inverse
        self._shift = module.bias - self._mean * self._scale

    def output(self, rows: slice) -> Tensor:
        """A band of y, (r, W, C) float32."""
        return torch.addcmul(self._shift, self.activation[rows], self._scale)

    def begin_gradient(self) -> None:
        self._sums = torch.zeros((2, self.activation.shape[2]), dtype=self._exact, device=self.activation.device)

    def add_gradient(self, rows: slice, gradient: Tensor) -> None:
        """Take a band of the gradient with respect to y, (r, W, C)."""
        g, a = self._gradient[rows], self.activation[rows]
        g.copy_(gradient)
        if a.device.type == "cpu":
            # With an inverse deviation of 1, the gradient of gamma is the sum of g (a - mean).
            one, unread = torch.ones_like(self._mean), self._unread
            _, projected, total = torch.ops.aten.native_batch_norm_backward(
                as_image(g), as_image(a), None, unread, unread, self._mean, one, True, 0.0, [False, True, True]
            )
        else:
            total = g.sum((0, 1), dtype=torch.float32)
            projected = (a - self._mean).mul_(g).sum((0, 1))
        self._sums[0] += total
        self._sums[1] += projected

    def finish_gradient(self) -> None:
        """Set the gradients of gamma and beta, and the coefficients of `input_gradient`."""
        total, projected = self._sums.float()
        weight, bias = gradients(self._module)
        torch.mul(projected, self._inverse, out=weight)
        bias.copy_(total)
        along = -self._scale * self._inverse.square() * projected / self._pixels
        constant = -self._scale * total / self._pixels - along * self._mean
        torch.stack((self._scale, along, constant), out=self._coefficients)

    def input_gradient(self, rows: slice) -> Tensor:
        """A band of the gradient with respect to z, (r, W, C) float32."""
        activation = self.activation[rows]
        by_gradient, by_activation, constant = self._coefficients
        result = torch.addcmul(constant, activation, by_activation).addcmul_(self._gradient[rows], by_gradient)
        return torch.ops.aten.threshold_backward(result, activation, 0.0) if self._relu else result


def exact_dtype(device: torch.device) -> torch.dtype:
    """Dtype of sums over bands. MPS has no float64, and takes the map as one band, which has no sums to round."""
    return torch.float32 if device.type == "mps" else torch.float64


def gradients(module: nn.Conv2d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The gradients of a module's weight and bias, to be overwritten in place."""
    assert module.bias is not None
    assert module.weight.grad is not None and module.bias.grad is not None
    return module.weight.grad, module.bias.grad


def prepare_gradients(network: nn.Module) -> None:
    """Give every parameter a gradient tensor of its own memory layout, which is then reused."""
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _convolve(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return as_pixels(functional.conv2d(as_image(padded), weight, bias))

"""A BatchNorm in training mode, with the ReLU before it, over a map that comes and goes in bands of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layout import as_image


class Normalisation:
    """y = gamma (a - mean) / sqrt(var + eps) + beta over (H, W, C), where a = relu(z), or z itself.

    Forward: `begin`, `add` each band of z, `finish`; then `output` gives any rows of y. Backward: `begin_gradient`,
    `add_gradient` each band of the loss's gradient by y, `finish_gradient`; then `input_gradient` gives that by z.

    Parameters
    ----------
    module : its weight and bias are gamma and beta; its running statistics become those of each pass, its weights'
        gradients those of each backward pass.
    activation : (H, W, C) of any floating type, where a is kept.
    gradient : (H, W, C) of the same type, where the gradient by y is kept; Normalisations that take turns may share it.
    relu : whether z goes through a ReLU first.
    """

    def __init__(self, module: nn.BatchNorm2d, activation: Tensor, gradient: Tensor, *, relu: bool = True) -> None:
        self._module = module
        self.activation = activation
        self._gradient = gradient
        self._relu = relu
        self._pixels = activation.shape[0] * activation.shape[1]
        # MPS has no float64, and sees the map in one band: there are no partial sums to lose digits in.
        self._exact = torch.float32 if activation.device.type == "mps" else torch.float64
        self._coefficients = torch.empty((3, activation.shape[2]), device=activation.device)
        # Running statistics that nobody reads: with them at hand the library gives a band's own in float32.
        self._unread = torch.zeros(activation.shape[2], device=activation.device)

    def begin(self) -> None:
        self._bands: list[tuple[int, Tensor, Tensor]] = []

    def add(self, rows: slice, z: Tensor) -> None:
        """Take rows of z, (r, W, C), which are overwritten."""
        a = self.activation[rows]
        a.copy_(z.relu_() if self._relu else z)
        if a.device.type == "cpu":
            mean, variance = torch.batch_norm_update_stats(as_image(a), self._unread, self._unread, 1.0)
        else:
            variance, mean = torch.var_mean(a.float(), (0, 1), correction=0)
        self._bands.append((a.shape[0] * a.shape[1], mean, variance))

    def finish(self) -> None:
        module, exact = self._module, self._exact
        # Mean and variance of the whole from those of its parts: Chan et al., doi:10.1007/978-3-642-51461-6_3.
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
        """Rows of y, (r, W, C) float32."""
        return torch.addcmul(self._shift, self.activation[rows], self._scale)

    def begin_gradient(self) -> None:
        self._sums = torch.zeros((2, self.activation.shape[2]), dtype=self._exact, device=self.activation.device)

    def add_gradient(self, rows: slice, gradient: Tensor) -> None:
        """Take rows of the gradient by y, (r, W, C)."""
        g, a = self._gradient[rows], self.activation[rows]
        g.copy_(gradient)
        if a.device.type == "cpu":
            # With an inverse deviation of 1 the gradient by gamma is the sum of g (a - mean).
            _, projected, total = torch.ops.aten.native_batch_norm_backward(
                as_image(g),
                as_image(a),
                None,
                self._unread,
                self._unread,
                self._mean,
                torch.ones_like(self._mean),
                True,
                0.0,
                [False, True, True],
            )
        else:
            total = g.sum((0, 1), dtype=torch.float32)
            projected = (a - self._mean).mul_(g).sum((0, 1))
        self._sums[0] += total
        self._sums[1] += projected

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
        activation = self.activation[rows]
        by_gradient, by_activation, constant = self._coefficients
        result = torch.addcmul(constant, activation, by_activation).addcmul_(self._gradient[rows], by_gradient)
        return torch.ops.aten.threshold_backward(result, activation, 0.0) if self._relu else result

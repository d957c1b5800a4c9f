"""Triton kernels for a BatchNorm and the ReLU before it, with as little memory traffic as the method allows.

A map is a contiguous (H, W, C) tensor, float32 or bfloat16. All arithmetic is float32, and sums over a whole map are
finished in float64. Every call can be captured in a CUDA graph: it waits for nothing, and its launch depends only on
shapes.

Equal runs give equal bytes: there are no atomics. Each program sums over its share of the pixels, and a second, small
kernel, `finish_...`, adds up the shares in a fixed order. It writes the result where it belongs, so that nothing is
copied afterwards. Height and width are ordinary kernel arguments, so photos of all sizes share the compiled code.

    measure, finish_statistics, normalise                           forward
    measure_gradient, finish_gradient, input_gradient, finish_sum   backward
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from .launching import (
    GROUP,
    LAUNCH,
    ROWS,
    SIZES,
    added_up,
    block_of,
    by_channel,
    rows_of,
    shares_of,
    size_of,
    starts,
    tile_of,
    tiles_of,
)


@dataclass(frozen=True)
class Activation:
    """a = relu(z + bias), or z + bias. It is recomputed wherever it is read, and never stored."""

    z: Tensor
    """(H, W, C) float32 or bfloat16."""
    bias: Tensor
    """(C,). If cuDNN added it, that would take a pass of its own."""
    relu: bool = True


class Normalisation:
    """A BatchNorm in training mode over the first channels of maps of C. The others are padding, and 0 in y.

    Parameters
    ----------
    module : provides gamma and beta, and receives the statistics of each pass as its running ones, the variance
        unbiased.
    channels : C.
    offset : added to the running mean, but not to the map, because the BatchNorm would subtract it again.
    """

    def __init__(self, module: nn.BatchNorm2d, channels: int, offset: Tensor | None = None) -> None:
        self.module = module
        self.offset = offset
        device = module.weight.device
        self.mean, self.inverse, self.scale, self.shift = torch.zeros((4, channels), device=device).unbind()
        """(C,) float32 of the last pass: inverse = 1 / sqrt(variance + eps), and y = scale a + shift."""
        self.coefficients = torch.zeros((3, channels), device=device)
        """The gradient with respect to a is the first times that with respect to y, plus the second times a, plus the
        third."""
        self.weight_gradient = torch.zeros_like(module.weight)
        self.bias_gradient = torch.zeros_like(module.weight)


def measure(activation: Activation) -> Tensor:
    """Count, mean, and sum of squared deviations from it, of each share of the pixels: (shares, 3, C) float32."""
    z = activation.z
    pixels, channels = size_of(z)
    tile, tiles = tile_of(channels), tiles_of(z)
    shares = shares_of(pixels, tile * tiles)
    partials = z.new_empty((shares, 3, channels), dtype=torch.float32)
    _measure[(shares,)](
        z, activation.bias, partials, pixels, channels, block_of(channels), tile, tiles, activation.relu, **LAUNCH
    )
    return partials


def finish_statistics(partials: Tensor, norm: Normalisation) -> None:
    """Set all forward vectors of `norm` and the module's statistics from the result of `measure`."""
    shares, _, channels = partials.shape
    module = norm.module
    _finish_statistics[(triton.cdiv(channels, GROUP.value),)](
        partials, module.weight, module.bias, norm.offset, module.eps, norm.mean, norm.inverse, norm.scale, norm.shift,
        module.running_mean, module.running_var, shares, channels, module.num_features, num_warps=8,
    )  # fmt: skip


def normalise(activation: Activation, norm: Normalisation, out: Tensor) -> None:
    """Set out, (H, W, C) of any floating type, to y = scale a + shift."""
    pixels, channels = size_of(activation.z, out)
    pixels_at_a_time = 2 * tile_of(channels)
    _normalise[(triton.cdiv(pixels, pixels_at_a_time),)](
        activation.z, activation.bias, norm.scale, norm.shift, out, pixels, channels, block_of(channels),
        pixels_at_a_time, activation.relu, **LAUNCH,
    )  # fmt: skip


def measure_gradient(gradient: Tensor, activation: Activation, norm: Normalisation) -> Tensor:
    """Sums of g and of g (a - mean) over each share of the pixels: (shares, 2, C) float32.

    g is the gradient with respect to y.
    """
    z = activation.z
    pixels, channels = size_of(z, gradient)
    tile, tiles = tile_of(channels), tiles_of(gradient, z)
    shares = shares_of(pixels, tile * tiles)
    partials = z.new_empty((shares, 2, channels), dtype=torch.float32)
    _measure_gradient[(shares,)](
        gradient, z, activation.bias, norm.mean, partials, pixels, channels, block_of(channels), tile, tiles,
        activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_gradient(partials: Tensor, pixels: int, norm: Normalisation) -> None:
    """Set the gradients and the coefficients of `norm`, from `measure_gradient` or `objective_gradient`."""
    shares, _, channels = partials.shape
    _finish_gradient[(triton.cdiv(channels, GROUP.value),)](
        partials, norm.mean, norm.inverse, norm.scale, norm.weight_gradient, norm.bias_gradient, norm.coefficients,
        pixels, shares, channels, norm.module.num_features, num_warps=8,
    )  # fmt: skip


def input_gradient(gradient: Tensor, activation: Activation, norm: Normalisation, out: Tensor) -> Tensor:
    """Set out, (H, W, C) of any floating type, to the gradient with respect to z. It may be `gradient` itself.

    Returns its sums over each share of the pixels, (shares, 1, C) float32, before rounding to the type of out;
    `finish_sum` turns them into the gradient of the bias.
    """
    z = activation.z
    pixels, channels = size_of(z, gradient, out)
    pixels_at_a_time = tile_of(channels) * tiles_of(gradient, z)
    shares = shares_of(pixels, pixels_at_a_time)
    partials = z.new_empty((shares, 1, channels), dtype=torch.float32)
    _input_gradient[(shares,)](
        gradient, z, activation.bias, norm.coefficients, out, partials, pixels, channels, block_of(channels),
        pixels_at_a_time, activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_sum(partials: Tensor, out: Tensor) -> None:
    """Set out, (C,) float32, to the sum of (shares, 1, C)."""
    shares, _, channels = partials.shape
    _finish_sum[(triton.cdiv(channels, GROUP.value),)](partials, out, shares, channels, num_warps=8)


@triton.jit
def _activate(z, bias, relu: tl.constexpr):
    a = z.to(tl.float32) + bias
    if relu:
        # Like PyTorch, so that a diverged network is noticed.
        a = tl.maximum(a, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return a


@triton.jit(do_not_specialize=SIZES)
def _measure(
    z, bias, partials, pixels, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr, tiles: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added = by_channel(bias, channel, channels)
    # Welford's algorithm at each position of the tile; the positions are combined at the end.
    count = tl.zeros((tile, 1), tl.float32)
    mean = tl.zeros((tile, padded), tl.float32)
    squares = tl.zeros((tile, padded), tl.float32)
    for first in range(share * (tiles * tile), pixels, shares * (tiles * tile)):
        for part in tl.static_range(tiles):
            pixel = first + part * tile + tl.arange(0, tile)
            there = (pixel < pixels)[:, None]
            at = starts(pixel, channels) + channel[None, :]
            a = _activate(tl.load(z + at, mask=there & within[None, :], other=0.0), added, relu)
            one = tl.where(there, 1.0, 0.0)
            count += one
            part_of_mean = one / tl.maximum(count, 1.0)
            deviation = a - mean
            mean += deviation * part_of_mean
            squares += deviation * deviation * (one - part_of_mean)
    total = tl.sum(count)
    common = tl.sum(count * mean, 0) / total
    apart = mean - common[None, :]
    squares += count * apart * apart
    row = partials + share * 3 * channels + channel
    tl.store(row, tl.zeros((padded,), tl.float32) + total, mask=within)
    tl.store(row + channels, common, mask=within)
    tl.store(row + 2 * channels, tl.sum(squares, 0), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _finish_statistics(
    partials, weight, bias, offset, eps, mean, inverse, scale, shift, running_mean, running_var, shares,
    channels: tl.constexpr, features: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    within = channel < channels
    counts = tl.zeros((ROWS, GROUP), tl.float64)
    totals = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = rows_of(first, shares, within)
        at = partials + row * 3 * channels + channel[None, :]
        count = tl.load(at, mask=there, other=0.0).to(tl.float64)
        counts += count
        totals += count * tl.load(at + channels, mask=there, other=0.0)
    pixels = tl.maximum(tl.sum(counts, 0), 1.0)  # 0 in padded channels
    centre = tl.sum(totals, 0) / pixels
    squares = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = rows_of(first, shares, within)
        at = partials + row * 3 * channels + channel[None, :]
        count = tl.load(at, mask=there, other=0.0).to(tl.float64)
        apart = tl.load(at + channels, mask=there, other=0.0) - centre[None, :]
        squares += tl.load(at + 2 * channels, mask=there, other=0.0) + count * apart * apart
    deviations = tl.sum(squares, 0)
    inverted = 1.0 / tl.sqrt(deviations / pixels + eps)
    counted = channel < features
    gamma = tl.load(weight + channel, mask=counted, other=0.0)
    beta = tl.load(bias + channel, mask=counted, other=0.0)
    tl.store(mean + channel, centre, mask=within)
    tl.store(inverse + channel, inverted, mask=within)
    tl.store(scale + channel, gamma * inverted, mask=within)
    tl.store(shift + channel, beta - centre * gamma * inverted, mask=within)
    if offset is not None:
        centre += tl.load(offset + channel, mask=counted, other=0.0)
    tl.store(running_mean + channel, centre, mask=counted)
    tl.store(running_var + channel, deviations / tl.maximum(pixels - 1.0, 1.0), mask=counted)


@triton.jit(do_not_specialize=SIZES)
def _normalise(
    z, bias, scale, shift, out, pixels, channels: tl.constexpr, padded: tl.constexpr, at_a_time: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, padded)
    pixel = tl.program_id(0) * at_a_time + tl.arange(0, at_a_time)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = starts(pixel, channels) + channel[None, :]
    a = _activate(tl.load(z + at, mask=there, other=0.0), by_channel(bias, channel, channels), relu)
    y = a * by_channel(scale, channel, channels) + by_channel(shift, channel, channels)
    tl.store(out + at, y, mask=there)


@triton.jit(do_not_specialize=SIZES)
def _measure_gradient(
    gradient, z, bias, mean, partials, pixels, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
    tiles: tl.constexpr, relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added, centre = by_channel(bias, channel, channels), by_channel(mean, channel, channels)
    total = tl.zeros((tile, padded), tl.float32)
    projected = tl.zeros((tile, padded), tl.float32)
    for first in range(share * (tiles * tile), pixels, shares * (tiles * tile)):
        for part in tl.static_range(tiles):
            pixel = first + part * tile + tl.arange(0, tile)
            there = (pixel < pixels)[:, None] & within[None, :]
            at = starts(pixel, channels) + channel[None, :]
            g = tl.load(gradient + at, mask=there, other=0.0).to(tl.float32)
            a = _activate(tl.load(z + at, mask=there, other=0.0), added, relu)
            total += g
            projected += g * (a - centre)
    row = partials + share * 2 * channels + channel
    tl.store(row, tl.sum(total, 0), mask=within)
    tl.store(row + channels, tl.sum(projected, 0), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _finish_gradient(
    partials, mean, inverse, scale, weight_gradient, bias_gradient, coefficients, pixels, shares,
    channels: tl.constexpr, features: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    within = channel < channels
    total = added_up(partials + channel, 2 * channels, shares, within)
    projected = added_up(partials + channels + channel, 2 * channels, shares, within)
    inverted = tl.load(inverse + channel, mask=within, other=0.0).to(tl.float64)
    by_gradient = tl.load(scale + channel, mask=within, other=0.0).to(tl.float64)
    centre = tl.load(mean + channel, mask=within, other=0.0)
    by_activation = -by_gradient * inverted * inverted * projected / pixels
    tl.store(weight_gradient + channel, projected * inverted, mask=channel < features)
    tl.store(bias_gradient + channel, total, mask=channel < features)
    tl.store(coefficients + channel, by_gradient, mask=within)
    tl.store(coefficients + channels + channel, by_activation, mask=within)
    constant = -by_gradient * total / pixels - by_activation * centre
    tl.store(coefficients + 2 * channels + channel, constant, mask=within)


@triton.jit(do_not_specialize=SIZES)
def _input_gradient(
    gradient, z, bias, coefficients, out, partials, pixels, channels: tl.constexpr, padded: tl.constexpr,
    at_a_time: tl.constexpr, relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added = by_channel(bias, channel, channels)
    by_gradient = by_channel(coefficients, channel, channels)
    by_activation = by_channel(coefficients + channels, channel, channels)
    constant = by_channel(coefficients + 2 * channels, channel, channels)
    total = tl.zeros((at_a_time, padded), tl.float32)
    for first in range(share * at_a_time, pixels, shares * at_a_time):
        pixel = first + tl.arange(0, at_a_time)
        there = (pixel < pixels)[:, None] & within[None, :]
        at = starts(pixel, channels) + channel[None, :]
        g = tl.load(gradient + at, mask=there, other=0.0).to(tl.float32)
        a = _activate(tl.load(z + at, mask=there, other=0.0), added, relu)
        result = by_gradient * g + (by_activation * a + constant)
        result = tl.where(there & (a > 0) if relu else there, result, 0.0)
        tl.store(out + at, result, mask=there)
        total += result
    tl.store(partials + share * channels + channel, tl.sum(total, 0), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _finish_sum(partials, out, shares, channels: tl.constexpr):
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    within = channel < channels
    tl.store(out + channel, added_up(partials + channel, channels, shares, within), mask=within)

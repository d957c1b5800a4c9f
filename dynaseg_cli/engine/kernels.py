"""The passes over the feature maps on a CUDA device, in Triton: each reads and writes as little as the method allows.

A map is (H, W, C) with its channels side by side, float32 or bfloat16; its pixels may lie apart, as those within a
border do, as long as its rows are a whole number of pixels apart. All arithmetic is float32, and the sums over a whole
map are finished in float64. Every call can be captured in a CUDA graph: it waits for nothing, and what it launches
follows from shapes alone.

The bytes of a result are the same run after run: no atomics, but each program sums over its share of the pixels, and a
second, small kernel, `finish_...`, adds up the shares in a fixed order. Height and width are plain arguments of the
kernels, so that photos of all sizes share what was compiled for the first.

    measure, finish_statistics, normalise                               a BatchNorm, forward
    measure_gradient, finish_gradient, input_gradient, finish_sum       and backward
    evaluate_objective, finish_objective, objective_gradient            loss and labels, and the loss's gradient
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..config import Mode

MAXIMUM_SHARES = 512
"""Programs of a pass that sums: four for each of the 132 processors of an H100 or H200, so that none has to wait."""
LAUNCH = {"num_warps": 4, "maxnreg": 128}
"""Of each such program, and of each of its threads: four of them need all the registers that a processor has."""
TILE_VALUES = 1024
"""Of a map, that a program holds at a time: 8 in each thread, whatever the number of channels."""
BYTES_UNDER_WAY = 128
"""What each thread asks the memory for at once: 64 kB on each processor keep it busy."""
ROWS = tl.constexpr(512)
"""Shares that a finishing kernel adds up at a time."""
GROUP = tl.constexpr(8)
"""Channels that a program of a finishing kernel adds up: 32 bytes, the least a memory transfer brings."""

LARGE = tl.constexpr(2.0**64)
LOG2E = tl.constexpr(1 / math.log(2))


@dataclass(frozen=True)
class Activation:
    """a = relu(z + bias), or z + bias. It is computed wherever it is read, and so never written."""

    z: Tensor
    """(H, W, C) float32 or bfloat16."""
    bias: Tensor
    """(C,). A convolution by cuDNN would add it in a pass of its own."""
    relu: bool = True


def measure(activation: Activation) -> Tensor:
    """Count, mean, and squared deviations from that mean, of each share of the pixels: (shares, 3, C) float32."""
    z = activation.z
    height, width, channels = z.shape
    tile, tiles = _tile(channels), _tiles(z)
    shares = _shares(height * width, tile * tiles)
    partials = z.new_empty((shares, 3, channels), dtype=torch.float32)
    _measure[(shares,)](
        z, activation.bias, partials, height * width, width, *_layout(z), channels, _padded(channels),
        tile, tiles, activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_statistics(
    partials: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    mean: Tensor,
    inverse: Tensor,
    scale: Tensor,
    shift: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
) -> None:
    """Set the statistics of the map that `measure` went through, and y = scale a + shift, the BatchNorm by them.

    Parameters
    ----------
    weight, bias : (C,), gamma and beta.
    mean, inverse, scale, shift : (C,) float32, set; inverse = 1 / sqrt(variance + eps).
    running_mean, running_var : (C,) float32, set to those of this pass, the variance without bias.
    """
    shares, _, channels = partials.shape
    _finish_statistics[(triton.cdiv(channels, GROUP.value),)](
        partials, weight, bias, eps, mean, inverse, scale, shift, running_mean, running_var, shares, channels,
        num_warps=8,
    )  # fmt: skip


def normalise(activation: Activation, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """out = scale a + shift, (H, W, C) of any floating type."""
    z = activation.z
    height, width, channels = z.shape
    pixels_at_a_time = 2 * _tile(channels)
    _normalise[(triton.cdiv(height * width, pixels_at_a_time),)](
        z, activation.bias, scale, shift, out, height * width, width, *_layout(z), *_layout(out), channels,
        _padded(channels), pixels_at_a_time, activation.relu, **LAUNCH,
    )  # fmt: skip


def measure_gradient(gradient: Tensor, activation: Activation, mean: Tensor) -> Tensor:
    """Sums of g and of g (a - mean) over each share of the pixels, for g the gradient by y: (shares, 2, C) float32."""
    z = activation.z
    height, width, channels = z.shape
    tile, tiles = _tile(channels), _tiles(gradient, z)
    shares = _shares(height * width, tile * tiles)
    partials = z.new_empty((shares, 2, channels), dtype=torch.float32)
    _measure_gradient[(shares,)](
        gradient, z, activation.bias, mean, partials, height * width, width, *_layout(gradient), *_layout(z), channels,
        _padded(channels), tile, tiles, activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_gradient(
    partials: Tensor,
    pixels: int,
    mean: Tensor,
    inverse: Tensor,
    scale: Tensor,
    weight_gradient: Tensor,
    bias_gradient: Tensor,
    coefficients: Tensor,
) -> None:
    """Set the gradients of gamma and beta, and how that by a follows from that by y.

    Parameters
    ----------
    partials : of `measure_gradient` or `objective_gradient`.
    pixels : H W.
    mean, inverse, scale : (C,) float32, as `finish_statistics` left them.
    weight_gradient, bias_gradient : (C,) float32, set.
    coefficients : (3, C) float32, set: the gradient by a is the first times that by y plus the second times a plus the
        third.
    """
    shares, _, channels = partials.shape
    _finish_gradient[(triton.cdiv(channels, GROUP.value),)](
        partials, mean, inverse, scale, weight_gradient, bias_gradient, coefficients, pixels, shares, channels,
        num_warps=8,
    )  # fmt: skip


def input_gradient(gradient: Tensor, activation: Activation, coefficients: Tensor, out: Tensor) -> Tensor:
    """Set out, (H, W, C) of any floating type, to the gradient by z; it may be `gradient` itself.

    Returns its sums over each share of the pixels, (shares, 1, C) float32, before they are rounded to the type of out:
    `finish_sum` makes of them the gradient by the bias.
    """
    z = activation.z
    height, width, channels = z.shape
    pixels_at_a_time = _tile(channels) * _tiles(gradient, z)
    shares = _shares(height * width, pixels_at_a_time)
    partials = z.new_empty((shares, 1, channels), dtype=torch.float32)
    _input_gradient[(shares,)](
        gradient, z, activation.bias, coefficients, out, partials, height * width, width, *_layout(gradient),
        *_layout(z), *_layout(out), channels, _padded(channels), pixels_at_a_time, activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_sum(partials: Tensor, out: Tensor) -> None:
    """Set out, (C,) float32, to the sum of (shares, 1, C)."""
    shares, _, channels = partials.shape
    _finish_sum[(triton.cdiv(channels, GROUP.value),)](partials, out, shares, channels, num_warps=8)


def evaluate_objective(
    z: Tensor, scale: Tensor, shift: Tensor, clusters: int, labels: Tensor, log_partition: Tensor, slots: Tensor
) -> Tensor:
    """Labels and the sums of both losses for the response r = scale z + shift, of which the first channels count.

    Parameters
    ----------
    z : (H, W, C) float32 or bfloat16, and C may exceed the number of clusters.
    scale, shift : (C,) float32.
    labels : (H, W) int64, contiguous, set to the argmax, the first of equals.
    log_partition : (H, W) float32, contiguous, set to the logarithm of the sum of exp(r).
    slots : (clusters,) int32, set to 1 for the labels that occur and to 0 for the others.

    Returns (shares, 2) float32: sums of log_partition - max r, and of the absolute differences of neighbours, each as a
    part of all those in its direction.
    """
    height, width, channels = z.shape
    strips, bands, rows = _strips_and_bands(height, width, channels)
    partials = z.new_empty((strips * bands, 2), dtype=torch.float32)
    slots.zero_()
    _evaluate_objective[(strips, bands)](
        z, scale, shift, labels, log_partition, slots, partials, 1 / _pairs_across(height, width, clusters),
        1 / _pairs_down(height, width, clusters), height, width, rows, *_layout(z), clusters,
        channels, _padded(channels), _tile(channels), **LAUNCH,
    )  # fmt: skip
    return partials


def finish_objective(
    partials: Tensor,
    slots: Tensor,
    threshold: Tensor,
    pixels: int,
    mode: Mode,
    weight: float,
    scalars: Tensor,
    present: Tensor,
) -> None:
    """Set the loss of eq. 7 and what it is made of.

    Parameters
    ----------
    partials, slots : of `evaluate_objective`.
    pixels : H W.
    threshold : () int64, the least number of labels that mu counts.
    mode, weight : see `method.weighting`.
    scalars : (4,) float32, set to the loss, its similarity, its continuity, and mu.
    present : () int64, set to q', the number of labels present.
    """
    clusters = len(slots)
    _finish_objective[(1,)](
        partials, slots, threshold, scalars, present, float(weight), 1 / pixels, len(partials), clusters,
        _padded(clusters), mode, **LAUNCH,
    )  # fmt: skip


def objective_gradient(
    z: Tensor,
    scale: Tensor,
    shift: Tensor,
    clusters: int,
    labels: Tensor,
    log_partition: Tensor,
    mu: Tensor,
    mean: Tensor,
    out: Tensor,
) -> Tensor:
    """Set out, (H, W, C) of any floating type, to the loss's gradient by the response, and sum as `measure_gradient`.

    `labels` and `log_partition` are those of `evaluate_objective`, mu is () float32, `mean` (C,) that of z. Channels
    beyond the clusters are set to 0.
    """
    height, width, channels = z.shape
    strips, bands, rows = _strips_and_bands(height, width, channels)
    partials = z.new_empty((strips * bands, 2, channels), dtype=torch.float32)
    _objective_gradient[(strips, bands)](
        z, scale, shift, labels, log_partition, mu, mean, out, partials, 1 / (height * width),
        1 / _pairs_across(height, width, clusters), 1 / _pairs_down(height, width, clusters), height, width, rows,
        *_layout(z), *_layout(out), clusters, channels, _padded(channels), _tile(channels), **LAUNCH,
    )  # fmt: skip
    return partials


def _layout(pixels: Tensor) -> tuple[int | None, int]:
    """Pixels of memory that are skipped from each row to the next, and values from each pixel to the next.

    None where nothing is skipped, which spares a division for each pixel.
    """
    height, width, channels = pixels.shape
    row, pixel, channel = pixels.stride()
    if width == 1:  # PyTorch may say anything of the step to a second one
        pixel = channels if row % channels == 0 else row
    skipped, rest = divmod(row - width * pixel, pixel)
    assert (channel == 1 or channels == 1) and (rest == 0 or height == 1)
    return skipped or None, pixel


def _shares(pixels: int, at_a_time: int) -> int:
    """Programs that share the pixels, so many at a time, each nearly as often as any other."""
    tiles = triton.cdiv(pixels, at_a_time)
    shares: int = triton.cdiv(tiles, triton.cdiv(tiles, MAXIMUM_SHARES))
    return shares


def _strips_and_bands(height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Programs across and down, and rows of each: a program goes down its strip, the row above still at hand."""
    strips = triton.cdiv(width, _tile(channels))
    rows = triton.cdiv(height, max(MAXIMUM_SHARES // strips, 1))
    return strips, triton.cdiv(height, rows), rows


def _tile(channels: int) -> int:
    """Pixels that a program holds at a time."""
    return max(TILE_VALUES // _padded(channels), 1)


def _tiles(*maps: Tensor) -> int:
    """Tiles of these maps that a program asks for at once."""
    bytes_of_a_tile = 8 * sum(pixels.element_size() for pixels in maps)  # to each thread
    return 1 << (BYTES_UNDER_WAY // bytes_of_a_tile).bit_length() - 1


def _padded(channels: int) -> int:
    """Blocks of Triton's have a power of two of values."""
    padded: int = triton.next_power_of_2(channels)
    return padded


def _pairs_across(height: int, width: int, clusters: int) -> int:
    return max(height * (width - 1) * clusters, 1)


def _pairs_down(height: int, width: int, clusters: int) -> int:
    return max((height - 1) * width * clusters, 1)


SIZES = ["pixels", "height", "width", "rows", "shares", "skipped", "gradient_skipped", "out_skipped"]
"""Arguments for which Triton would otherwise compile anew when they are 1, or when 16 divides them."""


@triton.jit
def _starts(pixel, width, skipped, stride: tl.constexpr):
    """Where the first channel of each of (P,) pixels, counted row by row, lies: (P, 1)."""
    position = pixel.to(tl.int64)
    if skipped is not None:
        position += (pixel // width) * skipped
    return (position * stride)[:, None]


@triton.jit
def _by_channel(values, channel, channels: tl.constexpr):
    """(1, padded) float32 of (C,)."""
    return tl.load(values + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _activate(z, bias, relu: tl.constexpr):
    a = z.to(tl.float32) + bias
    if relu:
        # As PyTorch has it: a network that diverged must not look like one that did not.
        a = tl.maximum(a, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return a


@triton.jit
def _exp(x):
    """Without the instructions by which tl.exp keeps what is below 1e-38 from becoming 0."""
    return tl.exp2(x * LOG2E)


@triton.jit
def _sign(a, b):
    """Of a - b, in two instructions rather than six: what is not between -1e-19 and 1e-19 is cut to -1 or 1.

    A power of two rounds nothing: equals differ by 0, and the compiler may take the product and the difference as one.
    """
    return tl.clamp(a * LARGE - b * LARGE, -1.0, 1.0)


@triton.jit(do_not_specialize=SIZES)
def _measure(
    z, bias, partials, pixels, width, skipped, stride: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr,
    tile: tl.constexpr, tiles: tl.constexpr, relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added = _by_channel(bias, channel, channels)
    # Welford's, of each place of the tile by itself: what the places hold is only put together at the end.
    count = tl.zeros((tile, 1), tl.float32)
    mean = tl.zeros((tile, padded), tl.float32)
    squares = tl.zeros((tile, padded), tl.float32)
    for first in range(share * (tiles * tile), pixels, shares * (tiles * tile)):
        for part in tl.static_range(tiles):
            pixel = first + part * tile + tl.arange(0, tile)
            there = (pixel < pixels)[:, None]
            at = _starts(pixel, width, skipped, stride) + channel[None, :]
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
    partials, weight, bias, eps, mean, inverse, scale, shift, running_mean, running_var, shares, channels: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    within = channel < channels
    counts = tl.zeros((ROWS, GROUP), tl.float64)
    totals = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = _rows(first, shares, within)
        at = partials + row * 3 * channels + channel[None, :]
        count = tl.load(at, mask=there, other=0.0).to(tl.float64)
        counts += count
        totals += count * tl.load(at + channels, mask=there, other=0.0)
    pixels = tl.maximum(tl.sum(counts, 0), 1.0)  # there are none in what pads the channels
    centre = tl.sum(totals, 0) / pixels
    squares = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = _rows(first, shares, within)
        at = partials + row * 3 * channels + channel[None, :]
        count = tl.load(at, mask=there, other=0.0).to(tl.float64)
        apart = tl.load(at + channels, mask=there, other=0.0) - centre[None, :]
        squares += tl.load(at + 2 * channels, mask=there, other=0.0) + count * apart * apart
    deviations = tl.sum(squares, 0)
    inverted = 1.0 / tl.sqrt(deviations / pixels + eps)
    gamma = tl.load(weight + channel, mask=within, other=0.0)
    beta = tl.load(bias + channel, mask=within, other=0.0)
    tl.store(mean + channel, centre, mask=within)
    tl.store(inverse + channel, inverted, mask=within)
    tl.store(scale + channel, gamma * inverted, mask=within)
    tl.store(shift + channel, beta - centre * gamma * inverted, mask=within)
    tl.store(running_mean + channel, centre, mask=within)
    tl.store(running_var + channel, deviations / tl.maximum(pixels - 1.0, 1.0), mask=within)


@triton.jit
def _rows(first, shares, within):
    row = first + tl.arange(0, ROWS)[:, None]
    return row, (row < shares) & within[None, :]


@triton.jit
def _added(values, stride, shares, within):
    """(GROUP,) float64, the sums over the shares of what lies behind each of (GROUP,) pointers, a stride apart."""
    totals = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = _rows(first, shares, within)
        totals += tl.load(values[None, :] + row * stride, mask=there, other=0.0)
    return tl.sum(totals, 0)


@triton.jit(do_not_specialize=SIZES)
def _normalise(
    z, bias, scale, shift, out, pixels, width, skipped, stride: tl.constexpr, out_skipped, out_stride: tl.constexpr,
    channels: tl.constexpr, padded: tl.constexpr, at_a_time: tl.constexpr, relu: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, padded)
    pixel = tl.program_id(0) * at_a_time + tl.arange(0, at_a_time)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = _starts(pixel, width, skipped, stride) + channel[None, :]
    a = _activate(tl.load(z + at, mask=there, other=0.0), _by_channel(bias, channel, channels), relu)
    y = a * _by_channel(scale, channel, channels) + _by_channel(shift, channel, channels)
    tl.store(out + _starts(pixel, width, out_skipped, out_stride) + channel[None, :], y, mask=there)


@triton.jit(do_not_specialize=SIZES)
def _measure_gradient(
    gradient, z, bias, mean, partials, pixels, width, gradient_skipped, gradient_stride: tl.constexpr, skipped,
    stride: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr, tiles: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added, centre = _by_channel(bias, channel, channels), _by_channel(mean, channel, channels)
    total = tl.zeros((tile, padded), tl.float32)
    projected = tl.zeros((tile, padded), tl.float32)
    for first in range(share * (tiles * tile), pixels, shares * (tiles * tile)):
        for part in tl.static_range(tiles):
            pixel = first + part * tile + tl.arange(0, tile)
            there = (pixel < pixels)[:, None] & within[None, :]
            at = _starts(pixel, width, gradient_skipped, gradient_stride) + channel[None, :]
            g = tl.load(gradient + at, mask=there, other=0.0).to(tl.float32)
            at = _starts(pixel, width, skipped, stride) + channel[None, :]
            a = _activate(tl.load(z + at, mask=there, other=0.0), added, relu)
            total += g
            projected += g * (a - centre)
    row = partials + share * 2 * channels + channel
    tl.store(row, tl.sum(total, 0), mask=within)
    tl.store(row + channels, tl.sum(projected, 0), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _finish_gradient(
    partials, mean, inverse, scale, weight_gradient, bias_gradient, coefficients, pixels, shares,
    channels: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    within = channel < channels
    total = _added(partials + channel, 2 * channels, shares, within)
    projected = _added(partials + channels + channel, 2 * channels, shares, within)
    inverted = tl.load(inverse + channel, mask=within, other=0.0).to(tl.float64)
    by_gradient = tl.load(scale + channel, mask=within, other=0.0).to(tl.float64)
    centre = tl.load(mean + channel, mask=within, other=0.0)
    by_activation = -by_gradient * inverted * inverted * projected / pixels
    tl.store(weight_gradient + channel, projected * inverted, mask=within)
    tl.store(bias_gradient + channel, total, mask=within)
    tl.store(coefficients + channel, by_gradient, mask=within)
    tl.store(coefficients + channels + channel, by_activation, mask=within)
    constant = -by_gradient * total / pixels - by_activation * centre
    tl.store(coefficients + 2 * channels + channel, constant, mask=within)


@triton.jit(do_not_specialize=SIZES)
def _input_gradient(
    gradient, z, bias, coefficients, out, partials, pixels, width, gradient_skipped, gradient_stride: tl.constexpr,
    skipped, stride: tl.constexpr, out_skipped, out_stride: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr,
    at_a_time: tl.constexpr, relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added = _by_channel(bias, channel, channels)
    by_gradient = _by_channel(coefficients, channel, channels)
    by_activation = _by_channel(coefficients + channels, channel, channels)
    constant = _by_channel(coefficients + 2 * channels, channel, channels)
    total = tl.zeros((at_a_time, padded), tl.float32)
    for first in range(share * at_a_time, pixels, shares * at_a_time):
        pixel = first + tl.arange(0, at_a_time)
        there = (pixel < pixels)[:, None] & within[None, :]
        at = _starts(pixel, width, gradient_skipped, gradient_stride) + channel[None, :]
        g = tl.load(gradient + at, mask=there, other=0.0).to(tl.float32)
        at = _starts(pixel, width, skipped, stride) + channel[None, :]
        a = _activate(tl.load(z + at, mask=there, other=0.0), added, relu)
        result = by_gradient * g + (by_activation * a + constant)
        result = tl.where(there & (a > 0) if relu else there, result, 0.0)
        tl.store(out + _starts(pixel, width, out_skipped, out_stride) + channel[None, :], result, mask=there)
        total += result
    tl.store(partials + share * channels + channel, tl.sum(total, 0), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _finish_sum(partials, out, shares, channels: tl.constexpr):
    channel = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    within = channel < channels
    tl.store(out + channel, _added(partials + channel, channels, shares, within), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _evaluate_objective(
    z, scale, shift, labels, log_partition, slots, partials, by_pair_across, by_pair_down, height, width, rows,
    skipped, stride: tl.constexpr, clusters: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr,
    tile: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * tile + tl.arange(0, tile)
    top = tl.program_id(1) * rows
    channel = tl.arange(0, padded)
    counted = channel < clusters
    # Those that do not count are read with the others, for wider loads: they are nothing to the factor, and the offset
    # makes them no maximum and no share of a sum of exponentials.
    there = (x < width)[:, None] & (channel < channels)[None, :]
    beside = (x + 1 < width)[:, None] & (channel < channels)[None, :]
    factor = tl.load(scale + channel, mask=counted, other=0.0)[None, :]
    offset = tl.load(shift + channel, mask=counted, other=float("-inf"))[None, :]
    row_stride = width.to(tl.int64) * stride
    if skipped is not None:
        row_stride += skipped * stride
    row = z + top * row_stride
    at = (x * stride)[:, None] + channel[None, :]
    excess = tl.zeros((tile,), tl.float32)
    apart = tl.zeros((tile, padded), tl.float32)
    seen = tl.zeros((tile, padded), tl.int1)
    pixel = top.to(tl.int64) * width + x
    here = tl.load(row + at, mask=there, other=0.0)
    for y in range(top, tl.minimum(top + rows, height)):
        # Beyond the border stands the pixel itself, from which it does not differ.
        below = tl.load(row + row_stride + at, mask=there & (y + 1 < height), other=here)
        right = tl.load(row + stride + at, mask=beside, other=here)
        value = here.to(tl.float32)
        apart += by_pair_across * tl.abs(right.to(tl.float32) - value)
        apart += by_pair_down * tl.abs(below.to(tl.float32) - value)
        response = value * factor + offset
        peak = tl.max(response, 1)
        # The first of equals; and a label even if they are no numbers, which equal nothing.
        label = tl.min(tl.where(response == peak[:, None], channel[None, :], clusters - 1), 1)
        over_peak = tl.log(tl.sum(_exp(response - peak[:, None]), 1))
        excess += tl.where(x < width, over_peak, 0.0)
        seen |= (channel[None, :] == label[:, None]) & there
        tl.store(labels + pixel, label.to(tl.int64), mask=x < width)
        tl.store(log_partition + pixel, peak + over_peak, mask=x < width)
        here = below
        row += row_stride
        pixel += width
    # All that write to a slot write the same.
    tl.store(slots + channel, tl.full((padded,), 1, tl.int32), mask=tl.max(seen.to(tl.int32), 0) > 0)
    share = partials + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(share, tl.sum(excess))
    tl.store(share + 1, tl.sum(apart * tl.abs(factor)))


@triton.jit(do_not_specialize=SIZES)
def _finish_objective(
    partials, slots, threshold, scalars, present, weight, by_pixel, shares, clusters: tl.constexpr,
    padded: tl.constexpr, mode: tl.constexpr,
):  # fmt: skip
    excess = tl.zeros((ROWS,), tl.float64)
    apart = tl.zeros((ROWS,), tl.float64)
    for first in range(0, shares, ROWS):
        row = first + tl.arange(0, ROWS)
        excess += tl.load(partials + row * 2, mask=row < shares, other=0.0)
        apart += tl.load(partials + row * 2 + 1, mask=row < shares, other=0.0)
    slot = tl.arange(0, padded)
    count = tl.sum(tl.load(slots + slot, mask=slot < clusters, other=0)).to(tl.int64)
    floored = tl.maximum(count, tl.load(threshold)).to(tl.float32)
    if mode == "scf":
        mu = weight / floored
    elif mode == "fsf":
        mu = floored / weight
    else:
        mu = floored * 0.0 + weight
    similarity = (tl.sum(excess) * by_pixel).to(tl.float32)
    continuity = tl.sum(apart).to(tl.float32)
    tl.store(scalars, similarity + mu * continuity)
    tl.store(scalars + 1, similarity)
    tl.store(scalars + 2, continuity)
    tl.store(scalars + 3, mu)
    tl.store(present, count)


@triton.jit(do_not_specialize=SIZES)
def _objective_gradient(
    z, scale, shift, labels, log_partition, mu, mean, out, partials, by_pixel, by_pair_across, by_pair_down, height,
    width, rows, skipped, stride: tl.constexpr, out_skipped, out_stride: tl.constexpr, clusters: tl.constexpr,
    channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * tile + tl.arange(0, tile)
    top = tl.program_id(1) * rows
    channel = tl.arange(0, padded)
    counted = channel < clusters
    # As in _evaluate_objective: no factor and no exponential for those that do not count, and so no gradient.
    there = (x < width)[:, None] & (channel < channels)[None, :]
    before = (x > 0)[:, None] & there
    beside = (x + 1 < width)[:, None] & there
    factor = tl.load(scale + channel, mask=counted, other=0.0)[None, :]
    offset = tl.load(shift + channel, mask=counted, other=float("-inf"))[None, :]
    centre = tl.load(mean + channel, mask=counted, other=0.0)[None, :]
    # r rises where z does, or falls: what its differences' signs weigh.
    pull = _sign(factor, 0.0) * tl.load(mu)
    row_stride = width.to(tl.int64) * stride
    out_row_stride = width.to(tl.int64) * out_stride
    if skipped is not None:
        row_stride += skipped * stride
    if out_skipped is not None:
        out_row_stride += out_skipped * out_stride
    row, out_row = z + top * row_stride, out + top * out_row_stride
    at, to = (x * stride)[:, None] + channel[None, :], (x * out_stride)[:, None] + channel[None, :]
    total = tl.zeros((tile, padded), tl.float32)
    projected = tl.zeros((tile, padded), tl.float32)
    pixel = top.to(tl.int64) * width + x
    here = tl.load(row + at, mask=there, other=0.0)
    above = tl.load(row - row_stride + at, mask=there & (top > 0), other=here)
    from_above = _sign(here.to(tl.float32), above.to(tl.float32))
    for y in range(top, tl.minimum(top + rows, height)):
        # Beyond the border stands the pixel itself, from which it does not differ.
        below = tl.load(row + row_stride + at, mask=there & (y + 1 < height), other=here)
        left = tl.load(row - stride + at, mask=before, other=here)
        right = tl.load(row + stride + at, mask=beside, other=here)
        label = tl.load(labels + pixel, mask=x < width, other=-1).to(tl.int32)
        partition = tl.load(log_partition + pixel, mask=x < width, other=float("inf"))
        value = here.to(tl.float32)
        g = _exp(value * factor + offset - partition[:, None])
        g = (g - tl.where(channel[None, :] == label[:, None], 1.0, 0.0)) * by_pixel
        across = _sign(value, left.to(tl.float32)) + _sign(value, right.to(tl.float32))
        to_below = _sign(below.to(tl.float32), value)
        g += pull * (by_pair_across * across + by_pair_down * (from_above - to_below))
        tl.store(out_row + to, g, mask=there)
        total += g
        projected += g * (value - centre)
        here = below
        from_above = to_below
        row += row_stride
        pixel += width
        out_row += out_row_stride
    share = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    sums = partials + share * 2 * channels + channel
    tl.store(sums, tl.sum(total, 0), mask=channel < channels)
    tl.store(sums + channels, tl.sum(projected, 0), mask=channel < channels)

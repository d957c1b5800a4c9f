"""Triton kernels for the passes over feature maps on a CUDA device, with as little memory traffic as the method allows.

A map is a contiguous (H, W, C) tensor, float32 or bfloat16. All arithmetic is float32, and sums over a whole map are
finished in float64. Every call can be captured in a CUDA graph: it waits for nothing, and its launch depends only on
shapes.

Equal runs give equal bytes: there are no atomics. Each program sums over its share of the pixels, and a second, small
kernel, `finish_...`, adds up the shares in a fixed order. Height and width are ordinary kernel arguments, so photos of
all sizes share the compiled code.

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

from ...config import Mode

MAXIMUM_SHARES = 512
"""Most programs of a kernel that sums: four for each of the 132 multiprocessors of an H100 or H200, so none waits."""
LAUNCH = {"num_warps": 4, "maxnreg": 128}
"""For each such program: four of them use all the registers of a multiprocessor."""
TILE_VALUES = 1024
"""Values that a program holds at a time, 8 in each thread, whatever the number of channels."""
BYTES_UNDER_WAY = 128
"""Bytes that each thread requests at once: 64 kB per multiprocessor keep it busy."""
ROWS = tl.constexpr(512)
"""Shares that a finishing kernel adds up at a time."""
GROUP = tl.constexpr(8)
"""Channels in a program of a finishing kernel: 32 bytes, the smallest memory transfer."""

LARGE = tl.constexpr(2.0**64)
LOG2E = tl.constexpr(1 / math.log(2))


@dataclass(frozen=True)
class Activation:
    """a = relu(z + bias), or z + bias. It is recomputed wherever it is read, and never stored."""

    z: Tensor
    """(H, W, C) float32 or bfloat16."""
    bias: Tensor
    """(C,). If cuDNN added it, that would take a pass of its own."""
    relu: bool = True


class NormBuffers:
    """Results of the passes of a BatchNorm over C channels, float32."""

    def __init__(self, channels: int, device: torch.device) -> None:
        vectors = torch.zeros((8, channels), device=device).unbind()
        self.mean, self.inverse, self.scale, self.shift, *others = vectors
        """(C,): inverse = 1 / sqrt(variance + eps), and y = scale a + shift."""
        self.running_mean, self.running_var, self.weight_gradient, self.bias_gradient = others
        """(C,): statistics of the last pass, the variance unbiased; gradients of gamma and beta."""
        self.coefficients = torch.zeros((3, channels), device=device)
        """The gradient with respect to a is the first times that with respect to y, plus the second times a, plus the
        third."""


class ObjectiveBuffers:
    """Labels and losses of a response map r, (H, W, C), whose first channels are the clusters; the rest is padding."""

    def __init__(self, height: int, width: int, clusters: int, device: torch.device) -> None:
        self.clusters = clusters
        self.labels = torch.zeros((height, width), dtype=torch.int64, device=device)
        """The argmax, of equals the first."""
        self.log_partition = torch.zeros((height, width), device=device)
        """The log-sum-exp of r at each pixel."""
        self.slots = torch.zeros(clusters, dtype=torch.int32, device=device)
        """1 for labels that occur, 0 for the others."""
        self.scalars = torch.zeros(4, device=device)
        """Loss of eq. 7, similarity, continuity, mu."""
        self.present = torch.zeros((), dtype=torch.int64, device=device)
        """q', the number of labels present."""


def measure(activation: Activation) -> Tensor:
    """Count, mean, and sum of squared deviations from it, of each share of the pixels: (shares, 3, C) float32."""
    z = activation.z
    pixels, channels = _size(z)
    tile, tiles = _tile(channels), _tiles(z)
    shares = _shares(pixels, tile * tiles)
    partials = z.new_empty((shares, 3, channels), dtype=torch.float32)
    _measure[(shares,)](
        z, activation.bias, partials, pixels, channels, _padded(channels), tile, tiles, activation.relu, **LAUNCH
    )
    return partials


def finish_statistics(partials: Tensor, weight: Tensor, bias: Tensor, eps: float, norm: NormBuffers) -> None:
    """Set all forward vectors of `norm` from the result of `measure`; weight and bias, (C,), are gamma and beta."""
    shares, _, channels = partials.shape
    _finish_statistics[(triton.cdiv(channels, GROUP.value),)](
        partials, weight, bias, eps, norm.mean, norm.inverse, norm.scale, norm.shift, norm.running_mean,
        norm.running_var, shares, channels, num_warps=8,
    )  # fmt: skip


def normalise(activation: Activation, norm: NormBuffers, out: Tensor) -> None:
    """Set out, (H, W, C) of any floating type, to y = scale a + shift."""
    pixels, channels = _size(activation.z, out)
    pixels_at_a_time = 2 * _tile(channels)
    _normalise[(triton.cdiv(pixels, pixels_at_a_time),)](
        activation.z, activation.bias, norm.scale, norm.shift, out, pixels, channels, _padded(channels),
        pixels_at_a_time, activation.relu, **LAUNCH,
    )  # fmt: skip


def measure_gradient(gradient: Tensor, activation: Activation, norm: NormBuffers) -> Tensor:
    """Sums of g and of g (a - mean) over each share of the pixels: (shares, 2, C) float32.

    g is the gradient with respect to y.
    """
    z = activation.z
    pixels, channels = _size(z, gradient)
    tile, tiles = _tile(channels), _tiles(gradient, z)
    shares = _shares(pixels, tile * tiles)
    partials = z.new_empty((shares, 2, channels), dtype=torch.float32)
    _measure_gradient[(shares,)](
        gradient, z, activation.bias, norm.mean, partials, pixels, channels, _padded(channels), tile, tiles,
        activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_gradient(partials: Tensor, pixels: int, norm: NormBuffers) -> None:
    """Set the gradients and the coefficients of `norm`, from `measure_gradient` or `objective_gradient`."""
    shares, _, channels = partials.shape
    _finish_gradient[(triton.cdiv(channels, GROUP.value),)](
        partials, norm.mean, norm.inverse, norm.scale, norm.weight_gradient, norm.bias_gradient, norm.coefficients,
        pixels, shares, channels, num_warps=8,
    )  # fmt: skip


def input_gradient(gradient: Tensor, activation: Activation, norm: NormBuffers, out: Tensor) -> Tensor:
    """Set out, (H, W, C) of any floating type, to the gradient with respect to z. It may be `gradient` itself.

    Returns its sums over each share of the pixels, (shares, 1, C) float32, before rounding to the type of out;
    `finish_sum` turns them into the gradient of the bias.
    """
    z = activation.z
    pixels, channels = _size(z, gradient, out)
    pixels_at_a_time = _tile(channels) * _tiles(gradient, z)
    shares = _shares(pixels, pixels_at_a_time)
    partials = z.new_empty((shares, 1, channels), dtype=torch.float32)
    _input_gradient[(shares,)](
        gradient, z, activation.bias, norm.coefficients, out, partials, pixels, channels, _padded(channels),
        pixels_at_a_time, activation.relu, **LAUNCH,
    )  # fmt: skip
    return partials


def finish_sum(partials: Tensor, out: Tensor) -> None:
    """Set out, (C,) float32, to the sum of (shares, 1, C)."""
    shares, _, channels = partials.shape
    _finish_sum[(triton.cdiv(channels, GROUP.value),)](partials, out, shares, channels, num_warps=8)


def evaluate_objective(z: Tensor, norm: NormBuffers, objective: ObjectiveBuffers) -> Tensor:
    """Set labels, log_partition and slots for the response r = scale z + shift.

    Returns (shares, 2) float32: sums of log_partition - max r, and of the absolute differences of neighbours, divided
    by the number of differences in their direction.
    """
    _, channels = _size(z)
    height, width, _ = z.shape
    strips, bands, rows = _strips_and_bands(height, width, channels)
    partials = z.new_empty((strips * bands, 2), dtype=torch.float32)
    objective.slots.zero_()
    _evaluate_objective[(strips, bands)](
        z, norm.scale, norm.shift, objective.labels, objective.log_partition, objective.slots, partials,
        *_shares_of_pairs(height, width, objective.clusters), height, width, rows, objective.clusters, channels,
        _padded(channels), _tile(channels), **LAUNCH,
    )  # fmt: skip
    return partials


def finish_objective(
    partials: Tensor, threshold: Tensor, mode: Mode, weight: float, objective: ObjectiveBuffers
) -> None:
    """Set scalars and present from the result of `evaluate_objective`.

    `threshold`, int64 of shape (), is the lowest label count used in mu; `mode` and `weight` are as in
    `method.losses.continuity_weight`.
    """
    clusters = objective.clusters
    _finish_objective[(1,)](
        partials, objective.slots, threshold, objective.scalars, objective.present, float(weight),
        1 / objective.labels.numel(), len(partials), clusters, _padded(clusters), mode, **LAUNCH,
    )  # fmt: skip


def objective_gradient(z: Tensor, norm: NormBuffers, objective: ObjectiveBuffers, out: Tensor) -> Tensor:
    """Set out, (H, W, C) of any floating type, to the loss's gradient with respect to r, 0 in the padding.

    Returns its sums and those of it times (z - mean), like `measure_gradient`.
    """
    pixels, channels = _size(z, out)
    height, width, _ = z.shape
    strips, bands, rows = _strips_and_bands(height, width, channels)
    partials = z.new_empty((strips * bands, 2, channels), dtype=torch.float32)
    _objective_gradient[(strips, bands)](
        z, norm.scale, norm.shift, objective.labels, objective.log_partition, objective.scalars[3], norm.mean, out,
        partials, 1 / pixels, *_shares_of_pairs(height, width, objective.clusters), height, width, rows,
        objective.clusters, channels, _padded(channels), _tile(channels), **LAUNCH,
    )  # fmt: skip
    return partials


def _size(*maps: Tensor) -> tuple[int, int]:
    """Pixels and channels of maps of one size."""
    height, width, channels = maps[0].shape
    assert all(each.is_contiguous() and each.shape == maps[0].shape for each in maps)
    return height * width, channels


def _shares(pixels: int, at_a_time: int) -> int:
    """Programs that share the pixels evenly, so many at a time."""
    tiles = triton.cdiv(pixels, at_a_time)
    shares: int = triton.cdiv(tiles, triton.cdiv(tiles, MAXIMUM_SHARES))
    return shares


def _strips_and_bands(height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Programs across and down, and rows of each. A program goes down its strip, and keeps the row above."""
    strips = triton.cdiv(width, _tile(channels))
    rows = triton.cdiv(height, max(MAXIMUM_SHARES // strips, 1))
    return strips, triton.cdiv(height, rows), rows


def _tile(channels: int) -> int:
    """Pixels that a program holds at a time."""
    return max(TILE_VALUES // _padded(channels), 1)


def _tiles(*maps: Tensor) -> int:
    """Tiles of these maps that a program requests at once."""
    bytes_of_a_tile = 8 * sum(pixels.element_size() for pixels in maps)  # per thread
    return 1 << (BYTES_UNDER_WAY // bytes_of_a_tile).bit_length() - 1


def _padded(channels: int) -> int:
    """Triton's blocks hold a power of two of values."""
    padded: int = triton.next_power_of_2(channels)
    return padded


def _shares_of_pairs(height: int, width: int, clusters: int) -> tuple[float, float]:
    """Weights of one difference in the means over horizontal and vertical neighbours."""
    return 1 / max(height * (width - 1) * clusters, 1), 1 / max((height - 1) * width * clusters, 1)


SIZES = ["pixels", "height", "width", "rows", "shares"]
"""Arguments for which Triton would otherwise recompile if they are 1 or divisible by 16."""


@triton.jit
def _starts(pixel, channels: tl.constexpr):
    """Offset of the first channel of each of (P,) pixels in scan order: (P, 1)."""
    return (pixel.to(tl.int64) * channels)[:, None]


@triton.jit
def _by_channel(values, channel, channels: tl.constexpr):
    """(1, padded) float32 from (C,)."""
    return tl.load(values + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _activate(z, bias, relu: tl.constexpr):
    a = z.to(tl.float32) + bias
    if relu:
        # Like PyTorch, so that a diverged network is noticed.
        a = tl.maximum(a, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return a


@triton.jit
def _exp(x):
    """exp, without the instructions by which tl.exp keeps results below 1e-38 from becoming 0."""
    return tl.exp2(x * LOG2E)


@triton.jit
def _sign(a, b):
    """Sign of a - b in two instructions instead of six, exact unless the difference is between -1e-19 and 1e-19.

    Multiplying by a power of two does not round, so equal values differ by 0, even if the compiler fuses the product
    and the difference.
    """
    return tl.clamp(a * LARGE - b * LARGE, -1.0, 1.0)


@triton.jit(do_not_specialize=SIZES)
def _measure(
    z, bias, partials, pixels, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr, tiles: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    share, shares = tl.program_id(0), tl.num_programs(0)
    channel = tl.arange(0, padded)
    within = channel < channels
    added = _by_channel(bias, channel, channels)
    # Welford's algorithm at each position of the tile; the positions are combined at the end.
    count = tl.zeros((tile, 1), tl.float32)
    mean = tl.zeros((tile, padded), tl.float32)
    squares = tl.zeros((tile, padded), tl.float32)
    for first in range(share * (tiles * tile), pixels, shares * (tiles * tile)):
        for part in tl.static_range(tiles):
            pixel = first + part * tile + tl.arange(0, tile)
            there = (pixel < pixels)[:, None]
            at = _starts(pixel, channels) + channel[None, :]
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
    pixels = tl.maximum(tl.sum(counts, 0), 1.0)  # 0 in padded channels
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
    """(GROUP,) float64 sums over the shares, which are a stride apart from each of (GROUP,) pointers."""
    totals = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = _rows(first, shares, within)
        totals += tl.load(values[None, :] + row * stride, mask=there, other=0.0)
    return tl.sum(totals, 0)


@triton.jit(do_not_specialize=SIZES)
def _normalise(
    z, bias, scale, shift, out, pixels, channels: tl.constexpr, padded: tl.constexpr, at_a_time: tl.constexpr,
    relu: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, padded)
    pixel = tl.program_id(0) * at_a_time + tl.arange(0, at_a_time)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = _starts(pixel, channels) + channel[None, :]
    a = _activate(tl.load(z + at, mask=there, other=0.0), _by_channel(bias, channel, channels), relu)
    y = a * _by_channel(scale, channel, channels) + _by_channel(shift, channel, channels)
    tl.store(out + at, y, mask=there)


@triton.jit(do_not_specialize=SIZES)
def _measure_gradient(
    gradient, z, bias, mean, partials, pixels, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
    tiles: tl.constexpr, relu: tl.constexpr,
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
            at = _starts(pixel, channels) + channel[None, :]
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
    gradient, z, bias, coefficients, out, partials, pixels, channels: tl.constexpr, padded: tl.constexpr,
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
        at = _starts(pixel, channels) + channel[None, :]
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
    tl.store(out + channel, _added(partials + channel, channels, shares, within), mask=within)


@triton.jit(do_not_specialize=SIZES)
def _evaluate_objective(
    z, scale, shift, labels, log_partition, slots, partials, by_pair_across, by_pair_down, height, width, rows,
    clusters: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * tile + tl.arange(0, tile)
    top = tl.program_id(1) * rows
    channel = tl.arange(0, padded)
    counted = channel < clusters
    # Padding channels are loaded too, to keep loads wide. Their scale of 0 and shift of -inf keep them out of maxima,
    # differences and sums of exponentials.
    there = (x < width)[:, None] & (channel < channels)[None, :]
    beside = (x + 1 < width)[:, None] & (channel < channels)[None, :]
    factor = tl.load(scale + channel, mask=counted, other=0.0)[None, :]
    offset = tl.load(shift + channel, mask=counted, other=float("-inf"))[None, :]
    row_stride = width.to(tl.int64) * channels
    row = z + top * row_stride
    at = (x * channels)[:, None] + channel[None, :]
    excess = tl.zeros((tile,), tl.float32)
    apart = tl.zeros((tile, padded), tl.float32)
    seen = tl.zeros((tile, padded), tl.int1)
    pixel = top.to(tl.int64) * width + x
    here = tl.load(row + at, mask=there, other=0.0)
    for y in range(top, tl.minimum(top + rows, height)):
        # Beyond the border the pixel itself is repeated, so that the difference is 0.
        below = tl.load(row + row_stride + at, mask=there & (y + 1 < height), other=here)
        right = tl.load(row + channels + at, mask=beside, other=here)
        value = here.to(tl.float32)
        apart += by_pair_across * tl.abs(right.to(tl.float32) - value)
        apart += by_pair_down * tl.abs(below.to(tl.float32) - value)
        response = value * factor + offset
        peak = tl.max(response, 1)
        # The first of equals. NaN equals nothing, so a label is provided for it.
        label = tl.min(tl.where(response == peak[:, None], channel[None, :], clusters - 1), 1)
        over_peak = tl.log(tl.sum(_exp(response - peak[:, None]), 1))
        excess += tl.where(x < width, over_peak, 0.0)
        seen |= (channel[None, :] == label[:, None]) & there
        tl.store(labels + pixel, label.to(tl.int64), mask=x < width)
        tl.store(log_partition + pixel, peak + over_peak, mask=x < width)
        here = below
        row += row_stride
        pixel += width
    # All programs that write to a slot write the same value.
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
    width, rows, clusters: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    x = tl.program_id(0) * tile + tl.arange(0, tile)
    top = tl.program_id(1) * rows
    channel = tl.arange(0, padded)
    counted = channel < clusters
    # As in _evaluate_objective: scale and exponential are 0 in padding channels, and so is the gradient.
    there = (x < width)[:, None] & (channel < channels)[None, :]
    before = (x > 0)[:, None] & there
    beside = (x + 1 < width)[:, None] & there
    factor = tl.load(scale + channel, mask=counted, other=0.0)[None, :]
    offset = tl.load(shift + channel, mask=counted, other=float("-inf"))[None, :]
    centre = tl.load(mean + channel, mask=counted, other=0.0)[None, :]
    # Differences of r have the signs of those of z, times the sign of the scale.
    pull = _sign(factor, 0.0) * tl.load(mu)
    row_stride = width.to(tl.int64) * channels
    row, out_row = z + top * row_stride, out + top * row_stride
    at = (x * channels)[:, None] + channel[None, :]
    total = tl.zeros((tile, padded), tl.float32)
    projected = tl.zeros((tile, padded), tl.float32)
    pixel = top.to(tl.int64) * width + x
    here = tl.load(row + at, mask=there, other=0.0)
    above = tl.load(row - row_stride + at, mask=there & (top > 0), other=here)
    from_above = _sign(here.to(tl.float32), above.to(tl.float32))
    for y in range(top, tl.minimum(top + rows, height)):
        # Beyond the border the pixel itself is repeated, so that the difference is 0.
        below = tl.load(row + row_stride + at, mask=there & (y + 1 < height), other=here)
        left = tl.load(row - channels + at, mask=before, other=here)
        right = tl.load(row + channels + at, mask=beside, other=here)
        label = tl.load(labels + pixel, mask=x < width, other=-1).to(tl.int32)
        partition = tl.load(log_partition + pixel, mask=x < width, other=float("inf"))
        value = here.to(tl.float32)
        g = _exp(value * factor + offset - partition[:, None])
        g = (g - tl.where(channel[None, :] == label[:, None], 1.0, 0.0)) * by_pixel
        across = _sign(value, left.to(tl.float32)) + _sign(value, right.to(tl.float32))
        to_below = _sign(below.to(tl.float32), value)
        g += pull * (by_pair_across * across + by_pair_down * (from_above - to_below))
        tl.store(out_row + at, g, mask=there)
        total += g
        projected += g * (value - centre)
        here = below
        from_above = to_below
        row += row_stride
        pixel += width
        out_row += row_stride
    share = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    sums = partials + share * 2 * channels + channel
    tl.store(sums, tl.sum(total, 0), mask=channel < channels)
    tl.store(sums + channels, tl.sum(projected, 0), mask=channel < channels)

"""Triton kernels for labels and loss (eq. 1 to 9), for their record and the stop rules, and for the loss's gradient.

What `norm_kernels` says about maps and sums holds here, too.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...config import SegmentConfig
from ..iteration import ENDS, State, Trajectory
from .launching import LAUNCH, ROWS, SIZES, block_of, size_of, strips_and_bands, tile_of
from .norm_kernels import Normalisation

LARGE = tl.constexpr(2.0**64)
LOG2E = tl.constexpr(1 / math.log(2))
END, ITERATIONS, PRESENT, FEWEST, SINCE_FEWEST, THRESHOLD, LIMIT, PATIENCE = map(tl.constexpr, map(int, State))
GOING_ON, AT_THRESHOLD, CONVERGED, AT_LIMIT, DIVERGED = map(tl.constexpr, range(len(ENDS)))


class ObjectiveBuffers:
    """What one pass over a response map leaves for the next. The map's first channels are the clusters."""

    def __init__(self, height: int, width: int, clusters: int, device: torch.device) -> None:
        self.clusters = clusters
        self.log_partition = torch.zeros((height, width), device=device)
        """The log-sum-exp of r at each pixel."""
        self.slots = torch.zeros(clusters, dtype=torch.int32, device=device)
        """1 for labels that occur, 0 for the others; all 0 again when they have been counted."""
        self.mu = torch.zeros((), device=device)
        """The weight of continuity."""


def evaluate_objective(z: Tensor, norm: Normalisation, objective: ObjectiveBuffers, trajectory: Trajectory) -> Tensor:
    """Set log_partition, slots and, unless it has ended, the trajectory's labels for the response r = scale z + shift.

    A label is the argmax, of equals the first. Returns (shares, 3) float32: sums of log_partition - max r, and of the
    absolute differences of neighbours, divided by the number of differences in their direction; and the number of
    labels that are not those of the iteration before.
    """
    _, channels = size_of(z)
    height, width, _ = z.shape
    strips, bands, rows = strips_and_bands(height, width, channels)
    partials = z.new_empty((strips * bands, 3), dtype=torch.float32)
    _evaluate_objective[(strips, bands)](
        z, norm.scale, norm.shift, trajectory.labels, trajectory.ended, objective.log_partition, objective.slots,
        partials, *shares_of_pairs(height, width, objective.clusters), height, width, rows, objective.clusters,
        channels, block_of(channels), tile_of(channels), **LAUNCH,
    )  # fmt: skip
    return partials


def finish_objective(
    partials: Tensor, objective: ObjectiveBuffers, trajectory: Trajectory, config: SegmentConfig
) -> None:
    """Set mu, and do what `Trajectory.take` does, from the result of `evaluate_objective`."""
    clusters, labels = objective.clusters, trajectory.labels
    _finish_objective[(1,)](
        partials, objective.slots, objective.mu, trajectory.state, trajectory.ended, trajectory.rows,
        float(config.weight), 1 / labels.numel(), len(partials), clusters, block_of(clusters), config.mode, **LAUNCH,
    )  # fmt: skip


def objective_gradient(
    z: Tensor, norm: Normalisation, objective: ObjectiveBuffers, labels: Tensor, out: Tensor
) -> Tensor:
    """Set out, (H, W, C) of any floating type, to the loss's gradient with respect to r, 0 in the padding.

    Returns its sums and those of it times (z - mean), like `measure_gradient`.
    """
    pixels, channels = size_of(z, out)
    height, width, _ = z.shape
    strips, bands, rows = strips_and_bands(height, width, channels)
    partials = z.new_empty((strips * bands, 2, channels), dtype=torch.float32)
    _objective_gradient[(strips, bands)](
        z, norm.scale, norm.shift, labels, objective.log_partition, objective.mu, norm.mean, out, partials,
        1 / pixels, *shares_of_pairs(height, width, objective.clusters), height, width, rows,
        objective.clusters, channels, block_of(channels), tile_of(channels), **LAUNCH,
    )  # fmt: skip
    return partials


def shares_of_pairs(height: int, width: int, clusters: int) -> tuple[float, float]:
    """Weights of one difference in the means over horizontal and vertical neighbours."""
    return 1 / max(height * (width - 1) * clusters, 1), 1 / max((height - 1) * width * clusters, 1)


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
def _evaluate_objective(
    z, scale, shift, labels, ended, log_partition, slots, partials, by_pair_across, by_pair_down, height, width, rows,
    clusters: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    # After the end, labels stay as they are.
    labelled = tl.where(tl.load(ended) == 0, width, 0)
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
    changed = tl.zeros((tile,), tl.int32)
    pixel = top.to(tl.int64) * width + x
    here = tl.load(row + at, mask=there, other=0.0)
    for y in range(top, tl.minimum(top + rows, height)):
        # Beyond the border the pixel itself is repeated, so that the difference is 0.
        below = tl.load(row + row_stride + at, mask=there & (y + 1 < height), other=here)
        right = tl.load(row + channels + at, mask=beside, other=here)
        # Before the reductions, so that every thread that needs an old label has it when a new one is stored.
        before = tl.load(labels + pixel, mask=x < width, other=0).to(tl.int32)
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
        changed += ((label != before) & (x < width)).to(tl.int32)
        tl.store(labels + pixel, label.to(tl.int64), mask=x < labelled)
        tl.store(log_partition + pixel, peak + over_peak, mask=x < width)
        here = below
        row += row_stride
        pixel += width
    # All programs that write to a slot write the same value.
    tl.store(slots + channel, tl.full((padded,), 1, tl.int32), mask=tl.max(seen.to(tl.int32), 0) > 0)
    share = partials + (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) * 3
    tl.store(share, tl.sum(excess))
    tl.store(share + 1, tl.sum(apart * tl.abs(factor)))
    tl.store(share + 2, tl.sum(changed).to(tl.float32))


@triton.jit(do_not_specialize=SIZES)
def _finish_objective(
    partials, slots, mu_out, state, ended, records, weight, by_pixel, shares, clusters: tl.constexpr,
    padded: tl.constexpr, mode: tl.constexpr,
):  # fmt: skip
    excess = tl.zeros((ROWS,), tl.float64)
    apart = tl.zeros((ROWS,), tl.float64)
    different = tl.zeros((ROWS,), tl.float64)
    for first in range(0, shares, ROWS):
        row = first + tl.arange(0, ROWS)
        excess += tl.load(partials + row * 3, mask=row < shares, other=0.0)
        apart += tl.load(partials + row * 3 + 1, mask=row < shares, other=0.0)
        different += tl.load(partials + row * 3 + 2, mask=row < shares, other=0.0)
    slot = tl.arange(0, padded)
    present = tl.sum(tl.load(slots + slot, mask=slot < clusters, other=0)).to(tl.int64)
    going = tl.load(state + END) == GOING_ON
    iterations, limit = tl.load(state + ITERATIONS), tl.load(state + LIMIT)
    fewest, threshold = tl.load(state + FEWEST), tl.load(state + THRESHOLD)
    since_fewest, patience = tl.load(state + SINCE_FEWEST), tl.load(state + PATIENCE)
    counted = tl.maximum(present, threshold).to(tl.float32)
    if mode == "scf":
        mu = weight / counted
    elif mode == "fsf":
        mu = counted / weight
    else:
        mu = counted * 0.0 + weight
    similarity = (tl.sum(excess) * by_pixel).to(tl.float32)
    continuity = tl.sum(apart).to(tl.float32)
    changed = (tl.sum(different) * by_pixel).to(tl.float32)
    loss = similarity + mu * continuity
    since_fewest = tl.where(present < fewest, 0, since_fewest + 1)
    # Each rule overrides those before it.
    end = tl.where(iterations + 1 >= limit, AT_LIMIT, GOING_ON)
    end = tl.where(since_fewest >= patience, CONVERGED, end)
    end = tl.where(present <= threshold, AT_THRESHOLD, end)
    end = tl.where(tl.abs(loss) < float("inf"), end, DIVERGED)
    # No thread may write before all have read.
    tl.debug_barrier()
    tl.store(slots + slot, tl.zeros((padded,), tl.int32), mask=slot < clusters)
    tl.store(mu_out, mu)
    row = records + iterations * 5
    tl.store(row, present.to(tl.float32), mask=going)
    tl.store(row + 1, loss, mask=going)
    tl.store(row + 2, similarity, mask=going)
    tl.store(row + 3, continuity, mask=going)
    tl.store(row + 4, changed, mask=going)
    tl.store(state + ITERATIONS, iterations + 1, mask=going)
    tl.store(state + PRESENT, present, mask=going)
    tl.store(state + FEWEST, tl.minimum(fewest, present), mask=going)
    tl.store(state + SINCE_FEWEST, since_fewest, mask=going)
    tl.store(state + END, end.to(tl.int64), mask=going)
    tl.store(ended, (end != GOING_ON).to(tl.float32), mask=going)


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

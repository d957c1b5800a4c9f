"""How the kernels share the pixels of a map, and what they have in common."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

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


def size_of(*maps: Tensor) -> tuple[int, int]:
    """Pixels and channels of maps of one size."""
    height, width, channels = maps[0].shape
    assert all(each.is_contiguous() and each.shape == maps[0].shape for each in maps)
    return height * width, channels


def shares_of(pixels: int, at_a_time: int) -> int:
    """Programs that share the pixels evenly, so many at a time."""
    tiles = triton.cdiv(pixels, at_a_time)
    shares: int = triton.cdiv(tiles, triton.cdiv(tiles, MAXIMUM_SHARES))
    return shares


def strips_and_bands(height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Programs across and down, and rows of each. A program goes down its strip, and keeps the row above."""
    strips = triton.cdiv(width, tile_of(channels))
    rows = triton.cdiv(height, max(MAXIMUM_SHARES // strips, 1))
    return strips, triton.cdiv(height, rows), rows


def tile_of(channels: int) -> int:
    """Pixels that a program holds at a time."""
    return max(TILE_VALUES // block_of(channels), 1)


def tiles_of(*maps: Tensor) -> int:
    """Tiles of these maps that a program requests at once."""
    bytes_of_a_tile = 8 * sum(pixels.element_size() for pixels in maps)  # per thread
    return 1 << (BYTES_UNDER_WAY // bytes_of_a_tile).bit_length() - 1


def block_of(channels: int) -> int:
    """Channels in a block: Triton's hold a power of two of values."""
    block: int = triton.next_power_of_2(channels)
    return block


SIZES = ["pixels", "height", "width", "rows", "shares"]
"""Arguments for which Triton would otherwise recompile if they are 1 or divisible by 16."""


@triton.jit
def starts(pixel, channels: tl.constexpr):
    """Offset of the first channel of each of (P,) pixels in scan order: (P, 1)."""
    return (pixel.to(tl.int64) * channels)[:, None]


@triton.jit
def by_channel(values, channel, channels: tl.constexpr):
    """(1, padded) float32 from (C,)."""
    return tl.load(values + channel, mask=channel < channels, other=0.0).to(tl.float32)[None, :]


@triton.jit
def rows_of(first, shares, within):
    row = first + tl.arange(0, ROWS)[:, None]
    return row, (row < shares) & within[None, :]


@triton.jit
def added_up(values, stride, shares, within):
    """(GROUP,) float64 sums over the shares, which are a stride apart from each of (GROUP,) pointers."""
    totals = tl.zeros((ROWS, GROUP), tl.float64)
    for first in range(0, shares, ROWS):
        row, there = rows_of(first, shares, within)
        totals += tl.load(values[None, :] + row * stride, mask=there, other=0.0)
    return tl.sum(totals, 0)

"""Triton kernels that label a photo with a fitted network: everything but the convolutions between feature maps.

A map is a contiguous (H, W, C) tensor, and a photo an (H, W, 3) uint8 one. Arithmetic is in float32, and in integers
wherever that is exact: for positions, and for sums of colours. Nothing waits for the device, and equal runs give equal
bytes. Height and width are ordinary kernel arguments, so photos of all sizes share the compiled code.

    convolve, activate, add_averages            the features, averaged over each working pixel
    fit_colors, box_mean                        the guided filter's coefficients
    smooth, write_labels                        the filter at the photo's size, and its argmax
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

TILE_VALUES = 1024
"""Values that a program holds at a time, 8 in each thread, whatever the number of channels."""
BLOCK = 64
"""Most channels that a program of the guided filter holds: 256 bytes a pixel are read at once."""
PHOTO_TILE = 256
"""Pixels in a program that has no channels to share among its threads."""


def convolve(pixels: Tensor, rows: slice, columns: slice, weight: Tensor) -> Tensor:
    """The first convolution, 3x3, without its bias, in a tile of a photo: (r, c, C) in the weight's type.

    `weight` is (3, 3, 3, C): row, column, colour, channel. The photo in [0, 1] is rounded to the same type. Beyond the
    photo, though not beyond the tile, there are zeros.
    """
    height, width, _ = pixels.shape
    tall, wide = _sides(rows, columns)
    channels = weight.shape[3]
    out = weight.new_empty((tall, wide, channels))
    padded = triton.next_power_of_2(channels)
    tile = max(TILE_VALUES // padded, 1)
    _convolve[(tall, triton.cdiv(wide, tile))](
        pixels, weight, out, height, width, rows.start, columns.start, wide, channels, padded, tile
    )
    return out


def activate(z: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """What a block makes of its convolution's output without bias, with running statistics: (H, W, C), typed like z."""
    height, width, channels = z.shape
    out = torch.empty_like(z)
    padded = triton.next_power_of_2(channels)
    tile = max(TILE_VALUES // padded, 1)
    _activate[(triton.cdiv(height * width, tile),)](
        z, *_vectors(convolution, norm), out, height * width, channels, padded, tile
    )
    return out


def add_averages(
    z: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, origin: tuple[int, int], inner: tuple[slice, slice],
    size: tuple[int, int], out: Tensor,
) -> None:  # fmt: skip
    """Add a tile's share in the average of `activate` over the area of each coarse pixel to out, (h, w, C) float32.

    Parameters
    ----------
    z : (r, c, C), a part of the photo that begins in the row and column `origin`.
    inner : rows and columns of the photo that count now. Tiles that partition a photo add up to its averages.
    size : height and width of the photo.
    """
    coarse_height, coarse_width, channels = out.shape
    (height, width), (rows, columns) = size, inner
    top, bottom = rows.start * coarse_height // height, -(-rows.stop * coarse_height // height)
    left, right = columns.start * coarse_width // width, -(-columns.stop * coarse_width // width)
    padded = triton.next_power_of_2(channels)
    tile = max(TILE_VALUES // padded, 1)
    _add_averages[(bottom - top, triton.cdiv(right - left, tile))](
        z, *_vectors(convolution, norm), out, height, width, coarse_height, coarse_width, top, left, right,
        rows.start, rows.stop, columns.start, columns.stop, *origin, z.shape[1],
        channels, padded, tile,
    )  # fmt: skip


def guided_coefficients(guide: Tensor, maps: Tensor, radius: int, regularisation: float) -> Tensor:
    """The coefficients of `guided_filter.guided_coefficients`, in another order: (h, w, 4, C) float32.

    `guide` is an (h, w, 3) photo, and `maps` is (h, w, C) float32.
    """
    height, width, channels = maps.shape
    block, tile = _block(channels)
    fitted = maps.new_empty((height, width, 4, channels))
    strips, blocks = triton.cdiv(width, tile), triton.cdiv(channels, block)
    _fit_colors[(height, strips, blocks)](
        guide, maps, fitted, regularisation, height, width, channels, block, tile, radius
    )
    mean = torch.empty_like(fitted)
    block, tile = _block(4 * channels)
    _box_mean[(height, triton.cdiv(width, tile), triton.cdiv(4 * channels, block))](
        fitted, mean, height, width, 4 * channels, block, tile, radius
    )
    return mean


def smooth(pixels: Tensor, rows: slice, columns: slice, reach: int) -> Tensor:
    """A tile of a photo, in [0, 1], averaged over `reach` pixels to each side with falling weights: (r, c, 3) float32.

    The weights are those of `guided_filter.triangle_weights` with a half-width of `reach` + 1.
    """
    height, width, _ = pixels.shape
    tall, wide = _sides(rows, columns)
    out = torch.empty((tall, wide, 3), device=pixels.device)
    _smooth[(tall, triton.cdiv(wide, PHOTO_TILE))](
        pixels, out, height, width, rows.start, columns.start, wide, reach, PHOTO_TILE
    )
    return out


def write_labels(
    coefficients: Tensor, guide: Tensor, present: Tensor, rows: slice, columns: slice, labels: Tensor
) -> None:
    """Set a tile of labels, (H, W) int16, to the argmax of the filtered maps, of equals the first.

    Parameters
    ----------
    coefficients : (h, w, 4, C), of `guided_coefficients`; they are interpolated as `apply_coefficients` does it.
    guide : (r, c, 3), of `smooth`.
    present : (C,) int32, 0 for channels that are no labels of this photo.
    """
    coarse_height, coarse_width, _, channels = coefficients.shape
    height, width = labels.shape
    tall, wide = _sides(rows, columns)
    block, tile = _block(channels)
    _write_labels[(tall, triton.cdiv(wide, tile))](
        coefficients, guide, present, labels, height, width, coarse_height, coarse_width, rows.start, columns.start,
        wide, channels, block, tile,
    )  # fmt: skip


def _sides(rows: slice, columns: slice) -> tuple[int, int]:
    return rows.stop - rows.start, columns.stop - columns.start


def _block(channels: int) -> tuple[int, int]:
    """Channels and pixels that a program holds at a time."""
    block = min(triton.next_power_of_2(channels), BLOCK)
    return block, TILE_VALUES // block


def _vectors(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float]:
    assert convolution.bias is not None and norm.running_mean is not None and norm.running_var is not None
    return convolution.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps


SIZES = ["pixels", "height", "width", "coarse_height", "coarse_width", "top", "left", "right", "wide", "reach"]
SIZES += ["first_row", "last_row", "first_column", "last_column", "seen_row", "seen_column", "seen_width"]
"""Arguments for which Triton would otherwise recompile if they are 1 or divisible by 16."""


@triton.jit
def _by_channel(values, channel, channels: tl.constexpr):
    """(1, padded) from (C,)."""
    return tl.load(values + channel, mask=channel < channels, other=0.0)[None, :]


@triton.jit
def _normalised(z, bias, mean, scale, beta):
    # Like PyTorch, so that values that are no numbers stay visible.
    a = tl.maximum(z.to(tl.float32) + bias, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return (a - mean) * scale + beta


@triton.jit(do_not_specialize=SIZES)
def _convolve(
    pixels, weight, out, height, width, top, left, wide, channels: tl.constexpr, padded: tl.constexpr,
    tile: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0), tl.program_id(1) * tile + tl.arange(0, tile)
    y, x = top + row, left + column
    channel = tl.arange(0, padded)
    total = tl.zeros((tile, padded), tl.float32)
    for tap in tl.static_range(9):
        at_y, at_x = y + tap // 3 - 1, x + tap % 3 - 1
        inside = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
        at = pixels + (at_y.to(tl.int64) * width + at_x) * 3
        for color in tl.static_range(3):
            value = tl.load(at + color, mask=inside, other=0).to(tl.float32) / 255
            factor = _by_channel(weight + (tap * 3 + color) * channels, channel, channels)
            total += value.to(out.dtype.element_ty).to(tl.float32)[:, None] * factor.to(tl.float32)
    there = (column < wide)[:, None] & (channel < channels)[None, :]
    start = (row.to(tl.int64) * wide + column) * channels
    tl.store(out + start[:, None] + channel[None, :], total, mask=there)


@triton.jit(do_not_specialize=SIZES)
def _activate(
    z, bias, gamma, beta, mean, variance, eps, out, pixels, channels: tl.constexpr, padded: tl.constexpr,
    tile: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, padded)
    pixel = tl.program_id(0) * tile + tl.arange(0, tile)
    there = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = (pixel.to(tl.int64) * channels)[:, None] + channel[None, :]
    scale = _by_channel(gamma, channel, channels) / tl.sqrt(_by_channel(variance, channel, channels) + eps)
    y = _normalised(
        tl.load(z + at, mask=there, other=0.0), _by_channel(bias, channel, channels),
        _by_channel(mean, channel, channels), scale, _by_channel(beta, channel, channels),
    )  # fmt: skip
    tl.store(out + at, y, mask=there)


@triton.jit
def _weight(place, coarse, pixel, length):
    """Share of one of `length` pixels in the average over one of `coarse` pixels of the same extent."""
    # In units in which a pixel is `coarse` long, and a coarse one `length`.
    stop = tl.minimum((place + 1) * length, (pixel + 1) * coarse)
    return tl.maximum(stop - tl.maximum(place * length, pixel * coarse), 0).to(tl.float32) / length


@triton.jit(do_not_specialize=SIZES)
def _add_averages(
    z, bias, gamma, beta, mean, variance, eps, out, height, width, coarse_height, coarse_width, top, left, right,
    first_row, last_row, first_column, last_column, seen_row, seen_column, seen_width,
    channels: tl.constexpr, padded: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    y = (top + tl.program_id(0)).to(tl.int64)
    x = (left + tl.program_id(1) * tile + tl.arange(0, tile)).to(tl.int64)
    channel = tl.arange(0, padded)
    within = (channel < channels)[None, :]
    added, centre = _by_channel(bias, channel, channels), _by_channel(mean, channel, channels)
    scale = _by_channel(gamma, channel, channels) / tl.sqrt(_by_channel(variance, channel, channels) + eps)
    shift = _by_channel(beta, channel, channels)
    first = tl.maximum(y * height // coarse_height, first_row)
    last = tl.minimum(tl.cdiv((y + 1) * height, coarse_height), last_row)
    begin = x * width // coarse_width
    total = tl.zeros((tile, padded), tl.float32)
    for row in range(first, last):
        down = _weight(y, coarse_height, row, height)
        start = z + (row - seen_row) * seen_width * channels
        for step in range(0, width // coarse_width + 2):
            column = begin + step
            counts = (column >= first_column) & (column < last_column)
            weight = down * tl.where(counts, _weight(x, coarse_width, column, width), 0.0)
            at = ((column - seen_column) * channels)[:, None] + channel[None, :]
            value = tl.load(start + at, mask=(weight > 0)[:, None] & within, other=0.0)
            total += weight[:, None] * _normalised(value, added, centre, scale, shift)
    there = (x < right)[:, None] & within
    at = out + ((y * coarse_width + x) * channels)[:, None] + channel[None, :]
    tl.store(at, tl.load(at, mask=there, other=0.0) + total, mask=there)


@triton.jit
def _color(pixels, start, there):
    """Red, green and blue, int32, of pixels that begin at an offset; 0 where there is none."""
    red = tl.load(pixels + start, mask=there, other=0).to(tl.int32)
    green = tl.load(pixels + start + 1, mask=there, other=0).to(tl.int32)
    return red, green, tl.load(pixels + start + 2, mask=there, other=0).to(tl.int32)


@triton.jit
def _color_statistics(guide, x, top, bottom, width, regularisation, radius: tl.constexpr):
    """Of the windows around pixels: mean colours in 0..255, and L and D of the covariance matrix, which is L D L^T.

    Returns one over the number of pixels, three means, the diagonal of D, and L below its diagonal of ones.
    """
    # Sums of colours and of their products are integers, and exact.
    none = x * 0
    r, g, b, rr, rg, rb, gg, gb, bb = none, none, none, none, none, none, none, none, none
    for row in range(top, bottom):
        for step in tl.static_range(2 * radius + 1):
            at_x = x + step - radius
            inside = (at_x >= 0) & (at_x < width)
            red, green, blue = _color(guide, (tl.cast(row, tl.int64) * width + at_x) * 3, inside)
            r += red
            g += green
            b += blue
            rr += red * red
            rg += red * green
            rb += red * blue
            gg += green * green
            gb += green * blue
            bb += blue * blue
    count = _window(x, width, radius) * (bottom - top)
    part = 1.0 / count.to(tl.float32)
    unit = part * part
    eps = regularisation * 255 * 255
    d_r = (count * rr - r * r) * unit + eps
    l_g = (count * rg - r * g) * unit / d_r
    l_b = (count * rb - r * b) * unit / d_r
    d_g = (count * gg - g * g) * unit + eps - l_g * l_g * d_r
    l_bg = ((count * gb - g * b) * unit - l_g * l_b * d_r) / d_g
    d_b = (count * bb - b * b) * unit + eps - l_b * l_b * d_r - l_bg * l_bg * d_g
    return part, r * part, g * part, b * part, d_r, d_g, d_b, l_g, l_b, l_bg


@triton.jit
def _window(x, width, radius: tl.constexpr):
    """Width of the windows around pixels, cut off at the border."""
    return tl.minimum(x + radius + 1, width) - tl.maximum(x - radius, 0)


@triton.jit(do_not_specialize=SIZES)
def _fit_colors(
    guide, maps, out, regularisation, height, width, channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
    radius: tl.constexpr,
):  # fmt: skip
    y, column = tl.program_id(0), tl.program_id(1) * tile + tl.arange(0, tile)
    x = tl.minimum(column, width - 1)
    channel = tl.program_id(2) * block + tl.arange(0, block)
    within = (channel < channels)[None, :]
    top, bottom = tl.maximum(y - radius, 0), tl.minimum(y + radius + 1, height)
    part, mean_r, mean_g, mean_b, d_r, d_g, d_b, l_g, l_b, l_bg = _color_statistics(
        guide, x, top, bottom, width, regularisation, radius
    )
    mean = tl.zeros((tile, block), tl.float32)
    with_r = tl.zeros((tile, block), tl.float32)
    with_g = tl.zeros((tile, block), tl.float32)
    with_b = tl.zeros((tile, block), tl.float32)
    for row in range(top, bottom):
        for step in tl.static_range(2 * radius + 1):
            at_x = x + step - radius
            inside = (at_x >= 0) & (at_x < width)
            at = tl.cast(row, tl.int64) * width + at_x
            red, green, blue = _color(guide, at * 3, inside)
            there = inside[:, None] & within
            value = tl.load(maps + (at * channels)[:, None] + channel[None, :], mask=there, other=0.0)
            mean += value
            # Deviations from the mean: products of the values themselves would nearly cancel.
            with_r += value * (red - mean_r)[:, None]
            with_g += value * (green - mean_g)[:, None]
            with_b += value * (blue - mean_b)[:, None]
    share = part[:, None]
    mean *= share
    with_r *= share
    with_g = with_g * share - l_g[:, None] * with_r
    with_b = with_b * share - l_b[:, None] * with_r - l_bg[:, None] * with_g
    a_b = with_b / d_b[:, None]
    a_g = with_g / d_g[:, None] - l_bg[:, None] * a_b
    a_r = with_r / d_r[:, None] - l_g[:, None] * a_g - l_b[:, None] * a_b
    constant = mean - a_r * mean_r[:, None] - a_g * mean_g[:, None] - a_b * mean_b[:, None]
    there = (column < width)[:, None] & within
    at = out + ((y.to(tl.int64) * width + x) * 4 * channels)[:, None] + channel[None, :]
    tl.store(at, a_r * 255, mask=there)
    tl.store(at + channels, a_g * 255, mask=there)
    tl.store(at + 2 * channels, a_b * 255, mask=there)
    tl.store(at + 3 * channels, constant, mask=there)


@triton.jit(do_not_specialize=SIZES)
def _box_mean(
    maps, out, height, width, channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr, radius: tl.constexpr,
):  # fmt: skip
    y, column = tl.program_id(0), tl.program_id(1) * tile + tl.arange(0, tile)
    x = tl.minimum(column, width - 1)
    channel = tl.program_id(2) * block + tl.arange(0, block)
    within = (channel < channels)[None, :]
    top, bottom = tl.maximum(y - radius, 0), tl.minimum(y + radius + 1, height)
    total = tl.zeros((tile, block), tl.float32)
    for row in range(top, bottom):
        for step in tl.static_range(2 * radius + 1):
            at_x = x + step - radius
            inside = ((at_x >= 0) & (at_x < width))[:, None]
            at = ((tl.cast(row, tl.int64) * width + at_x) * channels)[:, None] + channel[None, :]
            total += tl.load(maps + at, mask=inside & within, other=0.0)
    count = _window(x, width, radius) * (bottom - top)
    at = ((y.to(tl.int64) * width + x) * channels)[:, None] + channel[None, :]
    tl.store(out + at, total / count[:, None], mask=(column < width)[:, None] & within)


@triton.jit(do_not_specialize=SIZES)
def _smooth(pixels, out, height, width, top, left, wide, reach, tile: tl.constexpr):
    row, column = tl.program_id(0), tl.program_id(1) * tile + tl.arange(0, tile)
    y, x = top + row, left + column
    there = column < wide
    # Integers below 2^24 up to a reach of 8: the sums are exact, in float32, too.
    none = tl.zeros((tile,), tl.int32)
    red, green, blue, total = none, none, none, none
    for at_y in range(tl.maximum(y - reach, 0), tl.minimum(y + reach + 1, height)):
        down = reach + 1 - tl.abs(at_y - y)
        for step in range(-reach, reach + 1):
            at_x = x + step
            inside = there & (at_x >= 0) & (at_x < width)
            weight = tl.where(inside, down * (reach + 1 - tl.abs(step)), 0)
            r, g, b = _color(pixels, (tl.cast(at_y, tl.int64) * width + at_x) * 3, inside)
            red += weight * r
            green += weight * g
            blue += weight * b
            total += weight
    largest = tl.maximum(total, 1).to(tl.float32) * 255
    at = out + (row.to(tl.int64) * wide + column) * 3
    tl.store(at, red.to(tl.float32) / largest, mask=there)
    tl.store(at + 1, green.to(tl.float32) / largest, mask=there)
    tl.store(at + 2, blue.to(tl.float32) / largest, mask=there)


@triton.jit
def _between(pixel, coarse, length):
    """The two coarse pixels between whose centres a pixel's centre lies, and the share of the second."""
    # Its distance from the first centre of all, in units in which a coarse pixel is 2 length long.
    side = 2 * length.to(tl.int64)
    place = tl.minimum(tl.maximum((2 * pixel.to(tl.int64) + 1) * coarse - length, 0), side * (coarse - 1))
    first = place // side
    return first, tl.minimum(first + 1, coarse - 1), (place - first * side).to(tl.float32) / side


@triton.jit(do_not_specialize=SIZES)
def _write_labels(
    coefficients, guide, present, labels, height, width, coarse_height, coarse_width, top, left, wide,
    channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0), tl.program_id(1) * tile + tl.arange(0, tile)
    there = column < wide
    y, x = top + row, left + column
    color = guide + (row.to(tl.int64) * wide + column) * 3
    above, below, down = _between(y, coarse_height, height)
    before, behind, across = _between(tl.minimum(x, width - 1), coarse_width, width)
    stride = 4 * channels
    upper, lower = above * coarse_width, below * coarse_width
    peak = tl.full((tile,), float("-inf"), tl.float32)
    label = tl.zeros((tile,), tl.int32)
    for start in range(0, channels, block):
        channel = start + tl.arange(0, block)
        within = (channel < channels)[None, :]
        counts = tl.load(present + channel, mask=channel < channels, other=0) != 0
        response = tl.zeros((tile, block), tl.float32)
        for part in tl.static_range(4):
            at = coefficients + (part * channels + channel)[None, :]
            left_of = tl.load(at + ((upper + before) * stride)[:, None], mask=within, other=0.0) * (1 - down)
            left_of += tl.load(at + ((lower + before) * stride)[:, None], mask=within, other=0.0) * down
            right_of = tl.load(at + ((upper + behind) * stride)[:, None], mask=within, other=0.0) * (1 - down)
            right_of += tl.load(at + ((lower + behind) * stride)[:, None], mask=within, other=0.0) * down
            value = left_of * (1 - across)[:, None] + right_of * across[:, None]
            if part < 3:
                value *= tl.load(color + part, mask=there, other=0.0)[:, None]
            response += value
        response = tl.where(counts[None, :], response, float("-inf"))
        highest = tl.max(response, 1)
        first = tl.min(tl.where(response == highest[:, None], channel[None, :], channels), 1)
        # The first of equals: a later block has to exceed it.
        label = tl.where(highest > peak, first, label)
        peak = tl.maximum(highest, peak)
    tl.store(labels + y.to(tl.int64) * width + x, label.to(tl.int16), mask=there)

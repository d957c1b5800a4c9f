"""The guided filter: upsample a map so that its edges follow those of a photo.

He, Sun and Tang 2013, "Guided Image Filtering", doi:10.1109/TPAMI.2012.213, with a colour guide (section 3.5). In each
window the map is approximated by a linear function of the photo's colours. These functions vary slowly, so they are
computed at the small size and interpolated; the photo at full size adds the detail (He and Sun 2015, "Fast Guided
Filter", arXiv:1505.00996).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean of (1, C, H, W) maps over square windows of this radius, cut off at the border."""
    for axis in (-1, -2):
        maps = _means_along(maps, radius, axis)
    return maps


def _means_along(maps: Tensor, radius: int, axis: int) -> Tensor:
    """Means over windows along one axis, from sums of 2, 4, 8 ... pixels: six times as fast as pooling."""
    length = maps.shape[axis]
    border = (radius, radius) if axis == -1 else (0, 0, radius, radius)
    sums, width = functional.pad(maps, border), 1
    total, taken = torch.zeros_like(maps), 0
    side = 2 * radius + 1
    while True:
        if side & width:
            total += sums.narrow(axis, taken, length)
            taken += width
        if 2 * width > side:
            break
        pairs = sums.shape[axis] - width
        sums = sums.narrow(axis, 0, pairs) + sums.narrow(axis, width, pairs)
        width *= 2
    places = torch.arange(length, device=maps.device)
    inside = (places + radius).clamp(max=length - 1) - (places - radius).clamp(min=0) + 1
    return total.div_(inside if axis == -1 else inside[:, None])


def guided_coefficients(guide: Tensor, maps: Tensor, radius: int, regularisation: float) -> Tensor:
    """The linear function of the guide's colours that approximates each map around each pixel.

    Parameters
    ----------
    guide : (1, 3, h, w) float32, RGB in [0, 1].
    maps : (1, C, h, w) float32, to be filtered.
    radius : of the windows, in pixels.
    regularisation : epsilon; where the variance of the colours is below it, the map is averaged instead.

    Returns
    -------
    (C, 4, h, w) float32: a for red, green and blue, and b. The filtered map is a . colour + b (equation 8).
    """
    channels, height, width = maps.shape[1:]
    mean_guide = box_mean(guide, radius)[0]
    mean_maps = box_mean(maps, radius)[0]
    squares = (guide[0][:, None] * guide[0][None]).reshape(1, 9, height, width)
    variance = box_mean(squares, radius)[0].reshape(3, 3, height, width) - mean_guide[:, None] * mean_guide[None]
    regular = variance.permute(2, 3, 0, 1) + regularisation * torch.eye(3, device=guide.device)
    products = (maps[0][:, None] * guide[0][None]).reshape(1, channels * 3, height, width)
    means = mean_maps[:, None] * mean_guide[None]
    covariance = box_mean(products, radius)[0].reshape(channels, 3, height, width) - means
    inverse, _ = torch.linalg.inv_ex(regular)  # always invertible, and `inv` would wait for the device to check
    a = torch.einsum("hwij,cjhw->cihw", inverse, covariance)
    b = mean_maps - (a * mean_guide).sum(1)
    coefficients = torch.cat((a, b[:, None]), 1).reshape(1, channels * 4, height, width)
    return box_mean(coefficients, radius).reshape(channels, 4, height, width)


def apply_coefficients(
    coefficients: Tensor, guide: Tensor, rows: slice, columns: slice, size: tuple[int, int]
) -> Tensor:
    """The filtered maps, (C, r, c) float32, in a tile of a photo of `size` (height, width).

    `coefficients`, (C, 4, h, w), are interpolated bilinearly with pixel centres aligned; `guide`, (3, r, c) in [0, 1],
    is the photo in that tile.
    """
    near_rows, down = interpolation(coefficients.shape[2], rows, size[0])
    near_columns, across = interpolation(coefficients.shape[3], columns, size[1])
    large = down.to(guide) @ coefficients[:, :, near_rows, near_columns] @ across.to(guide).T
    filtered = large[:, 3]
    for channel in range(3):
        filtered = torch.addcmul(filtered, large[:, channel], guide[channel])
    return filtered


def triangle_weights(
    centres: NDArray[np.floating] | NDArray[np.integer], half_width: float, length: int
) -> tuple[slice, Tensor]:
    """Weights for averages around n ascending centres in a row of `length` pixels, falling linearly with distance.

    They reach 0 at `half_width` and sum to 1 over the pixels of the row. A half-width of 1 is linear interpolation.

    Returns
    -------
    A slice with the m pixels needed, and (n, m) float32 weights.
    """
    first, last = np.floor(centres[0] - half_width) + 1, np.ceil(centres[-1] + half_width) - 1
    near = np.arange(max(first, 0), min(last + 1, length))
    weights = (1 - abs(centres[:, None] - near) / half_width).clip(0)
    weights /= weights.sum(1, keepdims=True)
    return slice(int(near[0]), int(near[-1]) + 1), torch.tensor(weights, dtype=torch.float32)


def interpolation(coarse: int, span: slice, length: int) -> tuple[slice, Tensor]:
    """Weights to interpolate `coarse` pixels to `span` of the `length` pixels over the same extent."""
    centres = (np.arange(span.start, span.stop) + 0.5) * (coarse / length) - 0.5
    return triangle_weights(centres.clip(0, coarse - 1), 1, coarse)

"""Fit small, label large: the fitted network applied to the whole image, tile by tile, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..method.network import SegmentationNetwork

Tile = tuple[slice, slice]


def label_image(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    device: torch.device,
    dtype: torch.dtype,
    tile_size: int,
    window: int = 1,
    on_tile: Callable[[], None] | None = None,
) -> NDArray[np.int16]:
    """Raw labels in 0..q-1, (H, W) int16, of an RGB (H, W, 3) image by a network that was fitted on it, or smaller.

    The BatchNorms apply the statistics of the last training forward, so tiles agree with each other and with the
    fit. A label is the argmax of r' averaged over `window` x `window` pixels, an odd number: detail finer than the
    network was fitted on would else fragment the labels. Each tile is read with a halo as wide as the network and the
    window see: only the true border of the image is zero-padded, as it is when the image is seen whole.
    """
    halo = network.receptive_radius + window // 2
    height, width = image.shape[:2]
    labels = np.empty((height, width), dtype=np.int16)
    network.eval()
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for rows, columns in tiles(height, width, tile_size):
            if on_tile is not None:
                on_tile()
            seen_rows = _grown(rows, halo, height)
            seen_columns = _grown(columns, halo, width)
            response = _averaged(network(to_input(image[seen_rows, seen_columns], device)), window)
            inner = response[
                :,
                :,
                rows.start - seen_rows.start : rows.stop - seen_rows.start,
                columns.start - seen_columns.start : columns.stop - seen_columns.start,
            ]
            labels[rows, columns] = inner.max(1).indices[0].to(torch.int16).cpu().numpy()
    return labels


def _averaged(response: Tensor, window: int) -> Tensor:
    """Mean over `window` x `window` pixels, as far as they lie inside, first down and then across."""
    if window == 1:
        return response
    reach = window // 2
    down = functional.avg_pool2d(response, (window, 1), 1, (reach, 0), count_include_pad=False)
    return functional.avg_pool2d(down, (1, window), 1, (0, reach), count_include_pad=False)


def to_input(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """An RGB (H, W, 3) uint8 image as the network's (1, 3, H, W) float32 input in [0, 1], channels last."""
    pixels = torch.tensor(np.ascontiguousarray(image), device=device)
    return pixels.permute(2, 0, 1)[None].float().div_(255)


def tiles(height: int, width: int, size: int) -> Iterator[Tile]:
    """Rows and columns of tiles of at most `size` x `size` that cover (height, width) once."""
    for top in range(0, height, size):
        for left in range(0, width, size):
            yield slice(top, min(top + size, height)), slice(left, min(left + size, width))


def _grown(span: slice, halo: int, length: int) -> slice:
    return slice(max(span.start - halo, 0), min(span.stop + halo, length))

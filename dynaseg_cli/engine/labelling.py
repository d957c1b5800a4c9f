"""Fit small, label large: the fitted network applied to the whole image, tile by tile, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..method.network import SegmentationNetwork
from ..resampling import shrink, working_size
from .banded_layers import as_image
from .device import has_triton, is_out_of_memory, warn_or_raise
from .guided_filter import apply_coefficients, guided_coefficients, interpolation, triangle_weights
from .networks import Network
from .precision import computing_in

TILE_SIZE = {"cpu": 160, "mps": 512, "cuda": 1024}
"""Side of a tile in pixels: small enough for a processor's cache, large enough for a GPU."""
FILTER_RADIUS = 3
"""Radius of the guided filter's windows, in working pixels."""
FILTER_REGULARISATION = 1e-3
"""Variance of colours in [0, 1] below which the guided filter sees no edge."""
DETAIL = 2.5
"""The fitted network sees the image again at up to this many times the size it was fitted at. The cost is the same for
every larger photo; 1.5 instead loses .014 of best-overlap Mean (10 photos of BSDS500 train)."""
MOST_REACH = 8
"""Limit on the smoothing of the guide, in pixels to each side: it bounds the cost per pixel of large photos."""

_kernels_ran: dict[tuple[object, ...], bool] = {}
"""By device, dtype and shape of the network: whether fused kernels ran."""
_trying = threading.Lock()
"""Held while they are tried, so that threads do not compile the same kernels at once."""

Tile = tuple[slice, slice]
OnTile = Callable[[], None]
"""Called before each tile; an exception ends the work."""


def label_image(
    network: Network,
    image: NDArray[np.uint8],
    dtype: torch.dtype,
    tile_size: int,
    *,
    mirrored: bool = False,
) -> NDArray[np.int16]:
    """Raw labels in 0..q-1, (H, W) int16, of an RGB (H, W, 3) image: the argmax of the network's response to it.

    The BatchNorms use their running statistics, so tiles agree with each other and with the fit. `mirrored` is as
    in `label_with_model`.
    """
    network.eval()
    labels = np.empty(image.shape[:2], dtype=np.int16)
    with torch.inference_mode():
        for rows, columns, response in _responses(network, image, dtype, tile_size, mirrored=mirrored):
            labels[rows, columns] = response.max(1).indices[0].to(torch.int16).cpu().numpy()
    return labels


def label_with_model(
    network: Network,
    image: NDArray[np.uint8],
    size: tuple[int, int],
    dtype: torch.dtype,
    tile_size: int,
    on_tile: OnTile = lambda: None,
) -> NDArray[np.int16]:
    """Raw labels, (H, W) int16, of an RGB (H, W, 3) image by the network of a folder, fitted at (height, width) `size`.

    This is one forward pass at that size, with the running statistics, and the guided filter. The image is mirrored at
    its border: a network fitted to mosaics responds to zeros there in a way of its own, which would frame every image.
    (The ResNet keeps the zero padding that it was trained with on ImageNet.)
    """
    height, width = size
    small = shrink(image, width, height)
    if small.shape == image.shape:
        return label_image(network, image, dtype, tile_size, mirrored=True)
    network.eval()
    with torch.inference_mode():
        if _has_kernels(network, dtype):
            from .cuda.fused_labelling import averaged_response, label_filtered  # noqa: PLC0415 - imports Triton

            own = averaged_response(network, small, size, dtype, tile_size, mirrored=True)
            return label_filtered(image, small, own, own.max(-1).indices, tile_size, on_tile)
        weight = network.classifier.weight
        response = torch.empty((1, len(weight), height, width), device=weight.device)
        for rows, columns, part in _responses(network, small, dtype, tile_size, mirrored=True):
            response[..., rows, columns] = part
        kept = torch.unique(response.max(1).indices)
        return _label_filtered(image, small, response[:, kept], kept, tile_size, on_tile)


def label_with_fit(
    network: Network,
    image: NDArray[np.uint8],
    fitted: Tensor,
    dtype: torch.dtype,
    tile_size: int,
    on_tile: OnTile = lambda: None,
) -> NDArray[np.int16]:
    """Raw labels, (H, W) int16, of an RGB (H, W, 3) image by a network that was fitted to a smaller copy of it.

    `fitted`, (h, w) int64 on the device, are the labels at the end of the fit; only these can appear. At full detail
    the network's labels fragment, and labels at the size of the fit have coarse edges. So the response to the image in
    more detail (`DETAIL`) is averaged over each working pixel, and a guided filter brings it to the image's size.

    The ResNet's receptive field is too large for tiles, and its output has a quarter of the detail: its response is the
    one of the fit's last iteration.
    """
    height, width = image.shape[:2]
    with torch.inference_mode():
        small = shrink(image, fitted.shape[1], fitted.shape[0])
        if not isinstance(network, SegmentationNetwork):
            # Training mode applies the statistics of this very image. The running variances are unbiased, which is
            # noticeable for the few pixels of the last stage.
            kept = torch.unique(fitted)
            response = _response(network.train(), to_input(small, fitted.device), dtype)[:, kept]
            return _label_filtered(image, small, response, kept, tile_size, on_tile)
        network.eval()
        detailed = shrink(image, *working_size(width, height, round(DETAIL * max(fitted.shape))))
        if _has_kernels(network, dtype):
            from .cuda.fused_labelling import averaged_response, label_filtered  # noqa: PLC0415 - imports Triton

            averaged = averaged_response(network, detailed, fitted.shape, dtype, tile_size, on_tile)
            return label_filtered(image, small, averaged, fitted, tile_size, on_tile)
        kept = torch.unique(fitted)
        response = _averaged_response(network, detailed, kept, fitted.shape, dtype, tile_size, on_tile)
        return _label_filtered(image, small, response, kept, tile_size, on_tile)


def _has_kernels(network: Network, dtype: torch.dtype) -> TypeGuard[SegmentationNetwork]:
    """Whether fused kernels label by such a network. The first time they are tried, on a few pixels.

    Without a compiler or a suitable driver there are plain operations, which are slower.
    """
    device = network.classifier.weight.device
    if not has_triton(device) or not isinstance(network, SegmentationNetwork) or network.beside:
        return False
    kind = (device, dtype, len(network.convolutions), *network.classifier.weight.shape)
    with _trying:
        if kind not in _kernels_ran:
            _kernels_ran[kind] = _can_rehearse(network, dtype)
    return _kernels_ran[kind]


def _can_rehearse(network: SegmentationNetwork, dtype: torch.dtype) -> bool:
    try:
        _rehearse(network, dtype)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        warn_or_raise(network.classifier.weight.device, "fused kernels for labelling", error)
        return False
    return True


def _rehearse(network: SegmentationNetwork, dtype: torch.dtype) -> None:
    from .cuda.fused_labelling import averaged_response, label_filtered  # noqa: PLC0415 - imports Triton

    image = np.zeros((4, 4, 3), dtype=np.uint8)
    response = averaged_response(network, image, (2, 2), dtype, 4)
    label_filtered(image, image[:2, :2], response, response.max(-1).indices, 4, lambda: None)


def _label_filtered(
    image: NDArray[np.uint8],
    small: NDArray[np.uint8],
    response: Tensor,
    kept: Tensor,
    tile_size: int,
    on_tile: OnTile,
) -> NDArray[np.int16]:
    """Raw labels, (H, W) int16, from the response of the `kept` labels to a smaller copy, (1, K, h, w).

    A label is the argmax of the response after a guided filter, whose guide is the image. The guide is smoothed over
    about a working pixel (1-2-1 if that is 2.5 wide); otherwise its noise would fragment the labels again.
    """
    device = response.device
    height, width = image.shape[:2]
    coefficients = guided_coefficients(to_input(small, device), response, FILTER_RADIUS, FILTER_REGULARISATION)
    reach = guide_reach(image, small)
    labels = np.empty((height, width), dtype=np.int16)
    for rows, columns in tiles(height, width, tile_size):
        on_tile()
        smooth = _smoothed(image, rows, columns, reach, device)
        filtered = apply_coefficients(coefficients, smooth, rows, columns, (height, width))
        labels[rows, columns] = kept[filtered.max(0).indices].to(torch.int16).cpu().numpy()
    return labels


def guide_reach(image: NDArray[np.uint8], small: NDArray[np.uint8]) -> int:
    """Pixels to each side over which the guide is smoothed."""
    reach: int = min(max(image.shape[:2]) // (2 * max(small.shape[:2])), MOST_REACH)
    return reach


def _smoothed(image: NDArray[np.uint8], rows: slice, columns: slice, reach: int, device: torch.device) -> Tensor:
    """A tile of an RGB image, (3, r, c) in [0, 1], averaged over `reach` pixels to each side."""
    near_rows, down = triangle_weights(np.arange(rows.start, rows.stop), reach + 1, image.shape[0])
    near_columns, across = triangle_weights(np.arange(columns.start, columns.stop), reach + 1, image.shape[1])
    return down.to(device) @ to_input(image[near_rows, near_columns], device)[0] @ across.to(device).T


def _averaged_response(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    kept: Tensor,
    size: tuple[int, ...],
    dtype: torch.dtype,
    tile_size: int,
    on_tile: OnTile,
) -> Tensor:
    """Channels `kept` of the response to an image, averaged over the area of each pixel of `size`: (1, K, h, w)."""
    (height, width), (coarse_height, coarse_width) = image.shape[:2], size
    down = torch.tensor(area_weights(height, coarse_height), device=kept.device)
    across = torch.tensor(area_weights(width, coarse_width), device=kept.device)
    average = torch.zeros((1, len(kept), coarse_height, coarse_width), device=kept.device)
    for rows, columns, response in _responses(network, image, dtype, tile_size):
        on_tile()
        ys = slice(rows.start * coarse_height // height, -(-rows.stop * coarse_height // height))
        xs = slice(columns.start * coarse_width // width, -(-columns.stop * coarse_width // width))
        average[..., ys, xs] += down[ys, rows] @ response[:, kept] @ across[xs, columns].T
    return average


def _responses(
    network: Network,
    image: NDArray[np.uint8],
    dtype: torch.dtype,
    tile_size: int,
    *,
    mirrored: bool = False,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The response map (1, q, r, c) to an image, tile by tile.

    Each tile has a halo as wide as the receptive field, so that only the image's border is zero-padded, or mirrored.
    The ResNet's receptive field is too large for a halo: its only tile is the whole image.
    """
    height, width = image.shape[:2]
    device = network.classifier.weight.device
    if not isinstance(network, SegmentationNetwork):
        yield slice(0, height), slice(0, width), _response(network, to_input(image, device), dtype)
        return
    beside = network.respond_beside() if network.beside else []
    halo = network.receptive_radius
    margin = halo if mirrored else 0
    padded = mirrored_beyond(image, margin) if mirrored else image
    for rows, columns in tiles(height, width, tile_size):
        seen, inner = with_halo(moved(rows, margin), moved(columns, margin), halo, padded.shape[:2])
        response_beside = _part_beside(beside, *seen, margin, (height, width)) if network.beside else None
        response = _response(network, to_input(padded[seen], device), dtype, response_beside)
        yield rows, columns, response[..., inner[0], inner[1]]


def _response(network: Network, x: Tensor, dtype: torch.dtype, *beside: Tensor | None) -> Tensor:
    """The response map, (1, q, H, W) float32, to an input."""
    with computing_in(dtype, x.device):
        response: Tensor = network(x, *beside)
    return response


def area_weights(fine: int, coarse: int) -> NDArray[np.float32]:
    """(coarse, fine): the share of each of `fine` pixels in the average over each of `coarse` pixels of one axis."""
    edges = np.arange(coarse + 1) * (fine / coarse)
    pixels = np.arange(fine)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: NDArray[np.float32] = (overlap.clip(0) * (coarse / fine)).astype(np.float32)
    return weights


def mirrored_beyond(image: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """An (H, W, 3) image with a margin on each side, in which it is mirrored."""
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")


def to_input(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """An RGB (H, W, 3) uint8 image as the network's (1, 3, H, W) float32 input in [0, 1], channels last."""
    pixels = torch.tensor(np.ascontiguousarray(image), device=device)
    return as_image(pixels).float().div_(255)


def _part_beside(
    responses: Sequence[Tensor], rows: slice, columns: slice, margin: int, size: tuple[int, int]
) -> Tensor:
    """The sum of `respond_beside` in a part of an image of `size` (height, width) that has a margin: (1, q, r, c)."""
    parts = []
    for response in responses:
        places = zip(response.shape[2:], (rows, columns), size, strict=True)
        (near_rows, down), (near_columns, across) = (
            interpolation(coarse, moved(span, -margin), side) for coarse, span, side in places
        )
        parts.append(down.to(response) @ response[..., near_rows, near_columns] @ across.to(response).T)
    return reduce(torch.add, parts)


def tiles(height: int, width: int, size: int) -> Iterator[Tile]:
    """Rows and columns of tiles of at most `size` x `size` that partition (height, width)."""
    for top in range(0, height, size):
        for left in range(0, width, size):
            yield slice(top, min(top + size, height)), slice(left, min(left + size, width))


def moved(span: slice, by: int) -> slice:
    """Rows or columns further down or to the right."""
    return slice(span.start + by, span.stop + by)


def with_halo(rows: slice, columns: slice, halo: int, size: tuple[int, ...]) -> tuple[Tile, Tile]:
    """A tile grown by `halo` within the image, and the position of the original tile in it."""
    seen = [slice(max(s.start - halo, 0), min(s.stop + halo, n)) for s, n in zip((rows, columns), size, strict=True)]
    inner = [slice(s.start - g.start, s.stop - g.start) for s, g in zip((rows, columns), seen, strict=True)]
    return (seen[0], seen[1]), (inner[0], inner[1])

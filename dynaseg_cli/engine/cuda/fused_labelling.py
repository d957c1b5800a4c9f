"""Labelling on a CUDA device: convolutions by the library, everything else by fused kernels.

It computes what the plain operations of `labelling` compute, with two differences. Features are averaged over each
working pixel before the classifier instead of its response after it, which is the same, because both are linear. And
labels that do not count are left out at the very end, so that the host need not ask the device which ones these are:
it waits for nothing but the labels themselves.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...method.network import SegmentationNetwork
from ..banded_layers import as_image, as_pixels
from ..labelling import (
    FILTER_RADIUS,
    FILTER_REGULARISATION,
    OnTile,
    guide_reach,
    mirrored_beyond,
    moved,
    tiles,
    with_halo,
)
from . import labelling_kernels as kernels


def averaged_response(
    network: SegmentationNetwork,
    image: NDArray[np.uint8],
    size: tuple[int, ...],
    dtype: torch.dtype,
    tile_size: int,
    on_tile: OnTile = lambda: None,
    *,
    mirrored: bool = False,
) -> Tensor:
    """The response to an RGB (H, W, 3) image, averaged over the area of each pixel of `size`: (h, w, q) float32.

    `mirrored` is as in `label_with_model`. If `size` is that of the image, this is its response as it is.
    """
    height, width = image.shape[:2]
    device = network.classifier.weight.device
    halo = network.receptive_radius
    margin = halo if mirrored else 0
    pixels = on_device(mirrored_beyond(image, margin) if mirrored else image, device)
    first, *others = network.feature_convolutions
    *blocks, last = zip(network.feature_convolutions, network.feature_norms, strict=True)
    around = torch.empty((3, 3, 3, first.out_channels), dtype=dtype, device=device)
    around.copy_(first.weight.permute(2, 3, 1, 0))
    weights = [convolution.weight.to(dtype) for convolution in others]
    features = torch.zeros((*size, first.out_channels), device=device)
    for rows, columns in tiles(height, width, tile_size):
        on_tile()
        seen, _ = with_halo(moved(rows, margin), moved(columns, margin), halo, pixels.shape[:2])
        z = kernels.convolve(pixels, *seen, around)
        for block, weight in zip(blocks, weights, strict=True):
            x = as_image(kernels.activate(z, *block))
            z = as_pixels(functional.conv2d(x, weight, padding=1)).contiguous()
        origin = (seen[0].start - margin, seen[1].start - margin)
        kernels.add_averages(z, *last, origin, (rows, columns), (height, width), features)
    classifier = network.classifier
    response = functional.linear(features, classifier.weight.flatten(1), classifier.bias)
    return as_pixels(network.response_norm(as_image(response))).contiguous()


def label_filtered(
    image: NDArray[np.uint8],
    small: NDArray[np.uint8],
    response: Tensor,
    fitted: Tensor,
    tile_size: int,
    on_tile: OnTile,
) -> NDArray[np.int16]:
    """Raw labels, (H, W) int16, from the response to a smaller copy of the image, (h, w, q).

    Only labels of `fitted`, int64 of any shape, can appear. The filter is the one of the plain operations.
    """
    device = response.device
    height, width = image.shape[:2]
    pixels, guide = on_device(image, device), on_device(small, device)
    present = torch.zeros(response.shape[2], dtype=torch.int32, device=device).index_fill_(0, fitted.reshape(-1), 1)
    coefficients = kernels.guided_coefficients(guide, response, FILTER_RADIUS, FILTER_REGULARISATION)
    labels = torch.empty((height, width), dtype=torch.int16, device=device)
    for rows, columns in tiles(height, width, tile_size):
        on_tile()
        smooth = kernels.smooth(pixels, rows, columns, guide_reach(image, small))
        kernels.write_labels(coefficients, smooth, present, rows, columns, labels)
    return labels.cpu().numpy()


def on_device(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """A copy that the host does not wait for."""
    host = torch.empty(image.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    host.numpy()[...] = image
    return host.to(device, non_blocking=True)

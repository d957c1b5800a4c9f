"""Invariant information clustering: labels that agree between an image and a transformed copy of it."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..engine.labelling import TILE_SIZE, label_image, to_input
from ..engine.precision import exact_arithmetic
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from ..resampling import shrink, working_size

JITTER = 0.4
"""Brightness, contrast and saturation of the copy are scaled by 1 - JITTER to 1 + JITTER, as the authors do."""
FLIPPED = 0.5
"""Share of the iterations whose copy is flipped left to right."""


def segment_by_iic(
    image: NDArray[np.uint8],
    *,
    clusters: int,
    iterations: int,
    displacement: int,
    max_size: int,
    learning_rate: float,
    blocks: int,
    features: int,
    seed: int,
    device: torch.device,
) -> NDArray[np.int32]:
    """Segment an RGB (H, W, 3) uint8 image by maximising mutual information: (H, W) int32 labels, 0..clusters-1.

    Ji, Henriques and Vedaldi 2019, "Invariant Information Clustering for Unsupervised Image Classification and
    Segmentation", section 3.3, arXiv:1807.06653, on this one image: one head, no auxiliary over-clustering. The labels
    of the image and of a copy with other brightness, contrast and saturation, flipped or not, must predict each other.
    The network is fitted with Adam at the working size, and then applied at the image's own size. The parameters are
    the fields of `IicConfig`.

    Raises
    ------
    DivergedError
        If the loss is not finite.
    """
    height, width = image.shape[:2]
    small = shrink(image, *working_size(width, height, max_size))
    if small.shape[:2] == (1, 1):
        # A BatchNorm over one pixel is undefined.
        return np.zeros((height, width), dtype=np.int32)
    network = SegmentationNetwork(blocks, features, clusters)
    network.initialise(seed)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with exact_arithmetic():
        _fit(network, to_input(small, device), iterations, displacement, learning_rate, np.random.default_rng(seed))
        return label_image(network, image, torch.float32, TILE_SIZE[device.type]).astype(np.int32)


def joint_distributions(first: Tensor, second: Tensor, displacement: int, step: int = 1) -> Tensor:
    """P_u, the joint distribution of the labels at x + u in one map and at x in the other, for many displacements u.

    Parameters
    ----------
    first, second : (B, k, H, W) float tensors, each pixel's distribution over k labels in B images, which are counted
        together.
    displacement : d; u is in [-d, d] along either axis, or less if the map is narrower.
    step : s; u are the multiples of s in this range.

    Returns
    -------
    (2 d / s + 1, 2 d / s + 1, k, k), vertical displacement first. Each P_u is symmetric (section 3.1) and sums to 1.
    """
    height, width = first.shape[2:]
    reach = [min(displacement, side - 1) // step * step for side in (height, width)]
    # One map is a kernel that slides over the other. Pixels displaced beyond the border meet zeros, and do not count.
    moving, still = (maps.transpose(0, 1).contiguous() for maps in (first, second))
    meetings = functional.conv2d(moving, still, padding=reach, stride=step)
    joint = meetings.permute(2, 3, 0, 1)
    joint = joint + joint.transpose(-1, -2)
    return joint / joint.sum((-2, -1), keepdim=True)


def mutual_information(joint: Tensor) -> Tensor:
    """Mutual information in nats of (..., k, k) joint distributions, (...): section 3.1 of the paper."""
    joint = joint.clamp(min=torch.finfo(joint.dtype).tiny)  # 0 log 0 is 0
    rows = joint.sum(-1, keepdim=True)
    columns = joint.sum(-2, keepdim=True)
    return (joint * (joint.log() - rows.log() - columns.log())).sum((-2, -1))


def jitter(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Change the light of a (1, 3, H, W) RGB image in [0, 1]; factors of 1 change nothing.

    Brightness scales the colours, contrast their distance from the image's mean grey, and saturation their distance
    from the pixel's own grey. Grey is the luma of ITU-R BT.601.
    """
    image = (image * brightness).clamp(0, 1)
    mean = _grey(image).mean()
    image = (mean + (image - mean) * contrast).clamp(0, 1)
    grey = _grey(image)
    return (grey + (image - grey) * saturation).clamp(0, 1)


def _grey(image: Tensor) -> Tensor:
    weights = image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def _fit(
    network: SegmentationNetwork,
    image: Tensor,
    iterations: int,
    displacement: int,
    learning_rate: float,
    generator: np.random.Generator,
) -> None:
    """Fit the network to a (1, 3, h, w) image."""
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)
    network.train()
    for iteration in range(1, iterations + 1):
        copy = jitter(image, *generator.uniform(1 - JITTER, 1 + JITTER, 3).tolist())
        if generator.random() < FLIPPED:
            second = network(copy.flip(-1)).softmax(1).flip(-1)
        else:
            second = network(copy).softmax(1)
        first = network(image).softmax(1)
        loss = -mutual_information(joint_distributions(first, second, displacement)).mean()
        if not math.isfinite(loss.item()):
            raise DivergedError(f"the loss of IIC became {loss.item()} in iteration {iteration}")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        network(image)  # sets the running statistics to those of the image with the final weights

"""A CNN fitted to one image whose labels are constant within superpixels: the predecessor of the continuity loss."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..engine.labelling import TILE_SIZE, label_image, to_input
from ..engine.precision import exact_arithmetic
from ..errors import DivergedError, UsageError
from ..method.network import SegmentationNetwork
from ..resampling import shrink, working_size


def segment_by_superpixel_cnn(
    image: NDArray[np.uint8],
    *,
    superpixels: int,
    compactness: float,
    iterations: int,
    min_labels: int,
    max_size: int,
    learning_rate: float,
    momentum: float,
    blocks: int,
    features: int,
    seed: int,
    device: torch.device,
) -> NDArray[np.int32]:
    """Segment an RGB (H, W, 3) uint8 image by a network whose target is its own majority label in each superpixel.

    Kanezaki 2018, "Unsupervised Image Segmentation by Backpropagation", Algorithm 1, doi:10.1109/ICASSP.2018.8462533.
    Superpixels are SLIC's: Achanta et al. 2012, doi:10.1109/TPAMI.2012.120. The network is fitted at the working size,
    with superpixels of that size, and then applied at the image's own size, where each superpixel gets its majority
    label. The parameters are the fields of `SuperpixelCnnConfig`.

    Returns
    -------
    (H, W) int32 labels in 0..features-1.

    Raises
    ------
    UsageError
        If scikit-image is not installed.
    DivergedError
        If the loss is not finite.
    """
    try:
        from skimage.segmentation import slic  # noqa: PLC0415 (an optional extra)
    except ModuleNotFoundError as error:
        raise UsageError("the superpixel CNN baseline needs scikit-image: pip install 'dynaseg[baselines]'") from error

    def superpixel_map(pixels: NDArray[np.uint8]) -> Tensor:
        found = slic(pixels, n_segments=superpixels, compactness=compactness, start_label=0)
        return torch.tensor(found, dtype=torch.int64, device=device).flatten()

    height, width = image.shape[:2]
    small = shrink(image, *working_size(width, height, max_size))
    if small.shape[:2] == (1, 1):
        # A BatchNorm over one pixel is undefined.
        return np.zeros((height, width), dtype=np.int32)
    network = SegmentationNetwork(blocks, features, features)
    network.initialise(seed)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with exact_arithmetic():
        coarse = superpixel_map(small)
        _fit(network, to_input(small, device), coarse, iterations, min_labels, learning_rate, momentum)
        raw = label_image(network, image, torch.float32, TILE_SIZE[device.type])
    fine = coarse if small.shape == image.shape else superpixel_map(image)
    labels = torch.tensor(raw, dtype=torch.int64, device=device).flatten()
    result: NDArray[np.int32] = majority_labels(labels, fine, features).cpu().numpy().astype(np.int32)
    return result.reshape(height, width)


def majority_labels(labels: Tensor, superpixels: Tensor, clusters: int) -> Tensor:
    """Each pixel's most frequent label in its superpixel, of equals the smallest.

    `labels` in 0..clusters-1, `superpixels` numbered from 0, and the result are (N,) int64 tensors.
    """
    count = int(superpixels.max()) + 1
    # Integers, so that the sums do not depend on the order in which a GPU adds.
    votes = torch.zeros(count * clusters, dtype=torch.int32, device=labels.device)
    votes.scatter_add_(0, superpixels * clusters + labels, torch.ones_like(labels, dtype=torch.int32))
    return votes.view(count, clusters).argmax(1)[superpixels]


def _fit(
    network: SegmentationNetwork,
    image: Tensor,
    superpixels: Tensor,
    iterations: int,
    min_labels: int,
    learning_rate: float,
    momentum: float,
) -> None:
    """Fit the network to a (1, 3, h, w) image, ending with a forward pass that sets the running statistics."""
    optimiser = torch.optim.SGD(network.parameters(), learning_rate, momentum)
    network.train()
    for iteration in range(1, iterations + 1):
        response = network(image)[0].permute(1, 2, 0).flatten(0, 1)  # (N, q)
        labels = response.detach().max(1).indices
        targets = majority_labels(labels, superpixels, response.shape[1])
        loss = functional.cross_entropy(response, targets)
        if not math.isfinite(loss.item()):
            raise DivergedError(f"the loss of the superpixel CNN became {loss.item()} in iteration {iteration}")
        # Labels are counted before the majority vote, as in the author's program.
        if len(labels.unique()) <= min_labels or iteration == iterations:
            break
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

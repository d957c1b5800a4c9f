"""The literal loop of the paper: full resolution, float32, every step on the host. A yardstick, never the default.

Read it beside section III; the engine must give what this gives, only sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..config import SegmentConfig
from .network import SegmentationNetwork


@dataclass(frozen=True)
class ReferenceResult:
    """labels: (H, W) int64, the raw argmax in 0..q-1, not renumbered. One entry an iteration in the other two."""

    labels: np.ndarray
    losses: list[float]
    labels_per_iteration: list[int]


def reference_segment(image: np.ndarray, config: SegmentConfig, threshold: int) -> ReferenceResult:
    """Segment an RGB uint8 (H, W, 3) image by the paper's algorithm.

    `threshold` is the number of labels at which to stop: k of the silhouette phase, or a fixed number.
    """
    network = SegmentationNetwork(config.blocks, config.features, config.clusters)
    network.initialise(config.seed)
    optimiser = torch.optim.SGD(
        network.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
    )
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    losses, counts = [], []

    for iteration in range(config.iterations):
        r = network(x)[0]  # (q, H, W), the normalised response map r'
        c = r.argmax(0)  # (H, W), the labels c_n
        q = len(np.unique(c.numpy()))  # q'
        floored = max(q, threshold)

        sim = functional.cross_entropy(r[None], c[None])  # eq. 1
        h = (r[:, :, 1:] - r[:, :, :-1]).abs().mean()  # eq. 2 and 4
        v = (r[:, 1:, :] - r[:, :-1, :]).abs().mean()  # eq. 3 and 5
        con = h + v  # eq. 6
        if config.mode == "scf":
            mu = config.weight / floored  # eq. 9
        elif config.mode == "fsf":
            mu = floored / config.weight  # eq. 8
        else:
            mu = config.weight
        loss = sim + mu * con  # eq. 7
        losses.append(loss.item())
        counts.append(q)

        if q <= threshold or iteration == config.iterations - 1:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return ReferenceResult(c.numpy(), losses, counts)

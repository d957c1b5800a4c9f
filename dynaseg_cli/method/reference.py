"""The literal loop of the paper: full resolution, float32, every step on the host. The engine is measured against it.

Read it beside section III. The engine must give the same results, only faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..config import SegmentConfig
from .losses import continuity_loss, continuity_weight, similarity_loss
from .network import SegmentationNetwork


@dataclass(frozen=True)
class ReferenceResult:
    labels: np.ndarray
    """(H, W) int64, raw argmax in 0..q-1."""
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
    x = torch.tensor(image).permute(2, 0, 1)[None].float().contiguous() / 255
    losses, counts = [], []

    for iteration in range(config.iterations):
        r = network(x)  # (1, q, H, W), the normalised response map r'
        c = r.argmax(1)  # (1, H, W), the labels c_n
        q = len(np.unique(c.numpy()))  # q'

        sim = similarity_loss(r, c)  # eq. 1
        con = continuity_loss(r)  # eq. 2 to 6
        mu = continuity_weight(config.mode, config.weight, max(q, threshold))  # eq. 8 and 9
        loss = sim + mu * con  # eq. 7
        losses.append(loss.item())
        counts.append(q)

        if q <= threshold or iteration == config.iterations - 1:
            break
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return ReferenceResult(c[0].numpy(), losses, counts)

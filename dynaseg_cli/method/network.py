"""The network that is optimised on one image: feature extractor (III-B.1) and linear classifier (III-D)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """M blocks of convolution 3x3, ReLU and BatchNorm, a 1x1 convolution to q clusters, and its BatchNorm.

    The input is (1, 3, H, W), RGB in [0, 1]; the output is the normalised response map r', (1, q, H, W), float32.
    Every BatchNorm has momentum 1: its running statistics are those of the last forward pass in training mode, so
    evaluation mode applies the network as it was last trained.

    Every BatchNorm starts with scale 1 and shift 0, so r' has zero mean and unit variance along each cluster axis
    (section III-D). Both are learned; without that in the last one, far more labels survive the optimisation.

    Features of a pretrained network can stand beside those of the blocks: x_n is then both, and the input has them as
    further channels after the colours.

    Parameters
    ----------
    blocks, features, clusters : M, p and q. Without blocks there are only the features beside.
    beside : channels of the input after the first three, which only the classifier sees.
    """

    def __init__(self, blocks: int, features: int, clusters: int, beside: int = 0) -> None:
        super().__init__()
        self.beside = beside
        widths = [3] + [features] * blocks
        self.convolutions = nn.ModuleList(
            nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1) for fan_in, fan_out in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(features, momentum=1.0) for _ in range(blocks))
        self.classifier = nn.Conv2d((features if blocks else 0) + beside, clusters, kernel_size=1)
        self.response_norm = nn.BatchNorm2d(clusters, momentum=1.0)

    @property
    def feature_convolutions(self) -> list[nn.Conv2d]:
        return [layer for layer in self.convolutions if isinstance(layer, nn.Conv2d)]

    @property
    def feature_norms(self) -> list[nn.BatchNorm2d]:
        return [norm for norm in self.norms if isinstance(norm, nn.BatchNorm2d)]

    @property
    def receptive_radius(self) -> int:
        """Largest distance in pixels, along an axis, at which an input pixel affects an output pixel."""
        return len(self.convolutions)

    def forward(self, image: Tensor) -> Tensor:
        x, beside = image[:, :3], image[:, 3:]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(torch.relu(convolution(x)))
        if self.beside:
            x = torch.cat((x, beside), 1) if self.convolutions else beside
        # In float32, because bfloat16 responses would tie in the argmax.
        response: Tensor = self.response_norm(self.classifier(x).float())
        return response

    def initialise(self, seed: int) -> None:
        """Draw PyTorch's default initial weights from a separate generator, so that they are the same everywhere."""
        generator = torch.Generator().manual_seed(seed)
        for module in (*self.convolutions, self.classifier):
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            bound = 1 / math.sqrt(module.in_channels * math.prod(module.kernel_size))
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)

"""The network that is optimised on one image: feature extractor (III-B.1) and linear classifier (III-D)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class SegmentationNetwork(nn.Module):
    """M blocks of convolution 3x3, ReLU and BatchNorm, a 1x1 convolution to q clusters, and its BatchNorm.

    The input is (1, 3, H, W), RGB in [0, 1]; the output is the normalised response map r', (1, q, H, W), float32.
    Every BatchNorm has momentum 1: its running statistics are those of the last forward pass in training mode, so
    evaluation mode applies the network as it was last trained.

    Every BatchNorm starts with scale 1 and shift 0, so r' has zero mean and unit variance along each cluster axis
    (section III-D). Both are learned; without that in the last one, far more labels survive the optimisation.

    Features of a pretrained network can stand beside those of the blocks: x_n is then both.

    Parameters
    ----------
    blocks, features, clusters : M, p and q. Without blocks there are only the features beside.
    beside : channels of the features beside, which only the classifier sees.
    """

    maps_beside: Sequence[Tensor]
    """Features of the image at hand that stand beside those of the blocks: maps of (C, h, w), which cover all of it."""

    def __init__(self, blocks: int, features: int, clusters: int, beside: int = 0) -> None:
        super().__init__()
        self.beside = beside
        self.maps_beside = ()
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

    def forward(self, image: Tensor, response_beside: Tensor | None = None) -> Tensor:
        """The response map to an image.

        Parameters
        ----------
        response_beside : (1, q, H, W). If the image is a part of a larger one, this is the same part of the sum of
            `respond_beside`. By default the image is whole.
        """
        x = self.features(image)
        if not self.beside:
            response = self.classifier(x)
        else:
            if response_beside is None:
                size = image.shape[-2:]
                parts = (functional.interpolate(part, size, mode="bilinear") for part in self.respond_beside())
                response_beside = functools.reduce(torch.add, parts)
            own, bias = self.classifier.weight[:, : -self.beside], self.classifier.bias
            assert bias is not None
            response = response_beside + (functional.conv2d(x, own, bias) if self.convolutions else bias[:, None, None])
        # In float32, because bfloat16 responses would tie in the argmax.
        normalised: Tensor = self.response_norm(response.float())
        return normalised

    def features(self, image: Tensor) -> Tensor:
        """The feature map x_n of the blocks, (B, p, H, W); the image itself without blocks."""
        x = image
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = norm(torch.relu(convolution(x)))
        return x

    def respond_beside(self) -> list[Tensor]:
        """What the features beside add to the response before its BatchNorm, (1, q, h, w) at the size of each map.

        Interpolated to the image's size, their sum is what the classifier makes of features interpolated to it, because
        both are linear. This is much less work: labels are fewer than features. It is done in float32: distances to the
        centres of clusters differ by less than bfloat16 can tell.
        """
        weight = self.classifier.weight[:, -self.beside :]
        parts = torch.split(weight, [len(features) for features in self.maps_beside], 1)
        pairs = zip(self.maps_beside, parts, strict=True)
        with torch.autocast(weight.device.type, enabled=False):
            return [functional.conv2d(features[None], part) for features, part in pairs]

    def initialise(self, seed: int) -> None:
        """Draw PyTorch's default initial weights from a separate generator, so that they are the same everywhere."""
        generator = torch.Generator().manual_seed(seed)
        for module in (*self.convolutions, self.classifier):
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            bound = 1 / math.sqrt(module.in_channels * math.prod(module.kernel_size))
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)

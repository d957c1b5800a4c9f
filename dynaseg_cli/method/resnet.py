"""The pre-trained feature extractor (III-B.2), a ResNet-18 with a feature pyramid, and its classifier (III-D)."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork

from .backbone import Stage

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of the colours, RGB in [0, 1], that torchvision's weights were trained on."""
STRIDE = 4
"""Image pixels per pixel of the finest stage; the first pixels of both coincide."""
STAGES = (Stage("layer1", 4, 64), Stage("layer2", 8, 128), Stage("layer3", 16, 256), Stage("layer4", 32, 512))
SMALLEST = 33
"""Smallest longest side, in pixels, for which the last stage, 1/32 of the image, has more than one pixel."""


class ResNet18(ResNet):  # type: ignore[misc]  # torchvision has no types
    """The four stages of torchvision's ResNet-18, with its parameter names, without pooling and classifier.

    All BatchNorms have momentum 1, so evaluation mode applies the network as it was last trained.
    """

    stages = STAGES

    def __init__(self) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], norm_layer=partial(nn.BatchNorm2d, momentum=1.0))
        del self.avgpool, self.fc

    def forward(self, image: Tensor) -> list[Tensor]:
        """The (1, C, h, w) map of each of the stages of a normalised (1, 3, H, W) image."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        maps = []
        for stage in self.stages:
            x = getattr(self, stage.name)(x)
            maps.append(x)
        return maps


class ResNetFpnNetwork(nn.Module):
    """A ResNet-18, an FPN to p channels, a 1x1 convolution to q clusters, its BatchNorm.

    Input and output are those of `SegmentationNetwork`; the colours are normalised here as for ImageNet. Its receptive
    field reaches more than 200 pixels, too many for the halo of a tile: it needs the whole image.

    Parameters
    ----------
    features, clusters : p and q.
    frozen : keep the ResNet's weights and statistics; only the layers after it are trained.
    """

    mean: Tensor
    std: Tensor
    tent: Tensor
    stride = STRIDE

    def __init__(self, features: int, clusters: int, frozen: bool = False) -> None:
        super().__init__()
        self._frozen = frozen
        self.trunk = ResNet18()
        self.trunk.requires_grad_(not frozen)
        self.pyramid: Any = FeaturePyramidNetwork([stage.channels for stage in STAGES], features)
        # Only the finest level is used; the top-down connections bring the others into it.
        for level in range(1, len(STAGES)):
            self.pyramid.layer_blocks[level] = nn.Identity()
        self.classifier = nn.Conv2d(features, clusters, kernel_size=1)
        self.response_norm = nn.BatchNorm2d(clusters, momentum=1.0)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("tent", tent(STRIDE).expand(clusters, 1, -1, -1).clone(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        times = math.ceil(SMALLEST / max(height, width))
        if times > 1:
            image = functional.interpolate(image, scale_factor=times, mode="nearest")
        # A 1x1 convolution commutes with interpolation, so the classifier runs first, on 1/16 of the pixels.
        response = self.classifier(self.features(image)).float()
        response = self._enlarged(response)[:, :, : height * times, : width * times]
        if times > 1:
            response = functional.avg_pool2d(response, times)
        normalised: Tensor = self.response_norm(response)
        return normalised

    def train(self, mode: bool = True) -> ResNetFpnNetwork:
        """Set training or evaluation mode. A frozen ResNet stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.trunk.eval()
        return self

    def initialise(self, seed: int) -> None:
        """Draw initial weights from a separate generator, so that they are the same everywhere.

        Their distributions are those of torchvision and PyTorch: He et al. 2015 by fan-out for the ResNet, uniform with
        variance 1 / fan-in for the pyramid, the default for the classifier. The ResNet comes last, because its weights
        are usually replaced.
        """
        generator = torch.Generator().manual_seed(seed)
        for module in self.pyramid.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1, generator=generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        bound = 1 / math.sqrt(self.classifier.in_channels)
        assert self.classifier.bias is not None
        nn.init.uniform_(self.classifier.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.classifier.bias, -bound, bound, generator=generator)
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)

    def features(self, image: Tensor) -> Tensor:
        """The feature map x_n of (B, 3, H, W) images, (B, p, h, w) at 1/4 of their size, rounded up."""
        trunk = self.trunk((image - self.mean) / self.std)
        maps = OrderedDict((stage.name, found) for stage, found in zip(STAGES, trunk, strict=True))
        finest: Tensor = self.pyramid(maps)[STAGES[0].name]
        return finest

    def _enlarged(self, response: Tensor) -> Tensor:
        """(1, q, h, w) interpolated bilinearly to (1, q, 4 h + 1, 4 w + 1), the last row and column repeated.

        Not `functional.interpolate`: it aligns the corners of the first pixels instead of their centres, which shifts
        the map by 1.5 pixels, and its gradient on CUDA differs from run to run.
        """
        for axis in (2, 3):
            response = torch.cat((response, response.narrow(axis, response.shape[axis] - 1, 1)), axis)
        # bfloat16 responses would tie.
        with torch.autocast(response.device.type, enabled=False):
            return functional.conv_transpose2d(
                response, self.tent, stride=STRIDE, padding=STRIDE - 1, groups=response.shape[1]
            )


def tent(stride: int) -> Tensor:
    """(2 stride - 1, 2 stride - 1), the weights of a pixel around it in bilinear interpolation."""
    side = 1 - torch.arange(1 - stride, stride).abs() / stride
    return torch.outer(side, side)

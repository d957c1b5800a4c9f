"""The pre-trained feature extractor (III-B.2), a ResNet-18 with a feature pyramid, and its classifier (III-D)."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18
from torchvision.ops import FeaturePyramidNetwork

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours, RGB in [0, 1], of the photos that torchvision's weights were trained on."""
STRIDE = 4
"""Image pixels from one pixel of the finest stage to the next, the first of both at the same place."""
STAGES = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}
"""Channels of the ResNet's stages, each half the size of the one before."""
SMALLEST = 33
"""Longest side in pixels from which the last stage, 1/32 of the image, has more than one pixel to normalise over."""


class ResNetFpnNetwork(nn.Module):
    """A ResNet-18 without pooling and classifier, an FPN to p channels, a 1x1 convolution to q clusters, its BatchNorm.

    In and out as `SegmentationNetwork`: the input is (1, 3, H, W), RGB in [0, 1], normalised here as ImageNet was; the
    output is the normalised response map r', (1, q, H, W), float32. All BatchNorms have momentum 1 as there, so that
    evaluation mode applies the network as it was last trained.

    Parameters
    ----------
    features, clusters : p and q.
    frozen : the ResNet stays as it is, and normalises by the statistics that came with its weights; only the pyramid
        and what follows learn.

    It sees more than 200 pixels far, which is more than tiles could have as a halo: an image has to be seen whole.
    """

    mean: Tensor
    std: Tensor
    tent: Tensor

    def __init__(self, features: int, clusters: int, frozen: bool = False) -> None:
        super().__init__()
        self._frozen = frozen
        self.trunk: Any = resnet18(weights=None, norm_layer=partial(nn.BatchNorm2d, momentum=1.0))
        """The ResNet, its parameters named as in torchvision."""
        del self.trunk.avgpool, self.trunk.fc
        self.trunk.requires_grad_(not frozen)
        self.pyramid: Any = FeaturePyramidNetwork([*STAGES.values()], features)
        # The finest level holds what the others know, by the connections from the top down: only it is taken.
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
        # A 1x1 convolution and an interpolation may change places: the classifier has 1/16 of the pixels to do.
        response = self.classifier(self._features((image - self.mean) / self.std)).float()
        response = self._enlarged(response)[:, :, : height * times, : width * times]
        if times > 1:
            response = functional.avg_pool2d(response, times)
        normalised: Tensor = self.response_norm(response)
        return normalised

    def train(self, mode: bool = True) -> ResNetFpnNetwork:
        """Set training or evaluation mode, in which a frozen ResNet always is."""
        super().train(mode)
        if self._frozen:
            self.trunk.eval()
        return self

    def initialise(self, seed: int) -> None:
        """Draw initial weights from a generator of their own: equal on every machine and thread.

        They are distributed as torchvision and PyTorch would draw them: He et al. 2015 by the fan-out for the ResNet,
        evenly with variance 1 over the fan-in for the pyramid, the default for the classifier. The ResNet comes last:
        what its weights are replaced by leaves the others as they are.
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

    def _features(self, image: Tensor) -> Tensor:
        """The feature map x_n of a normalised image, (1, p, h, w) at 1/4 of its size, rounded up."""
        trunk = self.trunk
        x: Tensor = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(image))))
        stages: OrderedDict[str, Tensor] = OrderedDict()
        for name in STAGES:
            x = stages[name] = getattr(trunk, name)(x)
        finest: Tensor = self.pyramid(stages)["layer1"]
        return finest

    def _enlarged(self, response: Tensor) -> Tensor:
        """(1, q, h, w) interpolated bilinearly to (1, q, 4 h + 1, 4 w + 1), the last row and column repeated.

        Not `functional.interpolate`: it takes the first pixel of both maps to begin, not to be centred, at one place,
        which is off by 1.5 pixels, and its gradient on CUDA is another in every run.
        """
        for axis in (2, 3):
            response = torch.cat((response, response.narrow(axis, response.shape[axis] - 1, 1)), axis)
        # A response of bfloat16 would tie.
        with torch.autocast(response.device.type, enabled=False):
            return functional.conv_transpose2d(
                response, self.tent, stride=STRIDE, padding=STRIDE - 1, groups=response.shape[1]
            )


def tent(stride: int) -> Tensor:
    """(2 stride - 1, 2 stride - 1): how much of a pixel those around it get by bilinear interpolation."""
    side = 1 - torch.arange(1 - stride, stride).abs() / stride
    return torch.outer(side, side)

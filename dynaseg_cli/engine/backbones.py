"""Pretrained backbones: what a network that was trained on other photos sees in a photo.

Nothing here is trained. A backbone looks once at the whole photo, at a size of its own.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..config import Fit
from ..method.backbone import MAPS_USED, Stage
from ..resampling import resize

if TYPE_CHECKING:
    from ..method.resnet import ResNetFpnNetwork

SIZE = 1.5
"""The photo is enlarged so many times before a backbone looks at it, because the last map has one pixel for 32."""
MOST_SIZE = 960
"""Limit on the longest side that is looked at, in pixels."""


class Backbone(nn.Module):
    """A pretrained network that gives unit vectors of features for the places of a photo.

    Parameters
    ----------
    trunk : a module with `stages`, float32, that makes a map of each from an image, as `method.backbone` says. It is
        left as it is.
    mean, std : of each colour, RGB in [0, 1], by which photos are normalised for it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        trunk = trunk.eval().requires_grad_(requires_grad=False)
        self.stages: tuple[Stage, ...] = trunk.stages[-MAPS_USED:]
        """The maps that are used, from fine to coarse."""
        self.weights = trunk.state_dict()
        """Those of the trunk, as they were before its normalisations became part of its convolutions."""
        self.trunk: Any = with_folded_norms(trunk, self.stages[-1].stride)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps of (C, h, w) float32, unit vectors, for each of the stages of an image, (1, 3, H, W) RGB in [0, 1]."""
        return [found[0] for found in self.maps(image)]

    def maps(self, images: Tensor) -> list[Tensor]:
        """The same of several images of one size, (B, 3, H, W): a (B, C, h, w) map for each of the stages."""
        maps: list[Tensor] = self.trunk((images - self.mean) / self.std)[-len(self.stages) :]
        return [nn.functional.normalize(found.float(), dim=1) for found in maps]

    def channels(self, fit: Fit) -> int:
        """How many stand beside the features of a network: of all maps on one image, of the last one for a folder.

        The last map alone tells what things are; the one before, where in an image they are.
        """
        return sum(stage.channels for stage in (self.stages if fit == "image" else self.stages[-1:]))

    def resized(self, image: NDArray[np.uint8], most: int = MOST_SIZE) -> NDArray[np.uint8]:
        """An RGB (H, W, 3) uint8 photo at the size at which it is looked at, its longest side at most `most` pixels.

        Sides are multiples of the coarsest stride, so that all maps cover the whole photo.
        """
        stride = self.stages[-1].stride
        height, width = image.shape[:2]
        scale = min(SIZE, most / max(height, width))
        rows, columns = (max(1, min(round(side * scale / stride), most // stride)) * stride for side in (height, width))
        return resize(image, columns, rows)


def resnet_backbone(network: ResNetFpnNetwork) -> Backbone:
    """What the ResNet of a network sees, as it is now."""
    from ..method.resnet import IMAGENET_MEAN, IMAGENET_STD  # noqa: PLC0415 - imports torchvision, which takes a second

    return Backbone(copy.deepcopy(network.trunk), IMAGENET_MEAN, IMAGENET_STD)


def with_folded_norms(trunk: nn.Module, stride: int) -> nn.Module:
    """The same network, in which each BatchNorm that follows a convolution is a part of it, which is faster.

    If there are none, or the result would differ, it is the network itself.
    """
    example = torch.rand(1, 3, 2 * stride, 3 * stride, generator=torch.Generator().manual_seed(0))
    folded = copy.deepcopy(trunk)
    with torch.no_grad():
        pairs = _followed_by_norms(folded, example)
        if not pairs:
            return trunk
        expected = trunk(example)
        parents = {child: (parent, name) for parent in folded.modules() for name, child in parent.named_children()}
        for convolution, norm in pairs:
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, *statistics_of(norm), norm.eps, norm.weight, norm.bias
            )
            parent, name = parents[norm]
            # timm's own class goes on with the activation.
            setattr(parent, name, getattr(norm, "act", nn.Identity()))
        same = all(
            torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))
            for one, other in zip(folded(example), expected, strict=True)
        )
    return folded if same else trunk


def _followed_by_norms(trunk: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose results go to a BatchNorm, as seen while the network looks at an image."""
    made: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(module: nn.Module, _: object, result: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made.append((result, module))

    def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            pairs.extend((maker, module) for result, maker in made[-1:] if result is given[0])

    handles = [module.register_forward_hook(after) for module in trunk.modules()]
    handles += [module.register_forward_pre_hook(before) for module in trunk.modules()]
    trunk(example)
    for handle in handles:
        handle.remove()
    return pairs


def statistics_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The running mean and variance of a BatchNorm that has them."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var

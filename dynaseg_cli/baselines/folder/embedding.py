"""What trained methods cluster: vectors of places, by a network on a backbone of this tool."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...engine.labelling import to_input
from ...engine.networks import Network, frozen_backbone, new_network
from ...method.network import SegmentationNetwork
from ...resampling import resize
from .settings import TrainedMethodConfig

MOMENTUM = 0.1
"""Of the running statistics of BatchNorm. Networks of this tool that see one image keep the last ones alone."""


class Embedding(nn.Module):
    """Vectors of C channels for the places of photos.

    `see` is what stays as it is, and `head` what is trained on it: of a network of timm, a linear map of its last two
    maps, as a feature pyramid without further convolutions has them; else the whole network.

    Parameters
    ----------
    config : its `features` are C.
    """

    def __init__(self, config: TrainedMethodConfig) -> None:
        super().__init__()
        network = config.network(config.features)
        self.backbone = frozen_backbone(network)
        self.head: nn.Module
        if self.backbone is not None:
            self.stride = self.backbone.stages[0].stride
            self.multiple = self.backbone.stages[-1].stride
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self.head = nn.Conv2d(self.backbone.channels("image"), config.features, kernel_size=1)
            return
        made = new_network(network)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        self.stride = self.multiple = 1 if isinstance(made, SegmentationNetwork) else made.stride
        self.head = _Features(made)

    def see(self, images: Tensor) -> Tensor:
        """What `head` takes, of (B, 3, H, W) RGB images in [0, 1] whose sides are multiples of `multiple`."""
        if self.backbone is None:
            return images
        with torch.no_grad():
            maps = self.backbone.maps(images)
            size = maps[0].shape[2:]
            return torch.cat([maps[0], *(functional.interpolate(one, size, mode="bilinear") for one in maps[1:])], 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H / stride, W / stride), of images as `see` takes them."""
        found: Tensor = self.head(self.see(images))
        return found

    def input_of(self, photo: NDArray[np.uint8], shorter_side: int, device: torch.device) -> Tensor:
        """(1, 3, h, w) a whole (H, W, 3) photo, its shorter side about that many pixels."""
        scale = shorter_side / min(photo.shape[:2])
        height, width = (max(1, round(side * scale / self.multiple)) * self.multiple for side in photo.shape[:2])
        return to_input(resize(photo, width, height), device)


class _Features(nn.Module):
    """The features of a network of this tool, without its classifier."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images)

"""What trained methods cluster: vectors of places, by a network on a backbone of this tool."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...engine.backbones import Backbone
from ...engine.labelling import to_input
from ...engine.networks import Network, frozen_backbone, new_network
from ...engine.precision import compute_dtype, computing_in
from ...method.backbone import Stage
from ...method.network import SegmentationNetwork
from ...resampling import resize
from .settings import TrainedMethodConfig

MOMENTUM = 0.1
"""Of the running statistics of BatchNorm. Networks of this tool that see one image keep the last ones alone."""
LONGEST = 4
"""Most times that the longer side of a photo is as long as squares are; beyond, the photo is seen smaller."""


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
        stages: tuple[Stage, ...] = ()
        if self.backbone is not None:
            stages = self.backbone.stages
            self.backbone.to(memory_format=torch.channels_last)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                self.head = nn.Conv2d(self.backbone.channels("image"), config.features, kernel_size=1)
        else:
            made = new_network(network)
            if not isinstance(made, SegmentationNetwork):
                stages = made.trunk.stages
            self.head = _Features(made)
        self.stride, self._multiple = (stages[0].stride, stages[-1].stride) if stages else (1, 1)
        self.size = max(1, round(config.shorter_side / self._multiple)) * self._multiple
        """Side in pixels of the squares that are seen, so that all maps cover them."""

    def train(self, mode: bool = True) -> Embedding:
        """Set training or evaluation mode. The backbone stays in evaluation mode."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def see(self, images: Tensor) -> Tensor:
        """What `head` takes, of (B, 3, H, W) RGB images in [0, 1] whose sides are multiples of the coarsest stride."""
        if self.backbone is None:
            return images
        # On a CPU one after another, so that its maps stay in the cache.
        together = 1 if images.device.type == "cpu" else len(images)
        parts = torch.split(images.contiguous(memory_format=torch.channels_last), together)
        with torch.no_grad():
            return torch.cat([_side_by_side(seen_by(self.backbone, part)) for part in parts])

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H / stride, W / stride), of images as `see` takes them."""
        found: Tensor = self.head(self.see(images))
        return found

    def input_of(self, photo: NDArray[np.uint8], device: torch.device) -> Tensor:
        """(1, 3, h, w) a whole (H, W, 3) photo, its shorter side `size` pixels if it is not too long."""
        multiple = self._multiple
        scale = self.size / max(min(photo.shape[:2]), max(photo.shape[:2]) / LONGEST)
        height, width = (max(1, round(side * scale / multiple)) * multiple for side in photo.shape[:2])
        return to_input(resize(photo, width, height), device)


def seen_by(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """The maps of a backbone, computed as this tool computes them: in bfloat16 where the device has units for it."""
    with computing_in(compute_dtype(images.device, "auto"), images.device):
        return backbone.maps(images)


def _side_by_side(maps: list[Tensor]) -> Tensor:
    """(B, C, h, w) all channels of several maps, brought to the size of the first."""
    size = maps[0].shape[2:]
    return torch.cat([maps[0], *(functional.interpolate(one, size, mode="bilinear") for one in maps[1:])], 1)


class _Features(nn.Module):
    """The features of a network of this tool, without its classifier."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        del network.classifier, network.response_norm
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images)

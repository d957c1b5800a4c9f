"""What a pretrained network gives: named feature maps, each with a stride and a number of channels."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Stage(NamedTuple):
    """One feature map of a network."""

    name: str
    stride: int
    """Image pixels per pixel of the map."""
    channels: int


class Trunk(Protocol):
    """A pretrained network without its classifier."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The feature maps, from fine to coarse, in the order of the network's layers."""

    def __call__(self, image: Tensor) -> list[Tensor]:
        """A map of (1, C, h, w) for each of the stages of an image, (1, 3, H, W), normalised as it was trained on."""

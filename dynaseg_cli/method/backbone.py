"""What a pretrained network gives: named feature maps, each with a stride and a number of channels.

Such a network, without its classifier, has `stages`, from fine to coarse. Called with an image, (1, 3, H, W), whose
colours are normalised as it was trained on, it gives the (1, C, h, w) maps of its stages as a list.
"""

from __future__ import annotations

from typing import NamedTuple

MAPS_USED = 2
"""How many of the maps are used: the last ones, which tell things apart best."""


class Stage(NamedTuple):
    """One feature map of a network."""

    name: str
    stride: int
    """Image pixels per pixel of the map."""
    channels: int

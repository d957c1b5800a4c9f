"""A network whose number of channels is one that a GPU's matrix units take whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..method.network import SegmentationNetwork

CHANNEL_MULTIPLE = 8
"""Of a GPU's maps: its matrix units take so many at once, and a pixel of bfloat16 begins where 16 bytes do."""


def rounded_up(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple


def state_without_alignment(network: nn.Module, features: int) -> dict[str, Tensor]:
    """Weights and statistics, on the CPU, of a network of p `features`, whether it was aligned or not."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if not isinstance(network, SegmentationNetwork):
        return state
    plain = SegmentationNetwork(len(network.convolutions), features, network.classifier.out_channels).state_dict()
    return {name: value[tuple(slice(size) for size in plain[name].shape)].contiguous() for name, value in state.items()}


def align_features(network: SegmentationNetwork, multiple: int) -> SegmentationNetwork:
    """The same network with p rounded up to a multiple.

    The channels that are added have weights, biases and shifts of 0. Everything that leads to them has a gradient of 0:
    they stay so, and nothing else ever notices them.
    """
    classifier = network.classifier
    features = rounded_up(classifier.in_channels, multiple)
    aligned = SegmentationNetwork(len(network.convolutions), features, classifier.out_channels)
    theirs = network.state_dict()
    with torch.no_grad():
        for name, value in aligned.state_dict().items():
            inside = tuple(slice(size) for size in theirs[name].shape)
            if "norm" not in name:
                value.zero_()
            value[inside] = theirs[name]
    return aligned

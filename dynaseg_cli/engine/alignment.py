"""A network whose number of channels is one that a GPU's matrix units take whole."""

from __future__ import annotations

import torch

from ..method.network import SegmentationNetwork

CHANNEL_MULTIPLE = 8
"""Of a GPU's maps: its matrix units take so many at once, and a pixel of bfloat16 begins where 16 bytes do."""


def rounded_up(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple


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

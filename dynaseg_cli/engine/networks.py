"""Which network the options ask for, with the weights that every fit starts from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ..config import SegmentConfig
from ..method.network import SegmentationNetwork
from .models import load_model

if TYPE_CHECKING:
    from ..method.resnet import ResNetFpnNetwork

Network: TypeAlias = "SegmentationNetwork | ResNetFpnNetwork"
"""From (1, 3, H, W), RGB in [0, 1], to the response map r', (1, q, H, W) float32."""


def new_network(config: SegmentConfig) -> Network:
    """The network of a configuration on the CPU: its model, or drawn by its seed, and the ResNet loaded.

    Raises
    ------
    UsageError
        If the model cannot be loaded, or the ResNet's weights cannot be had.
    """
    if config.backbone == "cnn":
        make = partial(SegmentationNetwork, config.blocks, config.features, config.clusters)
        if config.model is not None:
            return load_model(make, config.model)
        network = make()
        network.initialise(config.seed)
        return network
    # Importing torchvision takes a second, which the CNN does not need.
    from ..method.resnet import ResNetFpnNetwork  # noqa: PLC0415
    from .weights import load_trunk  # noqa: PLC0415

    make_resnet = partial(ResNetFpnNetwork, config.features, config.clusters, config.freeze_backbone)
    if config.model is not None:
        return load_model(make_resnet, config.model)
    resnet = make_resnet()
    resnet.initialise(config.seed)
    load_trunk(resnet.trunk, config)
    return resnet

"""Networks that are fitted: seeded, or read from the file of a folder's; padded for a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from ..config import SegmentConfig, WeightsFile
from ..errors import UsageError
from ..files.weights import OPTIONS_KEY, read_weights
from ..method.network import SegmentationNetwork
from .backbones import Backbone
from .pretrained_weights import load_resnet
from .segmentation import FittedNetwork
from .timm_trunk import frozen_trunk

if TYPE_CHECKING:
    from ..method.resnet import ResNetFpnNetwork

CHANNEL_MULTIPLE = 8
"""Channels on a GPU are padded to this: its matrix units take 8 at once, and bfloat16 pixels then start at 16 bytes."""
_NUMBERS, _LIMITS, _HISTORY = "numbers of labels", "threshold and labels present", "history"
"""Names in the file of a network of a sequence."""
BACKBONE_PREFIX = "backbone."
"""Before the names of a frozen backbone's parameters in a model file."""

Network: TypeAlias = "SegmentationNetwork | ResNetFpnNetwork"
"""Maps (1, 3, H, W), RGB in [0, 1], to the response map r', (1, q, H, W) float32."""


def new_network(config: SegmentConfig, backbone: Backbone | None = None) -> Network:
    """The network of a configuration, on the CPU: its model, or seeded weights with those of the ResNet loaded.

    Parameters
    ----------
    backbone : the one of `frozen_backbone`, if there is one. A folder's network has no features of its own beside it:
        they know colours, and things are wanted.

    Raises
    ------
    UsageError
        If the model cannot be loaded, or the ResNet's weights are not available.
    """
    make: Callable[[], Network] = partial(SegmentationNetwork, config.blocks, config.features, config.clusters)
    if backbone is not None:
        blocks = 0 if config.fit == "folder" else config.blocks
        make = partial(SegmentationNetwork, blocks, config.features, config.clusters, backbone.channels(config.fit))
    elif config.backbone != "cnn":
        from ..method.resnet import ResNetFpnNetwork  # noqa: PLC0415 - imports torchvision, which takes a second

        make = partial(ResNetFpnNetwork, config.features, config.clusters, config.freeze_backbone)
    if config.model is not None:
        return load_model(make, config.model)
    network = make()
    network.initialise(config.seed)
    if not isinstance(network, SegmentationNetwork):
        load_resnet(network.trunk, config)
    return network


def frozen_backbone(config: SegmentConfig) -> Backbone | None:
    """The frozen backbone of a configuration, on the CPU, with its model's weights or its own; None if it has none.

    Raises
    ------
    UsageError
        If the model cannot be loaded, or timm or weights are not available.
    """
    if not config.has_frozen_backbone:
        return None
    if config.model is None:
        trunk = frozen_trunk(config)
    else:
        with _named_errors(config.model):
            state = _read(config.model)
            prefix = BACKBONE_PREFIX
            weights = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            trunk = frozen_trunk(config, weights)
    return Backbone(trunk, trunk.mean, trunk.std)


@torch.no_grad()
def permute_channels(network: Network, order: NDArray[np.integer]) -> None:
    """Give label n of a network the channel `order`[n]; (q,)."""
    classifier, norm = network.classifier, network.response_norm
    of_label = [classifier.weight, classifier.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    for values in of_label:
        assert values is not None
        values.copy_(values[torch.tensor(order, device=values.device)])


# The network of a folder, as a file


def model_bytes(network: nn.Module, config: SegmentConfig, backbone: Backbone | None = None) -> bytes:
    """A safetensors file with a network's weights and statistics, without padding, and the options of its fit.

    A frozen backbone's weights are in it, too, so that nothing else is needed to apply the network.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if isinstance(network, SegmentationNetwork) and not network.beside:
        plain = SegmentationNetwork(config.blocks, config.features, config.clusters).state_dict()
        state = {name: _corner(value, plain[name].shape).contiguous() for name, value in state.items()}
    if config.has_frozen_backbone:
        assert backbone is not None
        state |= {f"{BACKBONE_PREFIX}{name}": value.cpu().contiguous() for name, value in backbone.weights.items()}
    return safetensors.torch.save(state, {OPTIONS_KEY: json.dumps(config.as_options())})


def fitted_bytes(fitted: FittedNetwork, history: str) -> bytes:
    """A network of a sequence as the content of a file, with a text that says which one it is."""
    others = {_NUMBERS: torch.from_numpy(fitted.numbers), _LIMITS: torch.tensor([fitted.threshold, fitted.present])}
    tensors = {name: value.contiguous() for name, value in (others | dict(fitted.weights)).items()}
    # A second text would be written in another order each time.
    content: bytes = safetensors.torch.save(tensors, {_HISTORY: history})
    return content


def read_fitted(path: Path) -> tuple[str, FittedNetwork] | None:
    """The inverse of `fitted_bytes`; None if there is no such file, or it is damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as content:
            history: str = content.metadata()[_HISTORY]
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
        numbers = weights.pop(_NUMBERS).numpy()
        threshold, present = weights.pop(_LIMITS).tolist()
        return history, FittedNetwork(weights, numbers, threshold, present)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None


def load_model(make: Callable[[], Network], file: WeightsFile) -> Network:
    """A network from `make`, with the weights and statistics of a file that `model_bytes` wrote.

    Raises
    ------
    UsageError
        If the file cannot be read, has changed, or does not hold such a network.
    """
    with _named_errors(file):
        state = {name: value for name, value in _read(file).items() if not name.startswith(BACKBONE_PREFIX)}
        # Without memory at first: a file's options may ask for any number of channels.
        with torch.device("meta"):
            make().load_state_dict(state, assign=True)
        network = make()
        network.load_state_dict(state)
    return network


def _read(file: WeightsFile) -> dict[str, Tensor]:
    state = safetensors.torch.load(read_weights(file, "the model"))
    if not all(value.isfinite().all() for value in state.values()):
        raise ValueError("some of its values are not finite")
    return state


@contextmanager
def _named_errors(file: WeightsFile) -> Iterator[None]:
    """Errors in a model file as `UsageError`, which names it."""
    try:
        yield
    except (SafetensorError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UsageError(f"the model {file.path} does not hold the network of its options: {reason}") from None


# Channels padded for a GPU


def rounded_up(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple


def align_features(network: SegmentationNetwork, multiple: int) -> SegmentationNetwork:
    """The same network with p padded to a multiple.

    Weights, biases and shifts of the added channels are 0, and so are the gradients of everything that leads to them:
    they stay 0 and never affect the others.
    """
    classifier = network.classifier
    features = rounded_up(classifier.in_channels, multiple)
    aligned = SegmentationNetwork(len(network.convolutions), features, classifier.out_channels)
    original = network.state_dict()
    with torch.no_grad():
        for name, value in aligned.state_dict().items():
            if "norm" not in name:
                value.zero_()
            _corner(value, original[name].shape).copy_(original[name])
    return aligned


def _corner(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A view of the first values along each axis."""
    return values[tuple(slice(size) for size in shape)]

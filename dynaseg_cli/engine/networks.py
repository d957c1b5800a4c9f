"""Networks and their weights: seeded, read from a model file, or downloaded for the ResNet; padded for a GPU."""

from __future__ import annotations

import http.client
import io
import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..config import IMAGENET_SHA256, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..files.weights import IMAGENET_URL, OPTIONS_KEY, imagenet_path, read_weights
from ..method.network import SegmentationNetwork

if TYPE_CHECKING:
    from ..method.resnet import ResNetFpnNetwork

CHANNEL_MULTIPLE = 8
"""Channels on a GPU are padded to this: its matrix units take 8 at once, and bfloat16 pixels then start at 16 bytes."""
CLASSIFIER_PREFIX = "fc."
"""Parameters of the ResNet's own classifier, which is not used."""
COUNTER_SUFFIX = "num_batches_tracked"
"""Buffers that have no effect, and that older files lack."""
MOST_NAMES = 3
"""Limit on the parameters that a message names."""

Network: TypeAlias = "SegmentationNetwork | ResNetFpnNetwork"
"""Maps (1, 3, H, W), RGB in [0, 1], to the response map r', (1, q, H, W) float32."""

_log = logging.getLogger(__name__)


def new_network(config: SegmentConfig) -> Network:
    """The network of a configuration, on the CPU: its model, or seeded weights with those of the ResNet loaded.

    Raises
    ------
    UsageError
        If the model cannot be loaded, or the ResNet's weights are not available.
    """
    make: Callable[[], Network] = partial(SegmentationNetwork, config.blocks, config.features, config.clusters)
    if config.backbone != "cnn":
        from ..method.resnet import ResNetFpnNetwork  # noqa: PLC0415 - imports torchvision, which takes a second

        make = partial(ResNetFpnNetwork, config.features, config.clusters, config.freeze_backbone)
    if config.model is not None:
        return load_model(make, config.model)
    network = make()
    network.initialise(config.seed)
    if not isinstance(network, SegmentationNetwork):
        load_trunk(network.trunk, config)
    return network


# The network of a folder, as a file


def model_bytes(network: nn.Module, config: SegmentConfig) -> bytes:
    """A safetensors file with a network's weights and statistics, without padding, and the options of its fit."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if isinstance(network, SegmentationNetwork):
        plain = SegmentationNetwork(config.blocks, config.features, config.clusters).state_dict()
        state = {name: _corner(value, plain[name].shape).contiguous() for name, value in state.items()}
    return safetensors.torch.save(state, {OPTIONS_KEY: json.dumps(config.as_options())})


def load_model(make: Callable[[], Network], file: WeightsFile) -> Network:
    """A network from `make`, with the weights and statistics of a file that `model_bytes` wrote.

    Raises
    ------
    UsageError
        If the file cannot be read, has changed, or does not hold such a network.
    """
    try:
        state = safetensors.torch.load(read_weights(file, "the model"))
        # Without memory at first: a file's options may ask for any number of channels.
        with torch.device("meta"):
            make().load_state_dict(state, assign=True)
        if not all(value.isfinite().all() for value in state.values()):
            raise ValueError("some of its values are not finite")
    except (SafetensorError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UsageError(f"the model {file.path} does not hold the network of its options: {reason}") from None
    network = make()
    network.load_state_dict(state)
    return network


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


# The ResNet's weights


def load_trunk(trunk: nn.Module, config: SegmentConfig) -> None:
    """Load the weights that the options ask for into a ResNet-18; random ones are kept, with a warning.

    Raises
    ------
    UsageError
        If there are none and none can be downloaded, or the file does not hold the weights of a ResNet-18.
    """
    if config.weights == "random":
        _log.warning("`weights=random`: THE RESNET HAS LEARNED NOTHING; such labels are for tests, not for use")
        return
    option = "`weights`" if config.weights else "ImageNet weights"
    file = config.weights or imagenet_weights()
    named = f"{option} {file.path}"
    weights = _parse(read_weights(file, option), named)
    trunk.load_state_dict(_check(weights, trunk.state_dict(), named), strict=False)


def imagenet_weights(progress: bool = True) -> WeightsFile:
    """torchvision's ImageNet weights of the ResNet-18 in torch.hub's cache, downloaded on first use.

    Parameters
    ----------
    progress : show a bar on stderr during the download.

    Raises
    ------
    UsageError
        If they cannot be downloaded; the message says which file to put where.
    """
    path = imagenet_path()
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(IMAGENET_URL, str(path), IMAGENET_SHA256, progress)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise UsageError(
                f"`backbone=resnet18-fpn`: its ImageNet weights cannot be downloaded ({error}); fetch {IMAGENET_URL}"
                f" elsewhere and put it at {path}, or name it with `weights=PATH`"
            ) from None
    return WeightsFile(str(path), IMAGENET_SHA256)


def _parse(content: bytes, named: str) -> Mapping[str, Tensor]:
    """The state dict in a file's content: safetensors, or what torch.save wrote, without running any code in it."""
    try:
        # safetensors has a JSON header after its length; neither a zip archive nor a pickle has this byte there.
        if content[8:9] == b"{":
            weights: object = safetensors.torch.load(content)
        else:
            weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the parsers raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"{named}: neither a state dict of tensors alone, as torch.save writes it, nor safetensors ({reason})"
        ) from None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UsageError(f"{named}: not a state dict, which has a tensor for each name; save model.state_dict() alone")
    return weights


def _check(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], named: str) -> dict[str, Tensor]:
    """The weights that the network has a place for, complete and of the right shapes."""
    names = {name for name in expected if not name.endswith(COUNTER_SUFFIX)}
    found = {name for name in weights if not name.endswith(COUNTER_SUFFIX) and not name.startswith(CLASSIFIER_PREFIX)}
    problems = [
        f"{what} {_listed(sorted(which), ', ')}"
        for what, which in (("lacks", names - found), ("also has", found - names))
        if which
    ]
    for name in sorted(names & found):
        shape, right = tuple(weights[name].shape), tuple(expected[name].shape)
        if shape != right:
            problems.append(f"{name} is {shape}, not {right}")
        elif not weights[name].is_floating_point() or not weights[name].isfinite().all():
            problems.append(f"{name} has values that are not finite floating-point numbers")
    if problems:
        raise UsageError(
            f"{named}: not the weights of torchvision's ResNet-18: {_listed(problems, '; ')};"
            " its state dict is needed, with or without fc"
        )
    return {name: weights[name] for name in names}


def _listed(items: list[str], separator: str) -> str:
    more = f" and {len(items) - MOST_NAMES} more" if len(items) > MOST_NAMES else ""
    return separator.join(items[:MOST_NAMES]) + more

"""Weights of pretrained networks: read from files without running any code in them, checked, or downloaded once."""

from __future__ import annotations

import http.client
import io
import logging
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor, nn

from ..config import IMAGENET_SHA256, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..files.weights import IMAGENET_URL, imagenet_path, read_weights

CLASSIFIER_PREFIX = "fc."
"""Parameters of the ResNet's own classifier, which is not used."""
COUNTER_SUFFIX = "num_batches_tracked"
"""Buffers that have no effect, and that older files lack."""
MOST_NAMES = 3
"""Limit on the parameters that a message names."""

_log = logging.getLogger(__name__)


def parse_weights(file: WeightsFile, option: str) -> Mapping[str, Tensor]:
    """The state dict in a file: safetensors, or what torch.save wrote.

    Raises
    ------
    UsageError
        If it cannot be read, or holds something else; the message begins with `option`.
    """
    return _parse(read_weights(file, option), f"{option} {file.path}")


def warn_of_random_weights() -> None:
    """Say that a network with random weights is for tests."""
    _log.warning("`weights=random`: THE BACKBONE HAS LEARNED NOTHING; such labels are for tests, not for use")


def load_resnet(trunk: nn.Module, config: SegmentConfig) -> None:
    """Load the weights that the options ask for into a ResNet-18; random ones are kept, with a warning.

    Raises
    ------
    UsageError
        If there are none and none can be downloaded, or the file does not hold the weights of a ResNet-18.
    """
    if config.weights == "random":
        warn_of_random_weights()
        return
    option = "`weights`" if config.weights else "ImageNet weights"
    file = config.weights or imagenet_weights()
    weights = parse_weights(file, option)
    trunk.load_state_dict(_check(weights, trunk.state_dict(), f"{option} {file.path}"), strict=False)


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

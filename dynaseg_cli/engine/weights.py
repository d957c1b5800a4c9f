"""The weights that the ResNet starts from: found, downloaded if need be, read without running anything, checked."""

from __future__ import annotations

import http.client
import io
import logging
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..config import IMAGENET_SHA256, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..weights_file import IMAGENET_URL, imagenet_path, read_weights

OF_CLASSIFIER = "fc."
"""Beginning of the names that the ResNet's own classifier has, which is not part of the network."""
COUNTER = "num_batches_tracked"
"""End of the names of numbers that change nothing and that older files lack."""
NAMED = 3
"""Names in a message."""

_log = logging.getLogger(__name__)


def load_trunk(trunk: nn.Module, config: SegmentConfig) -> None:
    """Give a ResNet-18 the weights that the options ask for; random ones stay as they are, with a warning.

    Raises
    ------
    UsageError
        If there are none and none can be downloaded, or the file does not hold those of a ResNet-18.
    """
    if config.weights == "random":
        _log.warning("--weights random: THE RESNET HAS LEARNED NOTHING; such labels are for tests, not for use")
        return
    option = "--weights" if config.weights else "ImageNet weights"
    file = config.weights or imagenet_weights()
    weights = _read(read_weights(file, option), f"{option} {file.path}")
    trunk.load_state_dict(_checked(weights, trunk.state_dict(), f"{option} {file.path}"), strict=False)


def imagenet_weights(progress: bool = True) -> WeightsFile:
    """torchvision's ImageNet weights of the ResNet-18 where torch.hub keeps them; the first time they are downloaded.

    Parameters
    ----------
    progress : show a bar on stderr meanwhile.

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
                f"--backbone resnet18-fpn: its ImageNet weights cannot be downloaded ({error}); fetch {IMAGENET_URL}"
                f" elsewhere and put it at {path}, or name it with --weights PATH"
            ) from None
    return WeightsFile(str(path), IMAGENET_SHA256)


def _read(content: bytes, named: str) -> Mapping[str, Tensor]:
    """A state dict from the content of a file: safetensors, or what torch.save wrote of tensors alone."""
    try:
        # A header in JSON after its length: neither a zip archive nor a pickle has this byte there.
        if content[8:9] == b"{":
            weights: object = safetensors.torch.load(content)
        else:
            weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes a parser raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"{named}: neither a state dict of tensors alone, as torch.save writes it, nor safetensors ({reason})"
        ) from None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UsageError(f"{named}: not a state dict, which has a tensor for each name; save model.state_dict() alone")
    return weights


def _checked(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], named: str) -> dict[str, Tensor]:
    """The weights that have a place in the network, all of them there and of the right shape."""
    names = {name for name in expected if not name.endswith(COUNTER)}
    found = {name for name in weights if not name.endswith(COUNTER) and not name.startswith(OF_CLASSIFIER)}
    problems = [
        f"{what} {_some(which)}" for what, which in (("lacks", names - found), ("also has", found - names)) if which
    ]
    for name in sorted(names & found):
        shape, right = tuple(weights[name].shape), tuple(expected[name].shape)
        if shape != right:
            problems.append(f"{name} is {shape}, not {right}")
        elif not weights[name].is_floating_point() or not weights[name].isfinite().all():
            problems.append(f"{name} holds what is not a finite floating-point number")
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise UsageError(
            f"{named}: not the weights of torchvision's ResNet-18: {'; '.join(problems[:NAMED])}{more};"
            " its state dict is needed, with or without fc"
        )
    return {name: weights[name] for name in names}


def _some(names: set[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more

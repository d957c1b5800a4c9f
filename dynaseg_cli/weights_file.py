"""Files of network weights: known by their content, and where torchvision keeps its own. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .config import IMAGENET_SHA256, SegmentConfig, WeightsFile
from .errors import DecodeError, UsageError
from .images import read_file

IMAGENET_URL = f"https://download.pytorch.org/models/resnet18-{IMAGENET_SHA256}.pth"
"""What torchvision calls `ResNet18_Weights.IMAGENET1K_V1`, 45 MB."""
MOST_BYTES = 1 << 33
"""Limit on a file of weights, which is read into memory as a whole."""


def identify(path: str | Path, option: str = "weights") -> WeightsFile:
    """Look at a file of weights: its absolute path, and the SHA-256 of its content.

    Raises
    ------
    UsageError
        If it cannot be read; the message begins with `option`.
    """
    content = _content(Path(path), f"{option} {path}")
    return WeightsFile(str(Path(path).absolute()), hashlib.sha256(content).hexdigest())


def read_weights(file: WeightsFile, option: str = "weights") -> bytes:
    """The content of a file that was looked at before.

    Raises
    ------
    UsageError
        If it cannot be read, or has another content now; the message begins with `option`.
    """
    content = _content(Path(file.path), f"{option} {file.path}")
    if not hashlib.sha256(content).hexdigest().startswith(file.sha256):
        raise UsageError(
            f"{option} {file.path}: the file is damaged, or another one than it was (its SHA-256 does not begin with"
            f" {file.sha256[:8]}); put the right one there"
        )
    return content


def imagenet_path() -> Path:
    """Where torch.hub keeps torchvision's ImageNet weights of the ResNet-18, by TORCH_HOME and XDG_CACHE_HOME."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    # Path.expanduser raises for unknown users.
    place = Path(os.path.expanduser(home)).absolute()  # noqa: PTH111
    return place / "hub" / "checkpoints" / IMAGENET_URL.rpartition("/")[2]


def lacks_weights(config: SegmentConfig) -> bool:
    """Whether ImageNet weights are needed that are not there yet."""
    needed = config.backbone != "cnn" and config.weights is None and config.model is None
    return needed and not imagenet_path().is_file()


def _content(path: Path, named: str) -> bytes:
    try:
        return read_file(path, MOST_BYTES, "a file of weights has")
    except (OSError, DecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{named}: {reason}; name a file of weights that can be read") from None

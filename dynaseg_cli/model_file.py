"""The file of a network that was fitted to a folder: safetensors, with the options that it was fitted with inside.

Only its header is read here, which needs no torch; `engine.models` reads and makes the tensors.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .config import SegmentConfig
from .errors import UsageError
from .weights_file import identify

OPTIONS_KEY = "dynaseg_options"
"""Of the file's metadata: the options as JSON."""


def read_model(path: str | Path, option: str = "model") -> SegmentConfig:
    """The options that the network of a file was fitted with, and the file as their `model`.

    Raises
    ------
    UsageError
        If it cannot be read or is no such file; the message begins with `option`.
    """
    file = identify(path, option)
    try:
        with safe_open(path, framework="numpy") as content:
            metadata = content.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{option} {path}: not a safetensors file, as --save-model writes it ({error})") from None
    if OPTIONS_KEY not in metadata:
        raise UsageError(f"{option} {path}: not a network that --save-model wrote, which has its options inside")
    try:
        config = dataclasses.replace(SegmentConfig.from_options(json.loads(metadata[OPTIONS_KEY])), model=file)
    except (TypeError, ValueError, RecursionError, UsageError) as error:
        raise UsageError(f"{option} {path}: its options are not those of this version of dynaseg ({error})") from None
    return config

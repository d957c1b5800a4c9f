"""A network that was fitted to a folder, as the bytes of a file and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..config import SegmentConfig, WeightsFile
from ..errors import UsageError
from ..model_file import OPTIONS_KEY
from ..weights_file import read_weights

Network = TypeVar("Network", bound=nn.Module)


def model_bytes(state: Mapping[str, Tensor], config: SegmentConfig) -> bytes:
    """A safetensors file of a network's weights and statistics, and of the options that it was fitted with."""
    return safetensors.torch.save(dict(state), {OPTIONS_KEY: json.dumps(config.as_options())})


def load_model(make: Callable[[], Network], file: WeightsFile) -> Network:
    """The network that `make` gives, with the weights and statistics of a file that `model_bytes` made.

    Raises
    ------
    UsageError
        If the file cannot be read, is another one by now, or does not hold such a network.
    """
    try:
        state = safetensors.torch.load(read_weights(file, "the model"))
        # Without memory at first: a file's options may ask for any number of channels.
        with torch.device("meta"):
            make().load_state_dict(state, assign=True)
        if not all(value.isfinite().all() for value in state.values()):
            raise ValueError("some of its values are no finite numbers")
    except (SafetensorError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UsageError(f"the model {file.path} does not hold the network of its options: {reason}") from None
    network = make()
    network.load_state_dict(state)
    return network

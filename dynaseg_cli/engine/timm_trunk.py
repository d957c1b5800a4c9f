"""Networks of the package timm as trunks: built by name, filled with weights, asked for their last feature maps."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TIMM, SegmentConfig, WeightsFile
from ..errors import UsageError
from ..files.weights import efficientnet_weights
from ..method.backbone import MAPS_USED, Stage
from .pretrained_weights import parse_weights, warn_of_random_weights

EFFICIENTNET = "tf_efficientnet_lite0"
"""timm's name of EfficientNet-Lite0."""
EFFICIENTNET_MEAN, EFFICIENTNET_STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Scaling of the colours that its weights were trained with."""
TRIAL = 4, 6
"""Height and width of an image that a new network is tried on, in multiples of its coarsest stride."""


class TimmTrunk(nn.Module):
    """The last feature maps of a network of timm.

    Parameters
    ----------
    name : of a network that timm knows.
    weights : a state dict with timm's names, those of the classifier or without; None for random ones.
    named : how messages call the weights.

    Raises
    ------
    UsageError
        If timm is not installed or does not know the network, the weights do not fit, or the network gives no feature
        maps of photos of any size.
    """

    def __init__(self, name: str, weights: Mapping[str, Tensor] | None, named: str = "") -> None:
        super().__init__()
        model = _model_with(name, weights, named)
        model.reset_classifier(0)
        self.model = model.eval()
        self.mean, self.std = (tuple(model.pretrained_cfg[statistic]) for statistic in ("mean", "std"))
        self.stages = self._find_stages(name)

    def forward(self, image: Tensor) -> list[Tensor]:
        """The (1, C, h, w) map of each of the stages of a normalised (1, 3, H, W) image."""
        maps: list[Tensor] = self.model.forward_intermediates(
            image, indices=MAPS_USED, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def _find_stages(self, name: str) -> tuple[Stage, ...]:
        """The stages, as the network shows them on a blank image."""
        try:
            info = list(self.model.feature_info)
            coarsest = max(one["reduction"] for one in info)
            height, width = (times * coarsest for times in TRIAL)
            with torch.inference_mode():
                maps = self(torch.zeros(1, 3, height, width))
            stages = [
                Stage(one["module"], height // found.shape[2], found.shape[1])
                for one, found in zip(info[-len(maps) :], maps, strict=True)
            ]
        except (AttributeError, NotImplementedError, AssertionError, TypeError, KeyError, RuntimeError) as error:
            raise UsageError(
                f"`backbone=timm:{name}` gives no feature maps of photos of any size ({_line(error)}); choose another"
            ) from None
        return tuple(stages)


def frozen_trunk(config: SegmentConfig, state: Mapping[str, Tensor] | None = None) -> TimmTrunk:
    """The network of timm that a configuration names, with `state`, or the weights that it asks for.

    Raises
    ------
    UsageError
        As `TimmTrunk`, or if the weights are not available.
    """
    efficientnet = config.backbone == "efficientnet-lite0"
    name = EFFICIENTNET if efficientnet else config.backbone.removeprefix(TIMM)
    if state is not None or config.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            trunk = TimmTrunk(name, None)
        if state is None:
            warn_of_random_weights()
        else:
            trunk.load_state_dict(state)
    else:
        option = "`weights`" if config.weights else "its weights"
        file = config.weights or (efficientnet_weights() if efficientnet else timm_weights(name))
        weights = parse_weights(file, option)
        trunk = TimmTrunk(name, with_timms_names(weights, name) if efficientnet else weights, f"{option} {file.path}")
    if efficientnet:
        trunk.mean, trunk.std = EFFICIENTNET_MEAN, EFFICIENTNET_STD
    return trunk


def timm_weights(name: str, *, progress: bool = False) -> WeightsFile:
    """The weights that timm has for a network, in the cache of its hub, downloaded on first use.

    Parameters
    ----------
    progress : show a bar on stderr during the download.

    Raises
    ------
    UsageError
        If timm has none, or they cannot be downloaded; the message says which file to put where.
    """
    entry = _timm(name).get_pretrained_cfg(name)
    if entry is None or not (entry.hf_hub_id or entry.url):
        raise UsageError(f"`backbone=timm:{name}`: timm has no weights for it; name a file with `weights=PATH`")
    wanted = entry.hf_hub_filename or "model.safetensors"
    try:
        if entry.hf_hub_id:
            from huggingface_hub import hf_hub_download  # noqa: PLC0415 - comes with timm
            from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

            if not progress:
                disable_progress_bars()
            path = hf_hub_download(entry.hf_hub_id, wanted)
        else:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            path = str(folder / entry.url.rpartition("/")[2])
            if not Path(path).is_file():
                folder.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(entry.url, path, progress=progress)
    except Exception as error:  # the hub's client raises errors of several libraries
        source = f"{wanted} of {entry.hf_hub_id}" if entry.hf_hub_id else entry.url
        raise UsageError(
            f"`backbone=timm:{name}`: its weights cannot be downloaded ({_line(error)}); fetch {source} elsewhere and"
            " name the file with `weights=PATH`"
        ) from None
    return WeightsFile(path, "")


def with_timms_names(weights: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """Weights whose tensors are, in order, those of a network of timm, by timm's names; others stay as they are."""
    own = _timm(name).create_model(name).state_dict()
    if own.keys() == weights.keys() or len(own) != len(weights):
        return weights
    if any(one.shape != other.shape for one, other in zip(own.values(), weights.values(), strict=True)):
        return weights
    return dict(zip(own, weights.values(), strict=True))


def _model_with(name: str, weights: Mapping[str, Tensor] | None, named: str) -> Any:
    """A network of timm, with its classifier."""
    timm = _timm(name)
    entry = timm.get_pretrained_cfg(name)
    sized = {"dynamic_img_size": True} if entry is not None and entry.fixed_input_size else {}
    try:
        model = timm.create_model(name, **sized)
    except TypeError:  # it takes images of any size, or of one
        sized = {}
        model = timm.create_model(name)
    if weights is None:
        return model
    classifier = model.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{one}." for one in ((classifier,) if isinstance(classifier, str) else classifier))
    own = {key: value for key, value in model.state_dict().items() if key.startswith(prefixes)}
    if not all(value.isfinite().all() for value in weights.values() if value.is_floating_point()):
        raise UsageError(f"{named}: some values are not finite")
    try:
        # timm translates weights of other sizes and older names. The classifier is not used, whatever it tells apart.
        return timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"source": "", "state_dict": {**weights, **own}}, **sized
        )
    except (RuntimeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"{named}: not the weights of timm's {name}: {_line(error)}") from None


def _timm(name: str) -> Any:
    """The package timm, if it knows a network of that name."""
    try:
        import timm  # noqa: PLC0415 - an extra, which takes a second
    except ImportError:
        raise UsageError(f"`backbone`: {name} needs timm: pip install 'dynaseg[pretrained]'") from None
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"`backbone=timm:{name}`: timm {timm.__version__} knows no such network{meant}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # the name goes on with weights that timm does not know
        raise UsageError(f"`backbone=timm:{name}`: {_line(error)}") from None
    return timm


def _line(error: Exception) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__

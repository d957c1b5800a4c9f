from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dynaseg_cli.config import SegmentConfig, WeightsFile
from dynaseg_cli.engine import pretrained_weights as weights_module
from dynaseg_cli.engine.pretrained_weights import imagenet_weights, load_resnet
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import IMAGENET_URL, identify, imagenet_path
from dynaseg_cli.method.resnet import ResNetFpnNetwork

Weights = dict[str, Any]


def small_trunk() -> nn.Module:
    """A trunk in small: what is checked does not depend on how much there is."""
    trunk = nn.Sequential()
    trunk.add_module("conv1", nn.Conv2d(3, 4, 3, bias=False))
    trunk.add_module("bn1", nn.BatchNorm2d(4))
    return trunk


def made(seed: int = 1) -> Weights:
    """Weights for it, as a file would have them."""
    generator = torch.Generator().manual_seed(seed)
    trunk = small_trunk()
    state = {name: torch.rand(value.shape, generator=generator) for name, value in trunk.state_dict().items()}
    return {
        **state,
        "bn1.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.rand(5, 4),
        "fc.bias": torch.rand(5),
    }


def pickled(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def load(path: Path, content: bytes, trunk: nn.Module | None = None) -> dict[str, Tensor]:
    path.write_bytes(content)
    trunk = trunk or small_trunk()
    load_resnet(trunk, SegmentConfig(backbone="resnet18-fpn", weights=identify(path, "--weights")))
    return trunk.state_dict()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made.pth"


# Content of the file


@pytest.mark.parametrize("saved", [pickled, safetensors.torch.save], ids=["torch", "safetensors"])
def test_every_weight_of_a_resnet_comes_back_from_both_formats(path: Path, saved: Callable[[Weights], bytes]) -> None:
    source, target = (ResNetFpnNetwork(4, 4) for _ in range(2))
    source.initialise(1)
    target.initialise(2)
    loaded = load(path, saved(source.trunk.state_dict()), target.trunk)
    assert all(torch.equal(loaded[name], value) for name, value in source.trunk.state_dict().items())


def test_the_classifier_is_left_out_and_older_files_lack_counters(path: Path) -> None:
    weights = made()
    del weights["bn1.num_batches_tracked"]
    loaded = load(path, pickled(weights))
    assert torch.equal(loaded["conv1.weight"], weights["conv1.weight"])
    assert torch.equal(loaded["bn1.running_var"], weights["bn1.running_var"])


def test_older_format_of_torch_is_read(path: Path) -> None:
    stream = io.BytesIO()
    torch.save(made(), stream, _use_new_zipfile_serialization=False)
    assert torch.equal(load(path, stream.getvalue())["conv1.weight"], made()["conv1.weight"])


def without(weights: Weights, *names: str) -> Weights:
    return {name: value for name, value in weights.items() if name not in names}


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (without(made(), "bn1.bias"), "lacks bn1.bias;"),
        ({f"module.{name}": value for name, value in made().items()}, "lacks bn1.bias, bn1.running_mean, bn1.running"),
        ({**made(), "conv2.weight": torch.rand(1)}, "also has conv2.weight;"),
        ({**made(), "conv1.weight": torch.rand(4, 3, 7, 7)}, "conv1.weight is (4, 3, 7, 7), not (4, 3, 3, 3);"),
        (
            {**made(), "bn1.weight": torch.ones(4, dtype=torch.int64)},
            "bn1.weight has values that are not finite",
        ),
        ({**made(), "bn1.weight": torch.full((4,), torch.nan)}, "bn1.weight has values that are not finite"),
        ({name: torch.rand(1) for name in made()}, "(4,); bn1.running_mean is (1,), not (4,); bn1.running_var"),
    ],
)
@pytest.mark.parametrize("saved", [pickled, safetensors.torch.save], ids=["torch", "safetensors"])
def test_weights_of_another_network_are_refused_by_name(
    path: Path, saved: Callable[[Weights], bytes], weights: Weights, problem: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        load(path, saved(weights))
    message = str(refusal.value)
    assert message.startswith(f"`weights` {path}: not the weights of torchvision's ResNet-18: ")
    assert problem in message
    assert len(message) < 500
    assert "\n" not in message


@pytest.mark.parametrize("value", [[1, 2], {"state_dict": made()}, {"conv1.weight": 3}, torch.rand(3)])
def test_what_is_no_state_dict_is_refused(path: Path, value: object) -> None:
    with pytest.raises(UsageError, match=r"not a state dict.*save model\.state_dict\(\) alone"):
        load(path, pickled(value))


WHOLE = {"torch": pickled(made()), "safetensors": safetensors.torch.save(made())}


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"12345678{", bytes(100)], ids=str)
def test_file_of_something_else_is_refused(path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=f"^`weights` {re.escape(str(path))}: neither a state dict .* nor safetensors"):
        load(path, content)


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("kept", [9, 0.5, 0.98])
def test_file_that_was_cut_off_is_refused(path: Path, form: str, kept: float) -> None:
    whole = WHOLE[form]
    with pytest.raises(UsageError, match="neither a state dict"):
        load(path, whole[: int(kept if kept > 1 else kept * len(whole))])


class Harmful:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_code_in_a_pickle_is_not_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(UsageError, match="neither a state dict of tensors alone"):
        load(path, pickled({**made(), "conv1.weight": Harmful()}))
    assert not Path("harm").exists()


def test_random_weights_are_left_and_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    trunk = small_trunk()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        load_resnet(trunk, SegmentConfig(backbone="resnet18-fpn", weights="random"))
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    (message,) = caplog.messages
    assert message.startswith("`weights=random`: THE BACKBONE HAS LEARNED NOTHING")


# ImageNet's, from the cache or the network


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the cached weights. There is no file yet, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*arguments: object, **options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    return tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"


def answer(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    """Have the network give `content`; the addresses that were asked for."""
    asked: list[str] = []

    class Response(io.BytesIO):
        def info(self) -> Any:
            return type("Headers", (), {"get_all": lambda self, name: [str(len(content))]})()

    def open_url(request: Any) -> Response:
        asked.append(request.full_url)
        return Response(content)

    monkeypatch.setattr(torch.hub, "urlopen", open_url)
    return asked


def test_without_weights_and_network_the_error_says_which_file_to_put_where(cache: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        imagenet_weights()
    message = str(refusal.value)
    assert f"fetch {IMAGENET_URL} elsewhere and put it at {cache}, or name it with `weights=PATH`" in message
    assert "Name or service not known" in message
    assert "\n" not in message
    assert list(cache.parent.iterdir()) == []


def test_folder_that_cannot_be_written_is_refused_the_same_way(cache: Path) -> None:
    cache.parents[1].write_bytes(b"")  # a file where a folder has to be
    with pytest.raises(UsageError, match=re.escape(f"put it at {cache}")):
        imagenet_weights()


def test_download_that_is_not_the_file_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, b"a login page")
    with pytest.raises(UsageError, match="invalid hash value"):
        imagenet_weights(progress=False)
    assert list(cache.parent.iterdir()) == []


def test_file_is_downloaded_once_and_then_found(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = pickled(made())
    asked = answer(monkeypatch, content)
    monkeypatch.setattr(weights_module, "IMAGENET_SHA256", identify_content(cache, content))
    for _ in range(2):
        file = imagenet_weights()
    assert asked == [IMAGENET_URL]
    assert file.path == str(cache)
    assert cache.read_bytes() == content
    out, err = capfd.readouterr()
    assert out == ""
    assert "100" in err
    trunk = small_trunk()
    load_resnet(trunk, SegmentConfig(backbone="resnet18-fpn"))
    assert torch.equal(trunk.state_dict()["conv1.weight"], made()["conv1.weight"])


def identify_content(cache: Path, content: bytes) -> str:
    other = cache.parents[2] / "other"
    other.write_bytes(content)
    return identify(other).sha256[:8]


def test_file_in_the_cache_that_is_not_what_its_name_says_is_refused(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(pickled(made()))
    assert imagenet_weights() == WeightsFile(str(imagenet_path()), "f37072fd")
    with pytest.raises(UsageError, match=f"^ImageNet weights {re.escape(str(cache))}: the file is damaged"):
        load_resnet(small_trunk(), SegmentConfig(backbone="resnet18-fpn"))

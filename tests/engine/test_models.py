from __future__ import annotations

import dataclasses
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dynaseg_cli.config import FOLDER_FIT, SegmentConfig, WeightsFile
from dynaseg_cli.engine.networks import align_features, load_model, model_bytes, new_network
from dynaseg_cli.errors import UsageError
from dynaseg_cli.files.weights import identify, read_model
from dynaseg_cli.method.network import SegmentationNetwork

CONFIG = SegmentConfig(**FOLDER_FIT | {"clusters": 5, "features": 13})
MAKE = partial(SegmentationNetwork, CONFIG.blocks, CONFIG.features, CONFIG.clusters)
RESNET = dataclasses.replace(CONFIG, backbone="resnet18-fpn", weights="random")


def used_network(config: SegmentConfig) -> nn.Module:
    """A network that no seed gives, with statistics of its own."""
    network = new_network(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator))
    return network


def written(path: Path, network: nn.Module, config: SegmentConfig) -> WeightsFile:
    path.write_bytes(model_bytes(network, config))
    return identify(path)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("config", [CONFIG, RESNET], ids=["cnn", "resnet"])
def test_network_comes_back_from_its_file(config: SegmentConfig, tmp_path: Path) -> None:
    network = used_network(config)
    file = written(tmp_path / "model.safetensors", network, config)
    again = new_network(dataclasses.replace(config, model=file))
    assert same(again.state_dict(), network.state_dict())
    assert not same(new_network(config).state_dict(), network.state_dict())


def test_resnet_of_a_model_needs_no_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    network = used_network(RESNET)
    config = dataclasses.replace(RESNET, weights=None)
    written(tmp_path / "model.safetensors", network, config)
    found = read_model(tmp_path / "model.safetensors")
    assert found.as_options() == dataclasses.replace(config, model=found.model).as_options()
    assert same(new_network(found).state_dict(), network.state_dict())


def test_aligned_network_is_written_without_what_was_added(tmp_path: Path) -> None:
    network = used_network(CONFIG)
    assert isinstance(network, SegmentationNetwork)
    plain = written(tmp_path / "plain", network, CONFIG)
    aligned = written(tmp_path / "aligned", align_features(network, 8), CONFIG)
    assert aligned.sha256 == plain.sha256


def test_equal_networks_make_equal_files() -> None:
    one, other = (model_bytes(used_network(CONFIG), CONFIG) for _ in range(2))
    assert one == other


def test_network_of_other_sizes_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "model.safetensors", used_network(CONFIG), CONFIG)
    for other in ({"features": 12}, {"clusters": 6}, {"blocks": 2}):
        with pytest.raises(
            UsageError, match="^" + re.escape(f"the model {file.path} does not hold the network of its")
        ):
            new_network(dataclasses.replace(CONFIG, **other, model=file))  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [{"features": 4096}, {"clusters": 2**15 - 1, "features": 4096}], ids=str)
@pytest.mark.parametrize("config", [CONFIG, RESNET], ids=["cnn", "resnet"])
def test_network_that_a_file_only_claims_to_hold_takes_no_memory(
    config: SegmentConfig, other: dict[str, Any], tmp_path: Path
) -> None:
    """With the largest number of channels it would be gigabytes."""
    file = written(tmp_path / "model.safetensors", used_network(config), config)
    with pytest.raises(UsageError, match="does not hold the network of its options"):
        new_network(dataclasses.replace(config, **other, model=file))


def test_file_that_is_replaced_after_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    file = written(path, used_network(CONFIG), CONFIG)
    written(path, new_network(CONFIG), CONFIG)
    with pytest.raises(UsageError, match="the file is damaged, or another one than it was"):
        load_model(MAKE, file)
    path.unlink()
    with pytest.raises(UsageError, match="No such file"):
        load_model(MAKE, file)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_what_is_left_of_a_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(path, used_network(CONFIG), CONFIG)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"does not hold the network of its options"):
        load_model(MAKE, identify(path))


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickle_is_never_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"
    sprung.unlink()
    path = tmp_path / "model.safetensors"
    for save in (lambda: path.write_bytes(pickle.dumps(Trap(sprung))), lambda: torch.save(Trap(sprung), path)):
        save()
        with pytest.raises(UsageError, match="does not hold the network"):
            load_model(MAKE, identify(path))
        with pytest.raises(UsageError, match="not a safetensors file"):
            read_model(path)
    assert not sprung.exists()


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = dict(used_network(CONFIG).state_dict())
    del state["classifier.bias"]
    path.write_bytes(safetensors.torch.save(state))
    with pytest.raises(UsageError, match=r"classifier\.bias"):
        load_model(MAKE, identify(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    network = used_network(CONFIG)
    with torch.no_grad():
        network.state_dict()["response_norm.running_var"][2] = value
    file = written(tmp_path / "model.safetensors", network, CONFIG)
    with pytest.raises(UsageError, match="some of its values are not finite"):
        load_model(MAKE, file)

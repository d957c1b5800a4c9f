from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet, resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork

from dynaseg_cli.method.resnet import STAGES, ResNet18, ResNetFpnNetwork

SIZES = [(1, 40), (40, 1), (2, 2), (1, 2), (32, 32), (33, 17), (40, 61)]


def network_of(seed: int, frozen: bool = False) -> ResNetFpnNetwork:
    network = ResNetFpnNetwork(features=12, clusters=9, frozen=frozen)
    network.initialise(seed)
    return network


def noise(height: int = 40, width: int = 61, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def flat_weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def torchvisions(network: ResNetFpnNetwork) -> ResNet:
    """torchvision's own network with the same weights."""
    resnet = resnet18(weights=None)
    missing, unexpected = resnet.load_state_dict(network.trunk.state_dict(), strict=False)
    assert missing == ["fc.weight", "fc.bias"]
    assert unexpected == []
    return resnet.eval()


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = flat_weights(network_of(7))
    torch.manual_seed(2)
    assert torch.equal(flat_weights(network_of(7)), first)
    assert not torch.equal(flat_weights(network_of(8)), first)


def test_initialising_leaves_the_global_random_numbers_alone() -> None:
    network = ResNetFpnNetwork(4, 4)
    before = torch.get_rng_state()
    network.initialise(0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("frozen", [False, True])
def test_any_size_has_a_response_and_finite_gradients(size: tuple[int, int], frozen: bool) -> None:
    network = network_of(0, frozen)
    response = network.train()(noise(*size))
    assert response.shape == (1, 9, *size)
    assert response.dtype == torch.float32
    response.square().sum().backward()
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learning)
    assert network.eval()(noise(*size)).shape == response.shape


def test_image_is_normalised_as_imagenet_was() -> None:
    network, seen = network_of(0), []
    network.trunk.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = noise()
    network(image)
    expected = torch.stack(
        [(image[:, 0] - 0.485) / 0.229, (image[:, 1] - 0.456) / 0.224, (image[:, 2] - 0.406) / 0.225], 1
    )
    torch.testing.assert_close(seen[0], expected)


def test_features_are_those_of_torchvision_before_its_pooling_and_its_classifier() -> None:
    """Every stage through the whole of torchvision's pyramid, of which the finest map is taken."""
    network = network_of(0).eval()
    extractor = create_feature_extractor(torchvisions(network), ["layer1", "layer2", "layer3", "layer4"])
    pyramid = FeaturePyramidNetwork([64, 128, 256, 512], 12)
    missing, unexpected = pyramid.load_state_dict(network.pyramid.state_dict(), strict=False)
    assert missing == [f"layer_blocks.{level}.0.{name}" for level in (1, 2, 3) for name in ("weight", "bias")]
    assert unexpected == []
    with torch.no_grad():
        expected = pyramid(OrderedDict(extractor(noise())))["layer1"]
        features = network.features(noise() * network.std + network.mean)
    assert features.shape == (1, 12, 10, 16)
    torch.testing.assert_close(features, expected)


def test_every_stage_has_the_stride_and_the_channels_that_it_says() -> None:
    maps = ResNet18()(noise(64, 96))
    assert [found.shape for found in maps] == [
        (1, stage.channels, 64 // stage.stride, 96 // stage.stride) for stage in STAGES
    ]


def test_response_is_that_of_the_features_brought_to_the_size_of_the_image() -> None:
    """Pixel 4 i of the image lies where pixel i of the features does: between, they are interpolated."""
    network = network_of(0).eval()
    with torch.no_grad():
        response = network(noise())
        features = network.features(noise())[0].numpy()
        for axis, size in ((1, 40), (2, 61)):
            known = np.arange(features.shape[axis]) * 4
            features = np.apply_along_axis(lambda row: np.interp(range(size), known, row), axis, features)  # noqa: B023
        expected = network.response_norm(network.classifier(torch.tensor(features).float()[None]))
    torch.testing.assert_close(response, expected, atol=1e-4, rtol=1e-4)


def test_small_image_is_seen_enlarged() -> None:
    network = network_of(0).eval()
    small = noise(11, 16)
    with torch.no_grad():
        large = network(small.repeat_interleave(3, 2).repeat_interleave(3, 3))
        torch.testing.assert_close(network(small), functional.avg_pool2d(large, 3), atol=1e-5, rtol=1e-4)


def test_response_has_zero_mean_and_unit_variance_along_each_cluster_axis() -> None:
    response = network_of(0)(noise()).detach()
    torch.testing.assert_close(response.mean((0, 2, 3)), torch.zeros(9), atol=1e-5, rtol=0)
    torch.testing.assert_close(response.var((0, 2, 3), correction=0), torch.ones(9), atol=1e-2, rtol=0)


def test_evaluation_repeats_the_last_training_forward_and_no_earlier_one() -> None:
    network, image = network_of(0), noise(128, 160)
    with torch.no_grad():
        network(noise(128, 160, seed=1) ** 4)
        earlier = network.eval()(image)
        trained = network.train()(image)
        evaluated = network.eval()(image)
    # Not equal: the running variance divides by n - 1, the training forward by n, and the last stage has 20 pixels.
    difference = (evaluated - trained).abs().mean()
    assert difference < 0.1
    assert (earlier - trained).abs().mean() > 3 * difference


def test_frozen_resnet_keeps_its_weights_and_statistics_in_training() -> None:
    network = network_of(0, frozen=True).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(noise()).square().sum().backward()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"response_norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert [parameter.grad for parameter in network.trunk.parameters()] == [None] * 60


def test_response_is_float32_under_bfloat16_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        response = network_of(0)(noise())
    assert response.dtype == torch.float32
    assert len(response.unique()) > 10_000  # bfloat16 has not 3,000 numbers in this range
    torch.testing.assert_close(response.mean((0, 2, 3)), torch.zeros(9), atol=1e-5, rtol=0)

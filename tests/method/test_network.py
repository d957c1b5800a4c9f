from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dynaseg_cli.method.network import SegmentationNetwork


def network_of(seed: int, blocks: int = 3) -> SegmentationNetwork:
    network = SegmentationNetwork(blocks, features=20, clusters=20)
    network.initialise(seed)
    return network


def noise(height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def flat_weights(network: SegmentationNetwork) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = flat_weights(network_of(7))
    torch.manual_seed(2)
    assert torch.equal(flat_weights(network_of(7)), first)
    assert not torch.equal(flat_weights(network_of(8)), first)


def test_initialising_leaves_the_global_random_numbers_alone() -> None:
    network = SegmentationNetwork(1, 4, 4)
    before = torch.get_rng_state()
    network.initialise(0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_receptive_radius_is_exact(blocks: int) -> None:
    network = network_of(0, blocks)
    image = noise(15, 17)
    changed = image.clone()
    changed[..., 7, 8] += 2
    with torch.no_grad():
        network(image)
        network.eval()
        difference = (network(changed) - network(image)).abs().amax((0, 1))
    expected = torch.zeros(15, 17, dtype=torch.bool)
    radius = network.receptive_radius
    expected[7 - radius : 8 + radius, 8 - radius : 9 + radius] = True
    assert torch.equal(difference > 1e-4, expected)


def test_response_has_zero_mean_and_unit_variance_along_each_cluster_axis() -> None:
    response = network_of(0)(noise()).detach()
    assert response.shape == (1, 20, 24, 32)
    assert response.dtype == torch.float32
    torch.testing.assert_close(response.mean((0, 2, 3)), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(response.var((0, 2, 3), correction=0), torch.ones(20), atol=1e-3, rtol=0)


def test_every_normalisation_starts_neutral() -> None:
    network = network_of(0)
    for norm in (*network.norms, network.response_norm):
        assert norm.weight.tolist() == [1] * 20
        assert norm.bias.tolist() == [0] * 20


def test_evaluation_repeats_the_last_training_forward_and_no_earlier_one() -> None:
    network = network_of(0)
    with torch.no_grad():
        network(noise(seed=1) ** 4)
        trained = network(noise())
        evaluated = network.eval()(noise())
    # Not equal: the running variance divides by n - 1, the training forward by n.
    torch.testing.assert_close(evaluated, trained, atol=0.02, rtol=0)


def test_response_is_float32_under_bfloat16_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        response = network_of(0)(noise())
    assert response.dtype == torch.float32
    torch.testing.assert_close(response.mean((0, 2, 3)), torch.zeros(20), atol=1e-5, rtol=0)


def with_beside(blocks: int = 3, channels: Sequence[int] = (3, 2)) -> SegmentationNetwork:
    """A network for an image that has maps of so many channels, none of them at its size."""
    network = SegmentationNetwork(blocks, features=20, clusters=20, beside=sum(channels))
    network.initialise(0)
    generator = torch.Generator().manual_seed(9)
    sizes = ((6, 7), (3, 5))
    network.maps_beside = [torch.randn(n, *size, generator=generator) for n, size in zip(channels, sizes, strict=False)]
    return network


def at_each_pixel(network: SegmentationNetwork) -> Tensor:
    """(C, 24, 32), the features beside at the pixels of the image."""
    maps = (nn.functional.interpolate(one[None], (24, 32), mode="bilinear") for one in network.maps_beside)
    return torch.cat([*maps], 1)[0]


def test_a_network_with_nothing_beside_is_the_one_without() -> None:
    plain, nothing = network_of(3), SegmentationNetwork(3, 20, 20, beside=0)
    nothing.initialise(3)
    assert [(name, value.shape) for name, value in nothing.state_dict().items()] == [
        (name, value.shape) for name, value in plain.state_dict().items()
    ]
    assert torch.equal(nothing(noise()), plain(noise()))


@torch.no_grad()
def test_classifier_sees_the_features_of_both_at_each_pixel() -> None:
    network, seen = with_beside(), []
    network.norms[-1].register_forward_hook(lambda module, inputs, result: seen.append(result[0]))
    response = network(noise())[0]
    both = torch.cat([seen[0], at_each_pixel(network)])
    expected = torch.einsum("qc,chw->qhw", network.classifier.weight[..., 0, 0], both)
    centred = expected - expected.mean((1, 2), keepdim=True)  # the bias goes, too
    expected = centred / (expected.var((1, 2), correction=0, keepdim=True) + network.response_norm.eps).sqrt()
    torch.testing.assert_close(response, expected, atol=1e-4, rtol=1e-4)


def test_only_the_classifier_sees_the_features_beside() -> None:
    network, seen = with_beside(), []
    for layer in network.convolutions:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = noise()
    network(image)
    assert [found.shape[1] for found in seen] == [3, 20, 20]
    assert torch.equal(seen[0], image)


def test_features_beside_that_weigh_nothing_change_nothing() -> None:
    network, plain = with_beside(), network_of(0)
    state = network.state_dict()
    plain.load_state_dict({**state, "classifier.weight": state["classifier.weight"][:, :20]})
    with torch.no_grad():
        network.classifier.weight[:, 20:] = 0
        torch.testing.assert_close(network(noise()), plain(noise()), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_part_of_an_image_can_be_given_its_part_of_the_features_beside() -> None:
    network = with_beside(blocks=1)
    network(noise())
    network.eval()
    whole = network(noise())
    added = sum(nn.functional.interpolate(part, (24, 32), mode="bilinear") for part in network.respond_beside())
    rows, columns = slice(4, 15), slice(9, 30)
    part = network(noise()[..., rows, columns], added[..., rows, columns])
    torch.testing.assert_close(part[..., 1:-1, 1:-1], whole[..., rows, columns][..., 1:-1, 1:-1])


def test_gradients_reach_the_weights_of_the_features_beside() -> None:
    """Those of autograd, with the features as further channels at each pixel."""
    network, plain = with_beside(blocks=0), nn.Conv2d(5, 20, kernel_size=1)
    plain.load_state_dict(network.classifier.state_dict())
    weights = torch.randn(1, 20, 24, 32, generator=torch.Generator().manual_seed(1))
    (network(noise()) * weights).sum().backward()
    (nn.BatchNorm2d(20)(plain(at_each_pixel(network)[None])) * weights).sum().backward()
    torch.testing.assert_close(network.classifier.weight.grad, plain.weight.grad, atol=1e-3, rtol=1e-4)


def test_without_blocks_there_are_only_the_features_beside() -> None:
    network = with_beside(blocks=0, channels=[5])
    assert network.receptive_radius == 0
    assert network.classifier.weight.shape == (20, 5, 1, 1)
    with torch.no_grad():
        response = network(noise())[0]
        assert torch.equal(network(noise(seed=1))[0], response), "it sees no colours"
        mapped = torch.einsum("qc,chw->qhw", network.classifier.weight[..., 0, 0], at_each_pixel(network))
    # The bias goes, and so does the scale, in the BatchNorm.
    centred = mapped - mapped.mean((1, 2), keepdim=True)
    expected = centred / (mapped.var((1, 2), correction=0, keepdim=True) + network.response_norm.eps).sqrt()
    torch.testing.assert_close(response, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_features_beside_are_mapped_in_float32_under_bfloat16_autocast() -> None:
    network = with_beside(blocks=0)
    expected = network(noise())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(noise()), expected)


def test_maps_of_other_channels_are_refused() -> None:
    network = with_beside()
    network.maps_beside = network.maps_beside[:1]
    with pytest.raises(RuntimeError):
        network(noise())


def test_weights_beside_are_drawn_as_those_of_the_features() -> None:
    """The default of PyTorch goes by the number of channels that come in."""
    drawn = with_beside(channels=[80]).classifier.weight.detach()
    assert drawn.abs().max() <= 0.1
    assert drawn[:, :20].abs().max() > 0.095
    assert drawn[:, 20:].abs().max() > 0.095

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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


def with_beside(blocks: int = 3, beside: int = 5) -> SegmentationNetwork:
    network = SegmentationNetwork(blocks, features=20, clusters=20, beside=beside)
    network.initialise(0)
    return network


def beside(channels: int = 5, seed: int = 9) -> Tensor:
    return torch.randn(1, channels, 24, 32, generator=torch.Generator().manual_seed(seed))


def test_a_network_with_nothing_beside_is_the_one_without() -> None:
    plain, nothing = network_of(3), SegmentationNetwork(3, 20, 20, beside=0)
    nothing.initialise(3)
    assert [(name, value.shape) for name, value in nothing.state_dict().items()] == [
        (name, value.shape) for name, value in plain.state_dict().items()
    ]
    assert torch.equal(nothing(noise()), plain(noise()))


def test_only_the_classifier_sees_the_features_beside() -> None:
    network, seen = with_beside(), []
    for layer in (*network.convolutions, network.classifier):
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image, further = noise(), beside()
    network(torch.cat([image, further], 1))
    assert [found.shape[1] for found in seen] == [3, 20, 20, 25]
    assert torch.equal(seen[0], image)
    assert torch.equal(seen[-1][:, 20:], further), "as they are, after those of the blocks"


def test_features_beside_that_weigh_nothing_change_nothing() -> None:
    network, plain = with_beside(), network_of(0)
    state = network.state_dict()
    plain.load_state_dict({**state, "classifier.weight": state["classifier.weight"][:, :20]})
    with torch.no_grad():
        network.classifier.weight[:, 20:] = 0
        response = network(torch.cat([noise(), beside()], 1))
        torch.testing.assert_close(response, plain(noise()), atol=1e-5, rtol=1e-4)


def test_features_beside_count_at_their_own_pixel_by_their_weights() -> None:
    network = with_beside()
    given = torch.cat([noise(), beside()], 1)
    changed = given.clone()
    changed[0, 3:, 7, 8] += torch.tensor([1.0, -2.0, 0.0, 3.0, 0.5])
    with torch.no_grad():
        network(given)
        network.eval()
        difference = (network(changed) - network(given))[0]
        spread = (network.response_norm.running_var + network.response_norm.eps).sqrt()
        expected = network.classifier.weight[:, 20:, 0, 0] @ torch.tensor([1.0, -2.0, 0.0, 3.0, 0.5]) / spread
    torch.testing.assert_close(difference[:, 7, 8], expected, atol=1e-4, rtol=1e-4)
    difference[:, 7, 8] = 0
    assert not difference.any()


def test_without_blocks_the_response_is_a_linear_map_of_the_features_beside() -> None:
    network = with_beside(blocks=0)
    assert network.receptive_radius == 0
    assert network.classifier.weight.shape == (20, 5, 1, 1)
    further = beside()
    with torch.no_grad():
        response = network(torch.cat([noise(), further], 1))[0]
        assert torch.equal(network(torch.cat([noise(seed=1), further], 1))[0], response), "it sees no colours"
        mapped = torch.einsum("qc,chw->qhw", network.classifier.weight[..., 0, 0], further[0])
    # The bias goes, and so does the scale, in the BatchNorm.
    centred = mapped - mapped.mean((1, 2), keepdim=True)
    expected = centred / (mapped.var((1, 2), correction=0, keepdim=True) + network.response_norm.eps).sqrt()
    torch.testing.assert_close(response, expected, atol=1e-4, rtol=1e-4)


def test_weights_beside_are_drawn_as_those_of_the_features() -> None:
    """The default of PyTorch goes by the number of channels that come in."""
    drawn = with_beside(beside=80).classifier.weight.detach()
    assert drawn.abs().max() <= 0.1
    assert drawn[:, :20].abs().max() > 0.095
    assert drawn[:, 20:].abs().max() > 0.095

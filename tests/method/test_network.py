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

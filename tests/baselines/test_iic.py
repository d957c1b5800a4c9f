from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaseg_cli.baselines.iic import jitter, joint_distributions, mutual_information, segment_by_iic
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.precision import exact_arithmetic
from dynaseg_cli.errors import DivergedError
from dynaseg_cli.method.network import SegmentationNetwork

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "clusters": 4,
    "iterations": 3,
    "displacement": 2,
    "max_size": 0,
    "learning_rate": 0.01,
    "blocks": 2,
    "features": 8,
    "seed": 0,
    "device": CPU,
}


def segment(image: NDArray[np.uint8], **changes: Any) -> NDArray[np.int32]:
    return segment_by_iic(image, **(SMALL | changes))


def random_assignment(clusters: int, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, clusters, height, width), generator=generator, dtype=torch.float64).mul(2).softmax(1)


def one_hot(labels: NDArray[Any], clusters: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), clusters).permute(2, 0, 1)[None].double()


def joint_at(first: NDArray[Any], second: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """P_u pixel by pixel: outer products of (k, H, W) distributions at x + u and x, symmetric, normalised."""
    clusters, height, width = first.shape
    joint = np.zeros((clusters, clusters))
    for y in range(height):
        for x in range(width):
            if 0 <= y + down < height and 0 <= x + across < width:
                joint += np.outer(first[:, y + down, x + across], second[:, y, x])
    joint = (joint + joint.T) / 2
    return joint / joint.sum()


def information_of(joint: NDArray[Any]) -> float:
    """Mutual information of one joint distribution, term by term."""
    total = 0.0
    for row, column in np.ndindex(joint.shape):
        if joint[row, column] > 0:
            independent = joint[row].sum() * joint[:, column].sum()
            total += joint[row, column] * math.log(joint[row, column] / independent)
    return total


@pytest.mark.parametrize(("height", "width", "displacement"), [(4, 5, 0), (4, 5, 2), (6, 3, 1)])
def test_joint_and_information_equal_a_loop_over_the_pixels(height: int, width: int, displacement: int) -> None:
    first, second = random_assignment(3, height, width, 0), random_assignment(3, height, width, 1)
    joint = joint_distributions(first, second, displacement)
    information = mutual_information(joint)
    side = 2 * displacement + 1
    assert joint.shape == (side, side, 3, 3)
    for row, column in np.ndindex(side, side):
        expected = joint_at(first[0].numpy(), second[0].numpy(), row - displacement, column - displacement)
        np.testing.assert_allclose(joint[row, column].numpy(), expected, atol=1e-12)
        assert information[row, column].item() == pytest.approx(information_of(expected), abs=1e-12)


def test_displacement_reaches_no_further_than_pixels_meet() -> None:
    first, second = random_assignment(3, 2, 3, 0), random_assignment(3, 2, 3, 1)
    joint = joint_distributions(first, second, 5)
    assert joint.shape == (3, 5, 3, 3)
    np.testing.assert_allclose(joint[0, 4].numpy(), joint_at(first[0].numpy(), second[0].numpy(), -1, 2), atol=1e-12)
    torch.testing.assert_close(joint.sum((-2, -1)), torch.ones(3, 5).double())


@pytest.mark.parametrize("clusters", [2, 5])
def test_equal_and_balanced_assignments_share_all_there_is_to_know(clusters: int) -> None:
    labels = np.arange(4 * clusters).reshape(4, clusters) % clusters
    assignment = one_hot(labels, clusters)
    information = mutual_information(joint_distributions(assignment, assignment, 0))
    assert information.item() == pytest.approx(math.log(clusters))


def test_independent_assignments_share_nothing() -> None:
    rows, columns = np.mgrid[:4, :6]
    joint = joint_distributions(one_hot(rows % 2, 3), one_hot(columns % 3, 3), 0)
    symmetric = torch.outer(torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.2, 0.3, 0.5]))
    assert mutual_information(symmetric).item() == pytest.approx(0, abs=1e-7)
    # The two maps are independent but not alike: what the symmetric joint still tells is that, and no more.
    np.testing.assert_allclose(joint[0, 0].numpy(), np.array([[4, 4, 2], [4, 4, 2], [2, 2, 0]]) / 24, atol=1e-12)
    constant = one_hot(np.zeros((4, 6), dtype=np.int64), 3)
    assert mutual_information(joint_distributions(constant, constant, 1)).abs().max().item() < 1e-12


def test_information_is_worked_by_hand() -> None:
    joint = torch.tensor([[[0.5, 0.0], [0.0, 0.5]], [[0.25, 0.25], [0.25, 0.25]], [[0.5, 0.25], [0.25, 0.0]]])
    third = 0.5 * math.log(0.5 / 0.75**2) + 2 * 0.25 * math.log(0.25 / (0.75 * 0.25))
    torch.testing.assert_close(mutual_information(joint), torch.tensor([math.log(2), 0.0, third]))


def test_labels_that_never_occur_have_a_finite_gradient() -> None:
    logits = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]], [[-200.0, -200.0]]]], requires_grad=True)
    assignment = logits.softmax(1)
    assert (assignment == 0).any()
    mutual_information(joint_distributions(assignment, assignment, 1)).mean().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.requires_cuda
def test_information_is_the_same_on_cuda() -> None:
    first, second = random_assignment(5, 20, 30, 0).float(), random_assignment(5, 20, 30, 1).float()
    with exact_arithmetic():
        on_cuda = mutual_information(joint_distributions(first.cuda(), second.cuda(), 3))
    torch.testing.assert_close(on_cuda.cpu(), mutual_information(joint_distributions(first, second, 3)))


def test_jitter_is_worked_by_hand() -> None:
    image = torch.tensor([[0.2, 0.4], [0.4, 0.8], [0.6, 0.0]])[None, :, None]  # two pixels
    grey = [0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6, 0.299 * 0.4 + 0.587 * 0.8]
    torch.testing.assert_close(jitter(image, 1, 1, 1), image)
    torch.testing.assert_close(jitter(image, 0.5, 1, 1), image / 2)
    torch.testing.assert_close(jitter(image, 2, 1, 1), torch.tensor([[0.4, 0.8], [0.8, 1], [1, 0]])[None, :, None])
    torch.testing.assert_close(jitter(image, 1, 0, 1), torch.full_like(image, sum(grey) / 2))
    torch.testing.assert_close(jitter(image, 1, 1, 0), torch.tensor(grey).expand(1, 3, 1, 2))
    half = torch.tensor(grey) + (image - torch.tensor(grey)) / 2
    torch.testing.assert_close(jitter(image, 1, 1, 0.5), half)


def test_flip_of_the_twin_is_undone(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    """A network that stands still, and twins in the image's own light: only the flip tells them from the image."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def recording(first: Tensor, second: Tensor, displacement: int) -> Tensor:
        pairs.append((first.detach(), second.detach()))
        return joint_distributions(first, second, displacement)

    monkeypatch.setattr("dynaseg_cli.baselines.iic.joint_distributions", recording)
    monkeypatch.setattr("dynaseg_cli.baselines.iic.JITTER", 0.0)
    segment(photo, iterations=12, learning_rate=1e-12)

    network = SegmentationNetwork(SMALL["blocks"], SMALL["features"], SMALL["clusters"])
    network.initialise(SMALL["seed"])
    with torch.no_grad():
        plain = network(to_input(photo, CPU)).softmax(1)
        flipped = network(to_input(photo[:, ::-1], CPU)).softmax(1).flip(-1)
    assert not torch.allclose(plain, flipped, atol=1e-3)
    counts = [0, 0]
    for first, second in pairs:
        torch.testing.assert_close(first, plain, atol=1e-4, rtol=0)
        kind = int(torch.allclose(second, flipped, atol=1e-4))
        torch.testing.assert_close(second, flipped if kind else plain, atol=1e-4, rtol=0)
        counts[kind] += 1
    assert min(counts) >= 2


def test_every_twin_is_in_another_light(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    lights: list[tuple[float, ...]] = []

    def recording(image: Tensor, *factors: float) -> Tensor:
        lights.append(factors)
        return jitter(image, *factors)

    monkeypatch.setattr("dynaseg_cli.baselines.iic.jitter", recording)
    for seed in (0, 1):
        segment(photo, iterations=12, seed=seed)
    factors = np.array(lights)
    assert factors.shape == (24, 3)
    assert len(np.unique(factors)) == 72
    assert 0.6 <= factors.min() < 0.7
    assert 1.3 < factors.max() <= 1.4


@pytest.mark.parametrize("seed", range(3))
def test_textures_are_told_apart(seed: int) -> None:
    """Noise on either side of the same mean, strong on the left and weak on the right: no pixel tells by itself.

    Pixels are compared further than the network sees: two that share no pixel's noise share their texture alone.
    """
    amplitude = np.where(np.arange(32) < 16, 100, 15)[None, :, None]
    noise = np.random.default_rng(0).choice([-1, 1], (24, 32, 1)) * amplitude
    image = np.broadcast_to(128 + noise, (24, 32, 3)).astype(np.uint8)
    labels = segment(image, clusters=2, iterations=30, displacement=6, features=12, seed=seed)
    assert labels.dtype == np.int32
    left, right = labels[3:-3, 3:13].mean(), labels[3:-3, 19:-3].mean()
    assert max(left, right) > 0.95
    assert min(left, right) < 0.05


def test_fit_gains_information(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    gained: list[float] = []

    def recording(joint: Tensor) -> Tensor:
        information = mutual_information(joint)
        gained.append(information.mean().item())
        return information

    monkeypatch.setattr("dynaseg_cli.baselines.iic.mutual_information", recording)
    segment(photo, iterations=30)
    assert np.mean(gained[-5:]) > 2 * np.mean(gained[:5])


def test_labels_are_the_fitted_networks_on_the_image(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    networks: list[SegmentationNetwork] = []
    initialise = SegmentationNetwork.initialise

    def recording(network: SegmentationNetwork, seed: int) -> None:
        networks.append(network)
        initialise(network, seed)

    monkeypatch.setattr(SegmentationNetwork, "initialise", recording)
    labels = segment(photo, iterations=5)
    with torch.no_grad():
        expected = networks[0].train()(to_input(photo, CPU)).argmax(1)[0].numpy()
    assert (labels == expected).mean() >= 0.99


def test_network_is_fitted_at_the_working_size(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    seen: set[tuple[int, ...]] = set()
    forward = SegmentationNetwork.forward

    def recording(network: SegmentationNetwork, image: Tensor, *beside: None) -> Tensor:
        if network.training:
            seen.add(tuple(image.shape))
        return forward(network, image, *beside)

    monkeypatch.setattr(SegmentationNetwork, "forward", recording)
    assert segment(photo, max_size=16).shape == (24, 32)
    assert seen == {(1, 3, 12, 16)}


def test_labels_follow_the_seed_alone(photo: NDArray[np.uint8]) -> None:
    first = segment(photo, seed=3)
    assert np.array_equal(segment(photo.copy(), seed=3), first)
    assert not np.array_equal(segment(photo, seed=4), first)


def test_seed_draws_the_weights(photo: NDArray[np.uint8]) -> None:
    """Nothing is learnt, so twins change nothing."""
    first = segment(photo, learning_rate=1e-12, seed=3)
    assert not np.array_equal(segment(photo, learning_rate=1e-12, seed=4), first)


@pytest.mark.parametrize("max_size", [0, 16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (1, 40), (40, 1), (6, 7)])
def test_smallest_images(height: int, width: int, max_size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = segment(image, max_size=max_size, displacement=9)
    assert labels.shape == (height, width)
    assert labels.min() >= 0
    assert labels.max() < 4


def test_constant_image_is_one_label_away_from_the_border() -> None:
    labels = segment(np.full((16, 20, 3), 77, np.uint8))
    assert len(np.unique(labels[6:-6, 6:-6])) == 1


def test_divergence_is_named(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(DivergedError, match="IIC became nan in iteration 2"):
        segment(photo, learning_rate=float("inf"))

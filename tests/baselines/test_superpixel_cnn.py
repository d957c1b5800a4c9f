from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.segmentation import slic

from dynaseg_cli.baselines.superpixel_cnn import majority_labels, segment_by_superpixel_cnn
from dynaseg_cli.errors import DivergedError, UsageError
from dynaseg_cli.method.network import SegmentationNetwork

SMALL: dict[str, Any] = {
    "superpixels": 60,
    "compactness": 10.0,
    "iterations": 12,
    "min_labels": 2,
    "max_size": 0,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "blocks": 2,
    "features": 16,
    "seed": 0,
    "device": torch.device("cpu"),
}


def segment(image: NDArray[np.uint8], **changes: Any) -> NDArray[np.int32]:
    return segment_by_superpixel_cnn(image, **(SMALL | changes))


def voted(labels: NDArray[Any], superpixels: NDArray[Any]) -> NDArray[Any]:
    """One superpixel after another, in NumPy."""
    result = labels.copy()
    for superpixel in np.unique(superpixels):
        inside = superpixels == superpixel
        values, counts = np.unique(labels[inside], return_counts=True)
        result[inside] = values[counts.argmax()]
    return result


def literal_labels(image: NDArray[np.uint8], iterations: int, superpixels: NDArray[Any]) -> NDArray[Any]:
    """The algorithm as it is written, at full resolution, every step on the host."""
    network = SegmentationNetwork(SMALL["blocks"], SMALL["features"], SMALL["features"])
    network.initialise(SMALL["seed"])
    optimiser = torch.optim.SGD(network.parameters(), lr=SMALL["learning_rate"], momentum=SMALL["momentum"])
    x = torch.tensor(image / 255).float().permute(2, 0, 1)[None]
    refined = np.empty(image.shape[:2], dtype=np.int64)
    for _ in range(iterations):
        response = network(x)
        refined = voted(response.argmax(1)[0].numpy(), superpixels)
        loss = torch.nn.functional.cross_entropy(response, torch.tensor(refined)[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return refined


@pytest.fixture(scope="module")
def halves() -> NDArray[np.uint8]:
    """Two flat patches, (16, 24, 3)."""
    image = np.empty((16, 24, 3), dtype=np.uint8)
    image[:, :12], image[:, 12:] = [220, 60, 40], [30, 90, 200]
    return image


def test_majority_is_worked_by_hand() -> None:
    labels = torch.tensor([3, 1, 3, 0, 2, 2, 0, 1])
    superpixels = torch.tensor([0, 0, 0, 2, 2, 2, 3, 3])  # none has number 1, and 3 is a tie
    assert majority_labels(labels, superpixels, 4).tolist() == [3, 3, 3, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_majority_equals_a_loop_over_the_superpixels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, superpixels = generator.integers(0, 7, 300), generator.integers(0, 40, 300)
    result = majority_labels(torch.tensor(labels), torch.tensor(superpixels), 7)
    np.testing.assert_array_equal(result.numpy(), voted(labels, superpixels))


@pytest.mark.requires_cuda
def test_majority_is_the_same_on_cuda() -> None:
    labels, superpixels = torch.randint(7, (10_000,)), torch.randint(400, (10_000,))
    on_cuda = majority_labels(labels.cuda(), superpixels.cuda(), 7)
    assert torch.equal(on_cuda.cpu(), majority_labels(labels, superpixels, 7))


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_fit_is_the_algorithm_as_it_is_written(photo: NDArray[np.uint8], iterations: int) -> None:
    superpixels = slic(photo, n_segments=SMALL["superpixels"], compactness=SMALL["compactness"])
    expected = literal_labels(photo, iterations, superpixels)
    labels = segment(photo, iterations=iterations)
    assert labels.shape == photo.shape[:2]
    assert labels.dtype == np.int32
    assert (labels == expected).mean() >= 0.98


def test_flat_patches_are_the_labels_away_from_their_borders(halves: NDArray[np.uint8]) -> None:
    labels = segment(halves, iterations=30)
    left, right = np.unique(labels[4:-4, 4:-16]), np.unique(labels[4:-4, 16:-4])
    assert len(left) == len(right) == 1
    assert left[0] != right[0]


@pytest.mark.parametrize("max_size", [0, 16])
def test_a_superpixel_of_the_image_has_one_label(photo: NDArray[np.uint8], max_size: int) -> None:
    labels = segment(photo, iterations=4, max_size=max_size)
    assert len(np.unique(labels)) > 2
    superpixels = slic(photo, n_segments=SMALL["superpixels"], compactness=SMALL["compactness"])
    assert len(np.unique(superpixels)) > 30
    np.testing.assert_array_equal(labels, voted(labels, superpixels))


def test_network_is_fitted_at_the_working_size(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    seen: list[tuple[int, ...]] = []
    forward = SegmentationNetwork.forward

    def recording(network: SegmentationNetwork, image: torch.Tensor, *beside: None) -> torch.Tensor:
        if network.training:
            seen.append(tuple(image.shape))
        return forward(network, image, *beside)

    monkeypatch.setattr(SegmentationNetwork, "forward", recording)
    assert segment(photo, iterations=3, max_size=16).shape == (24, 32)
    assert seen == [(1, 3, 12, 16)] * 3


def test_fit_stops_at_the_number_of_labels(photo: NDArray[np.uint8]) -> None:
    once = segment(photo, iterations=1)
    assert np.array_equal(segment(photo, iterations=8, min_labels=16), once)
    assert not np.array_equal(segment(photo, iterations=8, min_labels=1), once)


def test_labels_follow_the_seed_alone(photo: NDArray[np.uint8]) -> None:
    first = segment(photo, iterations=4, seed=3)
    assert np.array_equal(segment(photo.copy(), iterations=4, seed=3), first)
    assert not np.array_equal(segment(photo, iterations=4, seed=4), first)


@pytest.mark.parametrize("max_size", [0, 16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (1, 40), (40, 1), (6, 7)])
def test_smallest_images(height: int, width: int, max_size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = segment(image, iterations=3, max_size=max_size)
    assert labels.shape == (height, width)
    assert labels.min() >= 0
    assert labels.max() < 16


def test_constant_image_is_one_label_away_from_the_border() -> None:
    labels = segment(np.full((16, 20, 3), 77, np.uint8), iterations=6)
    assert len(np.unique(labels[6:-6, 6:-6])) == 1


def test_divergence_is_named(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(DivergedError, match="superpixel CNN became nan in iteration 2"):
        segment(photo, learning_rate=float("inf"))


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, halves: NDArray[np.uint8]) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UsageError, match=r"pip install 'dynaseg\[baselines\]'"):
        segment(halves)

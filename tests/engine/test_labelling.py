from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.fitting import fit_network
from dynaseg_cli.engine.labelling import label_image, tiles, to_input
from dynaseg_cli.method.network import SegmentationNetwork

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def large(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(37, 51, 3): no multiple of any tile size below."""
    return np.tile(photo, (2, 2, 1))[:37, :51]


@pytest.fixture
def network(photo: NDArray[np.uint8]) -> SegmentationNetwork:
    """Fitted for a few iterations on the photo."""
    network = SegmentationNetwork(blocks=3, features=32, clusters=32)
    network.initialise(0)
    fit_network(network, [to_input(photo, CPU)], SegmentConfig(iterations=5), 1, torch.float32)
    return network


def label(network: SegmentationNetwork, image: NDArray[np.uint8], tile_size: int, window: int = 1) -> NDArray[np.int16]:
    return label_image(network, image, CPU, torch.float32, tile_size, window)


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 70))
def test_tiles_cover_every_pixel_once(height: int, width: int, size: int) -> None:
    covered = np.zeros((height, width), dtype=int)
    for rows, columns in tiles(height, width, size):
        tile = covered[rows, columns]
        assert 0 < tile.shape[0] <= size
        assert 0 < tile.shape[1] <= size
        tile += 1
    assert (covered == 1).all()


def test_one_tile_is_the_argmax_of_the_network_in_evaluation_mode(
    network: SegmentationNetwork, large: NDArray[np.uint8]
) -> None:
    labels = label(network, large, 64)
    assert labels.shape == large.shape[:2]
    assert labels.dtype == np.int16
    assert len(np.unique(labels)) > 5
    x = torch.tensor(large / 255).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = network.eval()(x).argmax(1)[0].numpy()
    assert (labels == expected).mean() >= 0.999


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("tile_size", [8, 13, 64])
def test_tiles_agree_with_the_whole(
    network: SegmentationNetwork, large: NDArray[np.uint8], tile_size: int, window: int
) -> None:
    whole = label(network, large, 10_000, window)
    assert (label(network, large, tile_size, window) == whole).mean() >= 0.999


def test_label_is_the_argmax_of_the_mean_response_in_the_window(
    network: SegmentationNetwork, large: NDArray[np.uint8]
) -> None:
    with torch.no_grad():
        response = network.eval()(to_input(large, CPU))[0].numpy()
    labels = label(network, large, 64, window=5)
    assert not np.array_equal(labels, label(network, large, 64))
    for y, x in ((0, 0), (1, 30), (20, 20), (36, 50)):
        mean = response[:, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].mean((1, 2))
        assert labels[y, x] == mean.argmax()


@pytest.mark.parametrize("tile_size", [8, 13])
def test_halo_one_pixel_too_small_would_show(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationNetwork, large: NDArray[np.uint8], tile_size: int
) -> None:
    whole = label(network, large, 10_000)
    monkeypatch.setattr(SegmentationNetwork, "receptive_radius", network.receptive_radius - 1)
    assert (label(network, large, tile_size) == whole).mean() < 0.999


def test_image_may_be_read_only(network: SegmentationNetwork, photo: NDArray[np.uint8]) -> None:
    assert not photo.flags.writeable
    assert np.array_equal(label(network, photo, 64), label(network, photo.copy(), 64))


def test_caller_hears_of_every_tile_and_can_stop(network: SegmentationNetwork, photo: NDArray[np.uint8]) -> None:
    heard: list[None] = []
    label_image(network, photo, CPU, torch.float32, 16, 1, lambda: heard.append(None))
    assert len(heard) == 2 * 2

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        label_image(network, photo, CPU, torch.float32, 16, 1, stop)


def test_input_is_rgb_between_0_and_1_in_the_layout_the_convolutions_like() -> None:
    image = np.array([[[0, 51, 255], [255, 102, 0]]], dtype=np.uint8)
    x = to_input(image, CPU)
    torch.testing.assert_close(x, torch.tensor([[[[0.0, 1.0]], [[0.2, 0.4]], [[1.0, 0.0]]]]))
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_response_keeps_that_layout(photo: NDArray[np.uint8]) -> None:
    network = SegmentationNetwork(blocks=2, features=8, clusters=8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        response = network(to_input(photo, CPU))
    assert response.is_contiguous(memory_format=torch.channels_last)

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine import labelling
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.guided_filter import apply_coefficients, guided_coefficients, triangle_weights
from dynaseg_cli.engine.labelling import (
    FILTER_RADIUS,
    FILTER_REGULARISATION,
    area_weights,
    label_image,
    label_with_fit,
    tiles,
    to_input,
)
from dynaseg_cli.engine.networks import new_network
from dynaseg_cli.method.network import SegmentationNetwork
from dynaseg_cli.resampling import shrink

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
    Fitter(network, SegmentConfig(iterations=5), torch.float32).fit([to_input(photo, CPU)], 1)
    return network


def label(network: SegmentationNetwork, image: NDArray[np.uint8], tile_size: int) -> NDArray[np.int16]:
    return label_image(network, image, torch.float32, tile_size)


def label_by_guide(
    network: SegmentationNetwork, image: NDArray[np.uint8], kept: Sequence[int] = range(32), tile_size: int = 10_000
) -> NDArray[np.int16]:
    """Labels of an image fitted at a quarter of its size, where the labels `kept` were left."""
    height, width = image.shape[0] // 4, image.shape[1] // 4
    fitted = torch.tensor(kept).repeat(height * width)[: height * width].view(height, width)
    return label_with_fit(network, image, fitted, torch.float32, tile_size)


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


@pytest.mark.parametrize("tile_size", [8, 13, 64])
@pytest.mark.parametrize("method", [label, label_by_guide])
def test_tiles_agree_with_the_whole(
    network: SegmentationNetwork, large: NDArray[np.uint8], method: Callable[..., NDArray[np.int16]], tile_size: int
) -> None:
    assert (method(network, large, tile_size=tile_size) == method(network, large, tile_size=10_000)).mean() >= 0.999


def test_guided_label_is_the_argmax_of_the_filtered_response(
    network: SegmentationNetwork, large: NDArray[np.uint8]
) -> None:
    """The image is 4 times the size of the fit: the network sees 2.5 times, the guide is averaged with 1-2-3-2-1."""
    small = large[:36, :48]
    kept = torch.tensor([3, 4, 7, 20, 31])
    with torch.no_grad():
        response = network.eval()(to_input(shrink(small, 30, 22), CPU))[:, kept]
    response = torch.einsum(
        "yh,nqhw,xw->nqyx", torch.tensor(area_weights(22, 9)), response, torch.tensor(area_weights(30, 12))
    )
    guide = to_input(shrink(small, 12, 9), CPU)
    coefficients = guided_coefficients(guide, response, FILTER_RADIUS, FILTER_REGULARISATION)
    padded = np.pad(small.astype(float), ((2, 2), (2, 2), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1))
    weights = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])
    average = np.nansum(windows * weights, (-2, -1)) / (~np.isnan(windows) * weights).sum((-2, -1))
    smooth = torch.tensor(average / 255).float().permute(2, 0, 1)
    filtered = apply_coefficients(coefficients, smooth, slice(0, 36), slice(0, 48), (36, 48))
    expected = kept[filtered.argmax(0)].numpy()
    labels = label_by_guide(network, small, kept.tolist(), tile_size=16)
    assert labels.shape == (36, 48)
    assert labels.dtype == np.int16
    assert len(np.unique(labels)) == 5
    assert (labels == expected).mean() >= 0.999


def test_resnet_is_asked_for_the_response_that_its_fit_ended_with(
    monkeypatch: pytest.MonkeyPatch, large: NDArray[np.uint8]
) -> None:
    responses: list[torch.Tensor] = []

    def coefficients(guide: torch.Tensor, response: torch.Tensor, *options: float) -> torch.Tensor:
        responses.append(response)
        return guided_coefficients(guide, response, *options)

    monkeypatch.setattr(labelling, "guided_coefficients", coefficients)
    config = SegmentConfig(backbone="resnet18-fpn", weights="random", iterations=3, features=8, clusters=8)
    resnet = new_network(config)
    fitted = Fitter(resnet, config, torch.float32).fit([to_input(large, CPU)], 1).labels
    labels = label_with_fit(resnet, large.repeat(2, 0).repeat(2, 1), fitted, torch.float32, tile_size=16)
    assert labels.shape == (74, 102)
    assert torch.equal(torch.unique(fitted)[responses[0].argmax(1)[0]], fitted)


def test_only_labels_of_the_fit_appear(network: SegmentationNetwork, large: NDArray[np.uint8]) -> None:
    assert len(np.unique(label(network, large, 64))) > 5
    assert set(np.unique(label_by_guide(network, large, [5, 9]))) == {5, 9}
    assert set(np.unique(label_by_guide(network, large, [9]))) == {9}


def test_guided_labels_follow_an_edge_that_the_fit_could_not_place(network: SegmentationNetwork) -> None:
    """A disc that the network was fitted on at a quarter of its size is labelled to the pixel."""
    y, x = np.mgrid[:96, :96]
    disc = (y - 50) ** 2 + (x - 45) ** 2 < 30**2
    image = np.where(disc[..., None], np.uint8([200, 60, 40]), np.uint8([30, 90, 160]))
    network.initialise(0)
    fit = Fitter(network, SegmentConfig(iterations=30, patience=2), torch.float32).fit(
        [to_input(shrink(image, 24, 24), CPU)], 2
    )
    labels = label_with_fit(network, image, fit.labels, torch.float32, 32)
    inside, outside = (np.bincount(labels[part]).argmax() for part in (disc, ~disc))
    assert inside != outside
    wrong = (labels == inside) != disc
    coarse = np.asarray(fit.labels == inside).repeat(4, 0).repeat(4, 1)
    assert wrong.sum() < (coarse != disc).sum() / 4


@pytest.mark.parametrize(("height", "width"), [(1, 40), (40, 1), (2, 400), (24, 24)])
def test_narrow_images_are_labelled_by_guide(network: SegmentationNetwork, height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    fitted = torch.arange(max(1, height // 4) * max(1, width // 4)).remainder(9).view(max(1, height // 4), -1)
    labels = label_with_fit(network, image, fitted, torch.float32, 16)
    assert labels.shape == (height, width)
    assert set(np.unique(labels)) <= set(range(9))


@pytest.mark.parametrize(
    ("size", "fitted", "expected"),
    [
        ((321, 481), (128, 192), (320, 480)),
        ((200, 300), (128, 192), (200, 300)),
        ((300, 400), (24, 32), (60, 80)),
        ((2, 9000), (1, 192), (1, 480)),
        ((9000, 2), (192, 1), (480, 1)),
    ],
)
def test_network_looks_again_in_a_bounded_multiple_of_its_detail(
    monkeypatch: pytest.MonkeyPatch,
    network: SegmentationNetwork,
    size: tuple[int, int],
    fitted: tuple[int, int],
    expected: tuple[int, int],
) -> None:
    seen: list[torch.Size] = []
    forward = SegmentationNetwork.forward

    def watched(self: SegmentationNetwork, x: torch.Tensor, beside: torch.Tensor | None) -> torch.Tensor:
        seen.append(x.shape[2:])
        return forward(self, x, beside)

    monkeypatch.setattr(SegmentationNetwork, "forward", watched)
    image = np.zeros((*size, 3), dtype=np.uint8)
    label_with_fit(network, image, torch.zeros(fitted, dtype=torch.int64), torch.float32, 10_000)
    assert seen == [expected]


@pytest.mark.parametrize(("width", "fitted", "expected"), [(200, 192, 0), (481, 192, 1), (192, 32, 3), (9000, 192, 8)])
def test_guide_is_averaged_over_a_working_pixel_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationNetwork, width: int, fitted: int, expected: int
) -> None:
    reaches: set[float] = set()

    def recorded(centres: NDArray[np.integer], half_width: float, length: int) -> tuple[slice, torch.Tensor]:
        reaches.add(half_width - 1)
        return triangle_weights(centres, half_width, length)

    monkeypatch.setattr(labelling, "triangle_weights", recorded)
    image = np.zeros((4, width, 3), dtype=np.uint8)
    label_with_fit(network, image, torch.zeros((1, fitted), dtype=torch.int64), torch.float32, 1000)
    assert reaches == {expected}


@given(fine=st.integers(1, 90), share=st.floats(0, 1))
def test_area_weights_average_what_lies_behind_each_pixel(fine: int, share: float) -> None:
    coarse = max(1, round(fine * share))
    weights = area_weights(fine, coarse)
    assert weights.shape == (coarse, fine)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(0), coarse / fine, rtol=1e-5)


def test_area_weights_by_hand() -> None:
    np.testing.assert_allclose(area_weights(5, 2), [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], rtol=1e-6)


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
    fitted = torch.arange(48).remainder(32).view(6, 8)
    heard: list[None] = []
    label_with_fit(network, photo, fitted, torch.float32, 16, lambda: heard.append(None))
    # Once when the network looks, at 15 x 20, and once when the photo guides, at 24 x 32.
    assert len(heard) == 1 * 2 + 2 * 2

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        label_with_fit(network, photo, fitted, torch.float32, 16, stop)


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


# Features beside those of the network


def made_maps() -> list[torch.Tensor]:
    """Two maps of a photo's features, neither of which divides its size."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(shape, generator=generator) for shape in ((4, 5, 7), (3, 2, 3))]


def network_beside(maps: list[torch.Tensor], blocks: int) -> SegmentationNetwork:
    network = SegmentationNetwork(blocks, 8, 8, beside=sum(len(one) for one in maps))
    network.initialise(0)
    network.maps_beside = maps
    return network


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("tile_size", [8, 13])
def test_tiles_with_features_beside_agree_with_the_whole(
    large: NDArray[np.uint8], blocks: int, mirrored: bool, tile_size: int
) -> None:
    network = network_beside(made_maps() if blocks else made_maps()[-1:], blocks)
    x = to_input(large, CPU)
    network.train()(x)  # its statistics are those of the photo

    def labelled(size: int) -> NDArray[np.int16]:
        return label_image(network, large, torch.float32, size, mirrored=mirrored)

    whole = labelled(10_000)
    if not (mirrored and blocks):
        expected = network.eval()(x).argmax(1)[0].numpy()
        assert (whole == expected).mean() >= 0.999
    assert len(np.unique(whole)) > 3
    assert (labelled(tile_size) == whole).mean() >= 0.999


@pytest.mark.parametrize("size", [(37, 51), (5, 7), (4, 3), (1, 40)], ids=str)
@pytest.mark.parametrize("tile_size", [3, 100])
def test_features_beside_are_interpolated_as_torch_does(size: tuple[int, int], tile_size: int) -> None:
    """Tiles use weights of the house, the network as a whole torch's own."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    network = network_beside(made_maps(), 1)
    with torch.no_grad():
        network.train()(to_input(image, CPU))
        response = network.eval()(to_input(image, CPU))[0].numpy()
    labels = label_image(network, image, torch.float32, tile_size)
    chosen = np.take_along_axis(response, labels[None].astype(np.intp), 0)[0]
    np.testing.assert_allclose(chosen, response.max(0), atol=1e-4)


def test_mirrored_margins_see_the_features_of_the_border(large: NDArray[np.uint8]) -> None:
    """Where a margin shifts the tile, features stay in their places."""
    network = network_beside([torch.zeros(1, 1, 51)], 2)
    network.maps_beside[0][..., 20:] = 1
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.weight[:2, -1, 0, 0] = torch.tensor([-1.0, 1.0])
        network.classifier.bias.copy_(torch.tensor([0.5, -0.5, *[-9.0] * 6]))
    for mirrored in (False, True):
        labels = label_image(network, large, torch.float32, 8, mirrored=mirrored)
        np.testing.assert_array_equal(labels, np.broadcast_to(np.arange(51) >= 20, (37, 51)))

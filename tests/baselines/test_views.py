from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import hflip, resized_crop

from dynaseg_cli.baselines.folder.views import Crop, cropped, in_other_light, random_square
from dynaseg_cli.engine.labelling import to_input

CPU = torch.device("cpu")
CROPS = [Crop(64, 0, 0, 64, False), Crop(64, 8, 16, 40, False), Crop(64, 30, 2, 34, True)]


def some_maps(count: int, *shape: int) -> Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(0))


def sampled(maps: Tensor, crop: Crop) -> Tensor:
    """The crop of (1, C, h, w) maps by PyTorch's sampling at places."""
    lines = (torch.arange(maps.shape[axis]).add(0.5).div(maps.shape[axis]) * crop.length / crop.side for axis in (2, 3))
    down, across = (line + start / crop.side for line, start in zip(lines, (crop.top, crop.left), strict=True))
    grid = torch.stack(torch.meshgrid(across * 2 - 1, down * 2 - 1, indexing="xy"), -1)[None]
    found = functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return found.flip(3) if crop.flipped else found


@pytest.mark.parametrize("shape", [(16, 16), (10, 12), (1, 1)])
def test_crops_of_maps_are_sampled_at_their_places(shape: tuple[int, int]) -> None:
    maps = some_maps(len(CROPS), 5, *shape)
    found = cropped(maps, CROPS)
    assert found.shape == maps.shape
    for one, whole, crop in zip(found, maps, CROPS, strict=True):
        torch.testing.assert_close(one, sampled(whole[None], crop)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flipped", [False, True])
def test_crop_between_pixels_of_a_map_is_torchvisions(flipped: bool) -> None:
    """Away from the border of the part, beyond which torchvision sees nothing."""
    maps = some_maps(1, 3, 16, 16)
    crop = Crop(64, 8, 16, 32, flipped)
    expected = resized_crop(maps, 2, 4, 8, 8, [16, 16], antialias=False)
    found, expected = cropped(maps, [crop]), hflip(expected) if flipped else expected
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_whole_square_stays_as_it_is() -> None:
    maps = some_maps(2, 3, 8, 8)
    torch.testing.assert_close(cropped(maps[:1], CROPS[:1]), maps[:1])
    flipping = Crop(64, 0, 0, 64, True)
    torch.testing.assert_close(cropped(maps, [CROPS[0], flipping]), torch.stack([maps[0], maps[1].flip(2)]))


def ramp(side: int) -> NDArray[np.uint8]:
    """Red grows to the right, green downwards, blue along the diagonal."""
    rows, columns = np.mgrid[:side, :side] * 255 / (side - 1)
    return np.stack([columns, rows, (rows + columns) / 2], 2).round().astype(np.uint8)


@pytest.mark.parametrize("crop", CROPS)
def test_map_of_a_cropped_photo_is_the_cropped_map_of_the_photo(crop: Crop) -> None:
    """The network is an average of 4 x 4 pixels. Beyond the border of either, interpolation repeats the last pixel."""
    square = ramp(64)

    def see(photo: NDArray[np.uint8]) -> Tensor:
        return functional.avg_pool2d(to_input(photo, CPU), 4)

    of_cropped, of_whole = see(crop.of_photo(square, 64)), cropped(see(square), [crop])
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(of_cropped[inside], of_whole[inside], rtol=0, atol=1.5 / 255)
    assert (of_cropped - see(square)).abs().max() > 0.2 or crop == CROPS[0]


def test_gradient_flows_through_a_crop() -> None:
    maps = some_maps(2, 3, 6, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: cropped(given, CROPS[1:]), maps)


def test_parts_of_photos_are_cut_flipped_and_enlarged() -> None:
    square = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    part = square[1:5, 3:7]
    np.testing.assert_array_equal(Crop(8, 1, 3, 4, False).of_photo(square, 4), part)
    np.testing.assert_array_equal(Crop(8, 1, 3, 4, True).of_photo(square, 4), part[:, ::-1])
    assert Crop(8, 1, 3, 4, False).of_photo(square, 20).shape == (20, 20, 3)


@pytest.mark.parametrize("side", [1, 2, 50])
def test_random_crops_lie_within_the_square_and_keep_half_of_its_side(side: int) -> None:
    random = np.random.default_rng(0)
    crops = [Crop.drawn(side, random) for _ in range(300)]
    for crop in crops:
        assert crop.side == side
        assert side / 2 - 0.5 <= crop.length <= side
        assert 0 <= crop.top <= side - crop.length
        assert 0 <= crop.left <= side - crop.length
    assert {crop.flipped for crop in crops} == {False, True}
    if side == 50:
        assert {crop.length for crop in crops} >= set(range(26, 50))
        assert max(crop.top for crop in crops) > 20
        assert max(crop.left for crop in crops) > 20


@pytest.mark.parametrize("shape", [(10, 4), (4, 10), (6, 6), (1, 5)])
def test_random_squares_lie_anywhere_along_the_longer_side(shape: tuple[int, int]) -> None:
    photo = np.arange(shape[0] * shape[1] * 3, dtype=np.uint8).reshape(*shape, 3)
    random, side = np.random.default_rng(0), min(shape)
    corners = set()
    for _ in range(100):
        square = random_square(photo, random)
        assert square.shape == (side, side, 3)
        corners.add(tuple(square[0, 0].tolist()))
    assert len(corners) == max(shape) - side + 1


@pytest.mark.parametrize("shape", [(24, 32), (1, 1), (1, 9)])
def test_other_light_keeps_the_range_and_follows_the_seed(shape: tuple[int, int]) -> None:
    image = to_input(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8), CPU)[0]
    original = image.clone()
    for seed in range(20):
        changed = in_other_light(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == torch.float32
        assert changed.min() >= 0
        assert changed.max() <= 1 + 1e-6
        assert torch.equal(in_other_light(image, np.random.default_rng(seed)), changed)
    assert torch.equal(image, original), "the photo itself stays"


def test_each_change_of_the_light_happens_sometimes() -> None:
    """Grey makes the channels equal, blur removes the noise of a flat photo; neither is in all views."""
    noise = np.random.default_rng(0).normal(0, 20, (32, 32, 1))
    image = to_input((np.array([120.0, 90, 150]) + noise).clip(0, 255).astype(np.uint8), CPU)[0]
    views = [in_other_light(image, np.random.default_rng(seed)) for seed in range(200)]
    grey = np.mean([bool((view.amax(0) - view.amin(0)).max() < 1e-3) for view in views])
    smooth = np.mean([bool(view[0].diff(dim=0).std() < 0.6 * image[0].diff(dim=0).std()) for view in views])
    assert 0.1 < grey < 0.3
    assert 0.25 < smooth < 0.6
    brightness = np.array([float(view.mean() / image.mean()) for view in views])
    assert brightness.min() < 0.8
    assert brightness.max() > 1.2

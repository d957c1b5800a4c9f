from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynaseg_cli.config import SegmentConfig
from dynaseg_cli.engine.backbones import MOST_SIZE, SIZE, Backbone, resnet_backbone, with_folded_norms
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.timm_trunk import TimmTrunk
from dynaseg_cli.method.backbone import Stage
from dynaseg_cli.method.resnet import ResNet18, ResNetFpnNetwork

CPU = torch.device("cpu")
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)


class MadeTrunk(nn.Module):
    """A trunk of two convolutions, with what can stand behind a convolution."""

    stages = (Stage("first", 2, 4), Stage("second", 4, 6))

    def __init__(self, between: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), *between)
        self.second = nn.Conv2d(4, 6, 2, stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.first(image)
        return [first, self.second(first)]


class SharedTrunk(MadeTrunk):
    """One convolution looks twice, and a normalisation follows the first time alone: it cannot be a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.first(self.norm(self.first(image)))]


def used(trunk: Any, seed: int = 3) -> Any:
    """With statistics, scales and shifts as a training leaves them, none of which is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for norm in norms_of(trunk):
        for name, value in (*norm.named_parameters(), *norm.named_buffers()):
            if value.is_floating_point():
                lowest = 0.5 if name in ("weight", "running_var") else -0.5
                value.data.copy_(torch.rand(value.shape, generator=generator) + lowest)
    return trunk.eval()


def norms_of(trunk: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]


def example(height: int = 96, width: int = 128) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(5))


def assert_alike(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


# Normalisations that become a part of convolutions


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (ResNet18, 0),
        (lambda: TimmTrunk("test_resnet", None), 0),
        (lambda: TimmTrunk("mobilenetv3_small_050", None), 0),
        # Of the block after the last map, which is not looked at.
        (lambda: TimmTrunk("test_efficientnet", None), 1),
    ],
    ids=["ResNet-18", "resnet", "mobilenet", "efficientnet"],
)
def test_folding_changes_nothing_but_the_time(make: Any, left: int) -> None:
    trunk = used(make())
    before = copy.deepcopy(trunk.state_dict())
    with torch.inference_mode():
        expected = trunk(example())
        folded: Any = with_folded_norms(trunk, trunk.stages[-1].stride)
        assert_alike(folded(example()), expected)
    assert folded is not trunk
    assert len(norms_of(trunk)) > 10
    assert len(norms_of(folded)) == left
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


@pytest.mark.parametrize(
    ("between", "folds"),
    [
        ([nn.BatchNorm2d(4), nn.ReLU()], True),
        ([nn.BatchNorm2d(4, affine=True, eps=0.5)], True),
        ([], False),
        ([nn.GroupNorm(2, 4)], False),
        ([nn.ReLU(), nn.BatchNorm2d(4)], False),
        ([nn.BatchNorm2d(4, track_running_stats=False)], False),
    ],
    ids=["norm", "large epsilon", "none", "another norm", "after an activation", "without statistics"],
)
def test_only_what_follows_a_convolution_is_folded(between: list[nn.Module], folds: bool) -> None:
    trunk = MadeTrunk(between)
    if all(norm.track_running_stats for norm in norms_of(trunk)):
        used(trunk)
    folded: Any = with_folded_norms(trunk.eval(), 4)
    assert (folded is not trunk) == folds
    if folds:
        assert norms_of(folded) == []
        with torch.inference_mode():
            assert_alike(folded(example()), trunk(example()))


def test_network_that_would_not_be_the_same_stays_itself() -> None:
    trunk = used(SharedTrunk())
    assert with_folded_norms(trunk, 1) is trunk


def test_weights_are_those_before_the_folding() -> None:
    """They go into model files, which know no folding."""
    trunk = used(TimmTrunk("test_resnet", None))
    before = copy.deepcopy(trunk.state_dict())
    backbone = Backbone(trunk, MEAN, STD)
    assert norms_of(backbone.trunk) == []
    assert backbone.weights.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in backbone.weights.items())
    assert not [parameter for parameter in backbone.parameters() if parameter.requires_grad]


# What it sees


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_vectors_have_unit_length_and_maps_the_stride_of_their_stages(name: str) -> None:
    trunk = used(TimmTrunk(name, None))
    backbone = Backbone(trunk, MEAN, STD)
    maps = backbone(example(64, 96))
    assert [stage.name for stage in backbone.stages] == [stage.name for stage in trunk.stages]
    for stage, found in zip(backbone.stages, maps, strict=True):
        assert found.shape == (stage.channels, 64 // stage.stride, 96 // stage.stride)
        torch.testing.assert_close(found.norm(dim=0), torch.ones(found.shape[1:]))


def test_colours_are_scaled_by_mean_and_deviation() -> None:
    trunk = MadeTrunk()
    image = example(8, 12)
    scaled = torch.stack([(image[0, channel] - MEAN[channel]) / STD[channel] for channel in range(3)])[None]
    with torch.inference_mode():
        expected = [nn.functional.normalize(found[0], dim=0) for found in trunk(scaled)]
        assert_alike(Backbone(trunk, MEAN, STD)(image), expected)


def test_last_two_maps_are_taken_of_those_that_there_are() -> None:
    network = ResNetFpnNetwork(1, 2)
    network.initialise(0)
    backbone = resnet_backbone(network)
    assert [stage.name for stage in backbone.stages] == ["layer3", "layer4"]
    assert [found.shape for found in backbone(example(64, 96))] == [(256, 4, 6), (512, 2, 3)]


def test_on_one_image_both_maps_count_and_over_a_folder_the_last_one() -> None:
    backbone = Backbone(MadeTrunk(), MEAN, STD)
    assert (backbone.channels("image"), backbone.channels("folder")) == (4 + 6, 6)


# Size


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        ((32, 64), 32, (64, 96)),  # 1.5 and 3 times the stride; half of it is rounded to the even number
        ((321, 481), 32, (480, 736)),
        ((481, 321), 32, (736, 480)),
        ((480, 640), 32, (704, 960)),
        ((3000, 4000), 32, (704, 960)),
        ((1, 1), 32, (32, 32)),
        ((1, 5), 32, (32, 32)),
        ((2, 9000), 32, (32, 960)),
        ((9000, 2), 32, (960, 32)),
        ((60, 80), 16, (96, 128)),
    ],
    ids=str,
)
def test_photo_is_looked_at_in_multiples_of_the_stride(
    size: tuple[int, int], stride: int, expected: tuple[int, int]
) -> None:
    backbone = Backbone(MadeTrunk(), MEAN, STD)
    backbone.stages = (Stage("first", stride // 2, 4), Stage("second", stride, 6))
    image = np.zeros((*size, 3), dtype=np.uint8)
    seen = backbone.resized(image)
    assert (seen.shape, seen.dtype) == ((*expected, 3), np.uint8)


@pytest.mark.parametrize("stride", [14, 32])
@pytest.mark.parametrize("most", [MOST_SIZE, 100, 60, 8])
@pytest.mark.parametrize("size", [(1, 1), (20, 3000), (333, 517), (4000, 4000)], ids=str)
def test_limit_holds_unless_it_is_below_the_stride(size: tuple[int, int], most: int, stride: int) -> None:
    backbone = Backbone(MadeTrunk(), MEAN, STD)
    backbone.stages = (Stage("last", stride, 6),)
    height, width, _ = backbone.resized(np.zeros((*size, 3), dtype=np.uint8), most).shape
    assert height % stride == width % stride == 0
    assert min(height, width) >= stride
    assert max(height, width) <= max(most, stride)


def test_photo_is_resized_smoothly(photo: NDArray[np.uint8]) -> None:
    """It is the photo: shrunk again, hardly anything is lost."""
    backbone = Backbone(MadeTrunk(), MEAN, STD)
    seen = backbone.resized(photo)
    assert seen.shape == (36, 48, 3)
    assert abs(seen.mean((0, 1)) - photo.mean((0, 1))).max() < 1
    rows, columns = (np.rint((np.arange(side) + 0.5) * SIZE - 0.5).astype(int) for side in photo.shape[:2])
    assert np.corrcoef(seen[rows][:, columns].reshape(-1), photo.reshape(-1))[0, 1] > 0.97


# The ResNet's


def test_backbone_of_the_resnet_is_not_trained_with_it(photo: NDArray[np.uint8]) -> None:
    network = ResNetFpnNetwork(4, 4)
    network.initialise(1)
    backbone = resnet_backbone(network)
    before, expected = copy.deepcopy(backbone.weights), backbone(example(64, 96))
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert any(name.startswith("trunk.") for name in trained), "the network's own trunk goes on learning"
    config = SegmentConfig(backbone="resnet18-fpn", weights="random", iterations=3)
    Fitter(network, config, torch.float32).fit([to_input(photo, CPU)], 1)
    assert not torch.equal(network.trunk.state_dict()["layer4.1.conv2.weight"], before["layer4.1.conv2.weight"])
    assert all(torch.equal(value, before[name]) for name, value in backbone.weights.items())
    for one, other in zip(backbone(example(64, 96)), expected, strict=True):
        assert torch.equal(one, other)


def test_backbone_of_the_resnet_sees_what_its_trunk_does() -> None:
    network = ResNetFpnNetwork(4, 4)
    network.initialise(1)
    used(network.trunk)
    image = example(64, 96)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        maps = network.trunk((image - mean) / std)[-2:]
    assert_alike(resnet_backbone(network)(image), [nn.functional.normalize(found[0], dim=0) for found in maps])

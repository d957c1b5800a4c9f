from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from folder_photos import CPU, TINY, TINY_TIMM, PhotosInMemory, fitted, some_scenes
from torch import nn
from torch.nn import functional

from dynaseg_cli.baselines.folder import embedding as embedding_module
from dynaseg_cli.baselines.folder.embedding import LONGEST, Embedding
from dynaseg_cli.baselines.folder.settings import PicieConfig
from dynaseg_cli.engine import backbones
from dynaseg_cli.engine.networks import frozen_backbone, new_network

RESNET: dict[str, Any] = {"backbone": "resnet18-fpn", "weights": "random"}
EACH = pytest.mark.parametrize("backbone", [{}, RESNET, TINY_TIMM], ids=["cnn", "resnet18-fpn", "timm"])


def some_embedding(**settings: Any) -> Embedding:
    return Embedding(PicieConfig(**TINY | settings))


def some_images(count: int, side: int = 64) -> torch.Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(0))


@EACH
@pytest.mark.parametrize("count", [1, 3])
def test_vectors_of_the_smallest_squares(backbone: dict[str, Any], count: int) -> None:
    """Even of one: every BatchNorm has more than one value."""
    embedding = some_embedding(**backbone).train()
    vectors = embedding(some_images(count, embedding.size))
    side = embedding.size // embedding.stride
    assert vectors.shape == (count, 4, side, side)


@EACH
def test_head_is_all_that_is_trained(backbone: dict[str, Any]) -> None:
    embedding = some_embedding(**backbone).train()
    embedding(some_images(2)).square().sum().backward()
    head = dict(embedding.head.named_parameters())
    assert head
    assert all(parameter.grad is not None for parameter in head.values())
    others = set(embedding.parameters()) - set(head.values())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in others)


def test_frozen_maps_stand_side_by_side_at_the_size_of_the_finer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_module, "compute_dtype", lambda device, precision: torch.float32)
    embedding, images = some_embedding(**TINY_TIMM), some_images(2)
    backbone = frozen_backbone(PicieConfig(**TINY | TINY_TIMM).network())
    assert backbone is not None
    for one, image in zip(embedding.see(images), images, strict=True):
        fine, coarse = backbone(image[None])
        enlarged = functional.interpolate(coarse[None], fine.shape[1:], mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(one, torch.cat([fine, enlarged]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", [{}, RESNET], ids=["cnn", "resnet18-fpn"])
def test_other_networks_give_their_features(backbone: dict[str, Any]) -> None:
    embedding, network = some_embedding(**backbone), new_network(PicieConfig(**TINY | backbone).network(4))
    images = some_images(2)
    torch.testing.assert_close(embedding.train()(images), network.train().features(images))


@pytest.mark.parametrize("method", ["deep-clustering", "iic", "picie"])
def test_frozen_backbone_keeps_its_statistics(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its BatchNorms are not parts of its convolutions."""
    monkeypatch.setattr(backbones, "with_folded_norms", lambda trunk, stride: trunk)
    seen: list[bool] = []
    original = nn.BatchNorm2d.forward

    def forward(norm: nn.BatchNorm2d, given: torch.Tensor) -> torch.Tensor:
        seen.append(norm.training and norm.num_features > 4)
        return original(norm, given)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", forward)
    made: Any = fitted(method, PhotosInMemory(some_scenes(2)), **TINY_TIMM)
    norms = [norm for norm in made._embedding.backbone.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == 0 for norm in norms)
    assert seen
    assert not any(seen)


@EACH
def test_trained_statistics_are_of_many_batches(backbone: dict[str, Any]) -> None:
    norms = [norm for norm in some_embedding(**backbone).head.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert all(norm.momentum == 0.1 for norm in norms)
    assert bool(norms) == (backbone != TINY_TIMM)


@pytest.mark.parametrize(
    ("backbone", "size", "expected"),
    [({}, 100, 100), (RESNET, 100, 96), (TINY_TIMM, 100, 96), ({}, 0, 128), (RESNET, 0, 320), (TINY_TIMM, 0, 320)],
)
def test_maps_cover_the_squares_that_are_seen(backbone: dict[str, Any], size: int, expected: int) -> None:
    assert some_embedding(**backbone, size=size).size == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((48, 48), (64, 64)),
        ((100, 150), (64, 96)),
        ((150, 100), (96, 64)),
        ((5, 7), (64, 96)),  # 89.6 is nearer to 96 than to 64
        ((10, 35), (64, 224)),
        ((10, 80), (32, 64 * LONGEST)),
        ((1, 4000), (32, 64 * LONGEST)),
    ],
)
def test_whole_photos_are_seen_at_the_size_of_squares(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert some_embedding(**TINY_TIMM).input_of(photo, CPU).shape == (1, 3, *expected)


@EACH
def test_weights_follow_the_seed_alone(backbone: dict[str, Any]) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.rand(1)
        return [value for value in some_embedding(**backbone, seed=seed).head.state_dict().values() if value.dim() > 1]

    assert all(torch.equal(one, same) for one, same in zip(weights(3), weights(3), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(weights(3), weights(4), strict=True))

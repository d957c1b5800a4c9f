from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from folder_photos import TINY_TIMM, PhotosInMemory, fitted, make, some_scenes
from torch import Tensor, nn

from dynaseg_cli.baselines.folder import iic
from dynaseg_cli.baselines.iic import joint_distributions, mutual_information

Step = tuple[Tensor, Tensor, int, int]
"""Both distributions, the displacement, and the distance of two displacements."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What each step of a fit counts."""
    given: list[Step] = []

    def recording(first: Tensor, second: Tensor, displacement: int, step: int) -> Tensor:
        given.append((first.detach(), second.detach(), displacement, step))
        return joint_distributions(first, second, displacement, step)

    monkeypatch.setattr(iic, "joint_distributions", recording)
    return given


@pytest.mark.parametrize(("displacement", "step", "reach"), [(1, 1, 1), (4, 2, 4), (3, 2, 2), (9, 2, 4)])
def test_joint_of_a_batch_counts_all_its_images(displacement: int, step: int, reach: int) -> None:
    """In maps of 5 by 6 none is displaced by more than 4."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn((3, 4, 5, 6), generator=generator).double().softmax(1) for _ in range(2))
    found = joint_distributions(first, second, displacement, step)
    assert found.shape == (2 * reach // step + 1, 2 * reach // step + 1, 4, 4)
    for down, across in np.ndindex(*found.shape[:2]):
        joint = np.zeros((4, 4))
        for one, other in zip(first.numpy(), second.numpy(), strict=True):
            for y, x in np.ndindex(5, 6):
                row, column = y + down * step - reach, x + across * step - reach
                if 0 <= row < 5 and 0 <= column < 6:
                    joint += np.outer(one[:, row, column], other[:, y, x])
        joint = (joint + joint.T) / (2 * joint.sum())
        np.testing.assert_allclose(found[down, across].numpy(), joint, atol=1e-12)


def test_maps_of_flipped_copies_are_flipped_back(steps: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of copies in the same light, by a network that looks at single pixels, the maps then are equal."""
    monkeypatch.setattr(iic, "JITTER", 0.0)
    made: Any = make("iic", batch=4)
    made._embedding.head = nn.Conv2d(3, 4, kernel_size=1)
    flipped = made._pairs(list(enumerate(some_scenes(4))), 0)[2]
    assert flipped.any()
    assert not flipped.all()
    assert sum(1 for _ in made.fit(PhotosInMemory(some_scenes(4)))) == 8
    for first, second, *_ in steps:
        torch.testing.assert_close(first, second)
        assert not torch.allclose(first, first.flip(3))


def test_copies_have_another_light() -> None:
    made: Any = make("iic")
    images, copies, flipped = made._pairs(list(enumerate(some_scenes(6))), 0)
    assert images.shape == copies.shape == (6, 3, 64, 64)
    for image, copy, is_flipped in zip(images, copies, flipped, strict=True):
        assert (image - (copy.flip(2) if is_flipped else copy)).abs().mean() > 0.01
    again = made._pairs(list(enumerate(some_scenes(6))), 1)
    assert not torch.equal(again[1], copies)


def test_heads_take_turns(steps: list[Step]) -> None:
    made: Any = make("iic", epochs=2, overclusters=3)
    initial = [[value.clone() for value in head.parameters()] for head in (made._head, made._auxiliary)]
    changed = []
    for looks, _ in enumerate(made.fit(PhotosInMemory(some_scenes(4))), 1):
        if looks % 4 == 0:
            heads = zip((made._head, made._auxiliary), initial, strict=True)
            changed.append([not torch.equal(head[1].weight, values[2]) for head, values in heads])
    assert [first.shape[1] for first, *_ in steps] == [9, 9, 3, 3] * 2
    assert changed[0] == [False, True], "the auxiliary one comes first"
    assert changed[1] == [True, True]


@pytest.mark.parametrize(
    ("backbone", "displacement", "expected"),
    [({}, 10, (10, 10)), (TINY_TIMM, 40, (2, 2)), (TINY_TIMM, 4, (0, 1))],
    ids=["cnn", "timm", "none"],
)
def test_displacement_is_in_pixels_of_the_photo(
    steps: list[Step], backbone: dict[str, Any], displacement: int, expected: tuple[int, int]
) -> None:
    """The finer map of timm's smallest network has one pixel for 16."""
    fitted("iic", PhotosInMemory(some_scenes(2)), **backbone, displacement=displacement)
    assert {step[2:] for step in steps} == {expected}


def test_first_head_labels() -> None:
    made: Any = fitted("iic", PhotosInMemory(some_scenes(2)), overclusters=4)
    (photo,) = some_scenes(1, 64, 64)
    found = made.label(photo)
    with torch.no_grad():
        vectors = made._embedding.eval()(made._embedding.input_of(photo, made.device))
        norm, linear = made._head.eval()
        normalised = (vectors - norm.running_mean[:, None, None]) / (norm.running_var + norm.eps)[:, None, None] ** 0.5
        normalised = normalised * norm.weight[:, None, None] + norm.bias[:, None, None]
        expected = torch.einsum("kc,bchw->bkhw", linear.weight[..., 0, 0], normalised) + linear.bias[:, None, None]
    assert (found == expected.argmax(1)[0].numpy()).mean() > 0.999


@pytest.mark.parametrize("backbone", [{}, TINY_TIMM], ids=["cnn", "timm"])
def test_fit_gains_information(steps: list[Step], backbone: dict[str, Any]) -> None:
    """Although distributions are about equal at first, where its gradient is nearly 0."""
    photos = PhotosInMemory(some_scenes(8, 64, 64))
    fitted("iic", photos, **backbone, epochs=6, batch=4, features=16, learning_rate=0.01)
    gained = [mutual_information(joint_distributions(*step)).mean().item() for step in steps if step[0].shape[1] == 3]
    assert np.mean(gained[:2]) < 0.1
    assert np.mean(gained[-2:]) > 0.12

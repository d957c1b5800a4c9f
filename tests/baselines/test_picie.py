from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from folder_photos import TINY_TIMM, PhotosInMemory, fitted, make, some_scenes
from torch import Tensor
from torch.nn import functional

from dynaseg_cli.baselines.folder import picie
from dynaseg_cli.baselines.folder.picie import Picie, Prototypes, clustering_loss, picie_loss, vectors_of
from dynaseg_cli.baselines.folder.views import Crop

K, C = 3, 4


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_vectors(seed: int, height: int = 3, width: int = 2) -> Tensor:
    return functional.normalize(torch.randn((2, C, height, width), generator=random(seed), dtype=torch.float64), dim=1)


def some_labels(seed: int, height: int = 3, width: int = 2) -> Tensor:
    return torch.randint(K, (2, height, width), generator=random(seed))


def some_prototypes(seed: int) -> Prototypes:
    centres = torch.randn((K, C), generator=random(seed), dtype=torch.float64)
    return Prototypes(centres, torch.rand(K, generator=random(seed + 1), dtype=torch.float64))


def loss_of_places(vectors: Tensor, labels: Tensor, prototypes: Prototypes) -> float:
    """Place by place, by the distances d = 1 - cosine."""
    total = weights = 0.0
    for image in range(len(labels)):
        for place in np.ndindex(*labels.shape[1:]):
            z, label = vectors[(image, slice(None), *place)], int(labels[(image, *place)])
            distance = [1 - float(z @ mu) / math.sqrt(float(mu @ mu)) for mu in prototypes.centres]
            likeness = [math.exp(-one) for one in distance]
            weight = float(prototypes.weight[label])
            total -= weight * math.log(likeness[label] / sum(likeness))
            weights += weight
    return total / weights


def test_clustering_loss_is_worked_by_hand() -> None:
    """Two centres at right angles; z lies at one of them, then between both, and weighs 3 and 1."""
    z = torch.tensor([[1.0, 0.0], [math.sqrt(0.5), math.sqrt(0.5)]]).T[None, :, None]
    prototypes = Prototypes(torch.tensor([[2.0, 0.0], [0.0, 0.5]]), torch.tensor([0.3, 0.1]))
    expected = (3 * math.log(1 + math.exp(-1)) + math.log(2)) / 4
    assert clustering_loss(z, torch.tensor([[[0, 1]]]), prototypes).item() == pytest.approx(expected, abs=1e-6)


def test_clustering_loss_equals_a_loop_over_places() -> None:
    vectors, labels, prototypes = some_vectors(0), some_labels(1), some_prototypes(2)
    found = clustering_loss(vectors, labels, prototypes).item()
    assert found == pytest.approx(loss_of_places(vectors, labels, prototypes), abs=1e-12)
    longer = Prototypes(prototypes.centres * torch.tensor([[0.1], [2], [30]]), prototypes.weight)
    assert clustering_loss(vectors, labels, longer).item() == pytest.approx(found, abs=1e-12), "angles alone count"


def test_each_view_predicts_both() -> None:
    vectors, labels = [some_vectors(0), some_vectors(1)], [some_labels(2), some_labels(3)]
    prototypes = [some_prototypes(4), some_prototypes(6)]
    within = sum(loss_of_places(*view) for view in zip(vectors, labels, prototypes, strict=True)) / 2
    across = sum(loss_of_places(*view) for view in zip(vectors[::-1], labels, prototypes, strict=True)) / 2
    assert within != pytest.approx(across, abs=1e-3)
    found = picie_loss(vectors, labels, prototypes).item()
    assert found == pytest.approx((within + across) / 2, abs=1e-12)
    swapped = picie_loss(vectors[::-1], labels[::-1], prototypes[::-1]).item()
    assert swapped == pytest.approx(found, abs=1e-12), "neither view comes first"


def test_views_are_unit_vectors_at_the_same_places() -> None:
    whole, flip = torch.randn((2, C, 6, 6), generator=random(0)), Crop(24, 0, 0, 24, True)
    first, second = vectors_of(3 * whole.flip(3), whole, [flip, flip])
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(second.norm(dim=1), torch.ones(2, 6, 6))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each step of a fit is given: vectors, labels and prototypes."""
    given: list[Any] = []

    def recording(*arguments: Any) -> Tensor:
        given.append(arguments)
        return picie_loss(*arguments)

    monkeypatch.setattr(picie, "picie_loss", recording)
    return given


def test_labels_are_those_of_the_network_before_the_epoch(steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of a frozen backbone is a linear map: at the first step of an epoch, it is the one before."""
    heads: list[torch.nn.Module] = []
    seen: list[tuple[Any, Tensor]] = []
    find, views = Picie._find_prototypes, Picie._views

    def finding(method: Picie, *arguments: Any) -> Iterator[None]:
        heads.append(copy.deepcopy(method._embedding.head))
        return find(method, *arguments)

    def viewing(method: Picie, *arguments: Any) -> Any:
        found = views(method, *arguments)
        seen.append((found, torch.stack([method._embedding.see(one) for one in (found.cropped, found.whole)])))
        return found

    monkeypatch.setattr(Picie, "_find_prototypes", finding)
    monkeypatch.setattr(Picie, "_views", viewing)
    fitted("picie", PhotosInMemory(some_scenes(4)), **TINY_TIMM, epochs=2, learning_rate=0.3)
    assert (len(heads), len(steps), len(seen)) == (2, 4, 8)
    other = 0
    for number, (vectors, labels, prototypes) in enumerate(steps):
        epoch = number // 2
        view, maps = seen[4 * epoch + 2 + number % 2]
        before = vectors_of(*(heads[epoch](one) for one in maps), view.crops)
        for was, now, own, found in zip(before, vectors, prototypes, labels, strict=True):
            distance = torch.cdist(was.detach().flatten(2).transpose(1, 2), own.centres.expand(2, -1, -1))
            assert torch.equal(found.flatten(1), distance.argmin(2))
            later = torch.cdist(now.detach().flatten(2).transpose(1, 2), own.centres.expand(2, -1, -1)).argmin(2)
            other += int((later != distance.argmin(2)).sum())
            assert number % 2 or torch.equal(was, now)
    assert other > 0, "the network went on meanwhile"


def test_each_view_has_clusters_of_its_own_in_each_epoch(steps: list[Any]) -> None:
    fitted("picie", PhotosInMemory(some_scenes(4)), epochs=2)
    assert len(steps) == 4
    assert all(one is other for step in (0, 2) for one, other in zip(steps[step][2], steps[step + 1][2], strict=True))
    prototypes = [*steps[0][2], *steps[2][2]]
    for index, one in enumerate(prototypes):
        assert one.centres.shape == (3, 4)
        assert one.weight.sum().item() == pytest.approx(1, abs=1e-6)
        assert one.weight.min() > 0
        assert not any(torch.equal(one.centres, other.centres) for other in prototypes[:index])


def test_views_are_the_same_twice_in_an_epoch() -> None:
    made: Any = make("picie")
    batch = list(enumerate(some_scenes(2)))
    first, again, later = made._views(batch, 1), made._views(batch[::-1], 1), made._views(batch, 2)
    assert torch.equal(first.cropped, again.cropped.flip(0))
    assert torch.equal(first.whole, again.whole.flip(0))
    assert first.crops == again.crops[::-1]
    assert first.crops != later.crops
    assert not torch.equal(first.whole, later.whole)


def test_views_agree_more_after_a_fit(steps: list[Any]) -> None:
    fitted("picie", PhotosInMemory(some_scenes(8)), epochs=4, learning_rate=0.01)
    likeness = [float((first * second).detach().sum(1).mean()) for (first, second), _, _ in steps]
    assert np.mean(likeness[-4:]) > np.mean(likeness[:4])

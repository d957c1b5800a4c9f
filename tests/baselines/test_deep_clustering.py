from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from folder_photos import PhotosInMemory, fitted, make, some_scenes
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional

from dynaseg_cli.baselines.folder import method
from dynaseg_cli.baselines.folder.deep_clustering import DeepClustering, cross_entropy, nearest

K, RATE, SEED, EPOCHS = 3, 0.01, 5, 2


def test_cross_entropy_equals_a_loop_over_places() -> None:
    generator = torch.Generator().manual_seed(0)
    response = torch.randn((2, K, 3, 4), generator=generator, dtype=torch.float64)
    labels, weight = torch.randint(K, (2, 3, 4), generator=generator), torch.tensor([0.5, 0.2, 0.3]).double()
    total = weights = 0.0
    for image, row, column in np.ndindex(2, 3, 4):
        values, label = response[image, :, row, column].exp(), labels[image, row, column]
        total -= float(weight[label] * (values[label] / values.sum()).log())
        weights += float(weight[label])
    assert cross_entropy(response, labels, weight).item() == pytest.approx(total / weights, abs=1e-12)


def test_cross_entropy_is_worked_by_hand() -> None:
    """Labels 0 and 1 of weights 3 and 1, with probabilities 1/2 and 1/4."""
    response = torch.tensor([[0.5, 0.75], [0.5, 0.25]]).log()[None, :, None]
    found = cross_entropy(response, torch.tensor([[[0, 1]]]), torch.tensor([3.0, 1.0]))
    assert found.item() == pytest.approx((3 * np.log(2) + np.log(4)) / 4, abs=1e-6)


def test_nearest_is_the_least_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, centres = torch.randn((2, 4, 3, 5), generator=generator), torch.randn((6, 4), generator=generator)
    expected = torch.cdist(vectors.flatten(2).transpose(1, 2), centres.expand(2, -1, -1)).argmin(2)
    assert torch.equal(nearest(vectors, centres).flatten(1), expected)


def places(network: nn.Module, images: Tensor) -> Tensor:
    """(B h w, C) unit vectors."""
    return functional.normalize(network(images).movedim(1, -1).flatten(0, -2), dim=1)


def clustered(vectors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Centres, and the shares of the places in their clusters."""
    means = KMeans(K, n_init=1, max_iter=50, random_state=SEED).fit(torch.cat(vectors).numpy())
    counts = np.bincount(means.labels_, minlength=K)
    return torch.from_numpy(means.cluster_centers_), torch.tensor(counts / counts.sum()).float()


def order(number: int, photos: int) -> list[int]:
    found: list[int] = np.random.default_rng((SEED, number)).permutation(photos).tolist()
    return found


def test_epochs_equal_a_plain_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    """By all places of two photos, in batches of one."""
    monkeypatch.setattr(method, "PLACES", 10**6)
    photos = some_scenes(2)
    settings = {"clusters": K, "learning_rate": RATE, "seed": SEED, "epochs": EPOCHS, "batch": 1}
    views = make("deep-clustering", **settings)
    assert isinstance(views, DeepClustering)
    network: Any = copy.deepcopy(views._embedding.head)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for epoch in range(EPOCHS):
        seen = [views._views([(index, photos[index])], epoch) for index in range(2)]
        before = copy.deepcopy(network).eval()
        with torch.no_grad():
            centres, weight = clustered([places(before, seen[index]) for index in order(2 * epoch, 2)])
            labels = [torch.cdist(places(before, one), centres).argmin(1) for one in seen]
        generator = torch.Generator().manual_seed(SEED + epoch)
        linear = torch.empty(K, 4).normal_(0, 0.01, generator=generator).requires_grad_()
        bias = torch.zeros(K, requires_grad=True)
        of_classifier = torch.optim.Adam([linear, bias], lr=RATE)
        network.train()
        for index in order(2 * epoch + 1, 2):
            chances = (places(network, seen[index]) @ linear.T + bias).log_softmax(1)
            own = weight[labels[index]]
            loss = -(own * chances[torch.arange(len(own)), labels[index]]).sum() / own.sum()
            for each in (optimiser, of_classifier):
                each.zero_grad()
            loss.backward()
            for each in (optimiser, of_classifier):
                each.step()
    made = fitted("deep-clustering", PhotosInMemory(photos), **settings)
    assert isinstance(made, DeepClustering)
    for name, value in made._embedding.head.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-3, atol=1e-4)
    network.eval()
    with torch.no_grad():
        whole = [made._embedding.input_of(photo, made.device) for photo in photos]
        centres, _ = clustered([places(network, whole[index]) for index in order(2 * EPOCHS, 2)])
    torch.testing.assert_close(made._centres, centres, rtol=1e-2, atol=1e-3)


def test_classifier_is_a_new_one_in_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[nn.Conv2d, Tensor]] = []
    new = DeepClustering._new_classifier

    def recording(own: DeepClustering, labels: int, epoch: int) -> nn.Conv2d:
        classifier = new(own, labels, epoch)
        made.append((classifier, classifier.weight.detach().clone()))
        return classifier

    monkeypatch.setattr(DeepClustering, "_new_classifier", recording)
    fitted("deep-clustering", PhotosInMemory(some_scenes(2)), epochs=3)
    assert len(made) == 3
    for index, (classifier, initial) in enumerate(made):
        assert initial.abs().max() < 0.05
        assert not torch.equal(classifier.weight, initial), "it is trained"
        assert not any(torch.equal(initial, other) for _, other in made[:index])


def test_views_are_the_same_twice_in_an_epoch() -> None:
    made: Any = make("deep-clustering")
    batch = list(enumerate(some_scenes(2)))
    first = made._views(batch, 1)
    assert torch.equal(first, made._views(batch[::-1], 1).flip(0))
    assert not torch.equal(first, made._views(batch, 2))

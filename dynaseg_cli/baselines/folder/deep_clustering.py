"""Modified Deep Clustering: the features' own clusters are the labels that the features are then trained to predict."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...engine.labelling import to_input
from .labels import response_to_centres
from .method import Photo, Photos, TrainedMethod, descend, in_batches, some_places
from .settings import DeepClusteringConfig
from .streaming_kmeans import StreamingKMeans
from .views import Crop, in_other_light, random_square

SPREAD = 0.01
"""Standard deviation of the initial weights of a classifier."""


class DeepClustering(TrainedMethod[DeepClusteringConfig]):
    """DeepCluster for places of photos, as the authors of PiCIE adapt it to compare with.

    Caron et al. 2018, "Deep Clustering for Unsupervised Learning of Visual Features", arXiv:1807.05520: in each epoch
    k-means finds centres of the vectors z (their eq. 2), and a new linear classifier g on top of the network f is
    trained together with it to predict the nearest centre, by cross entropy (their eq. 1). Cho et al. 2021, "PiCIE",
    arXiv:2103.17070, section 3.1: x is a place of a photo, f ends in a feature pyramid, k-means goes by mini-batches,
    and z has unit length. Photos are seen in another light, cropped and flipped, the same in both steps of an epoch.
    As in these authors' program, the cross entropy of each label is weighted by its share of the places, and after the
    last epoch k-means of whole photos gives the centres that label.
    """

    @property
    def passes(self) -> int:
        return 2 * self.config.epochs + 1

    def _fit(self, photos: Photos) -> Iterator[None]:
        config, embedding = self.config, self._embedding
        optimiser = torch.optim.Adam(embedding.head.parameters(), config.learning_rate)
        for epoch in range(config.epochs):
            means = StreamingKMeans(config.clusters, config.seed)
            embedding.eval()
            for batch in in_batches(photos.read(self._order(photos, 2 * epoch)), config.batch):
                with torch.inference_mode():
                    vectors = functional.normalize(embedding(self._views(batch, epoch)), dim=1)
                for (index, _), one in zip(batch, vectors, strict=True):
                    means.add(some_places(one, np.random.default_rng((config.seed, epoch, index))))
                    yield
            centres = torch.tensor(means.centres, device=self.device)
            weight = torch.tensor(means.shares, device=self.device)
            classifier = self._new_classifier(len(centres), epoch)
            classifier_optimiser = torch.optim.Adam(classifier.parameters(), config.learning_rate)
            before = copy.deepcopy(embedding.head).eval()
            embedding.train()
            for batch in in_batches(photos.read(self._order(photos, 2 * epoch + 1)), config.batch):
                seen = embedding.see(self._views(batch, epoch))
                with torch.no_grad():
                    labels = nearest(functional.normalize(before(seen), dim=1), centres)
                response = classifier(functional.normalize(embedding.head(seen), dim=1))
                classifier_optimiser.zero_grad()
                descend(optimiser, cross_entropy(response, labels, weight))
                classifier_optimiser.step()
                yield from (None for _ in batch)
        yield from self._cluster(photos, 2 * config.epochs)

    def _views(self, batch: list[tuple[int, Photo]], epoch: int) -> Tensor:
        """(B, 3, size, size) of photos with their indices, in other light, cropped and flipped."""
        views = []
        for index, photo in batch:
            random = np.random.default_rng((self.config.seed, epoch, index))
            square = random_square(photo, random)
            part = Crop.drawn(len(square), random).of_photo(square, self._embedding.size)
            views.append(in_other_light(to_input(part, self.device)[0], random))
        return torch.stack(views)

    def _new_classifier(self, labels: int, epoch: int) -> nn.Conv2d:
        generator = torch.Generator().manual_seed(self.config.seed + epoch)
        classifier = nn.Conv2d(self.config.features, labels, kernel_size=1)
        assert classifier.bias is not None
        nn.init.normal_(classifier.weight, std=SPREAD, generator=generator)
        nn.init.zeros_(classifier.bias)
        return classifier.to(self.device)


def cross_entropy(response: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """That of (B, k, h, w) responses and (B, h, w) labels, averaged with the (k,) weights of the labels.

    It is taken over a list of places, because PyTorch's sum over maps on CUDA differs from run to run.
    """
    return functional.cross_entropy(response.movedim(1, -1).flatten(0, -2), labels.flatten(), weight)


def nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """(B, h, w) int64, the nearest of (k, C) centres to each of (B, C, h, w) vectors."""
    return torch.stack([response_to_centres(one, centres).argmax(0) for one in vectors])

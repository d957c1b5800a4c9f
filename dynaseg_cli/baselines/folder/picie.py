"""PiCIE: two views of each photo, each with clusters of its own, and each predicts those of both."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...engine.labelling import to_input
from ...resampling import resize
from .deep_clustering import cross_entropy, nearest
from .method import Photo, Photos, TrainedMethod, descend, in_batches, some_places
from .settings import PicieConfig
from .streaming_kmeans import StreamingKMeans
from .views import Crop, cropped, in_other_light, random_square


class Prototypes(NamedTuple):
    """The clusters of one view in one epoch."""

    centres: Tensor
    """(k, C)."""
    weight: Tensor
    """(k,) share of the places that belong to each."""


class Views(NamedTuple):
    """Two views of each of some photos."""

    cropped: Tensor
    """(B, 3, size, size) in one light, already cropped."""
    whole: Tensor
    """(B, 3, size, size) in another light, all of the square: what is seen in it is then cropped."""
    crops: Sequence[Crop]


class Picie(TrainedMethod[PicieConfig]):
    """Pixel-level feature clustering using invariance and equivariance.

    Cho, Mall, Bala and Hariharan 2021, "PiCIE: Unsupervised Semantic Segmentation using Invariance and Equivariance in
    Clustering", arXiv:2103.17070, section 3. Unit vectors of the two views are z1 = f(P1(G(x))) and z2 = G(f(P2(x))),
    where P1 and P2 change the light, and G crops and flips; the paper has G after P1, which then changes more pixels.
    In each epoch k-means finds labels y and centres mu of each view. A view predicts its own labels and those of the
    other, `picie_loss`. As in the authors' program, the cross entropy of each label is weighted by its share of the
    places, and after the last epoch k-means of whole photos gives the centres that label. There is no auxiliary
    over-clustering (their PiCIE + H).
    """

    @property
    def passes(self) -> int:
        return 2 * self.config.epochs + 1

    def _fit(self, photos: Photos) -> Iterator[None]:
        config, embedding = self.config, self._embedding
        optimiser = torch.optim.Adam(embedding.head.parameters(), config.learning_rate)
        for epoch in range(config.epochs):
            prototypes: list[Prototypes] = []
            yield from self._find_prototypes(photos, epoch, prototypes)
            before = copy.deepcopy(embedding.head).eval()
            embedding.train()
            for batch in in_batches(photos.read(self._order(photos, 2 * epoch + 1)), config.batch):
                views = self._views(batch, epoch)
                seen = [embedding.see(views.cropped), embedding.see(views.whole)]
                with torch.no_grad():
                    found = vectors_of(before(seen[0]), before(seen[1]), views.crops)
                    labels = [nearest(one, own.centres) for one, own in zip(found, prototypes, strict=True)]
                vectors = vectors_of(embedding.head(seen[0]), embedding.head(seen[1]), views.crops)
                descend(optimiser, picie_loss(vectors, labels, prototypes))
                yield from (None for _ in batch)
        yield from self._cluster(photos, 2 * config.epochs)

    def _find_prototypes(self, photos: Photos, epoch: int, found: list[Prototypes]) -> Iterator[None]:
        """Add the clusters of both views by the network as it is."""
        config, embedding = self.config, self._embedding.eval()
        means = [StreamingKMeans(config.clusters, config.seed) for _ in range(2)]
        for batch in in_batches(photos.read(self._order(photos, 2 * epoch)), config.batch):
            views = self._views(batch, epoch)
            with torch.inference_mode():
                vectors = vectors_of(embedding(views.cropped), embedding(views.whole), views.crops)
            for (index, _), *pair in zip(batch, *vectors, strict=True):
                for view, one in enumerate(pair):
                    means[view].add(some_places(one, np.random.default_rng((config.seed, epoch, index, view))))
                yield
        for one in means:
            centres, weight = (torch.tensor(values, device=self.device) for values in (one.centres, one.shares))
            found.append(Prototypes(centres, weight))

    def _views(self, batch: Sequence[tuple[int, Photo]], epoch: int) -> Views:
        """The views of photos with their indices, the same each time in an epoch."""
        size, crops = self._embedding.size, []
        views: list[list[Tensor]] = [[], []]
        for index, photo in batch:
            random = np.random.default_rng((self.config.seed, epoch, index))
            square = random_square(photo, random)
            crops.append(Crop.drawn(len(square), random))
            for view, part in zip(views, (crops[-1].of_photo(square, size), resize(square, size, size)), strict=True):
                view.append(in_other_light(to_input(part, self.device)[0], random))
        return Views(torch.stack(views[0]), torch.stack(views[1]), crops)


def vectors_of(cropped_map: Tensor, whole_map: Tensor, crops: Sequence[Crop]) -> list[Tensor]:
    """The unit vectors of both views at the same places, (B, C, h, w) each: z1 and z2."""
    return [functional.normalize(found, dim=1) for found in (cropped_map, cropped(whole_map, crops))]


def picie_loss(vectors: Sequence[Tensor], labels: Sequence[Tensor], prototypes: Sequence[Prototypes]) -> Tensor:
    """The mean of the losses within each view and across the two views (section 3.3).

    Parameters
    ----------
    vectors : (B, C, h, w) unit vectors of each view.
    labels : (B, h, w) int64 of each view, by its own prototypes.
    """
    losses = [
        clustering_loss(one, of_view, own) for one in vectors for of_view, own in zip(labels, prototypes, strict=True)
    ]
    return torch.stack(losses).mean()


def clustering_loss(vectors: Tensor, labels: Tensor, prototypes: Prototypes) -> Tensor:
    """L_clust(z, y, mu): cross entropy of labels whose logits are minus the cosine distance d to the centres.

    -log(exp(-d(z, mu_y)) / sum_l exp(-d(z, mu_l))), section 3.2, averaged with the weights of the labels.
    """
    centres = functional.normalize(prototypes.centres, dim=1)
    cosine = torch.einsum("kc,bchw->bkhw", centres, vectors)
    return cross_entropy(cosine, labels, prototypes.weight)

"""Invariant information clustering of a folder: a network whose labels of a photo and of its changed copy agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ...engine.labelling import to_input
from ...resampling import resize
from ..iic import FLIPPED, JITTER, jitter, joint_distributions, mutual_information
from .method import Photo, Photos, TrainedMethod, descend, in_batches
from .settings import FolderIicConfig
from .views import random_square


class FolderIic(TrainedMethod[FolderIicConfig]):
    """IIC for segmentation, over a folder.

    Ji, Henriques and Vedaldi 2019, "Invariant Information Clustering for Unsupervised Image Classification and
    Segmentation", arXiv:1807.06653, section 3.3: a linear head gives each place a distribution over labels, and the
    mutual information of those of a photo and of its copy in other light, flipped or not, is maximised, over a batch,
    on average over a set of displacements T: none, and `displacement` along one axis or both. A second head has more
    labels, the auxiliary over-clustering of section 4.1. The heads take turns, an epoch each, as in the authors'
    program, and the first one labels. A head begins with BatchNorm, with which the layers before the heads end in the
    authors' network: from unit vectors all labels would be about equally probable, where the mutual information has a
    saddle.
    """

    def __init__(self, config: FolderIicConfig, device: torch.device) -> None:
        super().__init__(config, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            heads = [
                nn.Sequential(nn.BatchNorm2d(config.features), nn.Conv2d(config.features, labels, kernel_size=1))
                for labels in (config.clusters, config.clusters * config.overclusters)
            ]
        self._head, self._auxiliary = (head.to(device) for head in heads)

    @property
    def passes(self) -> int:
        return 2 * self.config.epochs

    def _fit(self, photos: Photos) -> Iterator[None]:
        config, embedding = self.config, self._embedding.train()
        displacement = round(config.displacement / embedding.stride)
        trained = [*embedding.head.parameters(), *self._head.parameters(), *self._auxiliary.parameters()]
        optimiser = torch.optim.Adam(trained, config.learning_rate)
        for number in range(self.passes):
            head = self._head if number % 2 else self._auxiliary
            for batch in in_batches(photos.read(self._order(photos, number)), config.batch):
                images, copies, flipped = self._pairs(batch, number)
                first, second = (head(embedding(one)).softmax(1) for one in (images, copies))
                second = torch.where(flipped[:, None, None, None], second.flip(3), second)
                information = mutual_information(joint_distributions(first, second, displacement, max(1, displacement)))
                descend(optimiser, -information.mean())
                yield from (None for _ in batch)

    def _pairs(self, batch: list[tuple[int, Photo]], number: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, size, size) squares of photos with their indices, changed copies, and (B,) whether each is flipped."""
        size = self._embedding.size
        images, copies, flipped = [], [], []
        for index, photo in batch:
            random = np.random.default_rng((self.config.seed, number, index))
            image = to_input(resize(random_square(photo, random), size, size), self.device)
            copy = jitter(image, *random.uniform(1 - JITTER, 1 + JITTER, 3).tolist())
            flipped.append(bool(random.random() < FLIPPED))
            images.append(image)
            copies.append(copy.flip(3) if flipped[-1] else copy)
        return torch.cat(images), torch.cat(copies), torch.tensor(flipped, device=self.device)

    def _respond(self, photo: Photo) -> Tensor:
        self._embedding.eval()
        self._head.eval()
        response: Tensor = self._head(self._embed(photo)[None])[0]
        return response

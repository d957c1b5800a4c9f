"""k-means of frozen features: the recipe by which self-supervised backbones stand in tables of one label space."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...config import FOLDER_FIT
from ...engine.backbones import resnet_backbone
from ...engine.labelling import to_input
from ...engine.networks import frozen_backbone, new_network
from ...method.network import SegmentationNetwork
from ...resampling import shrink, working_size
from .labels import response_to_centres
from .method import FolderMethod, Photo, Photos, look, some_places
from .settings import FeatureKMeansConfig
from .streaming_kmeans import StreamingKMeans

STARTS = 10
"""Times that k-means starts from other centres; the best result is taken."""


class FeatureKMeans(FolderMethod[FeatureKMeansConfig]):
    """Each place of a photo belongs to the nearest of the centres that k-means finds among the places of all photos.

    So is DINO evaluated in Hamilton et al. 2022, "Unsupervised Semantic Segmentation by Distilling Feature
    Correspondences" (STEGO), arXiv:2203.08414, table 1: unit vectors of a network that is left as it is, k centres.
    Here it is the last map of a backbone, at the size at which this tool looks; of the small CNN, whose weights are
    random, the features of the photo at the size of a folder fit.
    """

    passes = 1

    def __init__(self, config: FeatureKMeansConfig, device: torch.device) -> None:
        super().__init__(config, device)
        network = config.network(FOLDER_FIT["features"])
        backbone = frozen_backbone(network)
        self._cnn: SegmentationNetwork | None = None
        if backbone is None:
            made = new_network(network)
            if isinstance(made, SegmentationNetwork):
                self._cnn = made.eval().to(device)
            else:
                backbone = resnet_backbone(made)
        self.backbone = backbone and backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._centres = torch.empty(0)

    def _fit(self, photos: Photos) -> Iterator[None]:
        means = StreamingKMeans(self.config.clusters, self.config.seed, STARTS)
        for index, photo in photos.read(self._order(photos, 0)):
            with torch.inference_mode():
                vectors = self._vectors(photo)
            means.add(some_places(vectors, np.random.default_rng((self.config.seed, index))))
            yield
        self._centres = torch.tensor(means.centres, device=self.device)

    def _respond(self, photo: Photo) -> Tensor:
        return response_to_centres(self._vectors(photo), self._centres)

    def _vectors(self, photo: Photo) -> Tensor:
        """(C, h, w) unit vectors."""
        if self.backbone is not None:
            return look(self.backbone, photo, self.device)[-1]
        assert self._cnn is not None
        small = shrink(photo, *working_size(photo.shape[1], photo.shape[0], FOLDER_FIT["max_size"]))
        return functional.normalize(self._cnn.features(to_input(small, self.device))[0], dim=0)

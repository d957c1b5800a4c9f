"""Settings of the methods of Tables II and III besides DynaSeg. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...config import FOLDER_FIT, MOST_SEED, MOST_SIDE, Backbone, SegmentConfig, WeightsFile
from ...fields import check_fields, documented, option
from ..settings import MOST

CNN_SIZE, PRETRAINED_SIZE = 128, 320
"""Shorter sides in pixels of the photos that networks see: the small CNN costs most by the pixel."""


@dataclass(frozen=True)
class FolderMethodConfig:
    """What these methods have in common."""

    backbone: Backbone = option(
        "cnn",
        "Features that are clustered: of a small CNN, of a ResNet-18 with a feature pyramid, or of a network of timm,"
        " which is left as it is.",
    )
    weights: WeightsFile | Literal["random"] | None = option(
        None, "Weights of the pretrained network, as in segment; random is for tests."
    )
    clusters: int = option(FOLDER_FIT["clusters"], "Number of labels.", least=2, most=MOST - 1)
    seed: int = option(0, "Seed of initial weights, order of the photos, views and clusters.", least=0, most=MOST_SEED)

    def __post_init__(self) -> None:
        check_fields(self)
        self.network()  # checks backbone and weights

    def network(self, features: int = 1) -> SegmentConfig:
        """The configuration of this tool that has this backbone, and so many channels after it."""
        return SegmentConfig(
            backbone=self.backbone, weights=self.weights, features=features, clusters=self.clusters, seed=self.seed
        )


@dataclass(frozen=True)
class TrainedMethodConfig(FolderMethodConfig):
    """What those have in common that train a network."""

    epochs: int = option(
        10, "How often the network is trained on every photo; by iic, each of its two heads.", least=1, most=MOST
    )
    batch: int = option(8, "Photos of a training step.", least=1, most=MOST)
    size: int = option(
        0,
        "Shorter side in pixels at which photos are seen; squares of it are trained on."
        f" 0: {CNN_SIZE} for cnn, {PRETRAINED_SIZE} for others.",
        least=64,
        most=MOST_SIDE,
        zero="the backbone's own",
    )
    features: int = option(128, "Channels of the embedding.", least=1, most=2**12)
    learning_rate: float = option(1e-3, "Learning rate of Adam.", above=0, below=1)

    @property
    def shorter_side(self) -> int:
        """`size` in pixels."""
        return self.size or (CNN_SIZE if self.backbone == "cnn" else PRETRAINED_SIZE)


@documented
@dataclass(frozen=True)
class FeatureKMeansConfig(FolderMethodConfig):
    """k-means of the features of a backbone that is left as it is, over the places of all photos."""


@documented
@dataclass(frozen=True)
class DeepClusteringConfig(TrainedMethodConfig):
    """Modified Deep Clustering: k-means gives labels, which a network learns to predict, in turns (Cho et al. 2021)."""


@documented
@dataclass(frozen=True)
class FolderIicConfig(TrainedMethodConfig):
    """Invariant information clustering over a folder (Ji et al. 2019)."""

    displacement: int = option(
        10,
        "Distance, along an axis or both, of places that are to agree beside equal ones; in pixels of what is seen.",
        least=0,
        most=64,
    )
    overclusters: int = option(5, "Labels of the auxiliary head, in multiples of `clusters`.", least=1, most=100)


@documented
@dataclass(frozen=True)
class PicieConfig(TrainedMethodConfig):
    """Pixel clustering by invariance and equivariance (Cho et al. 2021)."""

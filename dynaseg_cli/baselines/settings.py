"""Settings of the methods of Table I besides DynaSeg. No torch is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import MOST_SEED, MOST_SIDE
from ..errors import UsageError
from ..fields import check_fields, documented, option

MOST = 2**15
"""Upper limit of clusters, channels, iterations and the like."""

_SEED = "Seed of the initial weights and of samples."
_MAX_SIZE = "Longest side in pixels of the image that the network is fitted on; 0 is full resolution."


@documented
@dataclass(frozen=True)
class KMeansConfig:
    """k-means clustering of the colours around each pixel. Defaults: best Mean on 13 photos of BSDS500 train."""

    clusters: int = option(5, "k.", least=1, most=MOST)
    window: int = option(1, "Side in pixels, odd, of the window whose colours describe a pixel.", least=1, most=99)
    seed: int = option(0, _SEED, least=0, most=MOST_SEED)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.window % 2 == 0:
            raise UsageError(f"`window` must be odd, not {self.window}")


@documented
@dataclass(frozen=True)
class FelzenszwalbConfig:
    """Graph-based segmentation (Felzenszwalb, Huttenlocher 2004). Defaults: best Mean on 13 photos of BSDS500 train."""

    scale: float = option(200.0, "The greater, the larger the regions.", above=0, below=math.inf)
    sigma: float = option(0.8, "Standard deviation of the Gaussian smoothing, in pixels.", least=0, most=MOST_SIDE)
    min_size: int = option(20, "Regions of fewer pixels are merged into a neighbour.", least=0)

    def __post_init__(self) -> None:
        check_fields(self)


@documented
@dataclass(frozen=True)
class SuperpixelCnnConfig:
    """A CNN with one label for each superpixel (Kanezaki 2018). Defaults: best on 8 photos of BSDS500 train."""

    superpixels: int = option(2000, "Superpixels of an image.", least=1, most=MOST)
    compactness: float = option(10.0, "Weight of nearness against likeness in colour.")
    iterations: int = option(60, "At most so many iterations.", least=1, most=MOST)
    min_labels: int = option(3, "Stop when no more labels are left.", least=1, most=MOST)
    max_size: int = option(128, _MAX_SIZE, least=0)
    learning_rate: float = option(0.1, "Learning rate of the gradient descent.")
    momentum: float = option(0.9, "Momentum of the gradient descent.")
    blocks: int = option(2, "Convolutional blocks.", least=1, most=MOST)
    features: int = option(100, "Channels of the feature map.", least=1, most=MOST)
    seed: int = option(0, _SEED, least=0, most=MOST_SEED)

    def __post_init__(self) -> None:
        check_fields(self)


@documented
@dataclass(frozen=True)
class IicConfig:
    """Invariant information clustering (Ji et al. 2019) of one image. Defaults: best on 8 photos of BSDS500 train."""

    clusters: int = option(5, "Number of labels.", least=2, most=MOST)
    iterations: int = option(60, "Number of iterations.", least=1, most=MOST)
    displacement: int = option(
        5, "Largest offset along either axis, in working pixels, between two pixels that are to agree.", least=0
    )
    max_size: int = option(128, _MAX_SIZE, least=0)
    learning_rate: float = option(3e-3, "Learning rate of the gradient descent.")
    blocks: int = option(3, "Convolutional blocks.", least=1, most=MOST)
    features: int = option(100, "Channels of the feature map.", least=1, most=MOST)
    seed: int = option(0, _SEED, least=0, most=MOST_SEED)

    def __post_init__(self) -> None:
        check_fields(self)

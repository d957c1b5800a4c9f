"""One network fitted to the regions of a folder's images, in each of which the features of a backbone are averaged."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.losses import continuity_loss_of_regions, continuity_weight, similarity_loss_of_regions
from ..method.network import SegmentationNetwork
from ..regions.features import region_means
from ..regions.hierarchy import build_hierarchy
from ..regions.segments import boundary_shares, numbers_by_area
from .engine import BESIDE_SCALE, Engine
from .fitting import descend
from .networks import model_bytes, permute_channels

SHARPNESS = 1.0
"""Response per squared distance to the centre of a cluster, at the start."""
STARTS = 10
"""Times that k-means starts from other centres; the best result is taken."""


@dataclass(frozen=True)
class RegionSet:
    """Regions of one image or of several."""

    features: NDArray[np.float32]
    """(R, C) mean features."""
    area: NDArray[np.float32]
    """(R,) share of the image's pixels."""
    pairs: NDArray[np.int64]
    """(P, 2) regions that touch each other."""
    length: NDArray[np.float32]
    """(P,) share of the image's horizontal plus that of its vertical pairs of pixels that lie between them."""

    @classmethod
    def joined(cls, sets: Sequence[RegionSet]) -> RegionSet:
        """The regions of all sets, one after another."""
        offsets = np.cumsum([0, *(len(one.area) for one in sets)])
        pairs = [one.pairs + offset for one, offset in zip(sets, offsets, strict=False)]
        values = {name: np.concatenate([getattr(one, name) for one in sets]) for name in ("features", "area", "length")}
        return cls(**values, pairs=np.concatenate(pairs))


class RegionFitter:
    """Fits the classifier of an engine's network, which can then apply it.

    The losses are those of the paper, of maps that are constant in each region: on an image of some fifty regions they
    take no time, so all images count in every iteration. It starts from the centres that k-means finds among regions.

    Parameters
    ----------
    config : of a folder fit with a frozen backbone, without a model.
    """

    def __init__(self, config: SegmentConfig, device: str) -> None:
        assert config.fit == "folder" and config.has_frozen_backbone and config.model is None
        assert config.epochs is not None
        self.engine = Engine(config, device)
        assert isinstance(self.engine.network, SegmentationNetwork)
        self._network = self.engine.network
        self._iterations = config.epochs * config.iterations
        self.regions: list[RegionSet] = []
        """Those of each image described so far."""

    def describe(self, image: NDArray[np.uint8]) -> None:
        """Add the regions of an RGB (H, W, 3) uint8 image."""
        maps = [found.permute(1, 2, 0).contiguous().cpu().numpy() for found in self.engine.look(image)]
        regions = build_hierarchy(np.zeros(image.shape[:2], dtype=np.uint8), image, maps).cut()
        pairs, length = boundary_shares(regions)
        area = np.bincount(regions.reshape(-1)) / regions.size
        features = region_means(regions, maps[-1:]) * np.float32(BESIDE_SCALE)
        self.regions.append(RegionSet(features, area.astype(np.float32), pairs, length.astype(np.float32)))

    def state(self) -> dict[str, Tensor]:
        """The regions described so far."""
        return {
            f"{name}.{index}": torch.tensor(value)
            for index, regions in enumerate(self.regions)
            for name, value in vars(regions).items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier `state`."""
        names = [field.name for field in dataclasses.fields(RegionSet)]
        if len(state) % len(names):
            raise ValueError("some of its regions are missing")
        self.regions = [
            RegionSet(**{name: state[f"{name}.{index}"].numpy() for name in names})
            for index in range(len(state) // len(names))
        ]

    def fit(self) -> NDArray[np.float64]:
        """Fit the network to the regions of all images; returns (q,) the mean area of each label, 0..1.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        config, count = self.engine.config, len(self.regions)
        regions = RegionSet.joined(self.regions)
        # On the CPU, which is fast enough: CUDA sums the gradients of pairs in another order each time.
        network = self._network.cpu()
        self._start(regions)
        features, area, pairs, length = (
            torch.tensor(values)
            for values in (regions.features, regions.area / count, regions.pairs, regions.length / count)
        )
        trained: list[Tensor] = [*network.classifier.parameters(), *network.response_norm.parameters()]
        for parameter in trained:
            parameter.requires_grad_()
        momenta = [torch.zeros_like(parameter) for parameter in trained]
        going_on = torch.zeros(())
        with self.engine.computing():
            for _ in range(self._iterations):
                response = self._response(features, area)
                labels = response.detach().argmax(1)
                present = len(torch.unique(labels))
                mu = continuity_weight(config.mode, config.weight, present)
                continuity = continuity_loss_of_regions(response, pairs, length)
                loss = similarity_loss_of_regions(response, labels, area) + mu * continuity
                if not loss.isfinite():
                    raise DivergedError(f"the loss became {loss.item()}")
                if present <= int(config.min_labels):
                    break
                network.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                descend(trained, momenta, config, going_on)
            with torch.no_grad():
                labels = self._response(features, area).argmax(1)
        network.to(self.engine.device)
        areas: NDArray[np.float64] = torch.bincount(labels, area, config.clusters).double().numpy()
        return areas

    def number_by_area(self, areas: NDArray[np.integer] | NDArray[np.floating]) -> None:
        """Permute the network's channels so that its labels 0..q-1 are ordered by falling area; `areas` is (q,)."""
        permute_channels(self._network, np.argsort(numbers_by_area(areas)))

    def model(self) -> bytes:
        """The network and its backbone as the content of a model file."""
        return model_bytes(self._network, self.engine.config, self.engine.backbone)

    def _start(self, regions: RegionSet) -> None:
        """Set the network so that each region has the label of the centre nearest to it, of those that k-means finds.

        BatchNorm gets the scale and shift that undo its normalisation. With unit variance along each axis labels would
        have to be equally frequent, and things are not.
        """
        from sklearn.cluster import KMeans  # noqa: PLC0415 - imports half of SciPy
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

        config, network = self.engine.config, self._network
        wanted = min(config.clusters, len(np.unique(regions.features, axis=0)))
        means = KMeans(wanted, n_init=STARTS, random_state=config.seed)
        with warnings.catch_warnings():
            # Regions that differ by rounding alone are fewer than they seem.
            warnings.simplefilter("ignore", ConvergenceWarning)
            means.fit(regions.features, sample_weight=regions.area)
        centres = torch.tensor(means.cluster_centers_, dtype=torch.float32)
        weight = torch.zeros((config.clusters, centres.shape[1]))
        # A channel without a centre is chosen nowhere.
        bias = torch.full((config.clusters,), -float((centres**2).sum(1).max()) - 1.0)
        weight[:wanted], bias[:wanted] = centres, -(centres**2).sum(1) / 2
        area = torch.tensor(regions.area / regions.area.sum())[:, None]
        response = SHARPNESS * (torch.tensor(regions.features) @ weight.T + bias)
        mean = (area * response).sum(0)
        variance = (area * (response - mean) ** 2).sum(0)
        classifier, norm = network.classifier, network.response_norm
        with torch.no_grad():
            assert classifier.bias is not None
            classifier.weight.copy_(SHARPNESS * weight[:, :, None, None])
            classifier.bias.copy_(SHARPNESS * bias)
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)

    def _response(self, features: Tensor, area: Tensor) -> Tensor:
        """The normalised response r', (R, q), whose statistics become the network's."""
        classifier, norm = self._network.classifier, self._network.response_norm
        response = torch.nn.functional.linear(features, classifier.weight[:, :, 0, 0], classifier.bias)
        mean = (area[:, None] * response).sum(0)
        variance = (area[:, None] * (response - mean) ** 2).sum(0)
        with torch.no_grad():
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
        normalised: Tensor = (response - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
        return normalised

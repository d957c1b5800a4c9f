"""One network fitted to a whole folder, a mosaic of its images at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import SegmentConfig
from ..errors import DeviceMemoryError
from ..regions.numbering import numbers_by_area
from .alignment import state_without_alignment
from .engine import Engine
from .fitting import Fit
from .labelling import to_input
from .memory import is_out_of_memory
from .models import model_bytes


class MosaicFit(NamedTuple):
    """How the iterations on one mosaic went."""

    labels: int
    """q' of the last one."""
    loss: float


class FolderFitter:
    """Fits the network of an engine, which applies it.

    An iteration on a mosaic is one on an image (III-A to III-D): the same losses, weighting and stop rules. So each
    update is made for several images at once. With one at a time the BatchNorms would make the responses to all images
    alike, whatever is on them, and a few labels soon take all.

    The response map's BatchNorm keeps scale 1 and shift 0: zero mean and unit variance along each cluster axis, as
    section III-D has it. A learned scale and shift let labels die out one after another until a few are left; over
    one image the stop rules end that in time, over many epochs nothing does.

    Parameters
    ----------
    config : of a folder fit, without a model.
    """

    def __init__(self, config: SegmentConfig, device: str) -> None:
        assert config.fit == "folder" and config.model is None
        self.engine = Engine(config, device)
        self._network = self.engine.network
        self._threshold = int(config.min_labels)
        self._measured = 0
        self._means: list[Tensor] = []
        self._variances: list[Tensor] = []

    def improve(self, mosaic: NDArray[np.uint8]) -> MosaicFit:
        """T iterations on an (H, W, 3) uint8 mosaic, from where the last one left the network.

        Raises
        ------
        DivergedError
            If the loss is no longer a finite number.
        DeviceMemoryError
            If the mosaic does not fit the device's memory.
        """
        fit = self._iterate(mosaic, self.engine.config.iterations)
        return MosaicFit(fit.present[-1], fit.loss[-1])

    def measure(self, mosaic: NDArray[np.uint8]) -> None:
        """Take the statistics of every BatchNorm over a mosaic into account."""
        self._iterate(mosaic, 1)
        norms = self._norms()
        if not self._measured:
            self._means = [torch.zeros_like(_statistic(norm.running_mean)) for norm in norms]
            self._variances = [torch.zeros_like(mean) for mean in self._means]
        self._measured += 1
        share = 1 / self._measured
        # By deviations, as Welford did (doi:10.1080/00401706.1962.10490022): a difference of squares would round to a
        # variance below 0 where a channel hardly varies.
        for norm, mean, variance in zip(norms, self._means, self._variances, strict=True):
            deviation = _statistic(norm.running_mean) - mean
            mean.add_(deviation, alpha=share)
            variance.mul_(1 - share).add_(share * _statistic(norm.running_var) + share * (1 - share) * deviation**2)

    def apply_measured(self) -> None:
        """Have the network apply the mean and variance over all mosaics that were measured."""
        self._network.train()
        for norm, mean, variance in zip(self._norms(), self._means, self._variances, strict=True):
            _statistic(norm.running_mean).copy_(mean)
            _statistic(norm.running_var).copy_(variance)
        self._measured = 0

    @torch.no_grad()
    def number_by_area(self, areas: NDArray[np.int64]) -> None:
        """Renumber the labels 0..q-1 by falling area, (q,), of what they are now."""
        order = torch.tensor(np.argsort(numbers_by_area(areas)), device=self.engine.device)
        classifier, norm = self._network.classifier, self._network.response_norm
        of_label = [classifier.weight, classifier.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
        for values in of_label:
            assert values is not None
            values.copy_(values[order])

    def model(self) -> bytes:
        """The file of the network as it is."""
        config = self.engine.config
        return model_bytes(state_without_alignment(self._network, config.features), config)

    def state(self) -> dict[str, Tensor]:
        """All that the next iteration starts from."""
        network = {f"network.{name}": value for name, value in self._network.state_dict().items()}
        momenta = {f"momentum.{index}": value for index, value in enumerate(self.engine.fitter.momenta)}
        return {name: value.detach().cpu().contiguous() for name, value in (network | momenta).items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier `state`.

        Raises
        ------
        ValueError
            If it is that of another network.
        """
        own = self.state()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in state.items()}:
            raise ValueError("the state of another network")
        names = [name for name in state if name.startswith("network.")]
        self._network.load_state_dict({name.removeprefix("network."): state[name] for name in names})
        for index, momentum in enumerate(self.engine.fitter.momenta):
            momentum.copy_(state[f"momentum.{index}"])

    def _iterate(self, mosaic: NDArray[np.uint8], limit: int) -> Fit:
        try:
            with self.engine.computing():
                x = to_input(mosaic, self.engine.device)
                return self.engine.fitter.go_on([x], self._threshold, limit)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = mosaic.shape[:2]
            raise DeviceMemoryError(
                f"{self.engine.device} has no memory for a mosaic of {width} x {height} pixels: free some, fit at a"
                " smaller --max-size, or choose another --device"
            ) from None

    def _norms(self) -> list[nn.BatchNorm2d]:
        """Those whose statistics follow what they see."""
        modules = self._network.modules()
        return [module for module in modules if isinstance(module, nn.BatchNorm2d) and module.training]


def _statistic(buffer: Tensor | None) -> Tensor:
    assert buffer is not None
    return buffer

"""One network fitted to a whole folder, one mosaic of its images at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import SegmentConfig
from ..errors import DeviceMemoryError
from ..regions.segments import numbers_by_area
from .device import is_out_of_memory
from .engine import Engine
from .labelling import to_input
from .networks import model_bytes, permute_channels
from .segmentation import FitRecord


class FolderFitter:
    """Fits the network of an engine, which can then apply it.

    An iteration on a mosaic is one on an image (III-A to III-D): the same losses, weighting and stop rules. A mosaic
    makes each update for several images at once. With one image at a time the BatchNorms would make the responses to
    all images alike, whatever is on them, and a few labels would soon take over.

    The BatchNorm of the response map keeps scale 1 and shift 0: zero mean and unit variance along each cluster axis, as
    in section III-D. With learned ones, labels die out one after another until a few are left. On one image the stop
    rules prevent that; over many epochs nothing does.

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

    def improve(self, mosaic: NDArray[np.uint8]) -> FitRecord:
        """Run T iterations on an (H, W, 3) uint8 mosaic, starting from the current weights and momenta.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        DeviceMemoryError
            If the mosaic does not fit the device's memory.
        """
        return self._iterate(mosaic, self.engine.config.iterations)

    def measure(self, mosaic: NDArray[np.uint8]) -> None:
        """Add a mosaic to the statistics of every BatchNorm that `apply_measured` sets."""
        self._iterate(mosaic, 1)
        norms = self._norms()
        if not self._measured:
            self._means = [torch.zeros_like(_statistic(norm.running_mean)) for norm in norms]
            self._variances = [torch.zeros_like(mean) for mean in self._means]
        self._measured += 1
        share = 1 / self._measured
        # By deviations, like Welford (doi:10.1080/00401706.1962.10490022): for a nearly constant channel, a difference
        # of squares would round to a negative variance.
        for norm, mean, variance in zip(norms, self._means, self._variances, strict=True):
            deviation = _statistic(norm.running_mean) - mean
            mean.add_(deviation, alpha=share)
            variance.mul_(1 - share).add_(share * _statistic(norm.running_var) + share * (1 - share) * deviation**2)

    def apply_measured(self) -> None:
        """Set the running statistics to the mean and variance over all mosaics that were measured."""
        self._network.train()
        for norm, mean, variance in zip(self._norms(), self._means, self._variances, strict=True):
            _statistic(norm.running_mean).copy_(mean)
            _statistic(norm.running_var).copy_(variance)
        self._measured = 0

    def number_by_area(self, areas: NDArray[np.integer] | NDArray[np.floating]) -> None:
        """Permute the network's channels so that its labels 0..q-1 are ordered by falling area; `areas` is (q,)."""
        permute_channels(self._network, np.argsort(numbers_by_area(areas)))

    def model(self) -> bytes:
        """The network as the content of a model file."""
        return model_bytes(self._network, self.engine.config)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next iteration depends on."""
        network = {f"network.{name}": value for name, value in self._network.state_dict().items()}
        momenta = {f"momentum.{index}": value for index, value in enumerate(self.engine.fitter.momenta)}
        return {name: value.detach().cpu().contiguous() for name, value in (network | momenta).items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from an earlier `state`.

        Raises
        ------
        ValueError
            If it belongs to another network.
        """
        own = self.state()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in state.items()}:
            raise ValueError("the state of another network")
        names = [name for name in state if name.startswith("network.")]
        self._network.load_state_dict({name.removeprefix("network."): state[name] for name in names})
        for index, momentum in enumerate(self.engine.fitter.momenta):
            momentum.copy_(state[f"momentum.{index}"])

    def _iterate(self, mosaic: NDArray[np.uint8], limit: int) -> FitRecord:
        try:
            with self.engine.computing():
                x = to_input(mosaic, self.engine.device)
                return self.engine.fitter.continue_fit([x], self._threshold, limit).record
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            height, width = mosaic.shape[:2]
            raise DeviceMemoryError(
                f"{self.engine.device} has no memory for a mosaic of {width} x {height} pixels: free some, lower"
                " `max_size`, or choose another `device`"
            ) from None

    def _norms(self) -> list[nn.BatchNorm2d]:
        """The BatchNorms whose statistics follow the images, unlike those of a frozen ResNet."""
        modules = self._network.modules()
        return [module for module in modules if isinstance(module, nn.BatchNorm2d) and module.training]


def _statistic(buffer: Tensor | None) -> Tensor:
    assert buffer is not None
    return buffer

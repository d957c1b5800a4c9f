"""The optimisation of the network on one image (III-A, III-C)."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from .captured import CapturedIteration
from .iteration import Iteration
from .segmentation import StopReason
from .training_step import BandedStep, LiteralStep, TrainingStep
from .trajectory import Status, Trajectory

CAPTURED_PIXELS = 1 << 20
"""Of all sizes that are kept recorded for the next image of their size, some 3 kB of device memory a pixel."""

OnIteration = Callable[[int, int], None]
"""Called with the iteration (from 1) and q' as the work goes on; whatever it raises ends the fit."""


@dataclass
class Fit:
    """The last iteration's labels and what happened on the way; the network stays as that iteration trained it."""

    labels: Tensor
    """(h, w) int64 on the device, raw argmax in 0..q-1."""
    stop_reason: StopReason = "iterations"
    iterations: list[int] = field(default_factory=list)
    """Of each level."""
    present: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    continuity: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)

    def add_level(self, trajectory: Trajectory) -> None:
        """Take over what a level's iterations found."""
        records = trajectory.records()
        self.labels = trajectory.labels.clone()
        self.iterations.append(len(records))
        self.present += [int(row[0]) for row in records]
        for _, loss, similarity, continuity, changed in records:
            self.loss.append(loss)
            self.similarity.append(similarity)
            self.continuity.append(continuity)
            self.changed.append(changed)


class Fitter:
    """Optimises one network on image after image, every time from the weights it was given with.

    Parameters
    ----------
    network : float32, on its device.
    dtype : arithmetic of the feature maps.
    """

    def __init__(self, network: SegmentationNetwork, config: SegmentConfig, dtype: torch.dtype) -> None:
        self._network = network
        self._config = config
        self._dtype = dtype
        self._initial = copy.deepcopy(network.state_dict())
        self._device = network.classifier.weight.device
        self._captures = captures(self._device, config)
        self._momenta = [torch.zeros_like(parameter) for parameter in network.parameters()]
        self._captured: OrderedDict[tuple[int, int], CapturedIteration] = OrderedDict()

    def fit(self, levels: Sequence[Tensor], threshold: int, on_iteration: OnIteration | None = None) -> Fit:
        """Optimise the network on (1, 3, h, w) float32 images, one after another, until a stop rule holds on each.

        The levels are one image at growing sizes: most of the labels vanish on the small ones, at a fraction of the
        cost. A level ends as `Trajectory` says; one that is not the last takes at most half of the iterations left.

        Raises
        ------
        DivergedError
            If the loss is no longer a finite number.
        """
        self._network.load_state_dict(self._initial)
        self._network.train()
        for momentum in self._momenta:
            momentum.zero_()
        height, width = levels[-1].shape[2:]
        if height <= width or not self._captures:
            return self._fit(levels, threshold, on_iteration)
        # Transposed, with transposed kernels, portraits use what is recorded for landscapes of their size.
        self._transpose_kernels()
        try:
            fit = self._fit([level.transpose(2, 3) for level in levels], threshold, on_iteration)
        finally:
            self._transpose_kernels()
        fit.labels = fit.labels.T
        return fit

    def forget(self) -> None:
        """Give up the memory that is kept for images to come."""
        self._captured.clear()

    def _fit(self, levels: Sequence[Tensor], threshold: int, on_iteration: OnIteration | None) -> Fit:
        fit = Fit(torch.empty(0))
        for image, more in zip(levels, range(len(levels) - 1, -1, -1), strict=True):
            before = sum(fit.iterations)
            left = self._config.iterations - before
            limit = left // 2 if more else left
            if limit == 0:
                fit.iterations.append(0)
                continue

            def watch(status: Status, before: int = before) -> None:
                if on_iteration is not None:
                    on_iteration(before + status.iterations, status.present)

            iteration = self._iteration(*image.shape[2:])
            end = iteration.run(image, threshold, limit, watch)
            fit.add_level(iteration.trajectory)
            if end == "diverged":
                raise DivergedError(
                    f"the loss became {fit.loss[-1]} in iteration {len(fit.loss)}; try --precision float32"
                )
            fit.stop_reason = end
        return fit

    @torch.no_grad()
    def _transpose_kernels(self) -> None:
        for convolution in self._network.feature_convolutions:
            convolution.weight.copy_(convolution.weight.transpose(2, 3).clone())

    def _iteration(self, height: int, width: int) -> Iteration:
        if not self._captures:
            return Iteration(*self._parts(height, width))
        size = height, width
        if size not in self._captured:
            while self._captured and sum(h * w for h, w in (*self._captured, size)) > CAPTURED_PIXELS:
                self._captured.popitem(last=False)
            self._captured[size] = CapturedIteration(*self._parts(height, width))
        self._captured.move_to_end(size)
        return self._captured[size]

    def _parts(self, height: int, width: int) -> tuple[TrainingStep, torch.optim.Optimizer, Trajectory]:
        step: TrainingStep
        if self._config.literal:
            step = LiteralStep(self._network, self._config, self._dtype)
        else:
            step = BandedStep(self._network, height, width, self._config, self._dtype)
        trajectory = Trajectory(height, width, self._config, self._device)
        return step, self._optimiser(trajectory), trajectory

    def _optimiser(self, trajectory: Trajectory) -> torch.optim.Optimizer:
        config = self._config
        fused = not config.literal and self._device.type in ("cpu", "cuda")
        optimiser = torch.optim.SGD(
            self._network.parameters(),
            config.learning_rate,
            config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
        )
        for parameter, momentum in zip(self._network.parameters(), self._momenta, strict=True):
            optimiser.state[parameter]["momentum_buffer"] = momentum
        if fused:  # what tells it, on the device, to leave everything as it is
            optimiser.found_inf = trajectory.ended  # type: ignore[attr-defined]
        return optimiser


def captures(device: torch.device, config: SegmentConfig) -> bool:
    """Whether the iterations run as a recorded graph."""
    return device.type == "cuda" and not config.literal

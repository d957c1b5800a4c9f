"""The optimisation of the network on one image (III-A, III-C)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from .captured import CapturedIteration
from .device import has_triton
from .iteration import Iteration
from .memory import is_out_of_memory, release_memory
from .networks import Network
from .scribbles import take_up_labels
from .segmentation import StopReason
from .training_step import AutogradStep, BandedStep, TrainingStep
from .trajectory import Status, Trajectory

_log = logging.getLogger(__name__)

CAPTURED_PIXELS = 1 << 20
"""Of all sizes that are kept captured for the next image of their size, some 3 kB of device memory a pixel."""

OnIteration = Callable[[int, int], None]
"""Called with the iteration (from 1) and q' as the work goes on; whatever it raises ends the fit."""

OnRawLabels = Callable[[int, int, Tensor], None]
"""Called after each iteration with its number (from 1), q' and the (h, w) int64 labels on the device."""


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

    def __init__(self, network: Network, config: SegmentConfig, dtype: torch.dtype) -> None:
        self._network = network
        self._config = config
        self._dtype = dtype
        self._initial = copy.deepcopy(network.state_dict())
        self._device = network.classifier.weight.device
        self._captures = captures(self._device, config)
        self._kernels = has_triton(self._device)
        self._trained: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.momenta: list[Tensor] = [torch.zeros_like(parameter) for parameter in self._trained]
        """Of the parameters that are trained, in their order."""
        self._captured: dict[tuple[int, int, bool], CapturedIteration] = {}

    def fit(
        self,
        levels: Sequence[Tensor],
        threshold: int,
        on_iteration: OnIteration | None = None,
        scribbles: Sequence[Tensor] | None = None,
        on_labels: OnRawLabels | None = None,
    ) -> Fit:
        """Optimise the network on (1, 3, h, w) float32 images, one after another, until a stop rule holds on each.

        The levels are one image at growing sizes: most of the labels vanish on the small ones, at a fraction of the
        cost. A level ends as `Trajectory` says; one that is not the last takes at most half of the iterations left.
        `scribbles` are what a user drew on each level, (h, w) int64, labels and `FREE`. With `on_labels` the host waits
        for each iteration.

        Raises
        ------
        DivergedError
            If the loss is no longer a finite number.
        """
        self._network.load_state_dict(self._initial)
        for momentum in self.momenta:
            momentum.zero_()
        if scribbles is not None:
            take_up_labels(self._network.train(), levels[0], scribbles[0])
        return self.go_on(levels, threshold, self._config.iterations, on_iteration, scribbles, on_labels)

    def go_on(
        self,
        levels: Sequence[Tensor],
        threshold: int,
        limit: int,
        on_iteration: OnIteration | None = None,
        scribbles: Sequence[Tensor] | None = None,
        on_labels: OnRawLabels | None = None,
    ) -> Fit:
        """As `fit`, for at most `limit` iterations, from what the network and its momenta are now.

        The last iteration on a level evaluates the network and leaves it as it is.
        """
        self._network.train()
        height, width = levels[-1].shape[2:]
        if height <= width or not self._captures:
            return self._go_on(levels, threshold, limit, on_iteration, scribbles, on_labels)
        # Transposed, with transposed kernels, portraits use what is recorded for landscapes of their size.
        self._transpose_kernels()
        if scribbles is not None:
            scribbles = [drawn.T for drawn in scribbles]
        on_transposed: OnRawLabels | None = None
        if on_labels is not None:
            tell = on_labels

            def on_transposed(iteration: int, present: int, labels: Tensor) -> None:
                tell(iteration, present, labels.T)

        try:
            levels = [level.transpose(2, 3) for level in levels]
            fit = self._go_on(levels, threshold, limit, on_iteration, scribbles, on_transposed)
        finally:
            self._transpose_kernels()
        fit.labels = fit.labels.T
        return fit

    @property
    def keeps_memory(self) -> bool:
        """Whether there is something to `forget`."""
        return bool(self._captured)

    def forget(self) -> None:
        """Give up the memory that is kept for images to come."""
        if self._captured:
            self._captured.clear()
            release_memory(self._device)

    def _go_on(
        self,
        levels: Sequence[Tensor],
        threshold: int,
        most: int,
        on_iteration: OnIteration | None,
        scribbles: Sequence[Tensor] | None,
        on_labels: OnRawLabels | None,
    ) -> Fit:
        fit = Fit(torch.empty(0))
        drawn = [None] * len(levels) if scribbles is None else scribbles
        for image, on_it, more in zip(levels, drawn, range(len(levels) - 1, -1, -1), strict=True):
            before = sum(fit.iterations)
            left = most - before
            limit = left // 2 if more else left
            if limit == 0:
                fit.iterations.append(0)
                continue

            iteration = self._iteration(*image.shape[2:], scribbled=on_it is not None)

            def watch(status: Status, before: int = before, iteration: Iteration = iteration) -> None:
                if on_iteration is not None:
                    on_iteration(before + status.iterations, status.present)
                if on_labels is not None:
                    on_labels(before + status.iterations, status.present, iteration.trajectory.labels)

            end = iteration.run(image, threshold, limit, watch, on_it, every=on_labels is not None)
            fit.add_level(iteration.trajectory)
            if end == "diverged":
                raise DivergedError(
                    f"the loss became {fit.loss[-1]} in iteration {len(fit.loss)}; try --precision float32"
                )
            fit.stop_reason = end
        return fit

    @torch.no_grad()
    def _transpose_kernels(self) -> None:
        assert isinstance(self._network, SegmentationNetwork)
        for convolution in self._network.feature_convolutions:
            convolution.weight.copy_(convolution.weight.transpose(2, 3).clone())

    def _iteration(self, height: int, width: int, *, scribbled: bool) -> Iteration:
        kind = height, width, scribbled
        if kind in self._captured:
            return self._captured[kind]
        if sum(h * w for h, w, _ in (*self._captured, kind)) > CAPTURED_PIXELS:
            # All at once: to destroy one graph may free what another on the same stream works with.
            self.forget()
        iteration = self._new_iteration(height, width, scribbled=scribbled)
        if isinstance(iteration, CapturedIteration):
            self._captured[kind] = iteration
        return iteration

    def _new_iteration(self, height: int, width: int, *, scribbled: bool) -> Iteration:
        # So many pixels keep a device busy without a graph, whose memory comes on top.
        if not self._captures or height * width > CAPTURED_PIXELS:
            return Iteration(*self._parts(height, width, scribbled=scribbled))
        try:
            return CapturedIteration(*self._parts(height, width, scribbled=scribbled))
        except Exception as error:
            # Kernels and graph are for speed alone: whatever a driver or a missing compiler makes of them costs that.
            if is_out_of_memory(error):
                raise
            fused = self._kernels and not scribbled
            lost = "fused kernels" if fused else "a captured graph"
            _log.warning("%s: without %s, and slower for it: %s", self._device, lost, error)
            if fused:
                self._kernels = False
            else:
                self._captures = False
        return self._new_iteration(height, width, scribbled=scribbled)

    def _parts(
        self, height: int, width: int, *, scribbled: bool
    ) -> tuple[TrainingStep, Callable[[], None], Trajectory]:
        trajectory = Trajectory(height, width, self._config, self._device)
        return self._step(height, width, scribbled=scribbled), partial(self._update, trajectory.ended), trajectory

    def _step(self, height: int, width: int, *, scribbled: bool) -> TrainingStep:
        if self._config.literal or not isinstance(self._network, SegmentationNetwork):
            return AutogradStep(self._network, self._config, self._dtype)
        if self._kernels and not scribbled:  # the kernels know no scribble loss
            from .fused_step import FusedStep  # noqa: PLC0415 - imports Triton, which only CUDA needs

            return FusedStep(self._network, height, width, self._config, self._dtype)
        return BandedStep(self._network, height, width, self._config, self._dtype, scribbled=scribbled)

    @torch.no_grad()
    def _update(self, ended: Tensor) -> None:
        """One step of stochastic gradient descent; the fused one leaves everything as it is where `ended` is 1."""
        config = self._config
        fused = not config.literal and self._device.type in ("cpu", "cuda")
        # Not the class around this function: making one imports torch's compiler, a second before the first image.
        sgd(
            self._trained,
            [parameter.grad for parameter in self._trained if parameter.grad is not None],
            [*self.momenta],
            fused=fused,
            foreach=False if fused else None,
            found_inf=ended if fused else None,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            lr=config.learning_rate,
            dampening=0,
            nesterov=False,
            maximize=False,
        )


def captures(device: torch.device, config: SegmentConfig) -> bool:
    """Whether the iterations run as a recorded graph. Autograd's do not: it waits for the device."""
    return device.type == "cuda" and not config.literal and config.backbone == "cnn"

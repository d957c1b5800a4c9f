"""The optimisation of the network on one image (III-A, III-C)."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from .alignment import CHANNEL_MULTIPLE, rounded_up
from .captured import CapturedIteration, CaptureError
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

MOST_VALUES = 1 << 31
"""Limit on the values in a feature map on a CUDA device: convolutions of larger maps have failed in the libraries."""

STRICT = "DYNASEG_STRICT"
"""Environment variable. If it is set to anything but 0, errors in fused kernels and in capturing a graph are raised.
Otherwise the fit continues without them, more slowly."""

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
    fused: bool = False
    """Whether all iterations ran on fused kernels."""
    captured: bool = False
    """Whether all iterations were replayed from a graph."""

    def add_level(self, iteration: Iteration, *, captured: bool) -> None:
        """Take over what a level's iterations found."""
        self.fused = iteration.step.fused and (self.fused or not self.present)
        self.captured = captured and (self.captured or not self.present)
        records = iteration.trajectory.records()
        self.labels = iteration.trajectory.labels.clone()
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
        self._kernels_ran = False
        self._widest = rounded_up(max(network.classifier.weight.shape[:2]), CHANNEL_MULTIPLE)
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

            every = on_labels is not None
            end = iteration.run(image, threshold, limit, watch, on_it, every=every)
            fit.add_level(iteration, captured=isinstance(iteration, CapturedIteration) and not every)
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
        if self._device.type == "cuda" and (height + 2) * (width + 2) * self._widest > MOST_VALUES:
            # Handled like running out of memory: the image is fitted at a smaller size.
            raise MemoryError(f"feature maps of {width} x {height} pixels have more than {MOST_VALUES} values")
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
        # Kernels and graph only save time: without a compiler or a suitable driver, the fit continues without them.
        parts = self._parts(height, width, scribbled=scribbled)
        fused = parts[0].fused
        try:
            # So many pixels keep a device busy without a graph, whose memory comes on top.
            if self._captures and height * width <= CAPTURED_PIXELS:
                iteration: Iteration = CapturedIteration(*parts)
            else:
                iteration = Iteration(*parts)
                if fused and not self._kernels_ran:
                    iteration.rehearse()
        except CaptureError as error:
            self._captures = False
            self._go_on_without("a captured graph", error)
        except Exception as error:
            if not fused or is_out_of_memory(error):
                raise
            self._kernels = False
            self._go_on_without("fused kernels", error)
        else:
            self._kernels_ran = self._kernels_ran or fused
            return iteration
        return self._new_iteration(height, width, scribbled=scribbled)

    def _go_on_without(self, lost: str, error: Exception) -> None:
        if os.environ.get(STRICT, "0") not in ("", "0"):
            raise error
        _log.warning("%s: without %s, and slower for it: %s", self._device, lost, error)

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

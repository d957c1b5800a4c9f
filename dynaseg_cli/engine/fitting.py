"""The optimisation of the network on one image (III-A, III-C)."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from .banded_step import BandedStep
from .cuda.graph import CapturedIteration, CaptureError
from .device import allocator_lock, has_triton, is_out_of_memory, memory_is_low, release_memory, warn_or_raise
from .iteration import Iteration, RecordedStep, Status, Step, Trajectory
from .networks import CHANNEL_MULTIPLE, Network, rounded_up
from .precision import precision_name
from .scribbles import assign_channels
from .segmentation import FitLevel, FitRecord
from .training_step import AutogradStep, TrainingStep

CAPTURED_PIXELS = 1 << 20
"""Limit on the pixels of an image whose iteration is captured in a graph, which keeps about 3 kB of device memory for
each. A larger image keeps the device busy without a graph."""

MOST_VALUES = 1 << 31
"""Limit on the values in a feature map on a CUDA device: convolutions of larger maps have failed in the libraries."""

_preparing = threading.Lock()
"""Held while an iteration is made ready, so that threads do not compile the same kernels at once."""

Watch = Callable[[int, int, Tensor], None]
"""Called with the iteration (from 1), q' and the (h, w) int64 raw labels on the device; an exception ends the fit."""


class Fit(NamedTuple):
    """Result of a fit, besides the fitted network."""

    labels: Tensor
    """(h, w) int64 on the device: raw argmax of the last iteration, in 0..q-1."""
    record: FitRecord


class Fitter:
    """Optimises one network on image after image, each time from the weights it had at the start, or from given ones.

    Parameters
    ----------
    network : float32, on its device.
    dtype : of the feature maps.
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
        """One per trained parameter, in their order."""
        self._captured: dict[tuple[int, int, bool], CapturedIteration] = {}

    def fit(
        self,
        levels: Sequence[Tensor],
        threshold: int,
        watch: Watch = lambda iteration, present, labels: None,
        scribbles: Sequence[Tensor] | None = None,
        *,
        every: bool = False,
        start: Mapping[str, Tensor] | None = None,
    ) -> Fit:
        """Optimise the network on an image at growing sizes, one after another, until a stop rule holds on each.

        Most labels vanish on the small sizes, at a fraction of the cost. A level ends as `Trajectory` says; each but
        the last takes at most half of the iterations left. The network is left as the last iteration evaluated it.

        Parameters
        ----------
        levels : (1, 3, h, w) float32, as `to_input` makes them.
        watch : called when the host knows how far the fit is.
        scribbles : (h, w) int64 for each level, labels and `FREE`.
        every : call `watch` after every iteration, which makes the host wait for the device.
        start : weights to start from, as `weights` gave them, instead of the initial ones.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        if start is None:
            self._restart()
        else:
            self._network.load_state_dict(start)
        torch._foreach_zero_(self.momenta)
        if scribbles is not None:
            assign_channels(self._network.train(), levels[0], scribbles[0])
        patience = self._config.patience_for(scribbled=scribbles is not None, follows=start is not None)
        limit = self._config.iterations
        return self.continue_fit(levels, threshold, limit, watch, scribbles, every=every, patience=patience)

    def continue_fit(
        self,
        levels: Sequence[Tensor],
        threshold: int,
        limit: int,
        watch: Watch = lambda iteration, present, labels: None,
        scribbles: Sequence[Tensor] | None = None,
        *,
        every: bool = False,
        patience: int | None = None,
    ) -> Fit:
        """Like `fit`, for at most `limit` iterations, from the current weights and momenta.

        `patience` is that of the options unless given.
        """
        self._network.train()
        height, width = levels[-1].shape[2:]
        if height <= width or not self._captures:
            return self._fit_levels(levels, threshold, limit, watch, scribbles, every=every, patience=patience)
        # Portraits are transposed, and the kernels with them, so that they share the graph of landscapes.
        self._transpose_kernels()
        try:
            labels, record = self._fit_levels(
                [level.transpose(2, 3) for level in levels],
                threshold,
                limit,
                lambda iteration, present, labels: watch(iteration, present, labels.T),
                None if scribbles is None else [drawn.T for drawn in scribbles],
                every=every,
                patience=patience,
            )
        finally:
            self._transpose_kernels()
        upright = [FitLevel(level.height, level.width, level.iterations) for level in record.levels]
        return Fit(labels.T, dataclasses.replace(record, levels=upright))

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's weights and statistics as they are now, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self._network.state_dict().items()}

    def fits(self, weights: Mapping[str, Tensor]) -> bool:
        """Whether weights are of a network like this one; those of a GPU, where channels are padded, may not be."""
        own = self._initial
        return own.keys() == weights.keys() and all(own[name].shape == value.shape for name, value in weights.items())

    @property
    def keeps_memory(self) -> bool:
        """Whether `forget` would free memory."""
        return bool(self._captured)

    def forget(self) -> None:
        """Free the memory that is kept for later images."""
        self._give_up([*self._captured])

    def _fit_levels(
        self,
        levels: Sequence[Tensor],
        threshold: int,
        limit: int,
        watch: Watch,
        scribbles: Sequence[Tensor] | None,
        *,
        every: bool,
        patience: int | None,
    ) -> Fit:
        record = FitRecord(threshold, precision_name(self._dtype), fused=True, captured=not every)
        labels = torch.empty(0)
        for index, image in enumerate(levels):
            height, width = image.shape[2:]
            drawn = None if scribbles is None else scribbles[index]
            before = record.iterations
            most = limit - before if index == len(levels) - 1 else (limit - before) // 2
            if most == 0:
                record.levels.append(FitLevel(width, height, 0))
                continue
            iteration = self._iteration(height, width, scribbled=drawn is not None)
            labels = iteration.trajectory.labels

            def report(status: Status, before: int = before, labels: Tensor = labels) -> None:
                watch(before + status.iterations, status.present, labels)

            end = iteration.run(image, threshold, most, report, drawn, every=every, patience=patience)
            for present, loss, similarity, continuity, changed in iteration.trajectory.records():
                record.labels_per_iteration.append(int(present))
                record.loss.append(loss)
                record.similarity_loss.append(similarity)
                record.continuity_loss.append(continuity)
                record.changed_fraction.append(changed)
            if end == "diverged":
                raise DivergedError(
                    f"the loss became {record.loss[-1]} in iteration {record.iterations}; try `precision=float32`"
                )
            record.levels.append(FitLevel(width, height, record.iterations - before))
            record = dataclasses.replace(
                record,
                stop_reason=end,
                fused=record.fused and iteration.step.fused,
                captured=record.captured and isinstance(iteration, CapturedIteration),
            )
        return Fit(labels.clone(), record)

    @torch.no_grad()
    def _restart(self) -> None:
        """Set the initial weights, all of a dtype at once instead of each by a launch of its own."""
        own = self._network.state_dict()
        for dtype in {value.dtype for value in own.values()}:
            names = [name for name in own if own[name].dtype == dtype]
            torch._foreach_copy_([own[name] for name in names], [self._initial[name] for name in names])

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
            self._captured[kind] = self._captured.pop(kind)  # the last one is the one used last
            return self._captured[kind]
        self._make_room()
        with _preparing:
            iteration = self._new_iteration(height, width, scribbled=scribbled)
        if isinstance(iteration, CapturedIteration):
            self._captured[kind] = iteration
        return iteration

    def _make_room(self) -> None:
        """Where memory is low, give up half of the sizes, those used least recently."""
        if self._captured and memory_is_low(self._device):
            self._give_up([*self._captured][: (len(self._captured) + 1) // 2])

    def _give_up(self, kinds: Sequence[tuple[int, int, bool]]) -> None:
        if kinds:
            with allocator_lock:
                for kind in kinds:
                    del self._captured[kind]
            release_memory(self._device)

    def _new_iteration(self, height: int, width: int, *, scribbled: bool) -> Iteration:
        """The fastest iteration that works here. Without a compiler or a suitable driver there is a slower one."""
        trajectory = Trajectory(height, width, self._config, self._device, scribbled=scribbled)
        # The kernels compute the CNN alone, without the loss of scribbles.
        fused = self._kernels and self._is_by_hand and not scribbled
        try:
            step = self._fused_step(trajectory) if fused else self._plain_step(trajectory, scribbled=scribbled)
            if self._captures and height * width <= CAPTURED_PIXELS:
                beside = next(iter(self._captured.values()), None)
                iteration: Iteration = CapturedIteration(step, trajectory, beside)
            else:
                iteration = Iteration(step, trajectory)
                if fused and not self._kernels_ran:
                    iteration.rehearse()
        except CaptureError as error:
            self._captures = False
            warn_or_raise(self._device, "a captured graph", error)
        except Exception as error:
            if not fused or is_out_of_memory(error):
                raise
            self._kernels = False
            warn_or_raise(self._device, "fused kernels", error)
        else:
            self._kernels_ran = self._kernels_ran or fused
            return iteration
        return self._new_iteration(height, width, scribbled=scribbled)

    @property
    def _is_by_hand(self) -> bool:
        """Whether there are steps for this network whose gradients are written by hand."""
        network = self._network
        return not self._config.literal and isinstance(network, SegmentationNetwork) and not network.beside

    def _fused_step(self, trajectory: Trajectory) -> Step:
        from .cuda.fused_step import FusedStep  # noqa: PLC0415 - imports Triton, which only CUDA needs

        assert isinstance(self._network, SegmentationNetwork)
        return FusedStep(self._network, self.momenta, trajectory, self._config, self._dtype)

    def _plain_step(self, trajectory: Trajectory, *, scribbled: bool) -> Step:
        step: TrainingStep
        if self._is_by_hand:
            assert isinstance(self._network, SegmentationNetwork)
            height, width = trajectory.labels.shape
            step = BandedStep(self._network, height, width, self._config, self._dtype, scribbled=scribbled)
        else:
            step = AutogradStep(self._network, self._config, self._dtype)
        update = partial(descend, self._trained, self.momenta, self._config, trajectory.ended)
        return RecordedStep(step, trajectory, update)


@torch.no_grad()
def descend(parameters: list[Tensor], momenta: list[Tensor], config: SegmentConfig, ended: Tensor) -> None:
    """One step of stochastic gradient descent. The fused one changes nothing if `ended`, float32 of shape (), is 1."""
    fused = not config.literal and ended.device.type in ("cpu", "cuda")
    # The function, not the class: creating an optimiser imports torch's compiler, which takes a second.
    sgd(
        parameters,
        [parameter.grad for parameter in parameters if parameter.grad is not None],
        [*momenta],
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
    """Whether iterations are captured in a CUDA graph. Autograd's are not, because they wait for the device."""
    return device.type == "cuda" and not config.literal and config.backbone == "cnn"

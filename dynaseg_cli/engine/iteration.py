"""The loop over the iterations on one image: when it ends, and what it records.

Records and stop rules live on the device, so that an iteration need not wait for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ..config import SegmentConfig
from .segmentation import StopReason
from .training_step import Objective, TrainingStep

End = StopReason | Literal["diverged"]

ENDS: tuple[End | None, ...] = (None, "threshold", "converged", "iterations", "diverged")
"""Reasons to end by their code on the device; None while the loop goes on."""


class Status(NamedTuple):
    """Progress as the host sees it."""

    end: End | None
    iterations: int
    present: int
    """q' of the last iteration."""


class State(IntEnum):
    """Places in `Trajectory.state`. Those of a `Status` come first."""

    END = 0
    ITERATIONS = 1
    PRESENT = 2
    FEWEST = 3
    SINCE_FEWEST = 4
    THRESHOLD = 5
    LIMIT = 6
    PATIENCE = 7


class Trajectory:
    """One row of figures per iteration, the labels of the last one, and the stop rules.

    The loop ends when the loss is not finite, when at most `threshold` labels are left (III-C.2), when q' has reached
    no new low for `config.patience_for` iterations, or after `limit` iterations. From then on `take` changes nothing.

    Parameters
    ----------
    height, width : of the images.
    scribbled : whether something is drawn on them.
    """

    def __init__(
        self, height: int, width: int, config: SegmentConfig, device: torch.device, *, scribbled: bool = False
    ) -> None:
        self._usual_patience = config.patience_for(scribbled=scribbled)
        self._longest_patience = config.iterations + 1
        self._most = config.clusters + 1
        self.state = torch.zeros(len(State), dtype=torch.int64, device=device)
        """The end's code, iterations, q', the fewest labels so far and since how many iterations, and what ends the
        loop: threshold, limit and patience."""
        self._end, self._iterations, self._present, self._fewest, self._since_fewest, *given = self.state.unbind()
        self.threshold, self._limit, self._patience = given
        self.ended = torch.zeros((), device=device)
        """float32, shape (), 1 after the end. Passed as found_inf, it makes a fused optimiser skip its update."""
        self.labels = torch.zeros((height, width), dtype=torch.int64, device=device)
        """(H, W), raw argmax of the last iteration, in 0..q-1; -1 before the first."""
        # The additional last row receives what `take` computes after the end.
        self.rows = torch.zeros((config.iterations + 1, 5), device=device)
        """What `records` returns, float32."""
        # Constants that are already on the device: copying one there would make the host wait.
        self._last_row = torch.full((), config.iterations, device=device)
        self._codes = torch.arange(len(ENDS), device=device).unbind()

    def begin(self, threshold: int, limit: int, patience: int | None = None) -> None:
        """Start over; `limit` is at most `config.iterations`, and `patience` that of the config unless given."""
        self.state.zero_()
        self.ended.zero_()
        self.threshold.fill_(threshold)
        self._limit.fill_(limit)
        self._patience.fill_((self._usual_patience if patience is None else patience) or self._longest_patience)
        self._fewest.fill_(self._most)
        self.labels.fill_(-1)

    def halt(self) -> None:
        """Record nothing until the next `begin`, as after the end."""
        self.ended.fill_(1)
        self._end.fill_(ENDS.index("iterations"))

    def take(self, objective: Objective) -> None:
        """Record an iteration, and decide whether it was the last. `cuda.objective_kernels` does the same."""
        going = self._end == 0
        present = objective.present
        changed = (objective.labels != self.labels).float().mean()
        scalars = (present, objective.loss, objective.similarity, objective.continuity, changed)
        row = torch.where(going, self._iterations, self._last_row)
        self.rows.index_copy_(0, row[None], torch.stack([scalar.float() for scalar in scalars])[None])
        self.labels.copy_(torch.where(going, objective.labels, self.labels))
        self._present.copy_(torch.where(going, present, self._present))
        self._iterations += going
        self._since_fewest.add_(1).mul_(present >= self._fewest)
        self._fewest.copy_(torch.minimum(self._fewest, present))
        # Each rule overrides those before it.
        going_on, threshold, converged, iterations, diverged = self._codes
        end = torch.where(self._iterations >= self._limit, iterations, going_on)
        end = torch.where(self._since_fewest >= self._patience, converged, end)
        end = torch.where(present <= self.threshold, threshold, end)
        end = torch.where(objective.loss.isfinite(), end, diverged)
        self._end.copy_(torch.where(going, end, self._end))
        self.ended.copy_(self._end != 0)

    def status(self) -> Tensor:
        """(3,) int64 on the device, for `read_status`."""
        return self.state[: State.PRESENT + 1]

    def records(self) -> list[list[float]]:
        """One row per iteration: q', loss, similarity loss, continuity loss, fraction of labels that changed."""
        return self.rows[: int(self._iterations)].tolist()


def read_status(status: Tensor) -> Status:
    """Copy a status to the host, which waits for the device."""
    end, iterations, present = status.tolist()
    return Status(ENDS[end], iterations, present)


class Step(Protocol):
    """The two halves of an iteration, made for one network, image size and trajectory."""

    fused: bool
    """Whether it uses the fused CUDA kernels."""

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        """As in `TrainingStep`; the network may have changed since the last image."""

    def evaluate(self) -> None:
        """Compute labels and loss, and record them in the trajectory."""

    def descend(self) -> None:
        """Change the network by the gradients of the loss evaluated last, unless the trajectory has ended."""


class RecordedStep:
    """A `Step` of plain operations.

    Parameters
    ----------
    update : changes the network by its gradients; does nothing once the trajectory has ended.
    """

    fused = False

    def __init__(self, step: TrainingStep, trajectory: Trajectory, update: Callable[[], None]) -> None:
        self._step = step
        self._trajectory = trajectory
        self._update = update

    def load(self, image: Tensor, scribbles: Tensor | None = None) -> None:
        self._step.load(image, scribbles)

    def evaluate(self) -> None:
        self._trajectory.take(self._step.evaluate(self._trajectory.threshold))

    def descend(self) -> None:
        self._step.backward()
        self._update()


class Iteration:
    """One iteration, repeated: response, labels and loss, their record, gradients, and an update of the network."""

    def __init__(self, step: Step, trajectory: Trajectory) -> None:
        self.step = step
        self.trajectory = trajectory

    def run(
        self,
        image: Tensor,
        threshold: int,
        limit: int,
        watch: Callable[[Status], None],
        scribbles: Tensor | None = None,
        *,
        every: bool = False,
        patience: int | None = None,
    ) -> End:
        """Iterate on an image, (1, 3, H, W), until the trajectory ends.

        `watch` gets each status that the host reads; an exception it raises ends the loop. With `every`, it is called
        after every iteration, before the next one changes anything. `scribbles` are as in `TrainingStep.load`, and
        `patience` as in `Trajectory.begin`.
        """
        self.step.load(image, scribbles)
        self.trajectory.begin(threshold, limit, patience)
        return self._one_by_one(watch) if every else self._loop(limit, watch)

    def rehearse(self) -> None:
        """Iterate once without changing the network's parameters.

        This compiles the kernels and lets the libraries choose their algorithms.
        """
        self.trajectory.halt()
        self._evaluate_and_descend()

    def _loop(self, limit: int, watch: Callable[[Status], None]) -> End:
        return self._one_by_one(watch)

    def _one_by_one(self, watch: Callable[[Status], None]) -> End:
        while True:
            self.step.evaluate()
            status = read_status(self.trajectory.status())
            watch(status)
            if status.end is not None:
                return status.end
            self.step.descend()

    def _evaluate_and_descend(self) -> None:
        self.step.evaluate()
        self.step.descend()

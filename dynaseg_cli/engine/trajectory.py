"""What the iterations on an image found and when they end, kept on the device: it need not wait for the host."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..config import SegmentConfig
from .objective import Objective
from .segmentation import StopReason

End = StopReason | Literal["diverged"]

ENDS: tuple[End | None, ...] = (None, "threshold", "converged", "iterations", "diverged")
"""By the number that stands for them on the device; None while it goes on."""


class Status(NamedTuple):
    """How far it got."""

    end: End | None
    iterations: int
    present: int
    """q' of the last one."""


class Trajectory:
    """One number an iteration of everything that is recorded, the last labels, and the stop rules.

    It ends when the loss is no longer a finite number, when no more than `threshold` labels are left (III-C.2), when q'
    has reached no new low for `config.patience` iterations in a row, or after `limit` iterations. From then on `take`
    changes nothing.

    Parameters
    ----------
    height, width : of the images.
    """

    def __init__(self, height: int, width: int, config: SegmentConfig, device: torch.device) -> None:
        def number() -> Tensor:
            return torch.zeros((), dtype=torch.int64, device=device)

        self._patience = config.patience or config.iterations + 1
        self._most = config.clusters + 1
        self.threshold = number()
        """int64, shape ()."""
        self.ended = torch.zeros((), device=device)
        """float32, shape (), 1 from the end on: while its found_inf is 1, a fused optimiser changes nothing."""
        self.labels = torch.zeros((height, width), dtype=torch.int64, device=device)
        """(H, W), the raw argmax of the last iteration, in 0..q-1."""
        self._limit, self._end, self._iterations = number(), number(), number()
        self._present, self._fewest, self._since_fewest = number(), number(), number()
        # One row more: where that is written which is computed after the end.
        self._records = torch.zeros((config.iterations + 1, 5), device=device)
        # Numbers that are on the device: to bring one there would make the host wait.
        self._last_row = number().fill_(config.iterations)
        self._codes = torch.arange(len(ENDS), device=device).unbind()

    def begin(self, threshold: int, limit: int) -> None:
        """Start anew; `limit` is at most `config.iterations`."""
        for number in (self.ended, self._end, self._iterations, self._since_fewest):
            number.zero_()
        self.threshold.fill_(threshold)
        self._limit.fill_(limit)
        self._fewest.fill_(self._most)
        self.labels.fill_(-1)

    def halt(self) -> None:
        """As if it had ended: nothing is recorded until it begins."""
        self.ended.fill_(1)
        self._end.fill_(ENDS.index("iterations"))

    def take(self, objective: Objective) -> None:
        """Record an iteration, and note whether it was the last."""
        going = self._end == 0
        present = objective.present
        changed = (objective.labels != self.labels).float().mean()
        scalars = (present, objective.loss, objective.similarity, objective.continuity, changed)
        row = torch.where(going, self._iterations, self._last_row)
        self._records.index_copy_(0, row[None], torch.stack([scalar.float() for scalar in scalars])[None])
        self.labels.copy_(torch.where(going, objective.labels, self.labels))
        self._present.copy_(torch.where(going, present, self._present))
        self._iterations += going
        self._since_fewest.add_(1).mul_(present >= self._fewest)
        self._fewest.copy_(torch.minimum(self._fewest, present))
        # The first rule that holds, by its place in ENDS; 0 if none does.
        going_on, threshold, converged, iterations, diverged = self._codes
        end = torch.where(self._iterations >= self._limit, iterations, going_on)
        end = torch.where(self._since_fewest >= self._patience, converged, end)
        end = torch.where(present <= self.threshold, threshold, end)
        end = torch.where(objective.loss.isfinite(), end, diverged)
        self._end.copy_(torch.where(going, end, self._end))
        self.ended.copy_(self._end != 0)

    def status(self) -> Tensor:
        """What `read_status` understands, (3,) int64 on the device."""
        return torch.stack((self._end, self._iterations, self._present))

    def records(self) -> list[list[float]]:
        """A row an iteration so far: q', loss, similarity loss, continuity loss, fraction of labels that changed."""
        return self._records[: int(self._iterations)].tolist()


def read_status(status: Tensor) -> Status:
    """Take a status to the host, which waits for the device."""
    end, iterations, present = status.tolist()
    return Status(ENDS[end], iterations, present)

"""The optimisation of the network on one image (III-A, III-C), and when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from .objective import Objective
from .segmentation import StopReason
from .training_step import BandedStep, LiteralStep, TrainingStep

OnIteration = Callable[[int, int], None]
"""Called with the iteration (from 1) and q' after each one; whatever it raises ends the fit."""


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

    def record(self, objective: Objective) -> int:
        """Take over an iteration's labels and numbers, in one transfer from the device, and return q'."""
        changed = (objective.labels != self.labels).float().mean()
        self.labels = objective.labels
        scalars = (objective.present, objective.loss, objective.similarity, objective.continuity, changed)
        present, loss, similarity, continuity, fraction = torch.stack([s.float() for s in scalars]).tolist()
        self.present.append(int(present))
        self.loss.append(loss)
        self.similarity.append(similarity)
        self.continuity.append(continuity)
        self.changed.append(fraction)
        return self.present[-1]


def fit_network(
    network: SegmentationNetwork,
    levels: Sequence[Tensor],
    config: SegmentConfig,
    threshold: int,
    dtype: torch.dtype,
    on_iteration: OnIteration | None = None,
) -> Fit:
    """Optimise `network` on (1, 3, h, w) float32 images, one after another, until a stop rule holds on each.

    The levels are one image at growing sizes: most of the labels vanish on the small ones, at a fraction of the cost.
    A level ends when no more than `threshold` labels are left (III-C.2), when q' has reached no new low for
    `config.patience` iterations in a row, or after T iterations in all; a level that is not the last takes at most half
    of those left.

    Raises
    ------
    DivergedError
        If the loss is no longer a finite number.
    """
    optimiser = torch.optim.SGD(
        network.parameters(),
        config.learning_rate,
        config.momentum,
        weight_decay=config.weight_decay,
        fused=not config.literal and levels[0].device.type in ("cpu", "cuda"),
    )
    network.train()
    fit = Fit(torch.empty(0))
    for image, more in zip(levels, range(len(levels) - 1, -1, -1), strict=True):
        before = len(fit.present)
        end = before + (config.iterations - before) // 2 if more else config.iterations
        step: TrainingStep = (LiteralStep if config.literal else BandedStep)(network, image, config, dtype)
        fit.labels = torch.full(image.shape[2:], -1, dtype=torch.int64, device=image.device)
        fewest, since_fewest = config.clusters + 1, 0
        fit.stop_reason = "iterations"
        while len(fit.present) < end:
            objective = step.evaluate(threshold)
            present = fit.record(objective)
            if on_iteration is not None:
                on_iteration(len(fit.present), present)
            if not math.isfinite(fit.loss[-1]):
                raise DivergedError(
                    f"the loss became {fit.loss[-1]} in iteration {len(fit.present)}; try --precision float32"
                )
            fewest, since_fewest = (present, 0) if present < fewest else (fewest, since_fewest + 1)
            if present <= threshold:
                fit.stop_reason = "threshold"
                break
            if config.patience and since_fewest >= config.patience:
                fit.stop_reason = "converged"
                break
            if len(fit.present) < config.iterations:
                step.backward()
                optimiser.step()
        fit.iterations.append(len(fit.present) - before)
    return fit

"""The optimisation of the network on one image (III-A, III-C), and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config import SegmentConfig
from ..errors import DivergedError
from ..method.network import SegmentationNetwork
from .objective import evaluate_objective
from .segmentation import StopReason

OnIteration = Callable[[int, int], None]
"""Called with the iteration (from 1) and q' after each one; whatever it raises ends the fit."""


@dataclass
class Fit:
    """The last iteration's labels and what happened on the way; the network stays as that iteration trained it."""

    labels: Tensor
    """(h, w) int64 on the device, raw argmax in 0..q-1."""
    stop_reason: StopReason = "iterations"
    present: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    continuity: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)


def fit_network(
    network: SegmentationNetwork,
    image: Tensor,
    config: SegmentConfig,
    threshold: int,
    dtype: torch.dtype,
    on_iteration: OnIteration | None = None,
) -> Fit:
    """Optimise `network` on a (1, 3, h, w) float32 image until a stop rule holds.

    It stops when no more than `threshold` labels are left (III-C.2), when q' has reached no new low for
    `config.patience` iterations in a row, or after T iterations.

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
        fused=image.device.type in ("cpu", "cuda"),
    )
    network.train()
    fit = Fit(torch.full(image.shape[2:], -1, dtype=torch.int64, device=image.device))
    fewest, since_fewest = config.clusters + 1, 0
    for iteration in range(1, config.iterations + 1):
        with torch.autocast(image.device.type, dtype, enabled=dtype != torch.float32):
            response = network(image)
        objective = evaluate_objective(response, config.mode, config.weight, threshold)
        changed = (objective.labels != fit.labels).sum()
        fit.labels = objective.labels
        # The one transfer of an iteration: everything the stop rules and the record need.
        scalars = (objective.present, objective.loss.detach(), objective.similarity, objective.continuity, changed)
        count, loss, similarity, continuity, moved = torch.stack([s.double() for s in scalars]).tolist()
        present = int(count)
        fit.present.append(present)
        fit.loss.append(loss)
        fit.similarity.append(similarity)
        fit.continuity.append(continuity)
        fit.changed.append(moved / fit.labels.numel())
        if on_iteration is not None:
            on_iteration(iteration, present)
        if loss - loss != 0:
            raise DivergedError(f"the loss became {loss} in iteration {iteration}; try --precision float32")
        fewest, since_fewest = (present, 0) if present < fewest else (fewest, since_fewest + 1)
        if present <= threshold:
            fit.stop_reason = "threshold"
            break
        if config.patience and since_fewest >= config.patience:
            fit.stop_reason = "converged"
            break
        if iteration < config.iterations:
            optimiser.zero_grad()
            objective.loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return fit

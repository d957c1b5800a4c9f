"""A training step in float64 by the definitions, and the steps of the engine in the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dynaseg_cli.config import SCRIBBLE_WEIGHT, SegmentConfig
from dynaseg_cli.engine.banded_step import BandedStep
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.training_step import AutogradStep, Objective, TrainingStep
from dynaseg_cli.method.losses import continuity_loss, continuity_weight, scribble_loss, similarity_loss
from dynaseg_cli.method.network import SegmentationNetwork

CONFIG = SegmentConfig(blocks=3, features=12, clusters=9)
CPU = torch.device("cpu")
THRESHOLD = 2


def some_network(config: SegmentConfig) -> SegmentationNetwork:
    """A network whose scales and shifts are not 1 and 0, which would hide some mistakes."""
    network = SegmentationNetwork(config.blocks, config.features, config.clusters)
    network.initialise(config.seed)
    generator = torch.Generator().manual_seed(1)
    for norm in (*network.feature_norms, network.response_norm):
        torch.nn.init.uniform_(norm.weight, -0.5, 1.5, generator=generator)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5, generator=generator)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass
class Outcome:
    """Result of one iteration on a network."""

    loss: float
    labels: Tensor
    gradients: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @classmethod
    def of(cls, network: SegmentationNetwork, loss: Tensor, labels: Tensor) -> Outcome:
        gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        statistics = {name: buffer for name, buffer in network.named_buffers() if "running" in name}
        return cls(loss.item(), labels, gradients, statistics)


def by_definition(image: NDArray[np.uint8], config: SegmentConfig, scribbles: Tensor | None = None) -> Outcome:
    network = some_network(config).double()
    x = to_input(image, CPU).double()
    for convolution, norm in zip(network.feature_convolutions, network.feature_norms, strict=True):
        x = norm(torch.relu(convolution(x)))
    response = network.response_norm(network.classifier(x))
    labels = response.argmax(1)
    mu = continuity_weight(config.mode, config.weight, max(len(labels.unique()), THRESHOLD))
    drawn = None if scribbles is None else scribbles[None]
    loss = similarity_loss(response, labels, drawn) + mu * continuity_loss(response)
    if drawn is not None:
        loss = loss + SCRIBBLE_WEIGHT * scribble_loss(response, drawn)
    loss.backward()  # type: ignore[no-untyped-call]
    return Outcome.of(network, loss, labels[0])


def new_step(
    network: SegmentationNetwork,
    step: type[BandedStep] | type[AutogradStep],
    size: tuple[int, ...],
    config: SegmentConfig,
    dtype: torch.dtype,
    *,
    scribbled: bool = False,
) -> TrainingStep:
    if step is BandedStep:
        return step(network, *size, config, dtype, scribbled=scribbled)
    return AutogradStep(network, config, dtype)


def by_step(
    image: NDArray[np.uint8],
    config: SegmentConfig,
    step: type[BandedStep] | type[AutogradStep],
    dtype: torch.dtype,
    scribbles: Tensor | None = None,
) -> Outcome:
    network = some_network(config)
    taken = new_step(network, step, image.shape[:2], config, dtype, scribbled=scribbles is not None)
    for other in (image[::-1].copy(), image):  # the second must not remember the first
        drawn = None if scribbles is None else scribbles if other is image else scribbles.flip(0)
        taken.load(to_input(other, CPU), drawn)
        objective: Objective = taken.evaluate(torch.tensor(THRESHOLD))
        taken.backward()
    return Outcome.of(network, objective.loss, objective.labels)


def assert_same(actual: Outcome, expected: Outcome, tolerance: float) -> None:
    assert actual.loss == pytest.approx(expected.loss, rel=tolerance)
    assert actual.gradients.keys() == expected.gradients.keys()
    # The classifier's bias goes into a BatchNorm and has a gradient of 0: relative to what the others have.
    least = 0.005 * max(gradient.norm().item() for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        difference = (actual.gradients[name].double() - gradient).norm() / max(gradient.norm().item(), least)
        assert difference < tolerance, name
    for name, statistic in expected.statistics.items():
        torch.testing.assert_close(actual.statistics[name].double(), statistic, rtol=tolerance, atol=tolerance)


class NothingFromTheHost(TorchDispatchMode):
    """Refuses operations on tensors of the host: to bring one to a device, a host waits for it."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = [value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        assert all(tensor.device.type == "cuda" for tensor in tensors), func
        return func(*args, **(kwargs or {}))

"""The step for CUDA against network, formulas and autograd: on a CUDA device, and elsewhere under Triton's interpreter.

The interpreter must be chosen before Triton is imported: a process of its own runs this file again.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from step_samples import (
    CONFIG,
    THRESHOLD,
    NothingFromTheHost,
    Outcome,
    assert_same,
    by_definition,
    by_step,
    some_network,
)

from dynaseg_cli.config import Mode, SegmentConfig
from dynaseg_cli.engine import fitting as fitting_module
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.precision import exact_arithmetic
from dynaseg_cli.engine.training_step import AutogradStep
from dynaseg_cli.method.network import SegmentationNetwork

pytest.importorskip("triton", reason="no Triton for this platform: the step for CUDA is not tested")

from test_kernels import DEVICE, INTERPRETED, interpreted, on_device
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.runtime.jit import JITFunction

from dynaseg_cli.engine.cuda.fused_step import FusedStep


def by_fused_step(image: NDArray[np.uint8], config: SegmentConfig, dtype: torch.dtype) -> Outcome:
    network = some_network(config).to(DEVICE)
    step = FusedStep(network, *image.shape[:2], config, dtype)
    with exact_arithmetic():
        for other in (image[::-1].copy(), image):  # the second must not remember the first
            step.load(to_input(other, DEVICE))
            objective = step.evaluate(torch.tensor(THRESHOLD, device=DEVICE))
            step.backward()
    return Outcome.of(network.cpu(), objective.loss.cpu(), objective.labels.cpu())


@on_device
@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_float32_is_the_definition(photo: NDArray[np.uint8], mode: Mode) -> None:
    config = dataclasses.replace(CONFIG, mode=mode)
    expected = by_definition(photo, config)
    actual = by_fused_step(photo, config, torch.float32)
    assert torch.equal(actual.labels, expected.labels)
    assert_same(actual, expected, 2e-4)


@on_device
@pytest.mark.parametrize(("blocks", "features", "clusters"), [(1, 8, 16), (2, 24, 30), (4, 3, 5)])
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (7, 5)], ids=str)
def test_any_size_and_number_of_channels(
    photo: NDArray[np.uint8], size: tuple[int, int], blocks: int, features: int, clusters: int
) -> None:
    config = dataclasses.replace(CONFIG, blocks=blocks, features=features, clusters=clusters)
    image = photo[: size[0], : size[1]]
    assert_same(by_fused_step(image, config, torch.float32), by_definition(image, config), 2e-3)


@on_device
def test_bfloat16_is_no_further_from_the_definition_than_autograd(photo: NDArray[np.uint8]) -> None:
    expected = by_definition(photo, CONFIG)
    actual = by_fused_step(photo, CONFIG, torch.bfloat16)
    by_autograd = by_step(photo, CONFIG, AutogradStep, torch.bfloat16)
    assert (actual.labels == expected.labels).double().mean() > 0.97
    assert actual.loss == pytest.approx(expected.loss, rel=0.02)
    for name, gradient in expected.gradients.items():
        errors = [(outcome.gradients[name].double() - gradient).norm() for outcome in (actual, by_autograd)]
        assert errors[0] < 1.5 * errors[1] + 0.01 * gradient.norm(), name


@on_device
def test_a_fit_is_that_of_the_plain_operations(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    config = dataclasses.replace(CONFIG, iterations=4, patience=0, features=16)

    def losses(kernels: bool) -> list[float]:
        monkeypatch.setattr(fitting_module, "has_triton", lambda device: kernels)
        network = SegmentationNetwork(config.blocks, config.features, config.clusters)
        network.initialise(config.seed)
        fitter = Fitter(network.to(DEVICE, memory_format=torch.channels_last), config, torch.float32)  # type: ignore[call-overload]
        with exact_arithmetic():
            fit = fitter.fit([to_input(photo[:12, :16], DEVICE)], 1)
        assert fit.record.fused == kernels
        return fit.record.loss

    np.testing.assert_allclose(losses(kernels=True), losses(kernels=False), rtol=1e-4)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter launches nothing")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_iteration_never_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Like the test of this name for the plain step, without launching kernels."""
    launches: list[JITFunction[Any]] = []
    monkeypatch.setattr(JITFunction, "__getitem__", lambda kernel, grid: lambda *_, **__: launches.append(kernel))
    with FakeTensorMode():
        cuda = torch.device("cuda")
        with torch.device(cuda):
            network = SegmentationNetwork(3, 104, 100)
        step = FusedStep(network, 24, 32, CONFIG, dtype)
        step.load(torch.zeros(1, 3, 24, 32, device=cuda))
        threshold = torch.zeros((), dtype=torch.int64, device=cuda)
        with NothingFromTheHost():
            objective = step.evaluate(threshold)
            step.backward()
        assert objective.labels.device.type == "cuda"
    assert len(launches) == 3 * 3 + 2 + 2 + 1 + 3 + 3 * 4


@interpreted
def test_interpreted_step_is_the_definition() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout

"""The step for CUDA against network, formulas, autograd and the plain step, under Triton's interpreter or on a device.

`test_kernels` starts the process of the interpreter. On tensors that have a device but no values, this process looks at
what an iteration launches.
"""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections import Counter
from collections.abc import Iterator
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
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dynaseg_cli.config import Mode, SegmentConfig
from dynaseg_cli.engine import fitting as fitting_module
from dynaseg_cli.engine.banded_step import BandedStep
from dynaseg_cli.engine.fitting import Fitter
from dynaseg_cli.engine.iteration import RecordedStep, Step, Trajectory
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.precision import exact_arithmetic
from dynaseg_cli.engine.training_step import AutogradStep
from dynaseg_cli.method.network import SegmentationNetwork

pytest.importorskip("triton", reason="no Triton for this platform: the step for CUDA is not tested")

from test_kernels import DEVICE, INTERPRETED, on_device, unpadded
from triton.runtime.jit import JITFunction

from dynaseg_cli.engine.cuda import launching
from dynaseg_cli.engine.cuda.fused_step import FusedStep

NODES = 46
"""Of an iteration on a network of 3 blocks, as `launched_by` counts them."""


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs them one after another, and takes long to begin one."""
    if INTERPRETED:
        monkeypatch.setattr(launching, "MAXIMUM_SHARES", 3)


def by_fused_step(image: NDArray[np.uint8], config: SegmentConfig, dtype: torch.dtype) -> Outcome:
    network = some_network(config).to(DEVICE)
    trajectory = Trajectory(*image.shape[:2], config, DEVICE)
    step = FusedStep(network, [torch.zeros_like(value) for value in network.parameters()], trajectory, config, dtype)
    with exact_arithmetic():
        for other in (image[::-1].copy(), image):  # the second must not remember the first
            step.load(to_input(other, DEVICE))
            trajectory.begin(THRESHOLD, 1)
            step.evaluate()
            step.backward()
    for parameter in network.parameters():
        parameter.grad = unpadded(step.gradients[parameter], parameter).float().clone()
    return Outcome.of(network.cpu(), trajectory.rows[0, 1].cpu(), trajectory.labels.cpu())


@on_device
@pytest.mark.parametrize(
    ("size", "blocks", "features", "clusters", "mode"),
    [
        ((12, 16), 3, 12, 9, "scf"),
        ((1, 9), 1, 8, 16, "fsf"),
        ((9, 1), 2, 24, 30, "fixed"),
        ((7, 5), 4, 3, 5, "scf"),
    ],
    ids=str,
)
def test_float32_is_the_definition(
    photo: NDArray[np.uint8], size: tuple[int, int], blocks: int, features: int, clusters: int, mode: Mode
) -> None:
    config = dataclasses.replace(CONFIG, blocks=blocks, features=features, clusters=clusters, mode=mode)
    image = photo[: size[0], : size[1]]
    expected, actual = by_definition(image, config), by_fused_step(image, config, torch.float32)
    assert torch.equal(actual.labels, expected.labels)
    assert_same(actual, expected, 2e-3)


@on_device
def test_bfloat16_is_no_further_from_the_definition_than_autograd(photo: NDArray[np.uint8]) -> None:
    expected = by_definition(photo, CONFIG)
    actual = by_fused_step(photo, CONFIG, torch.bfloat16)
    by_autograd = by_step(photo, CONFIG, AutogradStep, torch.bfloat16)
    assert (actual.labels == expected.labels).double().mean() > 0.97
    assert actual.loss == pytest.approx(expected.loss, rel=0.02)
    # The shift of the last features goes into a BatchNorm and has a gradient of 0: relative to what the others have.
    least = 0.005 * max(gradient.norm().item() for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        errors = [(outcome.gradients[name].double() - gradient).norm() for outcome in (actual, by_autograd)]
        assert errors[0] < 1.5 * errors[1] + 0.01 * max(gradient.norm().item(), least), name


@on_device
@pytest.mark.parametrize("frozen", [False, True])
def test_fits_are_those_of_the_plain_operations(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8], frozen: bool
) -> None:
    """One after another, on weights and momenta that go on, as for a folder, whose last BatchNorm is not trained."""
    config = dataclasses.replace(CONFIG, iterations=2, patience=0, features=16, blocks=2)
    images = [to_input(photo[:8, :10], DEVICE), to_input(photo[8:16, :10], DEVICE)]

    def outcome(kernels: bool) -> list[Tensor]:
        monkeypatch.setattr(fitting_module, "has_triton", lambda device: kernels)
        network = SegmentationNetwork(config.blocks, config.features, config.clusters)
        network.initialise(config.seed)
        network.response_norm.requires_grad_(requires_grad=not frozen)
        fitter = Fitter(network.to(DEVICE, memory_format=torch.channels_last), config, torch.float32)  # type: ignore[call-overload]
        with exact_arithmetic():
            fits = [fitter.fit(images[:1], 1), fitter.continue_fit(images[1:], 1, 2)]
        assert all(fit.record.fused == kernels for fit in fits)
        losses = torch.tensor([fit.record.loss for fit in fits])
        return [losses, *network.state_dict().values(), *fitter.momenta]

    for actual, expected in zip(outcome(kernels=True), outcome(kernels=False), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


# --- On tensors without values ---------------------------------------------------------------------------------------

without_values = pytest.mark.skipif(INTERPRETED, reason="the interpreter needs values")


class Launches(TorchDispatchMode):
    """Counts what would be launched, and knows what was allocated and read meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: Counter[str] = Counter()
        self.allocated: list[weakref.ref[Tensor]] = []
        self.read: set[int] = set()
        """Storages, by address."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().removesuffix(".default")
        if "convolution" in name:
            # cuDNN gives results in the inputs' order of memory; torch's shape functions, without cuDNN, may not.
            result = torch.utils._pytree.tree_map_only(
                Tensor, lambda one: one.contiguous(memory_format=torch.channels_last), result
            )
        given = tensors_in((args, kwargs))
        before = {storage_of(tensor) for tensor in given}
        new = [tensor for tensor in tensors_in(result) if storage_of(tensor) not in before]
        self.allocated += map(weakref.ref, new)
        self.read |= before
        is_view = any(value.alias_info and not value.alias_info.is_write for value in func._schema.returns)
        if (
            name.startswith("aten::")
            and not is_view
            and "::empty" not in name
            and "::new_empty" not in name
            and name != "aten::_unsafe_view"
        ):
            self.nodes[name] += launched_by(name, args)
        return result

    def launch(self, kernel: JITFunction[Any], *args: Any) -> None:
        self.nodes[kernel.fn.__name__] += 1
        self.read |= {storage_of(tensor) for tensor in tensors_in(args)}


def launched_by(operation: str, args: tuple[Any, ...]) -> int:
    """Kernels that an operation of a library is assumed to launch.

    cuDNN's gradients with respect to input and weight are one each, and the latter clears a buffer before and rounds it
    afterwards. A product that sums over all pixels is split, and a second kernel adds up.
    """
    if operation == "aten::convolution_backward":
        return 4
    return 2 if operation.startswith("aten::mm") and args[0].shape[1] == 24 * 32 else 1


def tensors_in(values: object) -> list[Tensor]:
    return [value for value in torch.utils._pytree.tree_leaves(values) if isinstance(value, Tensor)]


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launches]:
    launches = Launches()
    monkeypatch.setattr(
        JITFunction, "__getitem__", lambda kernel, grid: lambda *args, **_: launches.launch(kernel, *args)
    )
    with FakeTensorMode():
        yield launches


def step_without_values(dtype: torch.dtype, *, fused: bool = True) -> tuple[Step, Trajectory]:
    """For a network of 3 blocks, and q of no multiple of 8."""
    cuda = torch.device("cuda")
    with cuda:
        network = SegmentationNetwork(3, 64, 100)
    for layer in (*network.feature_convolutions, network.classifier):
        layer.weight = nn.Parameter(layer.weight.detach().contiguous(memory_format=torch.channels_last))
    trajectory = Trajectory(24, 32, CONFIG, cuda)
    trajectory.begin(3, 40)
    step: Step
    if fused:
        momenta = [torch.zeros_like(parameter) for parameter in network.parameters()]
        step = FusedStep(network, momenta, trajectory, CONFIG, dtype)
    else:
        step = RecordedStep(BandedStep(network, 24, 32, CONFIG, dtype), trajectory, lambda: None)
    step.load(torch.zeros(1, 3, 24, 32, device=cuda))
    return step, trajectory


@without_values
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_iteration_launches_few_kernels_and_never_waits_for_the_device(
    launches: Launches, dtype: torch.dtype
) -> None:
    step, trajectory = step_without_values(dtype)
    launches.nodes.clear()
    with launches, NothingFromTheHost():
        step.evaluate()
        step.descend()
        assert trajectory.status().device.type == "cuda"
    of_libraries = {name for name in launches.nodes if name.startswith("aten::")}
    assert of_libraries - {"aten::mm.dtype"} == {"aten::convolution", "aten::convolution_backward", "aten::mm"}
    assert launches.nodes.total() == NODES, launches.nodes


@without_values
@pytest.mark.parametrize("fused", [True, False])
def test_an_iteration_reads_nothing_that_an_earlier_one_has_made(launches: Launches, fused: bool) -> None:
    """So graphs that share memory can follow each other in any order."""
    step, _ = step_without_values(torch.bfloat16, fused=fused)
    with launches:
        step.evaluate()
        step.descend()
        gc.collect()
        left = [tensor for reference in launches.allocated if (tensor := reference()) is not None]
        assert not (fused and left)
        launches.read.clear()
        step.evaluate()
        step.descend()
    assert not {storage_of(tensor) for tensor in left} & launches.read

"""The Triton kernels against PyTorch's batch norm, the method's losses and autograd, in float64.

The comparisons run on a CUDA device, and everywhere else in a process of their own under Triton's interpreter, which
computes in NumPy what a kernel says. What the compiler makes of the kernels for an H100 is looked at without one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dynaseg_cli.config import PAPER_WEIGHT, Mode
from dynaseg_cli.method.losses import continuity_loss, continuity_weight, similarity_loss

triton = pytest.importorskip(
    "triton", reason="no Triton for this platform: the kernels of the CUDA path are not tested"
)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime.driver import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from dynaseg_cli.engine.cuda import kernels  # noqa: E402
from dynaseg_cli.engine.cuda.kernels import Activation, NormBuffers, ObjectiveBuffers  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPS = 1e-5

SIZES = [(1, 9), (9, 1), (2, 2), (7, 13), (5, 35)]
DTYPES = [torch.float32, torch.bfloat16]
MAPS = [(3, torch.float32), (27, torch.bfloat16), (100, torch.bfloat16), (128, torch.float32)]
MAPS += [(104, dtype) for dtype in DTYPES] + [(200, torch.bfloat16)]


interpreted = pytest.mark.skipif(
    INTERPRETED or tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8),
    reason="the process under the interpreter itself, or Triton before 3.8, whose interpreter NumPy 2.4 breaks",
)


def on_device(test: Callable[..., None]) -> Callable[..., None]:
    return test if INTERPRETED else pytest.mark.requires_cuda(test)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)


def unbiased(z: Tensor, relu: bool = True) -> Activation:
    return Activation(z, torch.zeros(z.shape[2], device=z.device), relu)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    """To that share of the value, or of the largest one: sums and differences carry the error of their terms."""
    if actual.dtype == torch.bfloat16:
        tolerance = max(tolerance, 2**-7 if INTERPRETED else 2**-8)  # the interpreter rounds towards 0
    largest = expected.abs().max().item()
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance * max(largest, 1e-6) / 4)


# --- BatchNorm -------------------------------------------------------------------------------------------------------


class Norm(NormBuffers):
    """A BatchNorm as the engine would keep it on a device, and what its passes left there."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(len(weight), weight.device)
        self.weight, self.bias = weight, bias
        for values in self.results:
            values.fill_(float("nan"))

    @property
    def results(self) -> list[Tensor]:
        return [value for name, value in vars(self).items() if name not in ("weight", "bias")]

    def forward(self, activation: Activation, out: Tensor) -> None:
        kernels.finish_statistics(kernels.measure(activation), self.weight, self.bias, EPS, self)
        kernels.normalise(activation, self, out)

    def backward(self, gradient: Tensor, activation: Activation, out: Tensor) -> Tensor:
        """The gradient by the bias of the activation."""
        partials = kernels.measure_gradient(gradient, activation, self)
        kernels.finish_gradient(partials, gradient.shape[0] * gradient.shape[1], self)
        partials = kernels.input_gradient(gradient, activation, self, out)
        bias_gradient = torch.full_like(self.weight, float("nan"))
        kernels.finish_sum(partials, bias_gradient)
        return bias_gradient


def assert_batch_norm_is_the_definition(
    activation: Activation, gradient: Tensor, out_dtype: torch.dtype, tolerance: float = 2e-5
) -> None:
    height, width, channels = activation.z.shape
    norm = Norm(random(channels, seed=1), random(channels, seed=2))
    before = activation.z.clone()

    z = activation.z.double().requires_grad_()
    added = activation.bias.double()
    weight, bias = norm.weight.double().requires_grad_(), norm.bias.double().requires_grad_()
    added.requires_grad_()
    a = torch.relu(z + added) if activation.relu else z + added
    mean, variance = torch.zeros_like(added), torch.zeros_like(added)
    pixels = a.flatten(0, 1).T[None]
    y = functional.batch_norm(pixels, mean, variance, weight, bias, training=True, momentum=1.0, eps=EPS)
    y = y[0].T.view(height, width, channels)
    y.backward(gradient.double())  # type: ignore[no-untyped-call]
    assert z.grad is not None and added.grad is not None and weight.grad is not None and bias.grad is not None

    out = torch.empty(y.shape, dtype=out_dtype, device=DEVICE)
    norm.forward(activation, out)
    biased = a.detach().flatten(0, 1).var(0, correction=0)
    assert_close(norm.mean, mean, tolerance)
    assert_close(norm.running_mean, mean, tolerance)
    torch.testing.assert_close(norm.running_var.double(), variance, rtol=10 * tolerance, atol=1e-12)
    torch.testing.assert_close(norm.inverse.double(), (biased + EPS).rsqrt(), rtol=10 * tolerance, atol=0)
    assert_close(out, y.detach(), tolerance)

    bias_gradient = norm.backward(gradient, activation, out)
    assert_close(norm.weight_gradient, weight.grad, tolerance)
    assert_close(norm.bias_gradient, bias.grad, tolerance)
    assert_close(out, z.grad, tolerance)
    # Its terms nearly cancel, and without the ReLU they do: relative to what they are made of.
    terms = norm.scale.abs() * gradient.double().abs().sum((0, 1))
    assert ((bias_gradient - added.grad).abs() <= tolerance * terms).all()
    assert torch.equal(activation.z, before)


@on_device
@pytest.mark.parametrize(("channels", "dtype"), MAPS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_batch_norm_is_the_definition(size: tuple[int, int], channels: int, dtype: torch.dtype) -> None:
    activation = Activation(random(*size, channels, dtype=dtype), random(channels, seed=3) / 2)
    assert_batch_norm_is_the_definition(activation, random(*size, channels, seed=4, dtype=dtype), dtype)


@on_device
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_with_and_without_bias_and_relu(biased: bool, relu: bool) -> None:
    activation = Activation(random(7, 13, 20), random(20, seed=3) * biased, relu)
    assert_batch_norm_is_the_definition(activation, random(7, 13, 20, seed=4), torch.float32)


@on_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_of_mixed_types(dtype: torch.dtype) -> None:
    z, gradient = random(7, 13, 104, dtype=dtype), random(7, 13, 104, seed=4)
    assert_batch_norm_is_the_definition(unbiased(z), gradient, torch.bfloat16)


@on_device
def test_maps_must_be_contiguous_and_of_one_size() -> None:
    z, out = random(7, 13, 104), torch.empty((7, 13, 104), device=DEVICE)
    norm = Norm(random(104), random(104))
    with pytest.raises(AssertionError):
        kernels.normalise(unbiased(z.transpose(0, 1)), norm, out.transpose(0, 1))
    with pytest.raises(AssertionError):
        kernels.normalise(unbiased(z), norm, out[:6])


@on_device
@pytest.mark.parametrize("shares", [1, 3, 100], ids=str)
def test_however_many_programs_share_the_pixels(monkeypatch: pytest.MonkeyPatch, shares: int) -> None:
    """Few, and each goes over many tiles, the last of them in part."""
    monkeypatch.setattr(kernels, "MAXIMUM_SHARES", shares)
    activation = Activation(random(25, 31, 5), random(5, seed=3))
    assert_batch_norm_is_the_definition(activation, random(25, 31, 5, seed=4), torch.float32)


@on_device
def test_deviations_far_smaller_than_the_mean() -> None:
    """1000 and a tenth: sums of squares would keep nothing of the variance in float32."""
    z = 1000 + random(25, 31, 5) / 10
    norm = Norm(random(5, seed=1), random(5, seed=2))
    norm.forward(unbiased(z), torch.empty_like(z))
    pixels = z.double().flatten(0, 1)
    torch.testing.assert_close(norm.running_mean.double(), pixels.mean(0), rtol=5e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), pixels.var(0), rtol=1e-3, atol=0)


@on_device
@pytest.mark.parametrize("value", [-1.0, 200.25])
def test_channel_of_one_value_has_no_variance(value: float) -> None:
    """Below 0, the ReLU makes it one of zeros."""
    z = random(7, 13, 4)
    z[..., 2] = value
    activation, gradient = unbiased(z), random(7, 13, 4, seed=4)
    norm = Norm(random(4, seed=1), random(4, seed=2))
    out = torch.empty_like(z)
    norm.forward(activation, out)
    assert norm.mean[2] == max(value, 0)
    assert norm.running_var[2] == 0
    torch.testing.assert_close(out[..., 2], norm.bias[2].expand(7, 13), rtol=0, atol=0.02)
    bias_gradient = norm.backward(gradient, activation, out)
    assert out.isfinite().all() and bias_gradient.isfinite().all()
    if value < 0:
        assert (out[..., 2] == 0).all() and bias_gradient[2] == 0


@on_device
def test_values_that_are_no_numbers_stay_visible() -> None:
    z = random(7, 13, 4)
    z[3, 5, 1] = float("nan")
    norm, out = Norm(random(4, seed=1), random(4, seed=2)), torch.empty_like(z)
    norm.forward(unbiased(z), out)
    assert out[..., 1].isnan().all() and out[..., [0, 2, 3]].isfinite().all()


@on_device
def test_gradient_may_be_written_over() -> None:
    activation, gradient = unbiased(random(25, 31, 20)), random(25, 31, 20, seed=4)
    norm, out = Norm(random(20), random(20)), torch.empty_like(gradient)
    norm.coefficients.copy_(random(3, 20, seed=5))
    partials = kernels.input_gradient(gradient, activation, norm, out)
    again = kernels.input_gradient(gradient, activation, norm, gradient)
    assert torch.equal(gradient, out) and torch.equal(again, partials)


SHARES = [1, 511, 513, 1300]
"""More than a finishing kernel adds at a time, too."""


@on_device
@pytest.mark.parametrize("shares", SHARES)
def test_statistics_of_any_number_of_shares(shares: int) -> None:
    """Shares have 1 to 7 pixels."""
    parts = [100 + random(1 + share % 7, 11, seed=share) for share in range(shares)]
    counted = [torch.full((11,), len(part), device=DEVICE) for part in parts]
    partials = torch.stack(
        [torch.stack([n, p.mean(0), p.var(0, correction=0) * n]) for n, p in zip(counted, parts, strict=True)]
    )
    norm, pixels = Norm(random(11), random(11)), torch.cat(parts).double()
    kernels.finish_statistics(partials.to(DEVICE), norm.weight, norm.bias, EPS, norm)
    torch.testing.assert_close(norm.mean.double(), pixels.mean(0), rtol=1e-6, atol=0)
    expected = pixels.var(0, correction=int(len(pixels) > 1))
    torch.testing.assert_close(norm.running_var.double(), expected, rtol=1e-5, atol=0)


@on_device
@pytest.mark.parametrize("shares", SHARES)
def test_sums_lose_no_digits_to_large_terms_that_cancel(shares: int) -> None:
    partials = random(shares, 2, 11)
    partials[: shares // 2] += 1e6
    partials[shares - shares // 2 :] -= 1e6
    total, projected = partials.double().sum(0)
    out = random(11)
    kernels.finish_sum(partials[:, :1].contiguous(), out)
    torch.testing.assert_close(out.double(), total, rtol=1e-6, atol=1e-6)
    norm = Norm(random(11), random(11))
    for values in (norm.mean, norm.inverse, norm.scale):
        values.copy_(random(11))
    kernels.finish_gradient(partials, 999, norm)
    torch.testing.assert_close(norm.bias_gradient.double(), total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(norm.weight_gradient.double(), projected * norm.inverse.double(), rtol=1e-6, atol=1e-6)


@on_device
@pytest.mark.parametrize("shares", SHARES)
def test_objective_of_any_number_of_shares(shares: int) -> None:
    partials, objective = random(shares, 2).abs(), ObjectiveBuffers(30, 40, 5, DEVICE)
    objective.slots.copy_(torch.tensor([1, 0, 1, 1, 0]))
    kernels.finish_objective(partials, torch.tensor(2, device=DEVICE), "fixed", 7.0, objective)
    excess, continuity = partials.double().sum(0).tolist()
    similarity = excess / (30 * 40)
    expected = [similarity + 7 * continuity, similarity, continuity, 7]
    assert objective.scalars.tolist() == pytest.approx(expected, rel=1e-6)
    assert objective.present == 3


# --- Objective -------------------------------------------------------------------------------------------------------


def evaluated(
    z: Tensor, norm: NormBuffers, clusters: int, mode: Mode, weight: float, threshold: int, out: Tensor
) -> tuple[ObjectiveBuffers, Tensor]:
    """The objective; and the sums, (2, C), of its gradient and of it times z - mean. The gradient is in out."""
    objective = ObjectiveBuffers(*z.shape[:2], clusters, DEVICE)
    objective.labels.fill_(-7)
    objective.slots.fill_(3)
    partials = kernels.evaluate_objective(z, norm, objective)
    kernels.finish_objective(partials, torch.tensor(threshold, device=DEVICE), mode, weight, objective)
    partials = kernels.objective_gradient(z, norm, objective, out)
    assert partials.shape[1:] == (2, z.shape[2])
    return objective, partials.double().sum(0)


def assert_objective_is_the_definition(
    z: Tensor,
    clusters: int,
    mode: Mode = "scf",
    threshold: int = 2,
    scale: Tensor | None = None,
    out_dtype: torch.dtype = torch.float32,
) -> None:
    channels = z.shape[2]
    norm = Norm(random(channels), random(channels))
    norm.scale.copy_(random(channels, seed=1) if scale is None else scale)
    norm.shift.copy_(random(channels, seed=2))
    norm.mean.copy_(random(channels, seed=3))
    before = z.clone()
    response = (z.double() * norm.scale.double() + norm.shift.double())[..., :clusters].requires_grad_()
    labels = response.argmax(-1)
    present = labels.unique().numel()
    by_axis = response.permute(2, 0, 1)[None]
    similarity = similarity_loss(response.flatten(0, 1), labels.flatten())
    continuity = continuity_loss(by_axis)
    mu = continuity_weight(mode, PAPER_WEIGHT[mode], float(max(present, threshold)))
    loss = similarity + mu * continuity
    expected = torch.zeros(z.shape, dtype=torch.float64, device=DEVICE)
    expected[..., :clusters] = torch.autograd.grad(loss, response)[0]

    out = torch.full(z.shape, 5, dtype=out_dtype, device=DEVICE)
    actual, found = evaluated(z, norm, clusters, mode, PAPER_WEIGHT[mode], threshold, out)
    assert torch.equal(actual.labels, labels)
    assert actual.present == present
    assert_close(actual.log_partition, response.detach().logsumexp(-1))
    for scalar, value in zip(actual.scalars.tolist(), (loss, similarity, continuity, mu), strict=True):
        assert scalar == pytest.approx(torch.as_tensor(value).item(), rel=1e-5, abs=1e-7)
    assert_close(out, expected)
    assert (out[..., clusters:] == 0).all()
    for sums, terms in zip(found, (expected, expected * (z.double() - norm.mean.double())), strict=True):
        assert ((sums - terms.sum((0, 1))).abs() <= 1e-5 * terms.abs().sum((0, 1))).all()
    assert torch.equal(z, before)


@on_device
@pytest.mark.parametrize(
    ("channels", "clusters", "dtype"),
    [
        (3, 3, torch.float32),
        (27, 20, torch.bfloat16),
        (104, 100, torch.float32),
        (104, 100, torch.bfloat16),
        (128, 128, torch.float32),
        (300, 257, torch.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_objective_is_the_definition(size: tuple[int, int], channels: int, clusters: int, dtype: torch.dtype) -> None:
    assert_objective_is_the_definition(random(*size, channels, dtype=dtype), clusters)


@on_device
@pytest.mark.parametrize("threshold", [1, 50])
@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_weight_of_every_mode(mode: Mode, threshold: int) -> None:
    assert_objective_is_the_definition(random(7, 13, 9), 7, mode, threshold)


@on_device
@pytest.mark.parametrize("shares", [1, 5, 7], ids=str)
def test_objective_in_bands_of_any_number_of_rows(monkeypatch: pytest.MonkeyPatch, shares: int) -> None:
    monkeypatch.setattr(kernels, "MAXIMUM_SHARES", shares)
    assert_objective_is_the_definition(random(23, 35, 6), 5)


@on_device
def test_objective_of_a_padded_response_into_bfloat16() -> None:
    """Values in padding channels have no effect."""
    z = random(7, 20, 104)
    z[..., 100:] = 1e4
    assert_objective_is_the_definition(z, 100, out_dtype=torch.bfloat16)


@on_device
def test_first_of_equal_responses_is_the_label() -> None:
    """And the gradient of abs at 0 is 0: equal neighbours pull on neither."""
    z = random(9, 21, 12).mul(2).round()
    norm = NormBuffers(12, DEVICE)
    norm.scale.fill_(1)
    tied = (z == z.max(-1, keepdim=True).values).sum(-1) > 1
    assert tied.sum() > 20
    actual, _ = evaluated(z, norm, 12, "scf", 50.0, 2, torch.empty_like(z))
    first = (z == z.max(-1, keepdim=True).values).double().argmax(-1)
    assert torch.equal(actual.labels, first)


@on_device
def test_equal_neighbours_pull_on_neither() -> None:
    z = random(9, 21, 6).round()
    z[..., 0] += 10 + torch.arange(21, device=DEVICE) / 100  # no ties for the label
    assert_objective_is_the_definition(z, 6, scale=torch.ones(6, device=DEVICE))


@on_device
def test_scales_of_zero_and_below() -> None:
    scale = torch.tensor([1.0, -1.0, 0.0, -0.5, 2.0], device=DEVICE)
    assert_objective_is_the_definition(random(7, 13, 5), 5, scale=scale)


@on_device
def test_extreme_responses_stay_finite() -> None:
    assert_objective_is_the_definition(random(7, 13, 6) * 1000, 6)


# --- On a device alone -----------------------------------------------------------------------------------------------


@pytest.mark.requires_cuda
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_captured_in_a_graph_every_replay_gives_the_same_bytes(dtype: torch.dtype) -> None:
    height, width, channels, clusters = 161, 241, 104, 100
    activation = Activation(random(height, width, channels, dtype=dtype), random(channels, seed=3))
    gradient, norm = random(height, width, channels, seed=4, dtype=dtype), Norm(random(channels), random(channels))
    y, by_z, by_response = (torch.empty_like(gradient) for _ in range(3))

    objective, threshold = ObjectiveBuffers(height, width, clusters, DEVICE), torch.tensor(2, device=DEVICE)

    def step() -> list[Tensor]:
        norm.forward(activation, y)
        bias_gradient = norm.backward(gradient, activation, by_z)
        partials = kernels.evaluate_objective(activation.z, norm, objective)
        kernels.finish_objective(partials, threshold, "scf", 50.0, objective)
        partials = kernels.objective_gradient(activation.z, norm, objective, by_response)
        results = [objective.labels, objective.scalars, objective.present]
        return [*norm.results, y, by_z, bias_gradient, by_response, partials, *results]

    expected = [result.clone() for result in step()]  # compiles, too
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    for _ in range(3):
        graph.replay()
        assert all(map(torch.equal, results, expected))


# --- What is compiled, without a device ------------------------------------------------------------------------------

without_device = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")


@interpreted
def test_interpreter_computes_what_the_definitions_say() -> None:
    """All the comparisons above. Kernels choose the interpreter when they are defined: in a process of its own."""
    command = [sys.executable, "-m", "pytest", __file__, "-q", "--no-header", "-p", "no:cacheprovider"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 80, done.stdout


class H100:
    """The device properties that Triton reads before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 9000  # no machine has so many: what is compiled here is not launched on one

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[Any]:
    """Kernels compiled since; none is launched."""
    found: set[Any] = set()
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        found.add(run(self, *args, grid=grid, warmup=True, **options))

    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setattr(driver, "_active", H100())
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys.modules[__name__], "DEVICE", torch.device("cpu"))
    return found


def call_every_kernel(height: int, width: int, dtype: torch.dtype) -> None:
    """For features and a response of that type."""
    channels, clusters = 104, 100
    norm = Norm(random(channels), random(channels))
    activation = Activation(torch.empty((height, width, channels), dtype=dtype), random(channels))
    gradient = torch.empty_like(activation.z)
    out = torch.empty_like(gradient)
    norm.forward(activation, out)
    norm.backward(gradient, activation, out)
    evaluated(activation.z, norm, clusters, "scf", 50.0, 2, gradient)


def call_every_kernel_of_a_response(height: int, width: int, dtype: torch.dtype) -> None:
    """Without bias and ReLU, and with a gradient in float32, which becomes one in bfloat16."""
    norm = Norm(random(104), random(104))
    activation = unbiased(torch.empty((height, width, 104), dtype=dtype), relu=False)
    gradient = torch.empty(activation.z.shape)
    for mode in ("fsf", "fixed"):
        evaluated(activation.z, norm, 100, mode, 5.0, 2, gradient)
    norm.forward(activation, torch.empty_like(gradient))
    norm.backward(gradient, activation, torch.empty_like(gradient, dtype=torch.bfloat16))


def resources(kernel: Any) -> tuple[int, int]:
    """Registers of a thread of a compiled kernel, and bytes of what it could not keep in them."""
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not cuobjdump.exists():
        pytest.skip("this Triton comes without cuobjdump: registers and spills of the kernels are not tested")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(cuobjdump), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return found["REG"], found["STACK"] + found["LOCAL"]


@without_device
@pytest.mark.parametrize("call", [call_every_kernel, call_every_kernel_of_a_response])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_compiled_for_an_h100_every_kernel_keeps_to_its_registers(
    compiled: set[Any], dtype: torch.dtype, call: Callable[[int, int, torch.dtype], None]
) -> None:
    call(321, 481, dtype)
    assert len({kernel.name for kernel in compiled}) == 10
    for kernel in compiled:
        registers, spilled = resources(kernel)
        assert spilled == 0, kernel.name
        # Kernels with many programs run four of them on a multiprocessor, which has 65,536 registers.
        assert "finish" in kernel.name or 4 * registers * 32 * kernel.metadata.num_warps <= 65536, kernel.name


@without_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_are_read_and_written_16_bytes_at_a_time(compiled: set[Any], dtype: torch.dtype) -> None:
    call_every_kernel(321, 481, dtype)
    wide = re.compile(r"(ld|st)\.global[.\w:]*\.v4\.b32")
    narrow = re.compile(r"(ld|st)\.global[.\w:]*\.v2\.b(16|32)|(ld|st)\.global[.\w:]*\.b16")
    for kernel in compiled:
        if "finish" not in kernel.name:
            assert wide.search(kernel.asm["ptx"]) and not narrow.search(kernel.asm["ptx"]), kernel.name


@without_device
def test_photos_of_all_sizes_share_what_is_compiled(compiled: set[Any]) -> None:
    for size in [(321, 481), (320, 480), (481, 321), (16, 16), (1, 9), (9, 1), (1, 16), (2, 1)]:
        call_every_kernel(*size, torch.bfloat16)
    assert len(compiled) == 10

"""The Triton kernels against PyTorch's batch norm, the method's losses, autograd and torch's SGD, in float64.

The comparisons run on a CUDA device, and everywhere else in a process of their own under Triton's interpreter, which
computes in NumPy what a kernel says. That process runs the tests of the step and of labelling, too.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dynaseg_cli.config import Mode, SegmentConfig
from dynaseg_cli.engine.iteration import Trajectory
from dynaseg_cli.engine.training_step import Objective
from dynaseg_cli.method.losses import continuity_loss, continuity_weight, similarity_loss

triton = pytest.importorskip(
    "triton", reason="no Triton for this platform: the kernels of the CUDA path are not tested"
)

from dynaseg_cli.engine.cuda import launching  # noqa: E402
from dynaseg_cli.engine.cuda.norm_kernels import (  # noqa: E402
    Activation,
    Normalisation,
    finish_gradient,
    finish_statistics,
    finish_sum,
    input_gradient,
    measure,
    measure_gradient,
    normalise,
)
from dynaseg_cli.engine.cuda.objective_kernels import (  # noqa: E402
    ObjectiveBuffers,
    evaluate_objective,
    finish_objective,
    objective_gradient,
)
from dynaseg_cli.engine.cuda.update_kernels import Weight, descend, pack  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
EPS = 1e-5

DTYPES = [torch.float32, torch.bfloat16]
WIDE, HIGH, SMALL, ODD, LARGER = (1, 9), (9, 1), (2, 2), (4, 7), (3, 19)

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


class Norm(Normalisation):
    """A BatchNorm on a device, whose results are no numbers until they are computed."""

    def __init__(self, channels: int, features: int | None = None, offset: Tensor | None = None) -> None:
        module = nn.BatchNorm2d(features or channels, eps=EPS, device=DEVICE)
        with torch.no_grad():
            module.weight.copy_(random(module.num_features, seed=1))
            module.bias.copy_(random(module.num_features, seed=2))
        super().__init__(module, channels, offset)
        for values in self.results:
            values.fill_(float("nan"))

    @property
    def running(self) -> tuple[Tensor, Tensor]:
        mean, var = self.module.running_mean, self.module.running_var
        assert mean is not None and var is not None
        return mean, var

    @property
    def results(self) -> list[Tensor]:
        forward = [self.mean, self.inverse, self.scale, self.shift, *self.running]
        return [*forward, self.coefficients, self.weight_gradient, self.bias_gradient]

    def forward(self, activation: Activation, out: Tensor) -> None:
        finish_statistics(measure(activation), self)
        normalise(activation, self, out)

    def backward(self, gradient: Tensor, activation: Activation, out: Tensor) -> Tensor:
        """The gradient by the bias of the activation."""
        partials = measure_gradient(gradient, activation, self)
        finish_gradient(partials, gradient.shape[0] * gradient.shape[1], self)
        bias_gradient = torch.full_like(activation.bias, float("nan"))
        finish_sum(input_gradient(gradient, activation, self, out), bias_gradient)
        return bias_gradient


def assert_batch_norm_is_the_definition(
    activation: Activation, gradient: Tensor, out_dtype: torch.dtype, tolerance: float = 2e-5
) -> None:
    height, width, channels = activation.z.shape
    norm = Norm(channels)
    before = activation.z.clone()

    z = activation.z.double().requires_grad_()
    added = activation.bias.double()
    module = norm.module
    weight, bias = (values.detach().double().requires_grad_() for values in (module.weight, module.bias))
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
    running_mean, running_var = norm.running
    assert_close(running_mean, mean, tolerance)
    torch.testing.assert_close(running_var.double(), variance, rtol=10 * tolerance, atol=1e-12)
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
@pytest.mark.parametrize(
    ("size", "channels", "dtype"),
    [
        (WIDE, 104, torch.float32),
        (HIGH, 27, torch.bfloat16),
        (SMALL, 200, torch.bfloat16),
        (ODD, 100, torch.bfloat16),
        (ODD, 128, torch.float32),
        (LARGER, 3, torch.float32),
        (LARGER, 104, torch.bfloat16),
    ],
    ids=str,
)
def test_batch_norm_is_the_definition(size: tuple[int, int], channels: int, dtype: torch.dtype) -> None:
    activation = Activation(random(*size, channels, dtype=dtype), random(channels, seed=3) / 2)
    assert_batch_norm_is_the_definition(activation, random(*size, channels, seed=4, dtype=dtype), dtype)


@on_device
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_with_and_without_bias_and_relu(biased: bool, relu: bool) -> None:
    activation = Activation(random(4, 5, 6), random(6, seed=3) * biased, relu)
    assert_batch_norm_is_the_definition(activation, random(4, 5, 6, seed=4), torch.float32)


@on_device
def test_padded_channels_are_0_and_leave_the_module_alone() -> None:
    """The bias of the layer before is in the running mean only."""
    z, gradient = random(4, 5, 16), random(4, 5, 16, seed=4)
    z[..., 11:] = gradient[..., 11:] = 0
    offset, memory = random(11, seed=5), torch.full((4, 12), 7.0, device=DEVICE)
    norm, alone = Norm(16, 11, offset), Norm(11)
    norm.module.running_mean, norm.module.running_var = memory[0, :11], memory[1, :11]
    norm.weight_gradient, norm.bias_gradient = memory[2, :11], memory[3, :11]
    outs = torch.empty_like(z), torch.empty_like(z[..., :11])
    for one, channels, out in zip((norm, alone), (16, 11), outs, strict=True):
        activation = unbiased(z[..., :channels].contiguous(), relu=False)
        one.forward(activation, out)
        one.backward(gradient[..., :channels].contiguous(), activation, out)
    assert torch.equal(outs[0][..., :11], outs[1])
    assert (outs[0][..., 11:] == 0).all()
    assert (memory[:, 11] == 7).all(), "what lies behind is another's"
    assert torch.equal(norm.running[0], alone.running[0] + offset)
    assert torch.equal(norm.running[1], alone.running[1])
    assert torch.equal(norm.weight_gradient, alone.weight_gradient)
    assert torch.equal(norm.bias_gradient, alone.bias_gradient)


@on_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_maps_of_mixed_types(dtype: torch.dtype) -> None:
    z, gradient = random(4, 5, 104, dtype=dtype), random(4, 5, 104, seed=4)
    assert_batch_norm_is_the_definition(unbiased(z), gradient, torch.bfloat16)


@on_device
def test_maps_must_be_contiguous_and_of_one_size() -> None:
    z, out = random(7, 13, 104), torch.empty((7, 13, 104), device=DEVICE)
    norm = Norm(104)
    with pytest.raises(AssertionError):
        normalise(unbiased(z.transpose(0, 1)), norm, out.transpose(0, 1))
    with pytest.raises(AssertionError):
        normalise(unbiased(z), norm, out[:6])


@on_device
@pytest.mark.parametrize("shares", [1, 3, 100], ids=str)
def test_however_many_programs_share_the_pixels(monkeypatch: pytest.MonkeyPatch, shares: int) -> None:
    """Few, and each goes over many tiles, the last of them in part."""
    monkeypatch.setattr(launching, "MAXIMUM_SHARES", shares)
    activation = Activation(random(21, 31, 5), random(5, seed=3))
    assert_batch_norm_is_the_definition(activation, random(21, 31, 5, seed=4), torch.float32)


@on_device
def test_deviations_far_smaller_than_the_mean() -> None:
    """1000 and a tenth: sums of squares would keep nothing of the variance in float32."""
    z = 1000 + random(25, 31, 5) / 10
    norm = Norm(5)
    norm.forward(unbiased(z), torch.empty_like(z))
    pixels = z.double().flatten(0, 1)
    torch.testing.assert_close(norm.running[0].double(), pixels.mean(0), rtol=5e-7, atol=0)
    torch.testing.assert_close(norm.running[1].double(), pixels.var(0), rtol=1e-3, atol=0)


@on_device
@pytest.mark.parametrize("value", [-1.0, 200.25])
def test_channel_of_one_value_has_no_variance(value: float) -> None:
    """Below 0, the ReLU makes it one of zeros."""
    z = random(7, 13, 4)
    z[..., 2] = value
    activation, gradient = unbiased(z), random(7, 13, 4, seed=4)
    norm = Norm(4)
    out = torch.empty_like(z)
    norm.forward(activation, out)
    assert norm.mean[2] == max(value, 0)
    assert norm.running[1][2] == 0
    torch.testing.assert_close(out[..., 2], norm.module.bias[2].expand(7, 13), rtol=0, atol=0.02)
    bias_gradient = norm.backward(gradient, activation, out)
    assert out.isfinite().all() and bias_gradient.isfinite().all()
    if value < 0:
        assert (out[..., 2] == 0).all() and bias_gradient[2] == 0


@on_device
def test_values_that_are_no_numbers_stay_visible() -> None:
    z = random(7, 13, 4)
    z[3, 5, 1] = float("nan")
    norm, out = Norm(4), torch.empty_like(z)
    norm.forward(unbiased(z), out)
    assert out[..., 1].isnan().all() and out[..., [0, 2, 3]].isfinite().all()


@on_device
def test_gradient_may_be_written_over() -> None:
    activation, gradient = unbiased(random(25, 31, 20)), random(25, 31, 20, seed=4)
    norm, out = Norm(20), torch.empty_like(gradient)
    norm.coefficients.copy_(random(3, 20, seed=5))
    partials = input_gradient(gradient, activation, norm, out)
    again = input_gradient(gradient, activation, norm, gradient)
    assert torch.equal(gradient, out) and torch.equal(again, partials)


SHARES = [1, 511, 1300]
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
    norm, pixels = Norm(11), torch.cat(parts).double()
    finish_statistics(partials.to(DEVICE), norm)
    torch.testing.assert_close(norm.mean.double(), pixels.mean(0), rtol=1e-6, atol=0)
    expected = pixels.var(0, correction=int(len(pixels) > 1))
    torch.testing.assert_close(norm.running[1].double(), expected, rtol=1e-5, atol=0)


@on_device
@pytest.mark.parametrize("shares", SHARES)
def test_sums_lose_no_digits_to_large_terms_that_cancel(shares: int) -> None:
    partials = random(shares, 2, 11)
    partials[: shares // 2] += 1e6
    partials[shares - shares // 2 :] -= 1e6
    total, projected = partials.double().sum(0)
    out = random(11)
    finish_sum(partials[:, :1].contiguous(), out)
    torch.testing.assert_close(out.double(), total, rtol=1e-6, atol=1e-6)
    norm = Norm(11)
    for values in (norm.mean, norm.inverse, norm.scale):
        values.copy_(random(11))
    finish_gradient(partials, 999, norm)
    torch.testing.assert_close(norm.bias_gradient.double(), total, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(norm.weight_gradient.double(), projected * norm.inverse.double(), rtol=1e-6, atol=1e-6)


# --- Objective -------------------------------------------------------------------------------------------------------


def new_trajectory(height: int, width: int, clusters: int, config: SegmentConfig, threshold: int) -> Trajectory:
    trajectory = Trajectory(height, width, dataclasses.replace(config, clusters=max(clusters, 2)), DEVICE)
    trajectory.begin(threshold, config.iterations)
    return trajectory


@on_device
@pytest.mark.parametrize("shares", SHARES)
def test_objective_of_any_number_of_shares(shares: int) -> None:
    partials, objective = random(shares, 3).abs(), ObjectiveBuffers(30, 40, 5, DEVICE)
    objective.slots.copy_(torch.tensor([1, 0, 1, 1, 0]))
    trajectory = new_trajectory(30, 40, 5, SegmentConfig(mode="fixed", mu=7.0), 2)
    finish_objective(partials, objective, trajectory, SegmentConfig(mode="fixed", mu=7.0))
    excess, continuity, changed = partials.double().sum(0).tolist()
    similarity = excess / (30 * 40)
    expected = [3, similarity + 7 * continuity, similarity, continuity, changed / (30 * 40)]
    assert trajectory.records() == [pytest.approx(expected, rel=1e-6)]
    assert objective.mu == 7
    assert not objective.slots.any()


def evaluated(
    z: Tensor, norm: Normalisation, clusters: int, config: SegmentConfig, threshold: int, out: Tensor
) -> tuple[ObjectiveBuffers, Trajectory, Tensor]:
    """The objective; and the sums, (2, C), of its gradient and of it times z - mean. The gradient is in out."""
    objective = ObjectiveBuffers(*z.shape[:2], clusters, DEVICE)
    trajectory = new_trajectory(*z.shape[:2], clusters, config, threshold)
    finish_objective(evaluate_objective(z, norm, objective, trajectory), objective, trajectory, config)
    partials = objective_gradient(z, norm, objective, trajectory.labels, out)
    assert partials.shape[1:] == (2, z.shape[2])
    return objective, trajectory, partials.double().sum(0)


def assert_objective_is_the_definition(
    z: Tensor,
    clusters: int,
    mode: Mode = "scf",
    threshold: int = 2,
    scale: Tensor | None = None,
    out_dtype: torch.dtype = torch.float32,
) -> None:
    channels = z.shape[2]
    norm = Norm(channels)
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
    mu = continuity_weight(mode, SegmentConfig(mode=mode).weight, float(max(present, threshold)))
    loss = similarity + mu * continuity
    expected = torch.zeros(z.shape, dtype=torch.float64, device=DEVICE)
    expected[..., :clusters] = torch.autograd.grad(loss, response)[0]

    out = torch.full(z.shape, 5, dtype=out_dtype, device=DEVICE)
    config = SegmentConfig(mode=mode, iterations=3)
    objective, trajectory, found = evaluated(z, norm, clusters, config, threshold, out)
    assert torch.equal(trajectory.labels, labels)
    assert_close(objective.log_partition, response.detach().logsumexp(-1))
    assert not objective.slots.any()
    scalars = [torch.as_tensor(value).item() for value in (present, loss, similarity, continuity, 1, mu)]
    assert [*trajectory.records()[0], objective.mu.item()] == pytest.approx(scalars, rel=1e-5, abs=1e-7)
    assert_close(out, expected)
    assert (out[..., clusters:] == 0).all()
    for sums, terms in zip(found, (expected, expected * (z.double() - norm.mean.double())), strict=True):
        assert ((sums - terms.sum((0, 1))).abs() <= 1e-5 * terms.abs().sum((0, 1))).all()
    assert torch.equal(z, before)


@on_device
@pytest.mark.parametrize(
    ("size", "channels", "clusters", "dtype"),
    [
        (WIDE, 104, 100, torch.float32),
        (HIGH, 27, 20, torch.bfloat16),
        (SMALL, 300, 257, torch.float32),
        (ODD, 128, 128, torch.float32),
        (LARGER, 3, 3, torch.float32),
        (LARGER, 104, 100, torch.bfloat16),
    ],
    ids=str,
)
def test_objective_is_the_definition(size: tuple[int, int], channels: int, clusters: int, dtype: torch.dtype) -> None:
    assert_objective_is_the_definition(random(*size, channels, dtype=dtype), clusters)


@on_device
@pytest.mark.parametrize("threshold", [1, 50])
@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_weight_of_every_mode(mode: Mode, threshold: int) -> None:
    assert_objective_is_the_definition(random(4, 5, 9), 7, mode, threshold)


@on_device
@pytest.mark.parametrize("shares", [1, 5, 7], ids=str)
def test_objective_in_bands_of_any_number_of_rows(monkeypatch: pytest.MonkeyPatch, shares: int) -> None:
    monkeypatch.setattr(launching, "MAXIMUM_SHARES", shares)
    monkeypatch.setattr(launching, "TILE_VALUES", 128)  # 16 pixels of 8 channels
    assert_objective_is_the_definition(random(17, 35, 6), 5)


@on_device
def test_objective_of_a_padded_response_into_bfloat16() -> None:
    """Values in padding channels have no effect."""
    z = random(4, 10, 104)
    z[..., 100:] = 1e4
    assert_objective_is_the_definition(z, 100, out_dtype=torch.bfloat16)


@on_device
def test_first_of_equal_responses_is_the_label() -> None:
    """And the gradient of abs at 0 is 0: equal neighbours pull on neither."""
    z = random(9, 21, 12).mul(2).round()
    norm = Norm(12)
    norm.scale.fill_(1)
    norm.shift.fill_(0)
    norm.mean.fill_(0)
    tied = (z == z.max(-1, keepdim=True).values).sum(-1) > 1
    assert tied.sum() > 20
    _, trajectory, _ = evaluated(z, norm, 12, SegmentConfig(), 2, torch.empty_like(z))
    first = (z == z.max(-1, keepdim=True).values).double().argmax(-1)
    assert torch.equal(trajectory.labels, first)


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


# --- Record and stop rules -------------------------------------------------------------------------------------------


@on_device
@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=9),
    bad=st.integers(0, 20),
    threshold=st.integers(1, 4),
    patience=st.integers(0, 3),
    limit=st.integers(1, 8),
    mode=st.sampled_from(["scf", "fsf", "fixed"]),
)
def test_record_and_stop_rules_are_those_of_the_trajectory(
    counts: list[int], bad: int, threshold: int, patience: int, limit: int, mode: Mode
) -> None:
    config = SegmentConfig(mode=mode, iterations=8, clusters=9)
    fused, plain = (Trajectory(3, 5, config, DEVICE) for _ in range(2))
    for trajectory in (fused, plain):
        trajectory.begin(threshold, limit, patience)
    objective = ObjectiveBuffers(3, 5, 9, DEVICE)
    for number, present in enumerate(counts):
        partials = random(4, 3, seed=number).abs()
        partials[:, 2] = torch.tensor([3, 0, 1, 2])
        if number == bad:
            partials[2, 0] = float("nan") if bad % 2 else float("inf")
        labels, going = plain.labels.clone(), not plain.ended
        labels.flatten()[:6] += 1
        objective.slots[:present] = 1
        finish_objective(partials, objective, fused, config)
        excess, continuity, _ = partials.double().sum(0).float()
        similarity, counted = excess / 15, torch.tensor(max(present, threshold), device=DEVICE).float()
        loss = similarity + continuity_weight(mode, config.weight, counted) * continuity
        plain.take(Objective(loss, similarity, continuity, torch.tensor(present, device=DEVICE), labels))
        assert torch.equal(fused.status(), plain.status())
        assert torch.equal(fused.ended, plain.ended)
        assert torch.equal(fused.state, plain.state) or not going
        rows = [torch.tensor(trajectory.records()) for trajectory in (fused, plain)]
        if number:
            torch.testing.assert_close(*rows, equal_nan=True)
        else:  # labels before the first are those of no pixel
            torch.testing.assert_close(rows[0][:, :4], rows[1][:, :4], equal_nan=True)


@on_device
def test_labels_are_compared_with_those_before_and_stay_as_the_last_iteration_left_them() -> None:
    config = SegmentConfig(iterations=4, clusters=6, patience=0)
    fused, plain = (new_trajectory(7, 13, 6, config, 1) for _ in range(2))
    objective = ObjectiveBuffers(7, 13, 6, DEVICE)
    norm = Norm(6)
    norm.scale.fill_(1)
    norm.shift.fill_(0)
    for seed in range(6):
        z = random(7, 13, 6)
        z[: seed + 1] = random(seed + 1, 13, 6, seed=seed)
        finish_objective(evaluate_objective(z, norm, objective, fused), objective, fused, config)
        _, loss, similarity, continuity, _ = fused.rows[min(seed, 3)]
        labels = z.argmax(-1)
        plain.take(Objective(loss, similarity, continuity, labels.unique().numel() + 0 * plain.threshold, labels))
        assert torch.equal(fused.labels, plain.labels)
        assert fused.records() == [pytest.approx(row, rel=1e-6) for row in plain.records()]
    assert plain.ended and not torch.equal(plain.labels, labels)


# --- Descent ---------------------------------------------------------------------------------------------------------


def weights_of(dtype: torch.dtype) -> list[Weight]:
    """Of a first convolution and a later one, a classifier and a bias, as the step has them."""

    def values(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
        last = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        return random(*shape, seed=seed).to(dtype).contiguous(memory_format=last)

    shapes = [(12, 3, 3, 3), (12, 16, 3, 3), (5, 12, 1, 1), (5,)]
    gradients = [(12, 32), (12, 16, 3, 3), (8, 12), (8,)]
    of = [torch.float32, dtype, torch.float32, torch.float32]
    return [
        Weight(
            values(*shape, seed=1),
            values(*shape, seed=2),
            values(*gradient, seed=3, dtype=dtype_of_gradient),
            values(*gradient, seed=4).fill_(7).to(dtype) if len(shape) > 1 else None,
        )
        for shape, gradient, dtype_of_gradient in zip(shapes, gradients, of, strict=True)
    ]


def unpadded(padded: Tensor, like: Tensor) -> Tensor:
    """A padded gradient or copy in the shape of its parameter."""
    if padded.ndim == like.ndim:
        return padded[: len(like)]
    outputs, inputs, rows, columns = like.shape
    used = padded[:outputs, : inputs * rows * columns]
    return used.view(outputs, rows, columns, inputs).permute(0, 3, 1, 2)


@on_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_descent_is_that_of_torch(dtype: torch.dtype) -> None:
    config = SegmentConfig(learning_rate=0.3, momentum=0.8, weight_decay=0.01)
    weights = weights_of(dtype)
    before = [(one.parameter.clone(), one.momentum.clone()) for one in weights]
    copies = [one.packed.clone() for one in weights if one.packed is not None]

    descend(weights, torch.ones((), device=DEVICE), config)
    for one, (parameter, momentum) in zip(weights, before, strict=True):
        assert torch.equal(one.parameter, parameter) and torch.equal(one.momentum, momentum)
    assert all(map(torch.equal, copies, [one.packed for one in weights if one.packed is not None]))

    expected = [nn.Parameter(parameter.double()) for parameter, _ in before]
    optimiser = torch.optim.SGD(expected, lr=0.3, momentum=0.8, weight_decay=0.01)
    for parameter, one, (_, momentum) in zip(expected, weights, before, strict=True):
        optimiser.state[parameter]["momentum_buffer"] = momentum.double()
        parameter.grad = unpadded(one.gradient, parameter).double()
    for _ in range(2):
        descend(weights, torch.zeros((), device=DEVICE), config)
        optimiser.step()
    for parameter, one in zip(expected, weights, strict=True):
        assert_close(one.parameter, parameter.detach())
        assert_close(one.momentum, optimiser.state[parameter]["momentum_buffer"])
        if one.packed is not None:
            copy = unpadded(one.packed, one.parameter)
            assert_close(copy, one.parameter.double(), 0)
            assert (one.packed == 7).sum() == one.packed.numel() - copy.numel(), "the padding is not written"


@on_device
def test_packing_copies_the_weights_alone() -> None:
    weights = [one for one in weights_of(torch.float32) if one.packed is not None]
    pack([one.parameter for one in weights], [one.packed for one in weights if one.packed is not None])
    for one in weights:
        assert one.packed is not None
        copy = unpadded(one.packed, one.parameter)
        assert torch.equal(copy, one.parameter)
        assert (one.packed == 7).sum() == one.packed.numel() - copy.numel()


@on_device
def test_weights_in_another_order_are_refused() -> None:
    weight = weights_of(torch.float32)[1]
    with pytest.raises(AssertionError):
        pack([weight.parameter.contiguous()], [weight.gradient])
    with pytest.raises(AssertionError):
        descend(
            [weight._replace(momentum=weight.momentum.contiguous())], torch.zeros((), device=DEVICE), SegmentConfig()
        )


# --- On a device alone -----------------------------------------------------------------------------------------------


@pytest.mark.requires_cuda
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_captured_in_a_graph_every_replay_gives_the_same_bytes(dtype: torch.dtype) -> None:
    height, width, channels, clusters = 161, 241, 104, 100
    activation = Activation(random(height, width, channels, dtype=dtype), random(channels, seed=3))
    gradient, norm = random(height, width, channels, seed=4, dtype=dtype), Norm(channels)
    y, by_z, by_response = (torch.empty_like(gradient) for _ in range(3))
    config = SegmentConfig()
    objective = ObjectiveBuffers(height, width, clusters, DEVICE)
    trajectory = new_trajectory(height, width, clusters, config, 2)

    def step() -> list[Tensor]:
        norm.forward(activation, y)
        bias_gradient = norm.backward(gradient, activation, by_z)
        finish_objective(evaluate_objective(activation.z, norm, objective, trajectory), objective, trajectory, config)
        partials = objective_gradient(activation.z, norm, objective, trajectory.labels, by_response)
        results = [trajectory.labels, objective.mu, objective.log_partition]
        return [*norm.results, y, by_z, bias_gradient, by_response, partials, *results]

    expected = [result.clone() for result in step()]  # compiles, too
    row = trajectory.rows[0, :4].clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    for _ in range(3):
        trajectory.begin(2, config.iterations)
        graph.replay()
        assert all(map(torch.equal, results, expected))
        assert torch.equal(trajectory.rows[0, :4], row)


@interpreted
@pytest.mark.slow
def test_interpreter_computes_what_the_definitions_say() -> None:
    """All that is marked `on_device`. Kernels choose the interpreter when they are defined: in a process of its own."""
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("kernels", "fused_step", "fused_labelling")]
    command = [sys.executable, "-m", "pytest", *files, "-q", "--no-header", "-p", "no:cacheprovider"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 90, done.stdout

"""The literal loop against a second implementation, in float64, written from METHOD.md section 1 alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynaseg_cli.config import Mode, SegmentConfig
from dynaseg_cli.method.network import SegmentationNetwork
from dynaseg_cli.method.reference import reference_segment

BATCH_NORM_EPSILON = 1e-5
PUBLISHED = {"scf": lambda q: 50 / q, "fsf": lambda q: q / 15, "fixed": lambda q: 5.0}


@dataclass
class Run:
    labels: NDArray[np.int64]
    losses: list[float]
    counts: list[int]


def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """3x3 convolution of (C, H, W) with zero padding, as nine shifted products."""
    _, height, width = x.shape
    padded = x.new_zeros(x.shape[0], height + 2, width + 2)
    padded[:, 1:-1, 1:-1] = x
    out = bias
    for i in range(3):
        for j in range(3):
            out = out + torch.einsum("oc,chw->ohw", kernel[:, :, i, j], padded[:, i : i + height, j : j + width])
    return out


def normalise(x: Tensor) -> Tensor:
    mean = x.mean((1, 2), keepdim=True)
    variance = ((x - mean) ** 2).mean((1, 2), keepdim=True)
    return (x - mean) / (variance + BATCH_NORM_EPSILON) ** 0.5


def respond(x: Tensor, parameters: list[Tensor]) -> Tensor:
    for i in range(0, len(parameters), 4):
        kernel, *vectors = parameters[i : i + 4]
        bias, scale, shift = (vector[:, None, None] for vector in vectors)
        if i + 4 < len(parameters):
            x = convolve(x, kernel, bias).clamp(min=0)
        else:
            x = torch.einsum("qc,chw->qhw", kernel[:, :, 0, 0], x) + bias
        x = normalise(x) * scale + shift
    return x


def initial_parameters(config: SegmentConfig) -> list[Tensor]:
    """Kernel, bias, scale and shift of every block and of the classifier, in float64."""
    network = SegmentationNetwork(config.blocks, config.features, config.clusters)
    network.initialise(config.seed)
    weights = []
    for convolution in (*network.convolutions, network.classifier):
        width = convolution.bias.numel()
        weights += [convolution.weight, convolution.bias, torch.ones(width), torch.zeros(width)]
    return [weight.detach().double().requires_grad_() for weight in weights]


def run_independently(image: NDArray[np.uint8], config: SegmentConfig, threshold: int) -> Run:
    x = torch.tensor(image / 255.0).permute(2, 0, 1)
    parameters = initial_parameters(config)
    velocities = [torch.zeros_like(p) for p in parameters]
    run = Run(np.empty(0, dtype=np.int64), [], [])
    for _ in range(config.iterations):
        r = respond(x, parameters)
        c = r.detach().numpy().argmax(0)
        q = len(set(c.reshape(-1).tolist()))
        chosen = r.gather(0, torch.from_numpy(c)[None])[0]
        similarity = (r.exp().sum(0).log() - chosen).mean()
        continuity = (r[:, :, 1:] - r[:, :, :-1]).abs().mean() + (r[:, 1:] - r[:, :-1]).abs().mean()
        loss = similarity + PUBLISHED[config.mode](max(q, threshold)) * continuity
        run.labels = c
        run.losses.append(loss.item())
        run.counts.append(q)
        if q <= threshold:
            break
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, velocities, gradients, strict=True):
                v.mul_(0.9).add_(g + 1e-4 * p)
                p.sub_(0.1 * v)
    return run


@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_ten_iterations_agree_with_an_independent_float64_implementation(
    patches: NDArray[np.uint8], mode: Mode
) -> None:
    config = SegmentConfig(mode=mode, iterations=10)
    expected = run_independently(patches, config, threshold=3)
    result = reference_segment(patches, config, threshold=3)
    assert len(result.losses) == 10
    np.testing.assert_allclose(result.losses, expected.losses, rtol=1e-4)
    assert result.labels_per_iteration == expected.counts
    assert result.labels.shape == patches.shape[:2]
    assert (result.labels == expected.labels).mean() > 0.999


def test_loop_stops_in_the_first_iteration_with_no_more_labels_than_the_threshold(patches: NDArray[np.uint8]) -> None:
    config = SegmentConfig(mode="fsf", iterations=12)
    counts = reference_segment(patches, config, threshold=1).labels_per_iteration
    threshold = min(counts)
    stop = counts.index(threshold)
    assert stop > 1, "the number of labels should fall for a while"
    stopped = reference_segment(patches, config, threshold)
    assert stopped.labels_per_iteration == counts[: stop + 1]
    assert len(np.unique(stopped.labels)) == threshold


def test_weight_counts_no_fewer_labels_than_the_threshold(patches: NDArray[np.uint8]) -> None:
    config = SegmentConfig(mode="scf", iterations=10)
    result = reference_segment(patches, config, threshold=100)
    assert result.labels_per_iteration[0] < 100
    np.testing.assert_allclose(result.losses, run_independently(patches, config, threshold=100).losses, rtol=1e-4)

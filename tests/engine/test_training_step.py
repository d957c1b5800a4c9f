"""The step by hand against the network, the method's formulas and autograd in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from step_samples import CONFIG, CPU, assert_same, by_definition, by_step, some_network
from torch import Tensor

from dynaseg_cli.config import FREE, Mode
from dynaseg_cli.engine import banded_layers as layers_module
from dynaseg_cli.engine.banded_layers import band_rows, surroundings
from dynaseg_cli.engine.banded_step import BandedStep
from dynaseg_cli.engine.training_step import AutogradStep


@pytest.mark.parametrize("step", [BandedStep, AutogradStep])
@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_float32_is_the_definition(
    photo: NDArray[np.uint8], step: type[BandedStep] | type[AutogradStep], mode: Mode, blocks: int
) -> None:
    config = dataclasses.replace(CONFIG, mode=mode, blocks=blocks)
    expected = by_definition(photo, config)
    actual = by_step(photo, config, step, torch.float32)
    assert torch.equal(actual.labels, expected.labels)
    assert_same(actual, expected, 2e-4)


@pytest.mark.parametrize(("features", "clusters"), [(1, 2), (5, 30), (30, 5)])
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (7, 5), (24, 32)], ids=str)
def test_any_size_and_number_of_channels(
    photo: NDArray[np.uint8], size: tuple[int, int], features: int, clusters: int
) -> None:
    config = dataclasses.replace(CONFIG, features=features, clusters=clusters, blocks=2)
    image = photo[: size[0], : size[1]]
    assert_same(by_step(image, config, BandedStep, torch.float32), by_definition(image, config), 2e-3)


@pytest.mark.parametrize("rows", [1, 2, 5, 23])
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_bands_and_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8], rows: int, chunk: int
) -> None:
    expected = by_definition(photo, CONFIG)
    monkeypatch.setattr(layers_module, "BAND_BYTES", rows * 32 * 12 * 4)
    monkeypatch.setattr(layers_module, "CHUNK", chunk)
    assert band_rows(32, 12, CPU) == rows
    assert_same(by_step(photo, CONFIG, BandedStep, torch.float32), expected, 2e-4)


def test_row_larger_than_a_band_is_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers_module, "BAND_BYTES", 1)
    assert band_rows(32, 12, CPU) == 1


def test_bfloat16_is_the_definition_to_its_three_digits(photo: NDArray[np.uint8]) -> None:
    expected = by_definition(photo, CONFIG)
    actual = by_step(photo, CONFIG, BandedStep, torch.bfloat16)
    assert (actual.labels == expected.labels).double().mean() > 0.97
    by_autograd = by_step(photo, CONFIG, AutogradStep, torch.bfloat16)
    assert actual.loss == pytest.approx(expected.loss, rel=0.02)
    for name, gradient in expected.gradients.items():
        errors = [(outcome.gradients[name].double() - gradient).norm() for outcome in (actual, by_autograd)]
        assert errors[0] < 1.5 * errors[1] + 0.01 * gradient.norm(), name


def test_constant_image_has_finite_gradients() -> None:
    """Every variance is 0: nothing may come of rounding."""
    image = np.full((6, 7, 3), 200, dtype=np.uint8)
    actual = by_step(image, CONFIG, BandedStep, torch.float32)
    assert all(gradient.isfinite().all() for gradient in actual.gradients.values())


def test_nearly_constant_channels_keep_their_variance() -> None:
    """Colours of 250 and 251: what mean squares would lose beside the square of the mean."""
    image = np.full((24, 32, 3), 250, dtype=np.uint8)
    image[::2, ::3] = 251
    expected = by_definition(image, CONFIG).statistics
    actual = by_step(image, CONFIG, BandedStep, torch.float32).statistics
    for name in (name for name in expected if "var" in name):
        torch.testing.assert_close(actual[name].double(), expected[name], rtol=1e-2, atol=1e-9)


def test_gradients_have_the_layout_of_their_parameters(photo: NDArray[np.uint8]) -> None:
    """The fused optimiser goes through both as they lie in memory."""
    network = some_network(CONFIG)
    BandedStep(network, *photo.shape[:2], CONFIG, torch.float32)
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()


def test_surroundings_are_rows_columns_colours() -> None:
    image = torch.arange(1.0, 19).view(1, 3, 2, 3)
    around = surroundings(image)
    assert around.shape == (2, 3, 27)
    windows = around.view(2, 3, 3, 3, 3)
    assert torch.equal(windows[..., 1, 1, :], image[0].permute(1, 2, 0))
    assert windows[0, 0, 0].abs().sum() == windows[0, 0, :, 0].abs().sum() == 0
    assert torch.equal(windows[1, 1, 0, 2], image[0, :, 0, 2])


def strokes() -> Tensor:
    scribbles = torch.full((24, 32), FREE)
    scribbles[3, 4:28], scribbles[15:17, 20:26], scribbles[20, :9] = 5, 0, 8
    return scribbles


@pytest.mark.parametrize("step", [BandedStep, AutogradStep])
@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
def test_scribbles_pull_as_defined(
    photo: NDArray[np.uint8], step: type[BandedStep] | type[AutogradStep], mode: Mode
) -> None:
    config = dataclasses.replace(CONFIG, mode=mode)
    expected = by_definition(photo, config, strokes())
    assert expected.loss != pytest.approx(by_definition(photo, config).loss, rel=0.05)
    assert_same(by_step(photo, config, step, torch.float32, strokes()), expected, 2e-4)


@pytest.mark.parametrize("step", [BandedStep, AutogradStep])
def test_scribbles_pull_in_bfloat16_to_its_three_digits(
    photo: NDArray[np.uint8], step: type[BandedStep] | type[AutogradStep]
) -> None:
    expected = by_definition(photo, CONFIG, strokes())
    assert by_step(photo, CONFIG, step, torch.bfloat16, strokes()).loss == pytest.approx(expected.loss, rel=0.02)

"""The banded objective against the method's plain formulas, differentiated by autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynaseg_cli.config import FREE, PAPER_WEIGHT, SCRIBBLE_WEIGHT, Mode, SegmentConfig
from dynaseg_cli.engine.banded_layers import Normalisation, bands
from dynaseg_cli.engine.banded_step import BandedObjective
from dynaseg_cli.engine.training_step import Objective
from dynaseg_cli.method.losses import continuity_loss, continuity_weight, scribble_loss, similarity_loss

CLUSTERS = 7
SHAPES = [(1, 9), (9, 1), (2, 2), (1, 2), (6, 5), (13, 8)]


def random_response(height: int, width: int, clusters: int = CLUSTERS) -> Tensor:
    values = torch.randn(1, clusters, height, width, generator=torch.Generator().manual_seed(height * 100 + width))
    return values.to(memory_format=torch.channels_last)


def random_scribbles(height: int, width: int, share: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    labels = torch.randint(CLUSTERS, (height, width), generator=generator)
    return torch.where(torch.rand(height, width, generator=generator) < share, labels, FREE)


def plain_objective(
    response: Tensor, mode: Mode, weight: float, threshold: int, scribbles: Tensor | None = None
) -> tuple[Objective, Tensor]:
    leaf = response.detach().double().requires_grad_()
    labels = leaf.argmax(1)[0]
    present = labels.unique().numel()
    if scribbles is None:
        similarity = similarity_loss(leaf[0].permute(1, 2, 0).reshape(-1, leaf.shape[1]), labels.reshape(-1))
    else:
        similarity = similarity_loss(leaf, labels[None], scribbles[None])
    continuity = continuity_loss(leaf)
    loss = similarity + continuity_weight(mode, weight, float(max(present, threshold))) * continuity
    if scribbles is not None:
        loss = loss + SCRIBBLE_WEIGHT * scribble_loss(leaf, scribbles[None])
    expected = Objective(loss, similarity, continuity, torch.tensor(present), labels)
    return expected, torch.autograd.grad(loss, leaf)[0]


class AsItIs(Normalisation):
    """A response map that no BatchNorm has changed."""

    def __init__(self, response: Tensor) -> None:
        self.activation = response

    def output(self, rows: slice) -> Tensor:
        return self.activation[rows]


def banded(
    response: Tensor,
    mode: Mode = "scf",
    weight: float = 50.0,
    threshold: int = 2,
    rows: int = 100,
    scribbles: Tensor | None = None,
) -> tuple[Objective, Tensor]:
    """The objective of (1, q, H, W) and its gradient, so many rows at a time."""
    pixels = response.detach()[0].permute(1, 2, 0)
    height = pixels.shape[0]
    config = SegmentConfig(mode=mode, mu=weight) if mode == "fixed" else SegmentConfig(mode=mode, alpha=weight)
    objective = BandedObjective(AsItIs(pixels), rows, config, scribbled=scribbles is not None)
    if scribbles is not None:
        objective.load(random_scribbles(*scribbles.shape, 0.9))  # which the ones loaded next must not remember
    objective.load(scribbles)
    result = objective.evaluate(torch.tensor(threshold))
    gradient = torch.cat([objective.gradient(band) for band in bands(height, rows)])
    return result, gradient.permute(2, 0, 1)[None]


def assert_same(
    response: Tensor, mode: Mode, weight: float, threshold: int, rows: int = 100, scribbles: Tensor | None = None
) -> None:
    before = response.detach().clone()
    expected, expected_gradient = plain_objective(response, mode, weight, threshold, scribbles)
    result, gradient = banded(response, mode, weight, threshold, rows, scribbles)
    assert torch.equal(result.labels, expected.labels)
    assert torch.equal(result.present, expected.present)
    for name in ("loss", "similarity", "continuity"):
        assert getattr(result, name).item() == pytest.approx(getattr(expected, name).item(), rel=1e-5), name
    torch.testing.assert_close(gradient.double(), expected_gradient, atol=1e-6, rtol=1e-4)
    assert torch.equal(response, before)


@pytest.mark.parametrize("mode", ["scf", "fsf", "fixed"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradient_equal_the_plain_formulas(shape: tuple[int, int], mode: Mode) -> None:
    assert_same(random_response(*shape), mode, PAPER_WEIGHT[mode], threshold=2)


@pytest.mark.parametrize("mode", ["scf", "fsf"])
def test_weight_counts_no_fewer_labels_than_the_threshold(mode: Mode) -> None:
    assert_same(random_response(6, 5), mode, PAPER_WEIGHT[mode], threshold=CLUSTERS + 3)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 12, 13, 50])
def test_bands_of_any_number_of_rows_change_nothing(rows: int) -> None:
    assert_same(random_response(13, 8), "scf", 50.0, threshold=2, rows=rows)


def test_equal_neighbours_pull_on_neither() -> None:
    """The gradient of abs at 0 is 0, as autograd has it."""
    response = torch.zeros(1, 2, 2, 2)
    response[:, 0] = 1
    assert_same(response, "fixed", 5.0, threshold=1)


def test_extreme_responses_stay_finite() -> None:
    assert_same(random_response(6, 5) * 1000, "scf", 50.0, threshold=2)


def test_gradient_descends_the_float64_loss() -> None:
    """Central differences of the plain loss, without autograd; labels and q' are constant in so small a step."""
    response = random_response(4, 3)
    _, gradient = banded(response)
    direction = torch.randn(response.shape, generator=torch.Generator().manual_seed(0)).double()
    step = 1e-6 * direction
    ahead, behind = (plain_objective(response.double() + s, "scf", 50.0, 2)[0].loss for s in (step, -step))
    slope = (ahead - behind).item() / 2e-6
    assert (gradient.double() * direction).sum().item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 50])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scribbles_add_what_the_plain_formulas_say(shape: tuple[int, int], share: float, rows: int) -> None:
    scribbles = random_scribbles(*shape, share)
    assert_same(random_response(*shape), "scf", 50.0, threshold=2, rows=rows, scribbles=scribbles)


def test_an_image_that_nothing_is_drawn_on_has_the_loss_of_one_without_scribbles() -> None:
    response = random_response(6, 5)
    result, gradient = banded(response, scribbles=torch.full((6, 5), FREE))
    expected, expected_gradient = banded(response)
    assert result.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
    torch.testing.assert_close(gradient, expected_gradient)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from torch import Tensor

from dynaseg_cli.config import FREE
from dynaseg_cli.method.losses import (
    continuity_loss,
    continuity_loss_of_regions,
    scribble_loss,
    similarity_loss,
    similarity_loss_of_regions,
)
from dynaseg_cli.regions.segments import boundary_shares


def response(*rows: list[float]) -> Tensor:
    """A response map of one cluster axis, (1, 1, H, W)."""
    return torch.tensor(rows)[None, None]


def test_similarity_is_the_mean_negative_log_softmax_of_the_label() -> None:
    pixels = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    # softmax: 3/4 for label 0 of the first pixel, 1/2 for label 1 of the second
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert similarity_loss(pixels, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_similarity_of_a_confident_pixel_vanishes() -> None:
    assert similarity_loss(torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(0)


def test_continuity_of_two_by_two_is_worked_by_hand() -> None:
    # horizontal |2-1|, |7-4|: mean 2; vertical |4-1|, |7-2|: mean 4
    assert continuity_loss(response([1, 2], [4, 7])).item() == 6


def test_continuity_of_two_by_three_takes_each_mean_over_its_own_number_of_differences() -> None:
    # horizontal 1, 2, 0, 5: mean 2 of 4; vertical 1, 0, 3: mean 4/3 of 3
    assert continuity_loss(response([0, 1, 3], [1, 1, 6])).item() == pytest.approx(2 + 4 / 3)


def test_continuity_is_a_mean_over_the_cluster_axes_too() -> None:
    one = response([1, 2], [4, 7])
    assert continuity_loss(torch.cat([one, torch.zeros_like(one)], dim=1)).item() == 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 1, 1, 3), 4.0), ((1, 1, 3, 1), 4.0), ((1, 3, 1, 1), 0.0)],
    ids=["row", "column", "pixel"],
)
def test_continuity_counts_only_the_axes_that_have_differences(shape: tuple[int, ...], expected: float) -> None:
    assert continuity_loss(torch.tensor([0.0, 3.0, -2.0]).reshape(shape)).item() == expected


def test_losses_are_means_so_repeating_an_image_changes_neither() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(6, 4, generator=generator)
    labels = pixels.argmax(1)
    assert similarity_loss(pixels.repeat(5, 1), labels.repeat(5)).item() == pytest.approx(
        similarity_loss(pixels, labels).item()
    )
    ramp = torch.arange(8.0).expand(1, 2, 3, 8)
    assert continuity_loss(ramp.repeat(1, 3, 4, 1)).item() == continuity_loss(ramp).item() == 1


def test_gradient_flows_through_continuity() -> None:
    leaf = response([1.0, 2.0], [4.0, 7.0]).requires_grad_()
    continuity_loss(leaf).backward()
    assert leaf.grad is not None
    assert leaf.grad[0, 0].tolist() == [[-1, 0], [0, 1]]


SCRIBBLED = torch.tensor([[[1, FREE], [FREE, 0]]])
FOUR = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, math.log(7)], [0.0, math.log(4)]]).T.reshape(1, 2, 2, 2)
"""The softmax of the second channel is 1/4, 1/2, 7/8 and 4/5."""


def test_scribble_loss_is_the_mean_over_the_pixels_drawn_on() -> None:
    # pixel 0 is to be 1, of probability 1/4; pixel 3 is to be 0, of 1/5
    assert scribble_loss(FOUR, SCRIBBLED).item() == pytest.approx((math.log(4) + math.log(5)) / 2)


def test_similarity_is_the_mean_over_the_pixels_not_drawn_on() -> None:
    # pixel 1 is label 0, of probability 1/2; pixel 2 is 1, of 7/8
    expected = (math.log(2) + math.log(8 / 7)) / 2
    assert similarity_loss(FOUR, FOUR.argmax(1), SCRIBBLED).item() == pytest.approx(expected)


def test_losses_of_no_pixel_are_0() -> None:
    free = torch.full((1, 2, 2), FREE)
    assert scribble_loss(FOUR, free).item() == 0
    assert similarity_loss(FOUR, FOUR.argmax(1), torch.zeros_like(free)).item() == 0
    assert similarity_loss(FOUR, FOUR.argmax(1), free).item() == pytest.approx(
        similarity_loss(FOUR, FOUR.argmax(1)).item()
    )


def test_of_more_than_255_clusters_the_one_of_that_number_is_a_label() -> None:
    response = torch.randn(1, 300, 2, 2, generator=torch.Generator().manual_seed(0))
    labels, scribbles = torch.full((1, 2, 2), 255), torch.tensor([[[FREE, 7], [FREE, FREE]]])
    negative = -response.log_softmax(1)[0, 255].flatten()
    assert similarity_loss(response, labels, scribbles).item() == pytest.approx(negative[[0, 2, 3]].mean().item())


REGION_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 5))


def numbered(values: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The map with the numbers 0..R-1; they need not be connected."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int32)


def responses(regions: NDArray[np.int32], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A random response of each region, twice, and the map that is constant in each, of the second."""
    shape = int(regions.max()) + 1, 4
    of_regions = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    leaf, other = of_regions.clone().requires_grad_(), of_regions.clone().requires_grad_()
    return leaf, other, other[torch.tensor(regions, dtype=torch.int64)].permute(2, 0, 1)[None]


@given(REGION_MAPS, st.integers(0, 2**31))
def test_similarity_of_regions_is_that_of_their_map(values: NDArray[np.uint8], seed: int) -> None:
    regions = numbered(values)
    leaf, other, at_pixels = responses(regions, seed)
    labels = torch.randint(4, (len(leaf),), generator=torch.Generator().manual_seed(seed + 1))
    area = torch.tensor(np.bincount(regions.reshape(-1)) / regions.size)
    loss = similarity_loss_of_regions(leaf, labels, area)
    expected = similarity_loss(at_pixels, labels[torch.tensor(regions, dtype=torch.int64)][None])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(leaf.grad, other.grad)


@given(REGION_MAPS, st.integers(0, 2**31))
def test_continuity_of_regions_is_that_of_their_map(values: NDArray[np.uint8], seed: int) -> None:
    regions = numbered(values)
    leaf, other, at_pixels = responses(regions, seed)
    pairs, length = map(torch.tensor, boundary_shares(regions))
    loss = continuity_loss_of_regions(leaf, pairs, length)
    expected = continuity_loss(at_pixels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(leaf.grad, other.grad)


def test_losses_of_two_regions_worked_out() -> None:
    # A quarter of the pixels is to be 1, of probability 1/4; the others are to be 0, of 1/2.
    pixels = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    similarity = similarity_loss_of_regions(pixels, torch.tensor([1, 0]), torch.tensor([0.25, 0.75]))
    assert similarity.item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(2))
    # They differ by log 3 in one of two axes, along half of the pairs across and a quarter of those down.
    continuity = continuity_loss_of_regions(pixels, torch.tensor([[0, 1]]), torch.tensor([0.75]))
    assert continuity.item() == pytest.approx(0.75 * math.log(3) / 2)


def test_one_region_has_no_discontinuity() -> None:
    pairs, length = map(torch.tensor, boundary_shares(np.zeros((3, 4), dtype=np.int32)))
    assert continuity_loss_of_regions(torch.randn(1, 4), pairs, length).item() == 0

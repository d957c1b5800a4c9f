from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dynaseg_cli.config import FREE
from dynaseg_cli.engine.labelling import to_input
from dynaseg_cli.engine.scribbles import assign_channels, drawn_labels, shrink_scribbles
from dynaseg_cli.method.losses import scribble_loss
from dynaseg_cli.method.network import SegmentationNetwork

CPU = torch.device("cpu")
SCRIBBLES = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 3, 254, FREE, FREE, FREE])
)


def test_a_pixel_takes_the_label_most_drawn_in_it() -> None:
    scribbles = np.full((4, 6), FREE, dtype=np.uint8)
    scribbles[0, 0] = 9  # alone in a pixel
    scribbles[:2, 2], scribbles[0, 3] = 5, 7  # two of 5, one of 7
    scribbles[2, 4], scribbles[3, 5] = 8, 4  # as many of one as of the other
    assert shrink_scribbles(scribbles, 3, 2).tolist() == [[9, 5, FREE], [FREE, FREE, 4]]


@given(SCRIBBLES, st.data())
def test_no_stroke_is_lost_and_none_is_made_up(scribbles: NDArray[np.uint8], data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, side)) for side in scribbles.shape)
    small = shrink_scribbles(scribbles, width, height)
    assert small.shape == (height, width)
    assert set(drawn_labels(small)) <= set(drawn_labels(scribbles))
    for y, x in np.ndindex(scribbles.shape):
        near = small[int((y + 0.5) * height / scribbles.shape[0]), int((x + 0.5) * width / scribbles.shape[1])]
        assert (near != FREE) or scribbles[y, x] == FREE
    assert np.count_nonzero(small != FREE) <= np.count_nonzero(scribbles != FREE)


def test_the_size_that_they_have_changes_nothing() -> None:
    scribbles = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert np.array_equal(shrink_scribbles(scribbles, 32, 8), scribbles)
    assert drawn_labels(scribbles) == list(range(255))


@pytest.fixture
def drawn() -> torch.Tensor:
    """Strokes on the sky, the disc and the box of the photo, with arbitrary labels."""
    scribbles = torch.full((24, 32), FREE)
    scribbles[1, :], scribbles[8, 6:11], scribbles[14:18, 20:26] = 11, 2, 0
    return scribbles


def test_labels_are_taken_up_by_the_channels_that_respond_to_them(
    photo: NDArray[np.uint8], drawn: torch.Tensor
) -> None:
    network = SegmentationNetwork(2, 16, 12)
    network.initialise(0)
    x = to_input(photo, CPU)
    before = network(x).detach()
    assign_channels(network, x, drawn)
    after = network(x).detach()
    # The channels are the same ones, in another order, ...
    order = [int((before[0] - channel).abs().amax((1, 2)).argmin()) for channel in after[0]]
    assert sorted(order) == list(range(12))
    torch.testing.assert_close(after, before[:, order])
    # ... and in no other is there less to pull at.
    loss = scribble_loss(after, drawn[None])
    assert loss < scribble_loss(before, drawn[None])
    generator = np.random.default_rng(0)
    for _ in range(200):
        assert loss <= scribble_loss(after[:, generator.permutation(12)], drawn[None]) + 1e-6


def test_as_many_labels_as_channels_can_be_taken_up(photo: NDArray[np.uint8]) -> None:
    network = SegmentationNetwork(1, 4, 3)
    network.initialise(0)
    scribbles = torch.full((24, 32), FREE)
    scribbles[0, :3] = torch.tensor([2, 0, 1])
    assign_channels(network, to_input(photo, CPU), scribbles)
    assert network.classifier.weight.isfinite().all()

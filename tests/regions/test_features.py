from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch.nn import functional

from dynaseg_cli.regions.features import interpolation, region_means, summed_features, unit_length

LABEL_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 3))
SIZES = st.tuples(st.integers(1, 10), st.integers(1, 10), st.integers(1, 4))
"""Height, width and channels, coarser or finer than the label maps."""


def some_map(size: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    return unit_length(np.random.default_rng(seed).normal(size=size).astype(np.float32))


def interpolated(features: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A map at another size, by torch."""
    channels_first = torch.tensor(features).permute(2, 0, 1)[None]
    found = functional.interpolate(channels_first, size=shape, mode="bilinear", align_corners=False)
    pixels: NDArray[np.float32] = found[0].permute(1, 2, 0).numpy()
    return pixels


@pytest.mark.parametrize(
    ("coarse", "fine", "expected"),
    [
        # The centres are at 1/4 and 3/4, those of the four parts at 1/8, 3/8, 5/8 and 7/8.
        (2, 4, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]),
        (1, 3, [[1], [1], [1]]),
        (3, 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (4, 2, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]),
        (4, 1, [[0, 0.5, 0.5, 0]]),
        (1, 1, [[1]]),
    ],
)
def test_interpolation_worked_out(coarse: int, fine: int, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(interpolation(coarse, fine).toarray(), expected, atol=1e-7)


@given(st.integers(1, 12), st.integers(1, 40))
def test_interpolation_is_that_of_torch(coarse: int, fine: int) -> None:
    weights = interpolation(coarse, fine).toarray()
    expected = functional.interpolate(torch.eye(coarse)[None], size=fine, mode="linear", align_corners=False)[0].T
    assert weights.shape == (fine, coarse)
    np.testing.assert_allclose(weights, expected, atol=1e-5)


@given(st.integers(1, 200), st.integers(1, 600))
def test_weights_of_a_pixel_are_shares(coarse: int, fine: int) -> None:
    weights = interpolation(coarse, fine)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert weights.min() >= 0
    assert weights.dtype == np.float32


@given(LABEL_MAPS, st.lists(SIZES, min_size=1, max_size=3))
def test_means_of_regions_are_those_of_the_map_at_every_pixel(
    labels: NDArray[np.uint8], sizes: list[tuple[int, int, int]]
) -> None:
    """Regions need not be connected; the channels of several maps are side by side."""
    regions = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    maps = [some_map(size, seed) for seed, size in enumerate(sizes)]
    pixels = np.concatenate([interpolated(one, labels.shape) for one in maps], axis=2)
    expected = [pixels[regions == region].mean(0) for region in range(int(regions.max()) + 1)]
    found = region_means(regions, maps)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_maps_there_are_no_channels() -> None:
    assert region_means(np.array([[0, 1, 2]]), ()).shape == (3, 0)


def test_a_pixel_counts_as_often_as_it_is_said_to() -> None:
    features = some_map((2, 3, 4))
    counts = csr_array(np.array([[2, 0, 1, 0, 0, 0], [0, 0, 0, 0, 5, 0]], dtype=np.float32))
    found = summed_features(counts, (2, 3), [features])
    np.testing.assert_allclose(found, [2 * features[0, 0] + features[0, 2], 5 * features[1, 1]], rtol=1e-6)


@given(st.integers(0, 2**31), st.floats(1e-8, 1e8))
def test_vectors_of_unit_length_have_their_directions(seed: int, scale: float) -> None:
    """Features summed over one pixel of a large photo are small."""
    vectors = (np.random.default_rng(seed).normal(size=(3, 4, 5)) * scale).astype(np.float32)
    unit = unit_length(vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(unit * np.linalg.norm(vectors, axis=2, keepdims=True), vectors, rtol=1e-5)


def test_nothing_has_no_direction() -> None:
    vectors = np.array([[0, 0], [3, 4]], dtype=np.float32)
    np.testing.assert_allclose(unit_length(vectors), [[0, 0], [0.6, 0.8]], rtol=1e-6)

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from dynaseg_cli.engine.guided_filter import apply_coefficients, box_mean, guided_coefficients, triangle_weights


def windows(height: int, width: int, radius: int) -> NDArray[np.bool_]:
    """(h, w, h, w): whether a pixel lies in the window around another."""
    y, x = np.arange(height), np.arange(width)
    rows = abs(y[:, None] - y) <= radius
    columns = abs(x[:, None] - x) <= radius
    return rows[:, None, :, None] & columns[None, :, None, :]


def filtered_by_definition(
    guide: NDArray[np.float64], image: NDArray[np.float64], radius: int, regularisation: float
) -> NDArray[np.float64]:
    """He, Sun and Tang 2013, equations 14 to 16, window by window: `guide` (h, w, 3), `image` (h, w)."""
    height, width = image.shape
    near = windows(height, width, radius)
    a, b = np.empty((height, width, 3)), np.empty((height, width))
    for y in range(height):
        for x in range(width):
            colours, values = guide[near[y, x]], image[near[y, x]]
            covariance = (colours - colours.mean(0)).T @ (values - values.mean()) / len(values)
            spread = np.cov(colours.T, bias=True) + regularisation * np.eye(3)
            a[y, x] = np.linalg.solve(spread, covariance)
            b[y, x] = values.mean() - a[y, x] @ colours.mean(0)
    result = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            result[y, x] = a[near[y, x]].mean(0) @ guide[y, x] + b[near[y, x]].mean()
    return result


def guided(guide: torch.Tensor, maps: torch.Tensor, radius: int, regularisation: float) -> torch.Tensor:
    size = (guide.shape[2], guide.shape[3])
    coefficients = guided_coefficients(guide, maps, radius, regularisation)
    return apply_coefficients(coefficients, guide[0], slice(0, size[0]), slice(0, size[1]), size)


@pytest.mark.parametrize("radius", [1, 3])
@pytest.mark.parametrize("regularisation", [1e-3, 0.1])
def test_filter_is_the_definitions(radius: int, regularisation: float) -> None:
    generator = np.random.default_rng(0)
    guide, maps = generator.random((7, 9, 3)), generator.normal(size=(4, 7, 9))
    expected = [filtered_by_definition(guide, image, radius, regularisation) for image in maps]
    actual = guided(
        torch.tensor(guide).float().permute(2, 0, 1)[None], torch.tensor(maps).float()[None], radius, regularisation
    )
    np.testing.assert_allclose(actual.numpy(), expected, atol=2e-4)


@given(height=st.integers(1, 12), width=st.integers(1, 12), radius=st.integers(0, 4))
def test_box_mean_takes_what_lies_inside(height: int, width: int, radius: int) -> None:
    image = np.random.default_rng(0).random((height, width))
    near = windows(height, width, radius)
    expected = (near * image).sum((2, 3)) / near.sum((2, 3))
    actual = box_mean(torch.tensor(image)[None, None], radius)[0, 0]
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


def test_flat_guide_averages_and_a_linear_map_passes_unchanged() -> None:
    guide = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    linear = 0.5 * guide[:, :1] - 2 * guide[:, 1:2] + guide[:, 2:] + 3
    torch.testing.assert_close(guided(guide, linear, 3, 1e-6)[0], linear[0, 0], atol=1e-3, rtol=0)
    flat = torch.full((1, 3, 16, 16), 0.5)
    averaged = box_mean(box_mean(linear, 3), 3)
    torch.testing.assert_close(guided(flat, linear, 3, 1e-3)[0], averaged[0, 0], atol=1e-4, rtol=0)


def test_coefficients_are_interpolated_bilinearly_wherever_the_tile_lies() -> None:
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.rand((5, 4, 6, 7), generator=generator)
    guide = torch.rand((3, 40, 33), generator=generator)
    large = functional.interpolate(coefficients, (40, 33), mode="bilinear", align_corners=False)
    expected = (large[:, :3] * guide).sum(1) + large[:, 3]
    rows, columns = slice(11, 29), slice(20, 33)
    actual = apply_coefficients(coefficients, guide[:, rows, columns], rows, columns, (40, 33))
    torch.testing.assert_close(actual, expected[:, rows, columns])


@pytest.mark.parametrize(
    ("first", "last", "half_width", "length", "near", "expected"),
    [
        (1, 4, 2, 5, slice(0, 5), [[1, 2, 1, 0, 0], [0, 1, 2, 1, 0], [0, 0, 1, 2, 1]]),
        (0, 2, 3, 2, slice(0, 2), [[3, 2], [2, 3]]),
        (4, 5, 2, 9, slice(3, 6), [[1, 2, 1]]),
        (2, 4, 1, 4, slice(2, 4), [[1, 0], [0, 1]]),
    ],
)
def test_triangle_weights_by_hand(
    first: int, last: int, half_width: float, length: int, near: slice, expected: list[list[float]]
) -> None:
    pixels, weights = triangle_weights(np.arange(first, last), half_width, length)
    assert pixels == near
    shares = np.array(expected) / np.sum(expected, 1, keepdims=True)
    np.testing.assert_allclose(weights.numpy(), shares, rtol=1e-6)

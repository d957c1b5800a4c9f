from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from dynaseg_cli.regions import gaussian
from dynaseg_cli.regions.gaussian import slopes, smoothed

SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 70))
SCALES = st.sampled_from([0.5, 1.0, 2.0, 3.3])


def noise(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-60, 100, shape).astype(np.float32)


@given(SHAPES, SCALES)
def test_smoothing_and_slopes_are_those_of_scipy(shape: tuple[int, int], scale: float) -> None:
    """Also in maps that are smaller than the Gaussian."""
    values = noise(shape)
    down, across = slopes(values, scale)
    for found, order in ((smoothed(values, scale), 0), (down, (1, 0)), (across, (0, 1))):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, gaussian_filter(values, scale, order=order), rtol=1e-5, atol=1e-5)


def test_a_map_of_several_parts_is_smoothed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = noise((200, 90))
    whole = smoothed(values, 2.0), *slopes(values, 2.0)
    monkeypatch.setattr(gaussian, "ROWS", 7)
    for found, expected in zip((smoothed(values, 2.0), *slopes(values, 2.0)), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 53.3, 100 / 3, -1e-3])
def test_level_ground_has_no_slope_at_all(value: float) -> None:
    values = np.full((150, 61), value, dtype=np.float32)
    values[70:] += noise((80, 61))
    for found in slopes(values, 2.0):
        assert (found[: 70 - 8] == 0).all()
        assert (found[70:] != 0).any()


def test_what_is_equal_along_a_line_stays_equal() -> None:
    """To the last bit, wherever in a product it is: or level valleys would fall into puddles."""
    profile = noise((1, 300))[0]
    upright = np.broadcast_to(profile, (150, 300)).copy()
    for values, axis in ((upright, 0), (upright.T.copy(), 1)):
        for found in (smoothed(values, 1.0), *slopes(values, 2.0)):
            assert (np.ptp(found, axis=axis) == 0).all()

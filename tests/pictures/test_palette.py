from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from skimage.color import rgb2lab

from dynaseg_cli.pictures.palette import DICHROMATS, SIZE, label_color, label_palette, palette_colors


def difference(colors: np.ndarray) -> float:
    """Least difference of any two colours in CIELAB, computed by scikit-image."""
    return float(pdist(rgb2lab(colors[None] / 255)[0]).min())


def test_palette_has_a_different_colour_for_each_label() -> None:
    palette = label_palette()
    assert palette.shape == (SIZE, 3)
    assert palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == SIZE


def test_colours_differ_to_the_eye() -> None:
    """2.3 is the least difference that is noticed (Mahy 1994)."""
    assert difference(label_palette()) > 2.3
    assert difference(label_palette()[:12]) > 15


def simulated(rgb: np.ndarray, deficiency: int) -> np.ndarray:
    """8-bit sRGB as a dichromat sees it, by the matrices of Machado et al. 2009."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    seen = (linear @ DICHROMATS[deficiency].T).clip(0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055) * 255


@pytest.mark.parametrize("deficiency", range(3))
def test_colours_differ_to_those_who_see_fewer(deficiency: int) -> None:
    seen = simulated(label_palette(), deficiency)
    assert difference(seen[:8]) > 10
    assert difference(seen[:16]) > 6


def test_dichromats_see_greys_as_greys_and_confuse_what_they_should() -> None:
    np.testing.assert_allclose(DICHROMATS.sum(2), 1, atol=1e-5)
    red_and_green = np.array([[160, 60, 20], [95, 90, 20]])
    for deficiency in (0, 1):
        assert difference(simulated(red_and_green, deficiency)) < difference(red_and_green) / 2


def test_palette_stays_as_it_was_published() -> None:
    assert label_palette()[:3].tolist() == [[68, 119, 170], [238, 221, 119], [119, 17, 0]]


def test_label_beyond_the_palette_starts_it_again() -> None:
    assert label_color(0) == tuple(label_palette()[0].tolist())
    assert palette_colors(SIZE + 8)[-1].tolist() == list(label_color(7))
    assert label_color(SIZE + 7) == label_color(7) != label_color(8)

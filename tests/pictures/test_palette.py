from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist
from skimage.color import rgb2lab

from dynaseg_cli.pictures.palette import SIZE, label_color, label_palette


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
    assert difference(label_palette()[:12]) > 20


def test_palette_stays_as_it_was_published() -> None:
    assert label_palette()[:3].tolist() == [[68, 119, 170], [221, 238, 136], [119, 34, 0]]


def test_label_beyond_the_palette_starts_it_again() -> None:
    assert label_color(0) == tuple(label_palette()[0].tolist())
    assert label_color(SIZE + 7) == label_color(7) != label_color(8)

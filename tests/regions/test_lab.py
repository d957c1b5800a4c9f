from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from dynaseg_cli.regions.lab import to_lab


def test_colours_are_those_of_scikit_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image[0, :6] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [3, 2, 1]]
    np.testing.assert_allclose(to_lab(image), rgb2lab(image), atol=0.01)
    assert to_lab(image).dtype == np.float32


@pytest.mark.parametrize("grey", [0, 1, 8, 118, 255])
def test_greys_have_no_colour(grey: int) -> None:
    lab = to_lab(np.full((1, 1, 3), grey, dtype=np.uint8))[0, 0]
    np.testing.assert_allclose(lab[1:], 0, atol=1e-4)
    assert 0 <= lab[0] <= 100 + 1e-4

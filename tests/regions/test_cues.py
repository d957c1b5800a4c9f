from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab

from dynaseg_cli.regions.cues import BIN_STEPS, COLOUR_BINS, CUE_SIZE, TEXTURE_BINS, bins_of_steps, photo_cues, to_lab


def stripes(period: int, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """Upright stripes of black and white."""
    row = (np.arange(width) // (period // 2) % 2 * 255).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def test_a_plain_photo_has_neither_contrast_nor_texture() -> None:
    cues = photo_cues(np.full((30, 40, 3), 90, dtype=np.uint8))
    np.testing.assert_allclose(cues.contrast, 0, atol=1e-4)
    assert (cues.texture == 0).all()
    assert (cues.lab == cues.lab[0, 0]).all()


def test_contrast_is_greatest_where_colours_meet() -> None:
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:, 20:] = (200, 30, 30)
    contrast = photo_cues(image).contrast
    assert set(np.argmax(contrast, axis=1).tolist()) <= {19, 20}
    assert contrast[:, :5].max() < 0.01 * contrast.max()


def test_texture_tells_directions_apart() -> None:
    upright = photo_cues(stripes(6)).texture[:, 16:48, 16:48].mean((1, 2))
    level = photo_cues(stripes(6).transpose(1, 0, 2)).texture[:, 16:48, 16:48].mean((1, 2))
    assert upright[0] > 2 * upright[2]
    np.testing.assert_allclose(level[[2, 0]], upright[[0, 2]])


def test_texture_turns_with_the_photo() -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    cues, turned = photo_cues(image), photo_cues(image.transpose(1, 0, 2))
    np.testing.assert_allclose(turned.contrast, cues.contrast.T, atol=1e-3)
    assert (turned.texture[[0, 2]] == cues.texture[[2, 0]].transpose(0, 2, 1)).mean() > 0.99


@pytest.mark.parametrize(("shape", "seen"), [((1, 1), (1, 1)), ((3, 5), (3, 5)), ((300, 1024), (150, 512))])
def test_photos_are_looked_at_at_a_bounded_size(shape: tuple[int, int], seen: tuple[int, int]) -> None:
    cues = photo_cues(np.zeros((*shape, 3), dtype=np.uint8))
    assert CUE_SIZE == 512
    assert cues.contrast.shape == cues.texture.shape[1:] == cues.lab.shape[:2] == seen


def test_a_step_between_two_bins_counts_in_both() -> None:
    steps = np.zeros((2, (TEXTURE_BINS - 1) * BIN_STEPS + 1), dtype=np.int64)
    steps[0, BIN_STEPS + 1] = 8  # a quarter of the way from bin 1 to bin 2
    steps[1, -1] = 3
    assert bins_of_steps(steps).tolist() == [[0, 6, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 3]]


def test_colours_go_from_the_first_bin_to_the_last() -> None:
    image = np.zeros((1, 5, 3), dtype=np.uint8)
    image[0, 1:] = (255, 255, 255), (119, 119, 119), (255, 0, 0), (0, 0, 255)
    lightness, red, yellow = photo_cues(image).colour[:, 0]
    last = (COLOUR_BINS - 1) * BIN_STEPS
    assert lightness[:3].tolist() == [0, last, last // 2]
    assert red.tolist() == [last // 2] * 3 + [last] * 2  # far outside
    assert yellow.tolist() == [last // 2] * 3 + [last, 0]


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

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import files_below, read_pixels

from dynaseg_cli.benchmark.synthetic import synthetic_photo, write_synthetic_photos


def test_equal_seeds_give_equal_images_and_others_do_not() -> None:
    image = synthetic_photo(60, 40, 1)
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert np.array_equal(image, synthetic_photo(60, 40, 1))
    assert not np.array_equal(image, synthetic_photo(60, 40, 2))


def test_it_is_no_noise_and_no_plain_colour() -> None:
    """Neighbouring pixels are alike far more than distant ones, as in a photo; and there are many colours."""
    image = synthetic_photo(240, 160, 0).astype(float)
    near = np.abs(np.diff(image, axis=1)).mean()
    far = np.abs(image[:, :120] - image[:, 120:]).mean()
    assert near < 0.4 * far
    assert image.std((0, 1)).min() > 20


def test_a_scene_does_not_depend_on_its_size() -> None:
    small = np.asarray(Image.fromarray(synthetic_photo(240, 160, 3)).resize((60, 40), Image.Resampling.BOX), float)
    large = np.asarray(Image.fromarray(synthetic_photo(480, 320, 3)).resize((60, 40), Image.Resampling.BOX), float)
    assert np.abs(small - large).mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)], ids=str)
def test_any_size(size: tuple[int, int]) -> None:
    assert synthetic_photo(*size, 0).shape == (size[1], size[0], 3)


def test_files_are_images_of_each_size(tmp_path: Path) -> None:
    write_synthetic_photos(tmp_path, 2, [(30, 20), (9, 9)])
    assert set(files_below(tmp_path)) == {f"{size}-00{number}.png" for size in ("30x20", "9x9") for number in (0, 1)}
    assert read_pixels(tmp_path / "30x20-001.png").shape == (20, 30, 3)

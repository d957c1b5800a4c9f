from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from samples import noise

from dynaseg_cli.report import thumbnail
from dynaseg_cli.report.thumbnail import LONGEST_SIDE, lossless, lossy, shrunk_map, shrunk_photo


@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 640), (30, 500)])
def test_small_images_are_left_as_they_are(width: int, height: int) -> None:
    photo = noise(0, width, height)
    np.testing.assert_array_equal(shrunk_photo(photo), photo)
    np.testing.assert_array_equal(shrunk_map(photo[..., 0]), photo[..., 0])


@pytest.mark.parametrize(("width", "height"), [(2000, 1501), (1283, 2000), (10_000, 1), (1, 10_000), (9000, 7)])
def test_a_photo_is_averaged_band_by_band_as_it_is_at_once(
    monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    photo = noise(0, width, height)
    size = thumbnail.thumbnail_size(width, height)
    assert max(size) == LONGEST_SIDE
    whole = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX)).astype(int)
    monkeypatch.setattr(thumbnail, "BAND_PIXELS", 10_000)
    small = shrunk_photo(photo)
    assert small.shape == whole.shape
    assert abs(small - whole).max() <= 1  # how a share of a pixel rounds


def test_a_map_keeps_its_values() -> None:
    labels = np.repeat(np.arange(1280, dtype=np.uint16)[None], 640, axis=0) // 2
    small = shrunk_map(labels)
    assert small.dtype == np.uint16
    np.testing.assert_array_equal(small, np.repeat(np.arange(640)[None], 320, axis=0))


def test_what_is_lossless_comes_back_and_what_is_lossy_nearly() -> None:
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[:200:2, :200:2], 90), axis=-1).astype(np.uint8)
    for content, most in ((lossless(smooth), 0), (lossy(smooth), 12)):
        with Image.open(io.BytesIO(content)) as image:
            assert image.format == "WEBP"
            assert abs(np.asarray(image).astype(int) - smooth).max() <= most

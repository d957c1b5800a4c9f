from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from dynaseg_cli.baselines.felzenszwalb import segment_by_felzenszwalb
from dynaseg_cli.errors import UsageError


def segments(labels: NDArray[np.int32]) -> int:
    return len(np.unique(labels))


@pytest.fixture(scope="module")
def quarters() -> NDArray[np.uint8]:
    """Four flat patches, (16, 20, 3)."""
    image = np.empty((16, 20, 3), dtype=np.uint8)
    image[:8, :10], image[:8, 10:] = [200, 180, 60], [100, 120, 140]
    image[8:, :10], image[8:, 10:] = [170, 60, 150], [40, 60, 50]
    return image


def test_flat_patches_are_the_segments(quarters: NDArray[np.uint8]) -> None:
    labels = segment_by_felzenszwalb(quarters, scale=10, sigma=0, min_size=1)
    assert labels.shape == (16, 20)
    assert labels.dtype == np.int32
    assert segments(labels) == 4
    for rows in (slice(8), slice(8, 16)):
        for columns in (slice(10), slice(10, 20)):
            assert segments(labels[rows, columns]) == 1


def test_scale_is_in_units_of_the_colours() -> None:
    """Single pixels merge while their distance is less than the scale: here it is 30 grey levels, sqrt(3) * 30."""
    image = np.repeat(np.array([[[100], [130]]], dtype=np.uint8), 3, axis=2)
    assert segments(segment_by_felzenszwalb(image, scale=51, sigma=0, min_size=1)) == 2
    assert segments(segment_by_felzenszwalb(image, scale=53, sigma=0, min_size=1)) == 1


def test_scale_counts_for_less_the_larger_the_region() -> None:
    """k / |C| is 100 for one pixel and 25 for four, and the step between the regions is sqrt(3) * 30."""
    image = np.repeat(np.array([[[100]] * 4 + [[130]] * 4], dtype=np.uint8), 3, axis=2)
    assert segments(segment_by_felzenszwalb(image[:, 3:5], scale=100, sigma=0, min_size=1)) == 1
    assert segments(segment_by_felzenszwalb(image, scale=100, sigma=0, min_size=1)) == 2


@pytest.mark.parametrize("min_size", [1, 6, 40])
def test_no_segment_is_smaller_than_asked(photo: NDArray[np.uint8], min_size: int) -> None:
    labels = segment_by_felzenszwalb(photo, scale=20, sigma=0.5, min_size=min_size)
    sizes = np.bincount(labels.ravel())
    assert sizes.min() >= min_size
    assert len(sizes) > 1


def test_smoothing_leaves_fewer_segments(photo: NDArray[np.uint8]) -> None:
    rough = segment_by_felzenszwalb(photo, scale=20, sigma=0, min_size=1)
    smooth = segment_by_felzenszwalb(photo, scale=20, sigma=2, min_size=1)
    assert segments(smooth) < segments(rough)


def test_equal_calls_give_equal_labels(photo: NDArray[np.uint8]) -> None:
    assert not photo.flags.writeable
    first = segment_by_felzenszwalb(photo, scale=20, sigma=0.5, min_size=4)
    assert np.array_equal(segment_by_felzenszwalb(photo.copy(), scale=20, sigma=0.5, min_size=4), first)


@pytest.mark.parametrize("sigma", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (6, 7)])
def test_constant_image_is_one_segment(height: int, width: int, sigma: float) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    labels = segment_by_felzenszwalb(image, scale=100, sigma=sigma, min_size=20)
    assert labels.shape == (height, width)
    assert segments(labels) == 1


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, quarters: NDArray[np.uint8]) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UsageError, match=r"pip install 'dynaseg\[baselines\]'"):
        segment_by_felzenszwalb(quarters, scale=10, sigma=0, min_size=1)

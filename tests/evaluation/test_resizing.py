from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.evaluation.resizing import center_crop, resized

SIDES = st.integers(1, 60)


def numbered(height: int, width: int) -> NDArray[np.int32]:
    """A map whose every pixel has a value of its own."""
    return np.arange(height * width, dtype=np.int32).reshape(height, width)


def by_pillow(labels: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


@given(height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES)
@example(height=321, width=481, new_height=320, new_width=479)
@example(height=427, width=640, new_height=320, new_width=479)
@example(height=1, width=1, new_height=7, new_width=3)
def test_resizing_is_that_of_pillow(height: int, width: int, new_height: int, new_width: int) -> None:
    labels = numbered(height, width)
    result = resized(labels, new_height, new_width)
    assert result.shape == (new_height, new_width)
    np.testing.assert_array_equal(result, by_pillow(labels, new_height, new_width))


@given(length=SIDES, wanted=SIDES)
def test_each_pixel_takes_the_value_under_its_centre(length: int, wanted: int) -> None:
    """By whole numbers; a centre between two pixels may take either."""
    centres = (2 * np.arange(wanted) + 1) * length
    between = centres % (2 * wanted) == 0
    taken = resized(numbered(1, length), 1, wanted)[0]
    assert ((taken == centres // (2 * wanted)) | (between & (taken == centres // (2 * wanted) - 1))).all()


@given(height=SIDES, width=SIDES, factor=st.integers(1, 5))
def test_enlarging_by_a_whole_factor_repeats_pixels(height: int, width: int, factor: int) -> None:
    labels = numbered(height, width)
    larger = resized(labels, height * factor, width * factor)
    np.testing.assert_array_equal(larger, np.kron(labels, np.ones((factor, factor), np.int32)))
    np.testing.assert_array_equal(resized(larger, height, width), labels)


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int32", "uint64"])
def test_values_and_their_type_are_kept(dtype: str) -> None:
    labels = np.array([[0, np.iinfo(dtype).max]], dtype=dtype)
    assert resized(labels, 3, 4).dtype == labels.dtype
    assert set(resized(labels, 3, 4).ravel()) == {0, np.iinfo(dtype).max}


def as_torchvision(labels: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Resize(size, NEAREST) and CenterCrop(size) of torchvision 0.20, on a PIL image, as written there."""
    height, width = labels.shape
    short, long = (width, height) if width <= height else (height, width)
    new_short, new_long = size, int(size * long / short)
    new_width, new_height = (new_short, new_long) if width <= height else (new_long, new_short)
    image = Image.fromarray(labels).resize((new_width, new_height), Image.Resampling.NEAREST)
    top = round((new_height - size) / 2)
    left = round((new_width - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@given(height=SIDES, width=SIDES, size=SIDES)
@example(height=2, width=3, size=5)  # larger than the image, and 7 columns less 5 are even
@example(height=3, width=2, size=6)  # 9 less 6 are odd: Python rounds 1.5 to 2
@example(height=5, width=8, size=10)
def test_crop_is_that_of_torchvision(height: int, width: int, size: int) -> None:
    labels = numbered(height, width)
    np.testing.assert_array_equal(center_crop(labels, size), as_torchvision(labels, size))


@pytest.mark.parametrize("shape", [(427, 640), (640, 427), (480, 640), (500, 333), (375, 500), (612, 612), (100, 80)])
def test_crop_of_sizes_that_coco_has_is_that_of_torchvision(shape: tuple[int, int]) -> None:
    labels = numbered(*shape)
    np.testing.assert_array_equal(center_crop(labels, 320), as_torchvision(labels, 320))


@given(height=SIDES, width=SIDES, size=SIDES)
def test_crop_is_square_and_leaves_a_square_of_its_size_alone(height: int, width: int, size: int) -> None:
    cropped = center_crop(numbered(height, width), size)
    assert cropped.shape == (size, size)
    np.testing.assert_array_equal(center_crop(cropped, size), cropped)


def test_crop_of_a_strip_is_its_middle_without_the_whole_being_enlarged() -> None:
    """Enlarged until its shorter side is 1000, it would have 10 gigapixels."""
    assert set(center_crop(numbered(1, 10_001), 1000).ravel()) == {5000}

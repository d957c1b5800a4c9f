from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.evaluation.protocols import resized

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

"""An image is looked at before it is written anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from export_samples import LABELS, REGIONS, image

from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.images import Segments
from dynaseg_cli.export.source import Source


def test_the_category_of_a_segment_is_its_label_plus_1() -> None:
    assert Source(1, image("a", LABELS), 5).categories.tolist() == [1, 2, 3, 5]
    assert Source(1, image("a", REGIONS), 5).categories.tolist() == [1, 2, 1, 3, 3, 5]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (Segments(np.array([[0, 2]]), np.array([0, 1])), r"segments 0 to 2, where 0 to 1 are known.*--overwrite"),
        (Segments(np.array([[0, -1]]), np.array([0, 1])), r"segments -1 to 0, where 0 to 1 are known"),
        (Segments(np.array([[0, 1]]), np.array([0, 5])), r"labels 0 to 5, where 0 to 4 are known.*--overwrite"),
        (Segments(np.array([[0, 1]]), np.array([0, -1])), r"labels -1 to 0, where 0 to 4 are known"),
    ],
)
def test_segments_and_labels_that_there_are_not_are_refused(segments: Segments, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        Source(1, image("a", segments), 5)


def test_a_label_of_no_pixel_may_be_any() -> None:
    assert Source(1, image("a", Segments(np.array([[0]]), np.array([0, 9]))), 5).categories.tolist() == [1]

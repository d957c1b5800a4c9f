"""An image is looked at before it is written anywhere."""

from __future__ import annotations

import io

import numpy as np
import pytest
from export_samples import LABELS, REGIONS, image
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.source import MOST_MASKS, Segments, Source, labels_as_segments, select
from dynaseg_cli.pictures.palette import voc_colors


def indices(content: bytes) -> list[list[int]]:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture.getpalette()).reshape(-1, 3), voc_colors(256))
        found: list[list[int]] = np.asarray(picture).tolist()
        return found


def masks(segments: Segments | NDArray[np.integer]) -> tuple[list[list[int]], ...]:
    """Indices of the two masks."""
    return tuple(map(indices, Source(1, image("a", segments), 1 << 16).masks))


def test_the_category_of_a_segment_is_its_label_plus_1() -> None:
    assert Source(1, image("a", LABELS), 5).categories.tolist() == [1, 2, 3, 5]
    assert Source(1, image("a", REGIONS), 5).categories.tolist() == [1, 2, 1, 3, 3, 5]


def test_pixels_without_a_segment_are_nowhere() -> None:
    segments = Segments(np.array([[-1, 2, 2, -1, 0, 0]]), np.array([3, 1, 0]))
    source = Source(1, image("a", segments), 5)
    assert source.categories.tolist() == [4, 1]
    assert masks(segments) == ([[0, 1, 1, 0, 4, 4]], [[0, 2, 2, 0, 1, 1]])
    selected = Source(1, image("a", segments), 5, selection=select(ExportConfig(only_labels=("3",)), {}))
    assert selected.segments.of_pixel.tolist() == [[-1, -1, -1, -1, 0, 0]]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (Segments(np.array([[0, 2]]), np.array([0, 1])), r"segments 0 to 2, where 0 to 1 are known.*`overwrite=True`"),
        (Segments(np.array([[0, -2]]), np.array([0, 1])), r"segments -2 to 0, where 0 to 1 are known"),
        (Segments(np.array([[0, 1]]), np.array([0, 5])), r"labels 0 to 5, where 0 to 4 are known.*`overwrite=True`"),
        (Segments(np.array([[0, 1]]), np.array([0, -1])), r"labels -1 to 0, where 0 to 4 are known"),
    ],
)
def test_segments_and_labels_that_there_are_not_are_refused(segments: Segments, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        Source(1, image("a", segments), 5)


def test_a_label_of_no_pixel_may_be_any() -> None:
    assert Source(1, image("a", Segments(np.array([[0]]), np.array([0, 9]))), 5).categories.tolist() == [1]


def test_a_class_is_a_label_and_an_object_a_segment_from_1_without_gaps() -> None:
    assert masks(LABELS) == ((LABELS + 1).tolist(), [[1, 1, 2, 2, 1], [1, 4, 4, 2, 1], [3, 3, 4, 4, 3]])
    assert masks(REGIONS) == ((LABELS + 1).tolist(), (REGIONS.of_pixel + 1).tolist())


def test_as_many_segments_as_8_bits_hold_and_no_more() -> None:
    segments = np.arange(MOST_MASKS + 1, dtype=np.uint16).reshape(1, -1)
    _, objects = masks(Segments(segments[:, :-1], np.zeros(MOST_MASKS, np.int64)))
    assert objects == [list(range(1, 255))]
    with pytest.raises(ImageError, match=r"255 segments, and a mask of 8 bits holds 254: .*`regions=254`"):
        masks(Segments(segments, np.zeros(MOST_MASKS + 1, np.int64)))


def test_labels_as_high_as_8_bits_hold_and_no_higher() -> None:
    assert masks(np.array([[253]]))[0] == [[254]]
    with pytest.raises(ImageError, match=r"label 254, and a mask of 8 bits holds labels up to 253"):
        masks(np.array([[254]]))


def test_a_label_is_a_segment_of_its_own_number() -> None:
    labels = np.array([[0, 3], [3, 1]], np.uint8)
    segments = labels_as_segments(labels)
    assert segments.of_pixel is labels
    assert segments.labels.tolist() == [0, 1, 2, 3]

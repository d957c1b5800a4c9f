from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from samples import noise

from dynaseg_cli.config import COARSE_GRANULARITY, COMMON_GRANULARITY, FINE_GRANULARITY, FREE, CutConfig
from dynaseg_cli.regions import tidying
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.regions.segments import connected_regions, number_by_area
from dynaseg_cli.regions.tidying import cut_regions, main_labels, split_between_strokes, tidied_labels, tidy

RAW = np.array(
    [
        [4, 4, 4, 2, 2, 2],
        [4, 7, 4, 2, 4, 2],
        [4, 4, 4, 2, 2, 9],
        [1, 1, 9, 9, 1, 1],
    ],
    dtype=np.uint8,
)
REGIONS = np.array(
    [
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [2, 2, 2, 2, 3, 3],
    ],
    dtype=np.int32,
)
"""A region may hold several labels, and label 9 is cut across."""


def strokes(*drawn: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(row, column, label) of each pixel that is drawn on."""
    scribbles = np.full(RAW.shape, FREE, dtype=np.uint8)
    for row, column, label in drawn:
        scribbles[row, column] = label
    return scribbles


def test_every_region_has_the_label_that_most_of_it_has() -> None:
    expected = np.array([4, 2, 1, 1])[REGIONS]  # of 1 and 9, which have two pixels each in region 2, the smaller
    labels = tidied_labels(RAW, REGIONS)
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8
    assert tidied_labels(RAW.astype(np.uint16), REGIONS).dtype == np.uint16


def test_what_is_drawn_on_a_region_decides_and_drawn_pixels_keep_their_labels() -> None:
    scribbles = strokes((0, 0, 30), (0, 1, 30), (2, 2, 5), (1, 4, 4), (3, 5, 1))
    expected = np.array([30, 4, 1, 1])[REGIONS]
    expected[2, 2] = 5
    np.testing.assert_array_equal(tidied_labels(RAW, REGIONS, scribbles), expected)
    equally_often = tidied_labels(RAW, REGIONS, strokes((0, 0, 30), (2, 2, 5)))
    assert np.unique(equally_often[REGIONS == 0], return_counts=True)[1].tolist() == [8, 1], "5 is smaller than 30"


def test_a_region_on_which_two_labels_are_drawn_is_not_merged() -> None:
    drawn = strokes((0, 0, 30), (1, 1, 5), (3, 4, 1))
    split = split_between_strokes(REGIONS, RAW, drawn)
    hole = split[1, 1]
    assert np.count_nonzero(split == hole) == 1
    assert len(np.unique(split)) == 5
    assert (np.diff(np.bincount(split.reshape(-1))) <= 0).all()
    np.testing.assert_array_equal(split_between_strokes(REGIONS, RAW, strokes((0, 0, 30), (1, 1, 30))), REGIONS)


def test_parts_of_split_regions_stay_within_them() -> None:
    regions = np.array([[0, 0, 1, 1]] * 2, dtype=np.int32)
    raw = np.array([[3, 3, 3, 3], [6, 6, 6, 6]], dtype=np.uint8)
    drawn = np.array([[3, FREE, FREE, 3], [6, FREE, FREE, 6]], dtype=np.uint8)
    assert len(np.unique(split_between_strokes(regions, raw, drawn))) == 4


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda shape: st.tuples(
            arrays(np.uint8, shape, elements=st.integers(0, 5)), arrays(np.uint8, shape, elements=st.integers(0, 250))
        )
    ),
    st.integers(1, 7),
    st.booleans(),
)
def test_main_labels_are_those_counted_one_by_one(
    maps: tuple[NDArray[np.uint8], ...], band: int, in_table: bool
) -> None:
    regions, labels = connected_regions(maps[0]), maps[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tidying, "BAND_PIXELS", band)
        patch.setattr(tidying, "MOST_CELLS", tidying.MOST_CELLS if in_table else 0)
        found = main_labels(regions, labels)
    assert found.tolist() == [np.bincount(labels[regions == one]).argmax() for one in range(regions.max() + 1)]


def image_and_labels() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image = noise(0, 40, 30) // 4
    image[:, 20:] += 150
    raw = number_by_area(np.random.default_rng(0).integers(0, 12, (30, 40))).labels
    return image, raw.astype(np.uint8)


@pytest.mark.parametrize("cut", [CutConfig(), CutConfig(regions=5), CutConfig(granularity=0.2)])
def test_labels_are_numbered_by_falling_area(cut: CutConfig) -> None:
    image, raw = image_and_labels()
    tidied = tidy(raw, image, cut)
    areas = np.bincount(tidied.labels.reshape(-1))
    assert areas.min() > 0
    assert (np.diff(areas) <= 0).all()
    np.testing.assert_array_equal(tidied.regions, cut_regions(build_hierarchy(raw, image), cut))
    for region in range(tidied.regions.max() + 1):
        assert len(np.unique(tidied.labels[tidied.regions == region])) == 1
    before = tidied_labels(raw, tidied.regions)
    np.testing.assert_array_equal(tidied.numbers[before], tidied.labels)
    assert sorted(tidied.numbers) == list(range(12)), "labels that are gone have numbers of their own"


def test_labels_of_a_folder_keep_their_numbers() -> None:
    image, raw = image_and_labels()
    cut = CutConfig(regions=4)
    tidied = tidy(raw, image, cut, renumber=False)
    np.testing.assert_array_equal(tidied.labels, tidied_labels(raw, tidied.regions))
    np.testing.assert_array_equal(tidied.numbers, np.arange(12))


def test_drawn_labels_keep_their_numbers() -> None:
    image, raw = image_and_labels()
    scribbles = np.full(raw.shape, FREE, dtype=np.uint8)
    scribbles[2:5, 2:9], scribbles[20:25, 30:35] = 9, 40
    tidied = tidy(raw, image, CutConfig(regions=4), scribbles=scribbles)
    drawn = scribbles != FREE
    np.testing.assert_array_equal(tidied.labels[drawn], scribbles[drawn])
    others = set(np.unique(tidied.labels).tolist()) - {9, 40}
    assert others <= set(range(len(others) + 1))


@pytest.mark.parametrize("cut", [CutConfig(regions="raw"), CutConfig(granularity=1.0)])
def test_raw_merges_nothing_whatever_a_hierarchy_says(cut: CutConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("no hierarchy is needed")

    monkeypatch.setattr(tidying, "build_hierarchy", refuse)
    image, raw = image_and_labels()
    tidied = tidy(raw, image, cut)
    assert tidied.labels is raw
    parts = connected_regions(raw)
    assert len(np.unique(parts.astype(np.int64) << 32 | tidied.regions)) == parts.max() + 1 == tidied.regions.max() + 1
    assert (np.diff(np.bincount(tidied.regions.reshape(-1))) <= 0).all()


def test_words_are_granularities() -> None:
    image, raw = image_and_labels()
    hierarchy = build_hierarchy(raw, image)
    for word, granularity in (
        ("auto", COMMON_GRANULARITY),
        ("coarse", COARSE_GRANULARITY),
        ("fine", FINE_GRANULARITY),
    ):
        cut: Any = CutConfig(regions=word)  # type: ignore[arg-type]
        np.testing.assert_array_equal(cut_regions(hierarchy, cut), hierarchy.cut(granularity))

from __future__ import annotations

import numpy as np
import pytest

from dynaseg_cli.evaluation.class_scores import ClassScores
from dynaseg_cli.evaluation.hierarchy_scores import HierarchyScores
from dynaseg_cli.evaluation.pooling import LabelCounts, PooledMean, Spool
from dynaseg_cli.evaluation.region_scores import RegionScores
from dynaseg_cli.regions.hierarchy import STRONGEST, Hierarchy


def test_mean_pools_groups_by_their_numbers() -> None:
    mean = PooledMean()
    assert mean.value is None
    mean.add(3.0, 2)
    mean.add(1.0, 6)
    assert mean.value == 0.5


def test_mean_includes_all_of_another() -> None:
    mean, other = PooledMean(1.0, 4), PooledMean(3.0, 4)
    mean.include(other)
    assert (mean.value, other.value) == (0.5, 0.75)


def test_spool_gives_back_what_it_got_in_order_and_again() -> None:
    spool: Spool[object] = Spool()
    assert list(spool) == []
    for record in ("a", {"b": 1.5}, None):
        spool.append(record)
    assert list(spool) == list(spool) == ["a", {"b": 1.5}, None]


def test_spool_grows_while_it_is_read() -> None:
    spool: Spool[int] = Spool()
    spool.append(1)
    reader = iter(spool)
    assert next(reader) == 1
    spool.append(2)
    assert list(reader) == [2]
    assert list(spool) == [1, 2]


def test_spool_keeps_arrays_apart() -> None:
    spool: Spool[np.ndarray] = Spool()
    array = np.zeros(3)
    spool.append(array)
    array[:] = 1
    spool.append(array)
    assert [one.sum() for one in spool] == [0, 3]


# Labels of an image

STRIPES = np.array([[5, 6, 5, 6]])
HALVES, QUARTERS = np.array([[1, 1, 2, 2]]), np.array([[1, 2, 3, 255]])


def test_mean_is_over_the_annotations() -> None:
    assert LabelCounts(3, (2, 5)).truth_mean == 3.5
    assert LabelCounts(3, (2,)).truth_mean == 2


@pytest.mark.parametrize("connected", [True, False])
def test_labels_count_before_they_are_split_and_each_annotator_by_itself(connected: bool) -> None:
    scores = RegionScores(annotators=True, connected=connected)
    scores.add("a", STRIPES, [HALVES, QUARTERS])
    scores.add("b", HALVES, [HALVES])
    assert list(scores.label_counts()) == [("a", LabelCounts(2, (2, 4), 0, 8)), ("b", LabelCounts(2, (2,), 0, 4))]
    assert [row["segments"] for _, row in scores.per_image()] == [4 if connected else 2, 2]


def test_what_is_ignored_is_no_class() -> None:
    scores = ClassScores(connected=True, num_things=None)
    scores.add("a", STRIPES, [QUARTERS], 255)
    assert list(scores.label_counts()) == [("a", LabelCounts(2, (3,), 1, 4))]


def test_share_of_ignored_pixels_is_over_all_annotations() -> None:
    scores = RegionScores(annotators=True, connected=True)
    scores.add("a", STRIPES, [HALVES, QUARTERS], 255)
    assert [counts.ignored_fraction for _, counts in scores.label_counts()] == [1 / 8]
    assert LabelCounts(0, ()).ignored_fraction == 0


def test_regions_of_a_hierarchy_count_at_the_granularity_of_the_set() -> None:
    strength = np.rint(np.array([0.25, 0.75, 0.25]) * STRONGEST).astype(np.uint16)
    pixels = np.arange(4, dtype=np.int32)
    pairs = Hierarchy(pixels[None], pixels[:-1].astype(np.int64), pixels[1:].astype(np.int64), strength)
    scores = HierarchyScores(annotators=True)
    scores.add("a", pairs, pairs.fragments, [HALVES, HALVES, QUARTERS], 3)
    assert list(scores.label_counts()) == [("a", LabelCounts(2, (2, 2, 3), 1, 12))]

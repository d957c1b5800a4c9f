from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scoring import Scores

from dynaseg_cli.errors import ImageError
from dynaseg_cli.evaluation.region_scores import RegionScores

Image = tuple[np.ndarray, list[np.ndarray]]
"""A prediction and its annotations."""


def scored(
    images: Sequence[Image], *, annotators: bool = True, connected: bool = True, ignore: int | None = None
) -> RegionScores:
    scores = RegionScores(annotators=annotators, connected=connected)
    for number, (prediction, truths) in enumerate(images):
        scores.add(str(number), prediction, truths, ignore)
    return scores


WHOLE = np.zeros((2, 4), dtype=int)
HALVES = np.array([[1, 1, 2, 2]] * 2)
QUARTERS = np.array([[1, 2, 3, 4]] * 2)
STRIPES = np.array([[5, 6, 5, 6]] * 2)


def test_metrics_by_hand() -> None:
    """Halves against a whole (best overlap 1/2), themselves (1, 1) and quarters (1/2 each)."""
    scores = scored([(HALVES, [HALVES, WHOLE, QUARTERS])])
    assert scores.metrics() == pytest.approx(
        {
            "miou_all": (2 + 0.5 + 4 * 0.5) / 7,
            "miou_fine": 0.5,
            "miou_coarse": 0.5,
            "miou_mean": ((2 + 0.5 + 4 * 0.5) / 7 + 0.5 + 0.5) / 3,
            "covering": (8 + 4 + 4) / 24,
            # 28 pairs: halves join 12, the whole all 28, quarters 4.
            "pri": (1 + 12 / 28 + (28 - 8) / 28) / 3,
            "voi": (0 + 1 + 1) / 3,
            "segments": 2,
        }
    )


def test_segments_of_all_images_are_pooled_not_averaged_by_image() -> None:
    scores = scored([(WHOLE, [WHOLE]), (WHOLE, [QUARTERS])], annotators=False)
    assert scores.metrics()["miou"] == pytest.approx((1 + 4 * 0.25) / 5)
    assert [row["miou"] for _, row in scores.per_image()] == [1, 0.25]


def test_covering_weighs_images_by_their_pixels() -> None:
    large = np.zeros((2, 12), dtype=int)
    scores = scored([(large, [large]), (WHOLE, [HALVES])], annotators=False)
    assert scores.metrics()["covering"] == pytest.approx((24 * 1 + 8 * 0.5) / 32)


def test_rand_index_and_voi_are_averaged_over_annotations_then_images() -> None:
    scores = scored([(HALVES, [HALVES, WHOLE, WHOLE, WHOLE]), (HALVES, [HALVES])])
    assert scores.metrics()["voi"] == pytest.approx((3 / 4 + 0) / 2)


def test_labels_are_split_into_connected_regions() -> None:
    apart = scored([(STRIPES, [QUARTERS])]).metrics()
    assert (apart["miou_mean"], apart["segments"]) == (1, 4)
    together = scored([(STRIPES, [QUARTERS])], connected=False).metrics()
    assert (together["miou_mean"], together["segments"]) == (0.5, 2)


def test_ground_truth_is_not_split() -> None:
    """An entity may be cut in two by another one in front of it."""
    scores = scored([(WHOLE, [STRIPES])], annotators=False)
    assert scores.metrics()["miou"] == pytest.approx(0.5)


def test_ignored_pixels_neither_help_nor_hurt() -> None:
    truth = np.array([[1, 1, 255, 255]] * 2)
    prediction = np.array([[0, 0, 0, 3]] * 2)
    metrics = scored([(prediction, [truth])], annotators=False, ignore=255).metrics()
    assert (metrics["miou"], metrics["covering"], metrics["voi"]) == (1, 1, 0)
    assert metrics["segments"] == 2


def test_image_with_nothing_but_ignored_pixels_is_refused_and_leaves_no_trace() -> None:
    scores = scored([(WHOLE, [HALVES])], ignore=255)
    before = scores.metrics()
    with pytest.raises(ImageError, match="255"):
        scores.add("void", WHOLE, [HALVES, np.full_like(WHOLE, 255)], 255)
    assert scores.metrics() == before
    assert len(list(scores.per_image())) == 1


def test_nothing_scored_has_no_numbers() -> None:
    assert set(scored([]).metrics().values()) == {None}


def test_per_image_rows_have_the_names_of_the_metrics() -> None:
    scores = scored([(HALVES, [HALVES, QUARTERS]), (WHOLE, [HALVES])])
    assert [name for name, _ in scores.per_image()] == ["0", "1"]
    for _, row in scores.per_image():
        assert list(row) == list(scores.metrics())


def test_set_of_one_image_is_that_image() -> None:
    scores = scored([(HALVES, [STRIPES, WHOLE, QUARTERS])])
    ((_, row),) = scores.per_image()
    assert row == scores.metrics()


@st.composite
def image_sets(draw: st.DrawFn) -> list[Image]:
    images = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
        maps = arrays(np.int64, shape, elements=st.integers(0, 4))
        images.append((draw(maps), draw(st.lists(maps, min_size=1, max_size=4))))
    return images


@given(image_sets())
def test_equals_an_independent_implementation(images: list[Image]) -> None:
    """tests/scoring.py shares no code: dense tables, scikit-image's connected components, pooled in lists."""
    expected = Scores()
    for prediction, truths in images:
        expected.add(prediction, truths)
    metrics = scored(images).metrics()
    assert metrics["miou_all"] == pytest.approx(expected.miou("all"))
    assert metrics["covering"] == pytest.approx(expected.covering)
    assert metrics["segments"] == np.mean(expected.segments)
    counts = [[len(np.unique(truth)) for truth in truths] for _, truths in images]
    if all(len(set(of_image)) == len(of_image) for of_image in counts):  # else which is finest is a matter of order
        assert metrics["miou_mean"] == pytest.approx(expected.mean)


@given(image_sets(), st.permutations(range(3)))
def test_order_of_the_images_does_not_matter(images: list[Image], order: list[int]) -> None:
    shuffled = [images[index] for index in order if index < len(images)]
    assert scored(shuffled).metrics() == pytest.approx(scored(images).metrics())

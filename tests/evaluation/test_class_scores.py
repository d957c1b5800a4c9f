from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from dynaseg_cli.errors import ImageError, UsageError
from dynaseg_cli.evaluation import class_scores
from dynaseg_cli.evaluation.class_scores import (
    ClassScores,
    class_ious,
    match_clusters,
    matched_pixels,
    most_frequent_classes,
)
from dynaseg_cli.evaluation.headings import Row

Image = tuple[np.ndarray, np.ndarray]
"""A prediction and its map of classes."""


def scored(
    images: Sequence[Image], *, num_things: int | None = None, ignore: int | None = 255, connected: bool = True
) -> ClassScores:
    scores = ClassScores(connected=connected, num_things=num_things, class_names=["sky", "sea"])
    for number, (prediction, truth) in enumerate(images):
        scores.add(str(number), prediction, [truth], ignore)
    return scores


FIRST = (np.array([[7, 7, 3, 3]]), np.array([[0, 0, 1, 1]]))
SECOND = (np.array([[3, 3, 3, 9]]), np.array([[1, 1, 0, 255]]))


def test_metrics_by_hand() -> None:
    """Over both images class 0 has 7 on two pixels and 3 on one, class 1 has 3 on four; 9 lies on ignored ones."""
    metrics = scored([FIRST, SECOND], num_things=1).metrics()
    assert metrics["miou_things"] == pytest.approx(2 / 3)
    assert metrics["miou_stuff"] == pytest.approx(4 / 5)
    assert metrics["miou"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics["pixel_accuracy"] == pytest.approx(6 / 7)
    assert metrics["segments"] == 2


def test_assignment_is_one_for_the_whole_set() -> None:
    """Alone, the second image would match label 3 with class 1 as well, but here 7 stands for 0 in both."""
    rows = dict(scored([FIRST, SECOND]).per_image())
    assert rows["0"]["miou"] == 1
    assert rows["1"]["miou"] == pytest.approx((0 + 2 / 3) / 2)
    assert rows["1"]["pixel_accuracy"] == pytest.approx(2 / 3)


def test_labels_that_mean_something_else_in_each_image_score_low_though_each_image_is_perfect() -> None:
    truth = np.array([[0, 0, 1, 1]])
    assert scored([(truth, truth), (1 - truth, truth)]).metrics()["pixel_accuracy"] == 0.5


def test_classes_are_reported_with_their_label() -> None:
    classes = scored([FIRST, SECOND]).per_class()
    assert [(one.value, one.name, one.pixels, one.label) for one in classes] == [(0, "sky", 3, 7), (1, "sea", 4, 3)]
    assert [one.iou for one in classes] == pytest.approx([2 / 3, 4 / 5])


def test_class_that_no_label_is_left_for_counts_as_zero() -> None:
    scores = scored([(np.zeros((1, 4), dtype=int), np.array([[4, 4, 4, 6]]))])
    assert [(one.value, one.label, one.iou, one.name) for one in scores.per_class()] == [
        (4, 0, 0.75, None),
        (6, None, 0.0, None),
    ]
    assert scores.metrics()["miou"] == pytest.approx(0.375)


def test_things_and_stuff_are_empty_unless_told_apart() -> None:
    metrics = scored([FIRST]).metrics()
    assert (metrics["miou_things"], metrics["miou_stuff"]) == (None, None)
    metrics = scored([FIRST], num_things=0).metrics()
    assert (metrics["miou_things"], metrics["miou_stuff"]) == (None, 1)


def test_regions_are_scored_beside_the_classes() -> None:
    stripes, halves = np.array([[0, 1, 0, 1]]), np.array([[0, 0, 1, 1]])
    metrics = scored([(stripes, halves)]).metrics()
    assert (metrics["segments"], metrics["covering"], metrics["voi"]) == (4, 0.5, 1)
    metrics = scored([(stripes, halves)], connected=False).metrics()
    assert (metrics["segments"], metrics["voi"]) == (2, 2)
    assert metrics["pixel_accuracy"] == 0.5


def test_image_with_nothing_but_ignored_pixels_is_refused_and_leaves_no_trace() -> None:
    scores = scored([FIRST])
    before = scores.metrics()
    with pytest.raises(ImageError, match="255"):
        scores.add("void", FIRST[0], [np.full_like(FIRST[1], 255)], 255)
    assert scores.metrics() == before
    assert len(list(scores.per_image())) == 1


def test_maps_of_regions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_scores, "MOST_CLASSES", 3)
    with pytest.raises(UsageError, match="`protocol=regions`"):
        scored([(np.arange(4)[None], np.zeros((1, 4), dtype=int))])


def test_nothing_scored_has_no_numbers() -> None:
    scores = scored([])
    assert set(scores.metrics().values()) == {None}
    assert scores.per_class() == []


@st.composite
def image_sets(draw: st.DrawFn) -> list[Image]:
    images = []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
        predictions = arrays(np.int64, shape, elements=st.integers(0, 6))
        truths = arrays(np.int64, shape, elements=st.sampled_from([0, 1, 2, 5]))
        images.append((draw(predictions), draw(truths)))
    return images


@given(image_sets())
def test_equals_one_dense_confusion_matrix_over_all_pixels(images: list[Image]) -> None:
    confusion = np.zeros((6, 7), dtype=np.int64)
    for prediction, truth in images:
        np.add.at(confusion, (truth.ravel(), prediction.ravel()), 1)
    best = confusion[linear_sum_assignment(confusion, maximize=True)].sum()
    scores = scored(images)
    assert scores.metrics()["pixel_accuracy"] == pytest.approx(best / confusion.sum())
    for one in scores.per_class():
        assert one.pixels == confusion[one.value].sum()
        if one.label is None:
            assert one.iou == 0
        else:
            hit = confusion[one.value, one.label]
            union = confusion[one.value].sum() + confusion[:, one.label].sum() - hit
            assert one.iou == pytest.approx(hit / union)


@given(image_sets())
def test_numbers_of_the_labels_do_not_matter(images: list[Image]) -> None:
    renumbered = [(np.array([30, 2, 90, 4, 11, 0, 5])[prediction], truth) for prediction, truth in images]
    accuracy = scored(images).metrics()["pixel_accuracy"]
    assert scored(renumbered).metrics()["pixel_accuracy"] == pytest.approx(accuracy)


# Many to one


def many_to_one(row: Row) -> tuple[float | None, float | None]:
    """mIoU and pixel accuracy."""
    return row["miou_many_to_one"], row["pixel_accuracy_many_to_one"]


def test_three_labels_of_two_classes_by_hand() -> None:
    """Label 6 is as often 0 as 1 and joins 5 at the smaller one, in place of being right nowhere."""
    scores = scored([(np.array([[5, 5, 5, 6, 6, 7, 7, 7]]), np.array([[0, 0, 0, 0, 1, 1, 1, 1]]))])
    metrics = scores.metrics()
    assert many_to_one(metrics) == pytest.approx(((4 / 5 + 3 / 4) / 2, 7 / 8))
    assert (metrics["miou"], metrics["pixel_accuracy"]) == pytest.approx((3 / 4, 6 / 8))
    assert [one.label for one in scores.per_class()] == [5, 7]


def test_fewer_labels_than_classes_leave_classes_without_any() -> None:
    """Both labels go to class 2, though one of them would do better for the mean at 8 or 9."""
    metrics = scored([(np.array([[0, 0, 0, 1, 1, 1]]), np.array([[2, 2, 8, 2, 2, 9]]))]).metrics()
    assert many_to_one(metrics) == pytest.approx((4 / 6 / 3, 4 / 6))
    assert metrics["pixel_accuracy"] == 3 / 6


def test_ignored_pixels_send_a_label_nowhere() -> None:
    """Label 1 lies mostly, and 9 altogether, on ignored pixels."""
    images = [(np.array([[1, 1, 1, 2, 9]]), np.array([[0, 255, 255, 1, 255]]))]
    assert many_to_one(scored(images).metrics()) == (1, 1)
    assert many_to_one(scored(images, ignore=None).metrics()) == pytest.approx(((0 + 1 + 3 / 4) / 3, 4 / 5))


def test_label_goes_to_the_class_of_most_of_its_pixels_in_the_whole_set() -> None:
    """3 stands for 1, which the last image does not have."""
    rows = dict(scored([FIRST, SECOND, (np.array([[3, 7]]), np.array([[0, 0]]))]).per_image())
    assert many_to_one(rows["0"]) == (1, 1)
    assert many_to_one(rows["1"]) == pytest.approx(((0 + 2 / 3) / 2, 2 / 3))
    assert many_to_one(rows["2"]) == (0.5, 0.5)


def test_images_added_later_move_labels() -> None:
    scores = scored([FIRST])
    assert many_to_one(scores.metrics()) == (1, 1)
    scores.add("later", np.full((1, 3), 3), [np.zeros((1, 3), dtype=int)])
    assert many_to_one(scores.metrics()) == pytest.approx((5 / 7 / 2, 5 / 7))


@given(image_sets())
def test_many_to_one_equals_counting_pixel_by_pixel(images: list[Image]) -> None:
    pixels = [
        list(zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True)) for prediction, truth in images
    ]
    everything = list(chain.from_iterable(pixels))
    counts = Counter(everything)
    labels, classes = ({pixel[side] for pixel in everything} for side in (0, 1))
    class_of = {label: min(classes, key=lambda one: (-counts[label, one], one)) for label in labels}

    def expected(found: list[tuple[int, int]]) -> tuple[float, float]:
        mapped = [(class_of[label], truth) for label, truth in found]
        ious = [mapped.count((one, one)) / sum(one in pair for pair in mapped) for one in {truth for _, truth in found}]
        return sum(ious) / len(ious), sum(label == truth for label, truth in mapped) / len(mapped)

    scores = scored(images)
    metrics = scores.metrics()
    assert many_to_one(metrics) == pytest.approx(expected(everything))
    assert (metrics["pixel_accuracy_many_to_one"] or 0) >= (metrics["pixel_accuracy"] or 0)
    for (_, row), found in zip(scores.per_image(), pixels, strict=True):
        assert many_to_one(row) == pytest.approx(expected(found))


# Assignment and IoU


def test_match_is_the_best_of_all_assignments() -> None:
    """Taking each class's largest cluster in turn would cover 9 + 0 + 1 pixels."""
    confusion = np.array([[9, 8, 0], [8, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(match_clusters(confusion), [1, 0, 2])


def test_class_without_a_cluster_has_none() -> None:
    np.testing.assert_array_equal(match_clusters(np.array([[5], [9], [2]])), [-1, 0, -1])


def test_most_frequent_class_of_each_cluster_is_the_first_of_equals() -> None:
    np.testing.assert_array_equal(most_frequent_classes(np.array([[1, 2, 0], [1, 2, 5], [9, 1, 5]])), [2, 0, 1])


def test_class_ious_by_hand() -> None:
    confusion = np.array([[6, 2, 1], [1, 4, 0], [0, 0, 0], [0, 3, 0]])
    cluster = np.array([0, 1, 2, -1])
    np.testing.assert_array_equal(matched_pixels(confusion, cluster), [6, 4, 0, 0])
    np.testing.assert_allclose(class_ious(confusion, cluster), [6 / 10, 4 / 10, np.nan, 0])

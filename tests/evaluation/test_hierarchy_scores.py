from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dynaseg_cli.errors import ImageError
from dynaseg_cli.evaluation.contingency import ContingencyTable, compared
from dynaseg_cli.evaluation.hierarchy_scores import GRANULARITIES, HierarchyScores
from dynaseg_cli.evaluation.region_scores import RegionScores
from dynaseg_cli.regions.hierarchy import STRONGEST, Hierarchy, hierarchy_of

Maps = list[NDArray[np.integer]]
Image = tuple[Hierarchy, Maps]
"""A hierarchy and the annotations of its image."""

READINGS = ["covering_ois", "covering_best", "pri_ois", "voi_ois", "pri_ods", "voi_ods", "granularity"]


def scored(images: Sequence[Image], *, annotators: bool = True, ignore: int | None = None) -> HierarchyScores:
    scores = HierarchyScores(annotators=annotators)
    for number, (hierarchy, truths) in enumerate(images):
        scores.add(str(number), hierarchy, hierarchy.fragments, truths, ignore)
    return scores


def row_of_pixels(*strengths: float) -> Hierarchy:
    """One fragment a pixel, in a row, the strengths in 0..1 between them."""
    strength = np.rint(np.array(strengths) * STRONGEST).astype(np.uint16)
    pixels = np.arange(len(strengths) + 1, dtype=np.int32)
    return Hierarchy(pixels[None], pixels[:-1].astype(np.int64), pixels[1:].astype(np.int64), strength)


PAIRS = row_of_pixels(0.25, 0.75, 0.25)
"""Four pixels: together up to granularity 1/4, two and two up to 3/4, each by itself from there."""
WHOLE, HALVES, QUARTERS = (np.array([labels]) for labels in ([0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 2, 3]))
MIXED = np.array([[0, 0, 1, 2]])
"""One segment as large as a pair and two as large as a pixel."""


# Worked by hand


def test_usual_metrics_are_those_where_the_covering_of_the_set_is_best() -> None:
    scores = scored([(PAIRS, [HALVES])], annotators=False)
    assert scores.metrics() == {
        "miou": 1,
        "covering": 1,
        "pri": 1,
        "voi": 0,
        "segments": 2,
        "covering_ois": 1,
        "covering_best": 1,
        "pri_ois": 1,
        "voi_ois": 0,
        "pri_ods": 1,
        "voi_ods": 0,
        "granularity": 0.26,
    }


def test_one_granularity_for_all_costs_what_each_image_of_its_own_gets_back() -> None:
    """Covering where whole, paired and apart: 1/2, 1, 1/2 of the halves and 1/4, 1/2, 1 of the quarters."""
    scores = scored([(PAIRS, [HALVES]), (PAIRS, [QUARTERS]), (PAIRS, [QUARTERS])], annotators=False)
    assert scores.readings() == {
        "covering": {"ods": pytest.approx(2.5 / 3), "ods_granularity": 0.76, "ois": 1, "best": 1},
        "pri": {"ods": pytest.approx((4 / 6 + 1 + 1) / 3), "ods_granularity": 0.76, "ois": 1, "best": None},
        "voi": {"ods": pytest.approx(1 / 3), "ods_granularity": 0.76, "ois": 0, "best": None},
    }
    assert [row["covering"] for _, row in scores.per_image()] == [0.5, 1, 1]
    assert [row["covering_ois"] for _, row in scores.per_image()] == [1, 1, 1]


def test_each_metric_has_a_granularity_of_its_own() -> None:
    """Three of four pixels are one segment: best covered by the whole, and nothing else is any better by PRI."""
    left = np.array([[0, 1, 1, 1]])
    scores = scored([(PAIRS, [left])], annotators=False)
    curve = {row["granularity"]: row for row in scores.curve()}
    whole, paired, apart = curve[0.25], curve[0.75], curve[1.0]
    assert (whole["covering"], paired["covering"]) == pytest.approx((10 / 16, (0.5 + 3 * 2 / 3) / 4))
    assert (whole["pri"], paired["pri"], apart["pri"]) == pytest.approx((3 / 6, 3 / 6, 3 / 6))
    assert apart["voi"] == pytest.approx(3 / 4 * np.log2(3))
    assert scores.readings()["covering"]["ods_granularity"] == 0
    assert scores.metrics()["segments"] == 1


def test_best_takes_each_segment_at_its_own_scale() -> None:
    """Paired (2 + 1/2 + 1/2) / 4, apart (2/2 + 1 + 1) / 4, and all three segments somewhere."""
    metrics = scored([(PAIRS, [MIXED])], annotators=False).metrics()
    assert (metrics["covering"], metrics["covering_ois"], metrics["covering_best"]) == (0.75, 0.75, 1)


def test_annotations_are_pooled_within_the_image() -> None:
    """At the pairs, the halves are covered 1 and the quarters 1/2; either has all its segments somewhere."""
    metrics = scored([(PAIRS, [HALVES, QUARTERS])]).metrics()
    assert (metrics["covering"], metrics["covering_ois"], metrics["covering_best"]) == (0.75, 0.75, 1)
    assert (metrics["miou_all"], metrics["miou_fine"], metrics["miou_coarse"]) == pytest.approx((4 / 6, 0.5, 1))
    assert metrics["granularity"] == 0.26  # covered 3/4 apart as well: the coarser counts


def test_covering_weighs_images_by_their_pixels_the_others_by_images() -> None:
    long = row_of_pixels(*[0.25] * 11)
    scores = scored([(PAIRS, [WHOLE]), (long, [long.fragments])], annotators=False)
    metrics = scores.metrics()
    assert (metrics["covering"], metrics["granularity"]) == (pytest.approx((4 * 0.25 + 12) / 16), 0.76)
    assert metrics["pri_ods"] == pytest.approx((0 + 1) / 2)
    assert metrics["covering_ois"] == metrics["pri_ois"] == 1


def test_ignored_pixels_count_nowhere() -> None:
    truth = np.array([[0, 0, 255, 255]])
    metrics = scored([(PAIRS, [truth])], annotators=False, ignore=255).metrics()
    assert (metrics["covering"], metrics["voi"], metrics["granularity"]) == (1, 0, 0)
    assert metrics["segments"] == 1
    metrics = scored([(PAIRS, [np.array([[0, 1, 255, 255]])])], annotators=False, ignore=255).metrics()
    assert (metrics["covering"], metrics["segments"]) == (1, 4)


def test_fragments_that_were_cut_away_are_no_segments() -> None:
    scores = HierarchyScores(annotators=False)
    scores.add("a", PAIRS, PAIRS.fragments[:, 1:3], [np.array([[0, 1]])])
    assert scores.metrics()["miou"] == 1
    assert [row["segments"] for row in scores.curve()] == [1] * 26 + [2] * 75


def test_image_of_one_fragment_is_the_same_at_every_granularity() -> None:
    single = hierarchy_of(np.zeros((3, 7), dtype=np.uint16))
    scores = scored([(single, [np.array([[0, 0, 0, 1]] * 2)])], annotators=False)
    metrics = scores.metrics()
    assert (metrics["covering"], metrics["covering_ois"], metrics["covering_best"]) == (0.625, 0.625, 0.625)
    assert (metrics["segments"], metrics["granularity"]) == (1, 0)
    assert [{**row, "granularity": 0} for row in scores.curve()] == [scores.curve()[0]] * 101


def test_single_pixel() -> None:
    metrics = scored([(hierarchy_of(np.zeros((1, 1), dtype=np.uint16)), [np.zeros((1, 1), dtype=int)])]).metrics()
    assert (metrics["miou_mean"], metrics["pri_ods"], metrics["voi_ois"], metrics["covering_best"]) == (1, 1, 0, 1)


# Sets, and what is kept of them


@pytest.mark.parametrize("annotators", [True, False])
def test_nothing_scored_has_no_numbers(annotators: bool) -> None:
    scores = scored([], annotators=annotators)
    assert set(scores.metrics().values()) == {None}
    assert all(set(reading.values()) == {None} for reading in scores.readings().values())
    assert list(scores.per_image()) == []
    assert [row.pop("granularity") for row in scores.curve()] == GRANULARITIES


@pytest.mark.parametrize("annotators", [True, False])
def test_metrics_are_those_of_regions_and_the_readings(annotators: bool) -> None:
    usual = list(RegionScores(annotators=annotators, connected=True).metrics())
    scores = scored([(PAIRS, [HALVES]), (PAIRS, [MIXED])], annotators=annotators)
    assert list(scores.metrics()) == [*usual, *READINGS]
    assert [list(row) for _, row in scores.per_image()] == [list(scores.metrics())] * 2
    assert [list(row) for row in scores.curve()] == [["granularity", *usual]] * 101


def test_image_with_nothing_but_ignored_pixels_is_refused_and_leaves_no_trace() -> None:
    scores = scored([(PAIRS, [HALVES])], ignore=255)
    before = scores.metrics(), scores.curve()
    with pytest.raises(ImageError, match="255"):
        scores.add("void", PAIRS, PAIRS.fragments, [HALVES, np.full_like(WHOLE, 255)], 255)
    assert (scores.metrics(), scores.curve()) == before
    assert len(list(scores.per_image())) == 1


def test_set_of_one_image_is_that_image() -> None:
    scores = scored([(PAIRS, [HALVES, MIXED])])
    ((name, row),) = scores.per_image()
    assert (name, row) == ("0", scores.metrics())


def test_images_are_read_at_the_granularity_of_the_set_however_it_moves() -> None:
    scores = scored([(PAIRS, [HALVES])], annotators=False)
    ((_, first),) = scores.per_image()
    for number in range(2):
        scores.add(f"more {number}", PAIRS, PAIRS.fragments, [QUARTERS])
    (_, moved), *_ = scores.per_image()
    assert (first["granularity"], first["miou"], moved["granularity"], moved["miou"]) == (0.26, 1, 0.76, 0.5)
    assert (first["covering_ois"], moved["covering_ois"]) == (1, 1)


# Against slow implementations


@st.composite
def hierarchies(draw: st.DrawFn) -> Hierarchy:
    """Also of maps that are not ultrametric; strengths at, just beside and between the thresholds."""
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    at_thresholds = st.integers(0, 100).map(lambda step: round(step / 100 * STRONGEST))
    strengths = st.one_of(st.just(0), at_thresholds, st.integers(0, STRONGEST))
    return hierarchy_of(draw(arrays(np.uint16, (2 * height - 1, 2 * width - 1), elements=strengths)))


@st.composite
def image_sets(draw: st.DrawFn, ignore: int | None = None) -> list[Image]:
    images = []
    for hierarchy in draw(st.lists(hierarchies(), min_size=1, max_size=3)):
        maps = arrays(np.int64, hierarchy.fragments.shape, elements=st.integers(0, 4))
        if ignore is not None:
            maps = maps.filter(lambda truth: (truth != ignore).any())
        images.append((hierarchy, draw(st.lists(maps, min_size=1, max_size=3))))
    return images


@given(image_sets(ignore=0), st.sampled_from([None, 0]), st.booleans())
@settings(max_examples=15)
def test_each_cut_is_scored_as_the_label_map_it_is(images: list[Image], ignore: int | None, annotators: bool) -> None:
    scores = scored(images, annotators=annotators, ignore=ignore)
    for granularity, row in zip(GRANULARITIES, scores.curve(), strict=True):
        expected = RegionScores(annotators=annotators, connected=True)
        for number, (hierarchy, truths) in enumerate(images):
            expected.add(str(number), hierarchy.cut(granularity), truths, ignore)
        assert row == pytest.approx({"granularity": granularity, **expected.metrics()})
        if granularity == scores.metrics()["granularity"]:
            for (_, found), (_, one) in zip(scores.per_image(), expected.per_image(), strict=True):
                assert {metric: found[metric] for metric in one} == pytest.approx(one)


def literal_best(hierarchy: Hierarchy, truth: NDArray[np.integer], ignore: int | None) -> tuple[float, int]:
    """Pixels covered, and pixels, by every region of every cut as a mask."""
    counted = truth != ignore if ignore is not None else np.ones(truth.shape, dtype=bool)
    cuts = [hierarchy.cut(granularity) for granularity in GRANULARITIES]
    regions = {((cut == value) & counted).tobytes() for cut in cuts for value in range(int(cut.max()) + 1)}
    masks = [np.frombuffer(region, dtype=bool).reshape(truth.shape) for region in regions]
    covered = 0.0
    for value in np.unique(truth[counted]):
        segment = truth == value
        covered += segment.sum() * max((segment & mask).sum() / (segment | mask).sum() for mask in masks)
    return covered, int(counted.sum())


@given(image_sets(ignore=0), st.sampled_from([None, 0]))
@settings(max_examples=15)
def test_readings_are_those_of_the_definition(images: list[Image], ignore: int | None) -> None:
    def of_cut(image: Image, granularity: float) -> list[ContingencyTable]:
        hierarchy, truths = image
        return [compared(truth, hierarchy.cut(granularity), ignore) for truth in truths]

    cuts = [[of_cut(image, granularity) for granularity in GRANULARITIES] for image in images]
    pixels = np.array([sum(one.pixels for one in of_image[0]) for of_image in cuts])
    covered = np.array([[sum(one.covered for one in cut) for cut in of_image] for of_image in cuts])
    pri = np.array([[np.mean([one.rand_index for one in cut]) for cut in of_image] for of_image in cuts])
    voi = np.array([[np.mean([one.variation_of_information for one in cut]) for cut in of_image] for of_image in cuts])
    best = [[literal_best(hierarchy, truth, ignore) for truth in truths] for hierarchy, truths in images]

    scores = scored(images, ignore=ignore)
    readings, metrics = scores.readings(), scores.metrics()
    assert metrics["covering"] == pytest.approx((covered.sum(0) / pixels.sum()).max())
    assert metrics["covering_ois"] == pytest.approx(covered.max(1).sum() / pixels.sum())
    covered_at_best = sum(one for of_image in best for one, _ in of_image)
    assert metrics["covering_best"] == pytest.approx(covered_at_best / pixels.sum())
    assert (metrics["pri_ods"], metrics["pri_ois"]) == pytest.approx((pri.mean(0).max(), pri.max(1).mean()))
    assert (metrics["voi_ods"], metrics["voi_ois"]) == pytest.approx((voi.mean(0).min(), voi.min(1).mean()), abs=1e-12)

    for metric, curve, sign in (("covering", covered.sum(0), 1), ("pri", pri.mean(0), 1), ("voi", voi.mean(0), -1)):
        step = GRANULARITIES.index(readings[metric]["ods_granularity"] or 0.0)
        assert sign * curve[step] == pytest.approx((sign * curve).max())
    for number, (_, row) in enumerate(scores.per_image()):
        assert row["covering_ois"] == pytest.approx(covered[number].max() / pixels[number])
        assert row["covering_best"] == pytest.approx(sum(one for one, _ in best[number]) / pixels[number])
        assert (row["pri_ois"], row["voi_ois"]) == pytest.approx((pri[number].max(), voi[number].min()), abs=1e-12)
        at = {metric: GRANULARITIES.index(reading["ods_granularity"] or 0.0) for metric, reading in readings.items()}
        assert row["pri_ods"] == pytest.approx(pri[number, at["pri"]])
        assert row["voi_ods"] == pytest.approx(voi[number, at["voi"]], abs=1e-12)


@given(image_sets())
def test_no_scale_is_better_than_more_freedom_to_choose_it(images: list[Image]) -> None:
    metrics = scored(images).metrics()
    ods, ois, best = (metrics[name] or 0.0 for name in ("covering", "covering_ois", "covering_best"))
    assert ods <= ois + 1e-12
    assert ois <= best + 1e-12
    assert (metrics["pri_ods"] or 0.0) <= (metrics["pri_ois"] or 0.0) + 1e-12
    assert (metrics["voi_ods"] or 0.0) >= (metrics["voi_ois"] or 0.0) - 1e-12

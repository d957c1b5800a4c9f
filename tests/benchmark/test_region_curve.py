from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_samples import bsds500
from numpy.typing import NDArray
from PIL import Image
from samples import noise, photo_folder, read_pixels

from dynaseg_cli.baselines.settings import FelzenszwalbConfig, KMeansConfig
from dynaseg_cli.benchmark import region_curve
from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.region_curve import FELZENSZWALB_CURVE, Point, RegionCurve, curve_steps, make_curve
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.config import EvaluateConfig, SegmentConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.evaluation.evaluate import Evaluation
from dynaseg_cli.regions.hierarchy import boundary_map, build_hierarchy

OWN = "scf:iterations=2:min_labels=3:max_size=16:features=8:clusters=8"
SETTINGS = len(FELZENSZWALB_CURVE)
HALVES = np.tile(np.arange(24, dtype=np.uint8) // 12, (20, 1))
QUARTERED = HALVES + (HALVES == 1) * (np.arange(20, dtype=np.uint8)[:, None] // 10)
"""The right half in two."""


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Left and right halves, of a and b."""
    return saved(tmp_path / "truth", a=HALVES, b=HALVES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.png")


def saved(folder: Path, **maps: NDArray[np.integer]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, labels in maps.items():
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"{name}.png")
    return folder


def evaluated(prediction: Path, truth: Path) -> Evaluation:
    evaluation = Evaluation(prediction, truth, EvaluateConfig())
    list(evaluation.run())
    return evaluation


def curve_of(config: SegmentConfig | FelzenszwalbConfig, evaluation: Evaluation) -> RegionCurve:
    curve = make_curve(config, evaluation)
    assert curve is not None
    return curve


def benchmark(photos: Path, tmp_path: Path, methods: str, **options: Any) -> Benchmark:
    """One that has run and been scored."""
    work = Benchmark([photos], parse_variants(methods), tmp_path / "out", **options)
    list(work.run())
    work.score()
    return work


def metrics_at(points: list[Point], **setting: float) -> dict[str, float]:
    (found,) = [point for point in points if point["setting"] == setting]
    return {name: value for name, value in found.items() if name != "setting"}


# Worked by hand


def test_cuts_of_three_regions_worked_by_hand(truth: Path, tmp_path: Path) -> None:
    """The two on the right are of nearly one colour, and become one first."""
    photo = np.take(np.array([0, 255, 225], dtype=np.uint8), QUARTERED)[..., None].repeat(3, axis=2)
    curve = curve_of(SegmentConfig(), evaluated(saved(tmp_path / "maps", a=QUARTERED), truth))
    assert curve.points() == []
    assert list(curve.add("a", photo, tmp_path / "maps/a.png")) == [None]
    points = curve.points()
    assert len(points) == 101
    found = [(point["segments"], point["covering"], point["miou"]) for point in points]
    whole, halves, quartered = sorted(set(found))
    assert (whole, halves) == ((1, 0.5, 0.5), (2, 1, 1))
    assert quartered == pytest.approx((3, 0.75, 0.75), abs=0.01)  # where three meet, a pixel is anyone's
    assert found == sorted(found)


def test_each_setting_finds_nothing_in_a_plain_image(truth: Path, tmp_path: Path) -> None:
    curve = curve_of(FelzenszwalbConfig(), evaluated(saved(tmp_path / "maps", a=QUARTERED, b=HALVES), truth))
    for name in ("a", "b"):
        assert list(curve.add(name, np.full((20, 24, 3), 90, dtype=np.uint8), tmp_path)) == [None] * SETTINGS
    points = curve.points()
    assert [point["setting"] for point in points] == [dataclasses.asdict(config) for config in FELZENSZWALB_CURVE]
    assert {(point["segments"], point["covering"], point["miou"]) for point in points} == {(1, 0.5, 0.5)}
    assert curve.images == 2


def test_regions_joined_by_corners_are_not_split(truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkered = np.indices((20, 24)).sum(0) % 2
    monkeypatch.setattr(region_curve, "segment_by_felzenszwalb", lambda image, **_: checkered)
    curve = curve_of(FelzenszwalbConfig(), evaluated(saved(tmp_path / "maps", a=QUARTERED, b=HALVES), truth))
    assert list(curve.add("a", np.zeros((20, 24, 3), dtype=np.uint8), tmp_path)) == [None] * SETTINGS
    assert {point["segments"] for point in curve.points()} == {2}


# Equal to what the other commands give


def test_a_granularity_is_worth_what_the_regions_of_that_cut_are(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, OWN, truth=truth)
    list(work.curves())
    (method,) = work.document()["methods"]
    for granularity in (0, 0.3, 0.5, 0.6, 1):
        cuts = {
            name: build_hierarchy(
                read_pixels(tmp_path / "out" / OWN / "raw" / f"{name}.png"), read_pixels(photos / f"{name}.png")
            ).cut(granularity)
            for name in ("a", "b")
        }
        regions = evaluated(saved(tmp_path / "regions", **cuts), truth)
        assert metrics_at(method["region_curve"], granularity=granularity) == pytest.approx(regions.metrics())


def test_a_setting_is_worth_what_the_variant_is(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, "felzenszwalb:scale=100,felzenszwalb:scale=300:sigma=1.2", truth=truth)
    list(work.curves())
    points = work.document()["methods"][0]["region_curve"]
    assert {point["segments"] for point in points} != {1}
    fine, smooth = (result.metrics for result in work.results)
    assert metrics_at(points, scale=100, sigma=0.8, min_size=20) == pytest.approx(fine)
    assert metrics_at(points, scale=300, sigma=1.2, min_size=20) == pytest.approx(smooth)


def test_several_annotators_give_the_mean(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/a.mat").write_bytes(bsds500(HALVES + 1, QUARTERED + 1))
    work = benchmark(photos, tmp_path, f"{OWN},felzenszwalb", truth=tmp_path / "truth")
    list(work.curves())
    own, felzenszwalb = work.document()["methods"]
    names = {"setting", "miou_all", "miou_fine", "miou_coarse", "miou_mean", "covering", "pri", "voi", "segments"}
    assert {frozenset(point) for point in own["region_curve"] + felzenszwalb["region_curve"]} == {frozenset(names)}
    assert work.notes[-1] == f"Images in the curves over the number of segments: {OWN} 1, felzenszwalb 1."


# Which methods and images


def test_steps_are_known_before_and_images_without_truth_are_left_out(tmp_path: Path, truth: Path) -> None:
    photos = photo_folder(tmp_path / "photos", "a.png", "alone.png", "b.png", "c.png")
    methods = f"{OWN},kmeans,felzenszwalb:scale=50,felzenszwalb"
    work = benchmark(photos, tmp_path, methods, truth=truth, repeats=2, max_images=3)
    steps = [(job.name, variant.method, reason) for job, variant, reason in work.curves()]
    assert steps == [
        (name, method, None) for name in "ab" for method in ("scf", *itertools.repeat("felzenszwalb", SETTINGS))
    ]
    assert work.curve_steps == len(steps)
    methods = json.loads(json.dumps(work.document(), allow_nan=False))["methods"]
    assert [len(method["region_curve"]) for method in methods] == [101, 0, SETTINGS, 0]
    expected = f"Images in the curves over the number of segments: {OWN} 2, felzenszwalb:scale=50 2."
    assert work.notes[-1] == expected


def test_nothing_is_computed_without_ground_truth(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, "felzenszwalb")
    assert list(work.curves()) == []
    assert (work.curve_steps, work.notes) == (0, [])


def test_other_protocols_have_none_and_a_note_says_so(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, "felzenszwalb", truth=truth, evaluate=EvaluateConfig(protocol="classes"))
    assert work.curve_steps == len(list(work.curves())) == 0
    assert work.notes[-1] == "No curves over the number of segments: protocol classes compares none."
    assert work.document()["methods"][0]["region_curve"] == []


def test_image_that_could_not_be_scored_is_in_no_curve(photos: Path, truth: Path, tmp_path: Path) -> None:
    Image.new("L", (5, 5)).save(truth / "b.png")
    work = benchmark(photos, tmp_path, "felzenszwalb", truth=truth)
    failures = work.failures
    assert {(job.name, reason) for job, _, reason in work.curves()} == {("a", None)}
    assert work.failures == failures == 1


def test_image_that_fails_at_one_setting_counts_at_none(
    photos: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = benchmark(photos, tmp_path / "alone", "felzenszwalb", truth=truth, max_images=1)
    list(alone.curves())
    segment, calls = region_curve.segment_by_felzenszwalb, itertools.count(1)

    def fails(image: NDArray[np.uint8], **options: Any) -> NDArray[np.int32]:
        if next(calls) == SETTINGS + 3:
            raise MemoryError
        return segment(image, **options)

    monkeypatch.setattr(region_curve, "segment_by_felzenszwalb", fails)
    work = benchmark(photos, tmp_path, "felzenszwalb", truth=truth)
    reason = "in its curve: out of memory"
    assert [reason for _, _, reason in work.curves()] == [None] * (SETTINGS + 2) + [reason]
    assert work.document()["methods"][0]["failures"] == [{"path": str(photos / "b.png"), "reason": reason}]
    assert work.document()["methods"][0]["region_curve"] == alone.document()["methods"][0]["region_curve"]
    assert work.notes[-1].endswith("felzenszwalb 1.")


def test_photo_that_is_gone_is_named(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, f"{OWN},felzenszwalb", truth=truth)
    (photos / "a.png").unlink()
    failed = [(job.name, variant.method) for job, variant, reason in work.curves() if reason is not None]
    assert failed == [("a", "scf"), ("a", "felzenszwalb")]
    assert work.notes[-1].endswith("felzenszwalb 1.")


def test_curves_that_are_broken_off_are_of_the_images_so_far(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, "felzenszwalb", truth=truth)
    steps = work.curves()
    list(itertools.islice(steps, SETTINGS + 1))
    steps.close()
    assert work.notes[-1].endswith("felzenszwalb 1.")
    assert len(work.document()["methods"][0]["region_curve"]) == SETTINGS


def test_only_methods_with_coarser_and_finer_segmentations_have_a_curve(truth: Path, tmp_path: Path) -> None:
    evaluation = evaluated(saved(tmp_path / "maps", a=HALVES), truth)
    assert (make_curve(KMeansConfig(), evaluation), curve_steps(KMeansConfig())) == (None, 0)
    for config in (SegmentConfig(), FelzenszwalbConfig()):
        steps = list(curve_of(config, evaluation).add("a", noise(), tmp_path / "maps/a.png"))
        assert len(steps) == curve_steps(config) > 0


# Hierarchies of another method


def test_hierarchies_of_another_method_are_scored_beside_the_curves(photos: Path, truth: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("a", "b"):
        hierarchy = build_hierarchy(
            QUARTERED, np.take(np.array([0, 255, 225], np.uint8), QUARTERED)[..., None].repeat(3, 2)
        )
        Image.fromarray(boundary_map(hierarchy)).save(theirs / f"{name}.png")
    work = benchmark(photos, tmp_path, "kmeans", truth=truth, hierarchies=theirs)
    found = work.document()["hierarchies"]
    assert (found["path"], found["images"], found["failures"]) == (str(theirs), 2, [])
    own = curve_of(SegmentConfig(), evaluated(saved(tmp_path / "maps", a=QUARTERED, b=QUARTERED), truth))
    for name in ("a", "b"):
        photo = np.take(np.array([0, 255, 225], np.uint8), QUARTERED)[..., None].repeat(3, 2)
        assert list(own.add(name, photo, tmp_path / f"maps/{name}.png")) == [None]
    assert found["region_curve"] == own.points()
    assert work.points_of_hierarchies == (str(theirs), own.points())


def test_hierarchies_that_cannot_be_read_are_named(photos: Path, truth: Path, tmp_path: Path) -> None:
    theirs = saved(tmp_path / "theirs", a=np.zeros((39, 47), np.uint16), b=np.zeros((20, 24), np.uint16))
    work = benchmark(photos, tmp_path, "kmeans", truth=truth, hierarchies=theirs)
    assert work.failures == 1
    assert any("theirs/b.png" in note for note in work.notes)
    assert work.document()["hierarchies"]["images"] == 1


def test_hierarchies_of_other_images_are_refused(photos: Path, truth: Path, tmp_path: Path) -> None:
    theirs = saved(tmp_path / "theirs", other=np.zeros((39, 47), np.uint16))
    with pytest.raises(UsageError):
        Benchmark([photos], parse_variants("kmeans"), tmp_path / "out", truth=truth, hierarchies=theirs)

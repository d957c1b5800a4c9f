from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dynaseg_cli.benchmark import methods
from dynaseg_cli.benchmark.methods import make_method
from dynaseg_cli.benchmark.variants import METHODS, parse_variants
from dynaseg_cli.config import CutConfig, SegmentConfig
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.errors import DeviceUnavailableError, ImageError
from dynaseg_cli.method.reference import reference_segment
from dynaseg_cli.method.silhouette import silhouette_phase
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.regions.segments import number_by_area
from dynaseg_cli.regions.tidying import tidy

QUICK = {
    "scf": "scf:iterations=3:max_size=16:features=8:clusters=8",
    "fsf": "fsf:iterations=3:max_size=16:features=8:clusters=8",
    "fixed": "fixed:iterations=3:max_size=16:features=8:clusters=8",
    "reference": "reference:iterations=3:features=8:clusters=8",
    "kmeans": "kmeans:clusters=3:window=3",
    "felzenszwalb": "felzenszwalb:scale=50:min_size=20",
    "superpixel-cnn": "superpixel-cnn:superpixels=20:iterations=3:max_size=16:features=8",
    "iic": "iic:clusters=3:iterations=3:max_size=16:displacement=2:features=8",
}


def run(text: str, image: NDArray[np.uint8]) -> methods.Labelled:
    (variant,) = parse_variants(text)
    return make_method(variant, "cpu")(image)


def test_every_method_is_tried_here() -> None:
    assert set(QUICK) == set(METHODS)


@pytest.mark.parametrize("text", QUICK.values(), ids=QUICK)
def test_every_method_labels_every_pixel_by_falling_area(text: str, photo: NDArray[np.uint8]) -> None:
    labelled = run(text, photo)
    assert labelled.labels.shape == photo.shape[:2]
    areas = np.bincount(labelled.labels.ravel())
    assert len(areas) > 1
    assert (np.diff(areas) <= 0).all()
    assert areas[-1] > 0
    assert "fit" in labelled.stages
    assert sum(labelled.stages.values()) > 0


@pytest.mark.parametrize("text", QUICK.values(), ids=QUICK)
def test_every_method_does_the_same_twice(text: str, photo: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(run(text, photo).labels, run(text, photo).labels)


ONE_PIXEL = np.full((1, 1, 3), 7, dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(set(QUICK) - {"reference"}))
def test_every_method_takes_a_single_pixel(name: str) -> None:
    assert run(QUICK[name], ONE_PIXEL).labels.tolist() == [[0]]


def test_literal_loop_says_that_it_cannot() -> None:
    with pytest.raises(ImageError, match="single pixel"):
        run(QUICK["reference"], ONE_PIXEL)


def test_engine_runs_with_the_options_of_the_variant(photo: NDArray[np.uint8]) -> None:
    config = SegmentConfig(mode="fsf", iterations=5, max_size=16, levels=1, features=8, clusters=8, seed=3)
    labelled = run("fsf:iterations=5:max_size=16:levels=1:features=8:clusters=8:seed=3", photo)
    expected = Engine(config, "cpu").segment(photo)
    np.testing.assert_array_equal(labelled.raw, expected.labels)
    np.testing.assert_array_equal(labelled.labels, tidy(expected.labels, photo, CutConfig()).labels)
    assert labelled.iterations == expected.fit.iterations
    assert list(labelled.stages) == ["silhouette", "fit", "label", "merge"]


@pytest.mark.parametrize("regions", ["auto", "raw"])
def test_pretrained_backbone_is_timed_and_its_hierarchy_kept(photo: NDArray[np.uint8], regions: str) -> None:
    backbone = "backbone=timm:test_resnet:weights=random"
    labelled = run(f"scf:{backbone}:iterations=2:max_size=16:features=8:clusters=8:regions={regions}", photo)
    config = SegmentConfig(
        backbone="timm:test_resnet", weights="random", iterations=2, max_size=16, features=8, clusters=8
    )
    expected = Engine(config, "cpu").segment(photo)
    np.testing.assert_array_equal(labelled.raw, expected.labels)
    assert list(labelled.stages) == ["silhouette", "features", "fit", "label", "merge"]
    kept, hierarchy = labelled.hierarchy, build_hierarchy(expected.labels, photo, expected.features)
    assert kept is not None
    np.testing.assert_array_equal(kept.strength, hierarchy.strength)
    assert run("scf:iterations=2:max_size=16:features=8:clusters=8", photo).hierarchy is None


@pytest.mark.parametrize(
    ("written", "cut"),
    [
        ("regions=raw", CutConfig(regions="raw")),
        ("regions=3", CutConfig(regions=3)),
        ("granularity=0.2", CutConfig(granularity=0.2)),
    ],
)
def test_labels_are_cut_as_the_variant_says(photo: NDArray[np.uint8], written: str, cut: CutConfig) -> None:
    labelled = run(f"scf:iterations=2:max_size=16:levels=1:features=8:clusters=8:{written}", photo)
    assert labelled.raw is not None
    np.testing.assert_array_equal(labelled.labels, tidy(labelled.raw, photo, cut).labels)


def test_reference_is_the_literal_loop(photo: NDArray[np.uint8]) -> None:
    labelled = run(QUICK["reference"], photo)
    config = parse_variants(QUICK["reference"])[0].config
    assert isinstance(config, SegmentConfig)
    expected = reference_segment(photo, config, silhouette_phase(photo, 0).k)
    np.testing.assert_array_equal(labelled.labels, number_by_area(expected.labels).labels)
    assert labelled.iterations == 3


def test_more_labels_than_a_png_holds_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "MOST_LABELS", 4)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match="16-bit"):
        run("felzenszwalb:scale=1:sigma=0:min_size=0", noise)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceUnavailableError):
        make_method(parse_variants("iic")[0], "cuda:99")

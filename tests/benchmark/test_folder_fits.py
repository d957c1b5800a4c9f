"""Methods of one label space: fitted before they label, scored by one assignment over all images."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import files_below, read_pixels
from scenes import save_scenes, scene_folder

from dynaseg_cli import segment_folder
from dynaseg_cli.baselines.folder.kmeans_features import FeatureKMeans
from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.folder_fits import FolderFit, FolderPhotos, make_folder_fit
from dynaseg_cli.benchmark.results import MethodResults
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.config import MOST_FITTED, BatchConfig, EvaluateConfig, SegmentConfig, WorkersConfig
from dynaseg_cli.errors import DivergedError, UsageError
from dynaseg_cli.files.output_folder import Job
from dynaseg_cli.folder import stream
from dynaseg_cli.pictures.palette import palette_colors

OWN = "scf:epochs=1:iterations=2:features=8:clusters=4:max_size=16"
KMEANS = "kmeans-features:clusters=4"
PICIE = "picie:epochs=1:features=8:clusters=4:size=64:batch=2"
OTHERS = f"{KMEANS},deep-clustering:{PICIE.partition(':')[2]},iic:{PICIE.partition(':')[2]},{PICIE}"
NAMES = ("a.png", "b.png", "sub/c.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return scene_folder(tmp_path / "photos", *NAMES)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def benchmark(photos: Path, tmp_path: Path, methods: str, **options: object) -> Benchmark:
    return Benchmark([photos], parse_variants(methods, "folder"), tmp_path / "out", device="cpu", **options)  # type: ignore[arg-type]


def labels_of(folder: Path) -> dict[str, bytes]:
    return {name: read_pixels(folder / "labels" / name).tobytes() for name in NAMES}


def jobs_of(folder: Path) -> list[Job]:
    return [Job(path, path.stem) for path in sorted(folder.glob("*.png"))]


def made(method: str) -> FolderFit:
    (variant,) = parse_variants(method, "folder")
    return make_folder_fit(variant, torch.device("cpu"))


@pytest.mark.parametrize("damaged", [False, True], ids=["", "one cannot be read"])
def test_every_method_is_fitted_in_as_many_steps_as_it_says(photos: Path, tmp_path: Path, damaged: bool) -> None:
    if damaged:
        (photos / "b.png").write_bytes(b"nothing")
    work = benchmark(photos, tmp_path, f"{OWN},{OTHERS}")
    assert work.expect(stream=True, curves=True) == work.fit_steps + work.steps
    fitted = [(variant.name, reason) for _, variant, reason in work.fit()]
    assert len(fitted) == work.fit_steps == 3 * (3 + 1 + 3 + 2 + 3)
    assert fitted == [(result.variant.name, None) for result in work.results for _ in range(count_of(result, fitted))]
    assert work.seconds_left
    assert [result.fit and result.fit.images for result in work.results] == [3 - damaged] * 5
    assert all(result.fit and result.fit.seconds > 0 for result in work.results)
    reasons = [reason for _, _, reason in work.run()]
    assert len(reasons) == work.steps == 15
    assert work.failures == sum(reason is not None for reason in reasons) == 5 * damaged
    assert work.seconds_left == 0
    assert all(result.labelled_per_second for result in work.results)
    assert not list((tmp_path / "temporary").glob("dynaseg-*"))


def count_of(result: MethodResults, steps: list[tuple[str, str | None]]) -> int:
    return sum(name == result.variant.name for name, _ in steps)


@pytest.mark.parametrize("method", [OWN, KMEANS, PICIE])
def test_labels_have_one_meaning_and_colour_in_all_images(photos: Path, tmp_path: Path, method: str) -> None:
    work = benchmark(photos, tmp_path, method)
    list(work.fit())
    list(work.run())
    out = tmp_path / "out" / method
    for name in NAMES:
        labels, photo = (read_pixels(out / "labels" / name), read_pixels(photos / name))
        fitted = work._methods[method](photo)
        np.testing.assert_array_equal(labels, fitted.labels)
        colors = np.array(Image.open(out / "color" / name).convert("RGB"))
        np.testing.assert_array_equal(colors, palette_colors(4)[labels])
    # A photo that is labelled alone, and last, has the labels that it has among the others.
    twice = benchmark(photos / "b.png", tmp_path / "alone", method, fit_on=photos)
    list(twice.fit())
    list(twice.run())
    assert read_pixels(tmp_path / "alone/out" / method / "labels/b.png").tobytes() == labels_of(out)["b.png"]


def test_labels_of_folder_methods_are_not_renumbered_where_regions_are_merged(photos: Path, tmp_path: Path) -> None:
    raw, merged = KMEANS, f"{KMEANS}:regions=3"
    work = benchmark(photos, tmp_path, f"{raw},{merged}")
    list(work.fit())
    list(work.run())
    for name in NAMES:
        before, after = (read_pixels(tmp_path / "out" / method / "labels" / name) for method in (raw, merged))
        assert set(np.unique(after)) <= set(np.unique(before))
        assert np.mean(before == after) > 0.5


def test_classes_are_scored_by_one_assignment_over_the_set(tmp_path: Path) -> None:
    """Labels that mean the same in all images score far above those that k-means finds in each one."""
    photos, truth = save_scenes(tmp_path / "photos", tmp_path / "truth", 8)
    scores = {}
    for fit, method in (("folder", "kmeans-features"), ("image", "kmeans:clusters=8")):
        variants = parse_variants(method, fit, classes=8)  # type: ignore[arg-type]
        classes = EvaluateConfig(protocol="classes")
        work = Benchmark([photos], variants, tmp_path / fit, truth, classes, device="cpu")
        list(work.fit())
        list(work.run())
        work.score()
        scores[fit] = work.results[0].metrics["pixel_accuracy"] or 0
        assert any("Figures of classes mean nothing here" in note for note in work.notes) == (fit == "image")
    assert scores["folder"] > 1.4 * scores["image"]


def test_own_method_gives_what_segment_gives_with_a_fit_of_the_folder(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, OWN)
    list(work.fit())
    list(work.run())
    (variant,) = parse_variants(OWN, "folder")
    assert isinstance(variant.config, SegmentConfig)
    list(segment_folder(photos, tmp_path / "segmented", variant.config, workers=WorkersConfig(device="cpu", workers=0)))
    assert labels_of(tmp_path / "out" / OWN) == labels_of(tmp_path / "segmented")


def test_another_folder_is_fitted_on_and_only_the_input_is_labelled(photos: Path, tmp_path: Path) -> None:
    other = scene_folder(tmp_path / "other", *(f"{number}.png" for number in range(5)))
    (other / "2.png").write_bytes(b"nothing")
    work = benchmark(photos, tmp_path, f"{OWN},{PICIE}", fit_on=other)
    assert work.fit_steps == 5 * (3 + 3)
    fitted = {job.source.parent for job, _, reason in work.fit() if job and reason is None}
    assert fitted == {other}
    assert [result.fit and result.fit.images for result in work.results] == [4, 4]
    assert work.notes == [f"Left out of the fits, because they cannot be read: 1 of the images of {other}, 2 first."]
    assert [job.name for job, _, _ in work.run() if job] == ["a", "a", "b", "b", "sub/c", "sub/c"]
    assert (work.failures, work.document()["fit_on"]) == (0, str(other))


def test_max_images_limits_what_is_labelled_and_what_is_fitted_on_unless_that_is_another_folder(
    photos: Path, tmp_path: Path
) -> None:
    assert benchmark(photos, tmp_path, KMEANS, max_images=2).fit_steps == 2
    assert benchmark(photos, tmp_path, KMEANS, max_images=2, fit_on=photos).fit_steps == 3


def test_method_that_cannot_be_fitted_is_left_out_and_the_others_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise DivergedError("the loss became nan")

    monkeypatch.setattr(FeatureKMeans, "_fit", diverge)
    work = benchmark(photos, tmp_path, f"{KMEANS},{OWN}")
    work.expect(stream=False, curves=False)
    failed = [step for step in work.fit() if step[2] is not None]
    assert [(job, variant.name, reason) for job, variant, reason in failed] == [
        (None, KMEANS, "it could not be fitted: the loss became nan")
    ]
    assert {variant.name for _, variant, _ in work.run()} == {OWN}
    assert work.seconds_left == 0
    kmeans, own = work.document()["methods"]
    assert kmeans["failures"] == [{"path": None, "reason": "it could not be fitted: the loss became nan"}]
    assert (kmeans["folder_fit"], kmeans["images"], own["failures"], own["images"]) == (None, 0, [], 3)


def test_nothing_to_fit_on_is_said_by_every_method(photos: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (photos / name).write_bytes(b"nothing")
    work = benchmark(photos, tmp_path, f"{OWN},{KMEANS}")
    reasons = [reason for job, _, reason in work.fit() if job is None]
    assert len(reasons) == work.failures == 2
    assert all(reason and reason.startswith("it could not be fitted: no image can be read") for reason in reasons)
    assert list(work.run()) == []


@pytest.mark.parametrize("method", [OWN, PICIE, KMEANS])
def test_closing_a_fit_ends_its_threads_and_removes_its_folder(
    photos: Path, tmp_path: Path, places: Path, method: str
) -> None:
    before = threading.active_count()
    work = benchmark(photos, tmp_path, f"{method.replace('epochs=1', 'epochs=500')},fsf:{OWN.partition(':')[2]}")
    fits = work.fit()
    assert next(fits)[2] is None
    fits.close()
    assert threading.active_count() == before
    assert not list(places.glob("dynaseg-*"))
    assert [result.fit for result in work.results] == [None, None]
    assert list(work.run()) == [], "what is not fitted labels nothing"
    assert work.document()["methods"][0]["failures"] == []


def test_mistake_in_the_thread_of_a_fit_surfaces(
    photos: Path, tmp_path: Path, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    before = threading.active_count()
    monkeypatch.setattr(stream._MosaicFit, "_fit", fail)
    with pytest.raises(ZeroDivisionError):
        list(benchmark(photos, tmp_path, OWN).fit())
    assert threading.active_count() == before
    assert not list(places.glob("dynaseg-*"))


def test_frozen_backbone_looks_at_no_more_images_than_a_fit_keeps() -> None:
    frozen = made("scf:backbone=efficientnet-lite0:weights=random:clusters=4")
    assert [frozen.looks(photos) for photos in (3, MOST_FITTED, MOST_FITTED + 9)] == [3, MOST_FITTED, MOST_FITTED]


def test_photos_are_read_anew_in_the_order_that_is_asked_for(photos: Path) -> None:
    (photos / "b.png").write_bytes(b"nothing")
    jobs, seen, unreadable = jobs_of(photos), set[str](), set[str]()
    folder = FolderPhotos(jobs, BatchConfig(), seen, unreadable)
    for order, readable in (([1, 0], [0]), ([0, 1, 0], [0, 0])):
        assert [index for index, _ in folder.read(order)] == readable
    assert (len(folder), folder.taken, seen, unreadable) == (2, 5, {"a"}, {"b"})


def test_folder_without_a_readable_photo_is_refused(photos: Path) -> None:
    (photos / "a.png").write_bytes(b"nothing")
    folder = FolderPhotos(jobs_of(photos)[:1], BatchConfig(), set(), set())
    with pytest.raises(UsageError, match="no image can be read"):
        list(folder.read([0]))


def test_labels_lie_in_a_folder_named_as_the_method_was_written(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, KMEANS)
    list(work.fit())
    list(work.run())
    assert set(files_below(tmp_path / "out")) == {
        f"{KMEANS}/{of}/{name}" for of in ("labels", "color") for name in NAMES
    }

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import files_below, photo_folder, read_pixels

from dynaseg_cli.benchmark.benchmark import Benchmark
from dynaseg_cli.benchmark.variants import parse_variants
from dynaseg_cli.config import CutConfig, EvaluateConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.evaluation.evaluate import Evaluation
from dynaseg_cli.regions.tidying import tidy

FIGURES = (
    "folder_fit_seconds",
    "labelled_per_second",
    "seconds",
    "iterations",
    "ms_per_iteration",
    "reference_ratio",
    "images_per_second",
    "first_image_seconds",
)
METHODS = "felzenszwalb:scale=50:min_size=9,kmeans:clusters=3:window=3"


def benchmark(photos: Path, tmp_path: Path, methods: str = METHODS, **options: object) -> Benchmark:
    return Benchmark([photos], parse_variants(methods), tmp_path / "out", **options)  # type: ignore[arg-type]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos", "a.png", "b.png", "sub/c.png")


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Left and right halves, for each of the photos."""
    halves = np.zeros((20, 24), dtype=np.uint8)
    halves[:, 12:] = 1
    for name in ("a", "b", "sub/c"):
        (tmp_path / "truth" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(halves).save(tmp_path / "truth" / f"{name}.png")
    return tmp_path / "truth"


def test_every_method_sees_every_image_in_turns(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path)
    steps = [(job.name, variant.method, reason) for job, variant, reason in work.run()]
    assert steps == [
        ("a", "felzenszwalb", None),
        ("a", "kmeans", None),
        ("b", "kmeans", None),
        ("b", "felzenszwalb", None),
        ("sub/c", "felzenszwalb", None),
        ("sub/c", "kmeans", None),
    ]
    assert work.steps == len(steps)
    assert [len(result.runs) for result in work.results] == [3, 3]


def test_repeats_go_there_and_back(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, max_images=2, repeats=3)
    steps = [(job.name, variant.method) for job, variant, _ in work.run()]
    there, back = ["felzenszwalb", "kmeans"], ["kmeans", "felzenszwalb"]
    assert [name for name, _ in steps] == ["a"] * 6 + ["b"] * 6
    assert [method for _, method in steps] == there + back + there + back + there + back
    assert work.steps == len(steps)
    assert [(result.done, len(result.runs)) for result in work.results] == [(["a", "b"], 6)] * 2


def test_repeats_are_scored_once(photos: Path, truth: Path, tmp_path: Path) -> None:
    figures = []
    for repeats in (1, 2):
        work = benchmark(photos, tmp_path, truth=truth, repeats=repeats)
        list(work.run())
        work.score()
        figures.append([result.metrics for result in work.results])
    assert figures[0] == figures[1]


def test_others_are_compared_with_the_reference_run_by_run(photos: Path, tmp_path: Path) -> None:
    small = "iterations=2:min_labels=1:features=8:clusters=8"
    work = benchmark(photos, tmp_path, f"scf:{small}:max_size=16,reference:{small},kmeans", max_images=2, repeats=2)
    list(work.run())
    scf, reference, kmeans = work.document()["methods"]
    assert reference["ratio_to_reference"]["seconds"] == {"median": 1, "least": 1, "most": 1}
    assert scf["ratio_to_reference"]["ms_per_iteration"]["median"] > 0
    assert kmeans["ratio_to_reference"]["ms_per_iteration"]["median"] is None
    assert kmeans["ratio_to_reference"]["seconds"]["most"] >= kmeans["ratio_to_reference"]["seconds"]["least"] > 0
    rows = dict(work.rows())
    assert rows[f"reference:{small}"]["reference_ratio"] == 1
    assert rows["kmeans"]["reference_ratio"] is None


def test_results_are_written_as_segment_writes_them(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path)
    list(work.run())
    assert set(files_below(tmp_path / "out")) == {
        f"{variant}/{product}/{name}.png"
        for variant in METHODS.split(",")
        for product in ("labels", "color")
        for name in ("a", "b", "sub/c")
    }
    labels = read_pixels(tmp_path / "out/kmeans:clusters=3:window=3/labels/a.png")
    assert (labels.dtype, labels.shape, labels.max()) == (np.uint8, (20, 24), 2)


def test_raw_labels_lie_beside_the_tidied_ones(photos: Path, tmp_path: Path) -> None:
    method = "scf:iterations=2:max_size=16:features=8:clusters=8:regions=2"
    list(benchmark(photos, tmp_path, method).run())
    found = {product: read_pixels(tmp_path / "out" / method / product / "a.png") for product in ("labels", "raw")}
    expected = tidy(found["raw"], read_pixels(photos / "a.png"), CutConfig(regions=2))
    np.testing.assert_array_equal(found["labels"], expected.labels)
    assert found["raw"].max() > found["labels"].max()


def test_results_of_a_method_with_a_path_lie_in_one_folder(photos: Path, tmp_path: Path) -> None:
    (variant,) = parse_variants("kmeans:clusters=3")
    work = Benchmark(
        [photos],
        [dataclasses.replace(variant, name="scf:weights=../../made.pth")],
        output=tmp_path / "out",
    )
    list(work.run())
    assert {name.split("/")[0] for name in files_below(tmp_path / "out")} == {"scf:weights=.._.._made.pth"}


def test_metrics_are_those_of_evaluate(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, truth=truth)
    list(work.run())
    work.score()
    for result in work.results:
        evaluation = Evaluation(tmp_path / "out" / result.variant.name / "labels", truth, EvaluateConfig())
        list(evaluation.run())
        assert result.metrics == evaluation.metrics()
        assert result.metrics["miou"]


def test_figures_are_strict_json_with_the_work_behind_them(photos: Path, truth: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, "scf:iterations=2:min_labels=1:max_size=16:features=8:clusters=8", truth=truth)
    list(work.run())
    work.score()
    document = json.loads(json.dumps(work.document(), allow_nan=False))
    assert document["images"] == 3
    assert document["device"].startswith("cpu (")
    assert document["versions"]["scikit-image"]
    (method,) = document["methods"]
    assert (method["images"], method["iterations"], method["options"]["max_size"]) == (3, 2, 16)
    assert list(method["stages"]) == ["decode", "silhouette", "fit", "label", "merge", "write"]
    assert method["seconds"]["total"] >= method["seconds"]["most"] >= method["seconds"]["median"] > 0
    assert method["ms_per_iteration"]["least"] > 0
    assert method["preparation_seconds"] > 0
    assert (method["images_per_second"], method["stream"]) == (None, None)
    (size,) = method["sizes"]
    assert (size["width"], size["height"], size["images"]) == (24, 20, 3)
    assert size["stages"] == method["stages"]
    assert method["peak_bytes"]["host"] is None or method["peak_bytes"]["host"] > 1e7
    assert method["peak_bytes"]["device"] is None
    assert method["ratio_to_reference"]["seconds"]["median"] is None
    assert set(method["metrics"]) == {"miou", "covering", "pri", "voi", "segments"}


def test_damaged_image_fails_for_every_method_and_the_rest_goes_on(photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes(b"nothing")
    work = benchmark(photos, tmp_path)
    reasons = [reason for _, _, reason in work.run()]
    assert [reason is None for reason in reasons] == [False, False, True, True, True, True]
    assert work.failures == 2
    assert [len(result.runs) for result in work.results] == [2, 2]
    assert work.document()["methods"][0]["failures"] == [{"path": str(photos / "a.png"), "reason": reasons[0]}]


def test_only_the_first_images_by_name(photos: Path, tmp_path: Path) -> None:
    work = benchmark(photos, tmp_path, max_images=2)
    assert [job.name for job in work.jobs] == ["a", "b"]


def test_images_without_ground_truth_are_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Image.new("L", (24, 20)).save(tmp_path / "other" / "z.png")
    with pytest.raises(UsageError, match="none of the images has a ground truth"):
        benchmark(photos, tmp_path, truth=tmp_path / "other")
    assert not (tmp_path / "out").exists()


def test_nothing_has_figures_before_there_is_work(photos: Path, tmp_path: Path) -> None:
    assert benchmark(photos, tmp_path).rows() == [(name, dict.fromkeys(FIGURES)) for name in METHODS.split(",")]


def test_only_what_this_run_labelled_is_scored(photos: Path, truth: Path, tmp_path: Path) -> None:
    """An earlier run with the same folder leaves more there; a failed image leaves what it had."""
    alone = benchmark(photos, tmp_path / "new", truth=truth, max_images=2)
    list(alone.run())
    alone.score()
    before = benchmark(photos, tmp_path, truth=truth)
    list(before.run())
    again = benchmark(photos, tmp_path, truth=truth, max_images=2)
    list(again.run())
    again.score()
    assert [result.metrics for result in again.results] == [result.metrics for result in alone.results]


def test_image_without_ground_truth_is_said_to_have_no_score(photos: Path, truth: Path, tmp_path: Path) -> None:
    (truth / "b.png").unlink()
    work = benchmark(photos, tmp_path, truth=truth)
    list(work.run())
    work.score()
    assert work.notes[0] == "Without a ground truth, and so without a score: 1 of the images, b first."
    assert work.results[0].metrics["miou"]


def test_method_that_cannot_do_the_first_image_goes_on_with_the_rest(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(photos / "a.png")
    work = benchmark(photos, tmp_path, "reference:iterations=2:features=8:clusters=8")
    reasons = [reason for _, _, reason in work.run()]
    assert [reason is None for reason in reasons] == [False, True, True]


def test_results_that_cannot_be_written_are_failures(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    work = benchmark(photos, tmp_path)
    reasons = [reason for _, _, reason in work.run()]
    assert len(reasons) == work.failures == 6
    assert all(reason and str(tmp_path / "out") in reason for reason in reasons)


def test_file_that_dynaseg_did_not_write_is_never_replaced(photos: Path, tmp_path: Path) -> None:
    folder = "felzenszwalb:scale=50:min_size=9"
    photo_folder(tmp_path / "out" / folder / "labels", "sub/c.png")
    before = files_below(tmp_path)
    with pytest.raises(UsageError, match=r"labels/sub/c\.png exists and was not written by dynaseg"):
        benchmark(photos, tmp_path)
    assert files_below(tmp_path) == before


def test_own_results_are_replaced(photos: Path, tmp_path: Path) -> None:
    for _ in range(2):
        work = benchmark(photos, tmp_path)
        list(work.run())
        assert work.failures == 0


def test_ground_truth_is_found_by_the_names_of_data_sets(photos: Path, truth: Path, tmp_path: Path) -> None:
    for name in ("a", "sub/c"):
        path = truth / f"{name}.png"
        labels = np.array(Image.open(path))
        labels[:5] = 255
        Image.fromarray(labels).save(truth / f"{name}_gtFine_labelTrainIds.png")
        path.rename(truth / f"{name}_gtFine_color.png")
    (photos / "a.png").rename(photos / "a_leftImg8bit.png")
    work = benchmark(photos, tmp_path, truth=truth)
    list(work.run())
    work.score()
    for result in work.results:
        assert [name for name, _ in work._scored[result.variant.name].per_image()] == ["a_leftImg8bit", "b", "sub/c"]
        assert result.document(None)["ignored_fraction"] == result.row(None)["ignored_fraction"] == 1 / 6
    assert (
        "255 is ignored in 2 of 3 ground-truth maps, 16.7% of all pixels (`ignore_index=None` counts it)." in work.notes
    )

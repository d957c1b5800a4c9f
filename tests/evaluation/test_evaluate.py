from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_samples import matlab, save_all, save_labels

from dynaseg_cli.config import EvaluateConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.evaluation import protocols
from dynaseg_cli.evaluation.coco_stuff import CLASS_NAMES
from dynaseg_cli.evaluation.evaluate import Evaluation
from dynaseg_cli.regions.hierarchy import hierarchy_of

HALVES = [[0, 0, 1, 1]] * 2
WHOLE = [[0, 0, 0, 0]] * 2
QUARTERS = [[1, 2, 3, 4]] * 2

REGIONS = {"covering", "pri", "voi", "segments"}
MANY_TO_ONE = {"miou_many_to_one", "pixel_accuracy_many_to_one"}
CLASSES = {"miou", "pixel_accuracy", "miou_things", "miou_stuff", *MANY_TO_ONE}
METRICS = {
    "bsds500": {"miou_all", "miou_fine", "miou_coarse", "miou_mean", *REGIONS},
    "regions": {"miou", *REGIONS},
    "classes": {*CLASSES, *REGIONS},
    "coco-stuff27": {*CLASSES, *REGIONS},
}
"""What CONTRACT promises of each protocol; classes have the regions' beside them."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated(prediction: str = "pred", truth: str = "gt", **options: Any) -> Evaluation:
    evaluation = Evaluation(Path(prediction), Path(truth), EvaluateConfig(**options))
    assert [scored.pair for scored in evaluation.run()] == evaluation.pairing.pairs
    assert evaluation.images + len(evaluation.failures) == len(evaluation.pairing.pairs)
    return evaluation


def reasons(evaluation: Evaluation) -> dict[str, str | None]:
    return {failure.pair.name: failure.reason for failure in evaluation.failures}


def only_note(evaluation: Evaluation) -> str:
    (note,) = evaluation.notes
    return note


# What auto takes


@pytest.mark.parametrize(
    ("name", "truth", "options", "protocol", "because"),
    [
        ("a.mat", WHOLE, {}, "bsds500", "several annotators"),
        ("a.png", WHOLE, {}, "regions", "regions of that image alone"),
        ("000000000139.png", WHOLE, {}, "coco-stuff27", "COCO-Stuff"),
        ("000000000139.png", [[0, 200, 0, 0]] * 2, {}, "regions", "regions of that image alone"),
        ("a.png", WHOLE, {"num_things": 1}, "classes", "`num_things`"),
        ("000000000139.png", WHOLE, {"num_things": 1}, "classes", "`num_things`"),
        ("a.mat", WHOLE, {"num_things": 1}, "classes", "`num_things`"),
    ],
)
def test_protocol_is_recognised_and_said_with_its_reason(
    name: str, truth: list[list[int]], options: dict[str, Any], protocol: str, because: str
) -> None:
    save_labels(Path("gt", name), truth)
    save_labels(Path("pred", name).with_suffix(".png"), WHOLE)
    evaluation = evaluated(**options)
    assert (evaluation.protocol, evaluation.images) == (protocol, 1)
    assert only_note(evaluation).startswith(f"Protocol {protocol}: ")
    assert because in only_note(evaluation)
    assert "(`protocol` asks for another)" in only_note(evaluation)


def test_plain_matrix_in_a_mat_file_is_one_map_of_regions() -> None:
    save_labels(Path("pred/a.png"), HALVES)
    Path("gt").mkdir()
    Path("gt/a.mat").write_bytes(matlab({"labels": np.array(HALVES)}))
    evaluation = evaluated()
    assert (evaluation.protocol, evaluation.metrics()["miou"]) == ("regions", 1)


def test_first_ground_truth_that_can_be_read_decides() -> None:
    save_all(Path("pred"), **{"000000000001": WHOLE, "000000000002": WHOLE})
    save_all(Path("gt"), **{"000000000001": WHOLE, "000000000002": WHOLE})
    Path("gt/000000000001.png").write_bytes(b"damaged")
    assert evaluated().protocol == "coco-stuff27"
    Path("gt/000000000002.png").write_bytes(b"damaged")
    assert evaluated().protocol == "regions"


@pytest.mark.parametrize("protocol", METRICS)
def test_protocol_that_is_asked_for_is_taken_without_a_word(protocol: str) -> None:
    save_labels(Path("gt/a.png"), HALVES)
    save_labels(Path("pred/a.png"), HALVES)
    evaluation = evaluated(protocol=protocol)
    assert (evaluation.protocol, evaluation.notes) == (protocol, [])


@pytest.mark.parametrize("protocol", ["regions", "classes", "coco-stuff27"])
def test_several_annotations_are_a_failure_of_protocols_that_take_one(protocol: str) -> None:
    save_labels(Path("gt/a.mat"), HALVES, WHOLE)
    save_labels(Path("gt/b.mat"), HALVES)
    save_all(Path("pred"), a=HALVES, b=HALVES)
    evaluation = evaluated(protocol=protocol)
    assert reasons(evaluation) == {"a": "gt/a.mat: 2 annotations, which only `protocol=bsds500` can score"}
    assert (evaluation.images, evaluation.metrics()["miou"]) == (1, 1)


# What labels mean


@pytest.fixture
def output() -> None:
    """What segment writes, of two images."""
    save_all(Path("out/labels/sub"), a=HALVES, b=HALVES)
    Path("out/run.json").write_text(json.dumps({"options": {"mode": "scf"}}))
    save_all(Path("gt/sub"), a=HALVES, b=HALVES)


@pytest.mark.parametrize("prediction", ["out", "out/labels", "out/labels/sub", "link", "."])
@pytest.mark.parametrize("protocol", ["classes", "coco-stuff27"])
@pytest.mark.usefixtures("output")
def test_one_assignment_of_labels_of_many_fits_is_said_to_mean_nothing(
    protocol: str, prediction: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("link").symlink_to("out/labels")
    if prediction == ".":
        monkeypatch.chdir("out/labels")
    truth = here / ("gt/sub" if prediction.endswith("sub") else "gt")
    evaluation = evaluated(prediction, str(truth), protocol=protocol)
    assert evaluation.images == 2
    assert only_note(evaluation).startswith(f"The figures of {protocol} mean nothing here: each image was segmented by")
    assert evaluation.document()["notes"] == evaluation.notes


@pytest.mark.parametrize("prediction", ["out", "out/regions", "out/regions/sub"])
@pytest.mark.usefixtures("output")
def test_regions_of_many_fits_are_said_to_mean_nothing_as_classes(prediction: str) -> None:
    Path("out/labels").rename("out/regions")
    evaluation = evaluated(
        prediction, "gt/sub" if prediction.endswith("sub") else "gt", protocol="classes", use="regions"
    )
    assert only_note(evaluation).startswith("The figures of classes mean nothing here")
    assert evaluated("out", use="regions", protocol="regions").notes == []


@pytest.mark.usefixtures("output")
def test_labels_of_many_fits_mean_enough_for_regions_and_for_one_image() -> None:
    assert evaluated("out", protocol="regions").notes == []
    Path("gt/sub/b.png").unlink()
    assert evaluated("out", protocol="classes").notes == []


@pytest.mark.parametrize("run", ["[]", "{}", "7", "no JSON", '{"mode": "scf"}', "\0"])
@pytest.mark.usefixtures("output")
def test_labels_of_anybody_else_are_taken_for_classes(run: str) -> None:
    Path("out/run.json").write_text(run)
    assert evaluated("out", protocol="classes").notes == []


def test_colours_are_said_to_be_labels_and_none_of_them_is_ignored() -> None:
    """Pure blue would be 255."""
    blue, white = [0, 0, 255], [255, 255, 255]
    truth = np.array([[blue, blue, white, white]] * 2, np.uint8)
    save_labels(Path("gt/a.png"), truth)
    save_all(Path("pred"), a=WHOLE)
    evaluation = evaluated(protocol="regions")
    assert evaluation.metrics()["miou"] == 0.5
    assert evaluation.notes == [
        "Colours are labels: every distinct colour of gt/a.png is taken for one.",
        "No colour of the ground truth is ignored (`ignore_index=0xRRGGBB` names one).",
    ]
    assert evaluated(protocol="regions", ignore_index=0xFFFFFF).metrics()["covering"] == 1
    save_labels(Path("pred/a.png"), truth[:, ::-1])
    evaluation = evaluated("pred", "gt", protocol="regions", ignore_index=None)
    assert evaluation.notes[0] == "Colours are labels: every distinct colour of pred/a.png is taken for one."
    assert evaluation.metrics()["miou"] == 1


# What counts nowhere

ALL_IGNORED = "gt/a.png: every pixel of the ground truth is to be ignored (value 255): nothing is left to score"


@pytest.mark.parametrize(
    ("protocol", "ignore_index", "expected", "fraction"),
    [
        ("regions", "auto", 1.0, 0.25),
        ("regions", 255, 1.0, 0.25),
        ("regions", None, 2 / 3, 0.0),
        ("regions", 9, 2 / 3, 0.0),
        ("classes", "auto", 1.0, 0.25),
        ("classes", None, 2 / 3, 0.0),
        ("coco-stuff27", "auto", 1.0, 0.25),
        ("bsds500", "auto", 2 / 3, 0.0),
        ("bsds500", 255, 1.0, 0.25),
    ],
)
def test_value_that_is_ignored_is_the_protocols_own_or_as_asked(
    protocol: str, ignore_index: int | str | None, expected: float, fraction: float
) -> None:
    save_all(Path("pred"), a=[[0, 0, 1, 1]] * 2, b=[[0, 0, 1, 1]] * 2)
    save_all(Path("gt"), a=[[0, 0, 105, 255]] * 2, b=[[0, 0, 105, 255]] * 2)
    if expected != 1.0 and protocol != "classes":
        expected = (1 + 0.5 + 0.5) / 3
    if (protocol, ignore_index) == ("classes", None):
        expected = (1 + 0.5 + 0) / 3
    evaluation = evaluated(protocol=protocol, ignore_index=ignore_index)
    name = "miou_all" if protocol == "bsds500" else "miou"
    assert evaluation.metrics()[name] == pytest.approx(expected)
    document = evaluation.document()
    assert (document["ignored_fraction"], document["options"]["ignore_index"]) == (fraction, ignore_index)
    assert [counts.ignored_fraction for _, counts in evaluation.label_counts()] == [fraction] * 2


def disc() -> np.ndarray:
    rows, columns = np.indices((40, 40))
    return (np.hypot(rows - 20, columns - 20) < 12).astype(np.uint8)


@pytest.mark.parametrize("protocol", ["regions", "classes"])
@pytest.mark.parametrize("suffix", [".png", ".npy", ".tif"])
def test_blank_prediction_of_a_mask_of_0_and_255_is_not_perfect(protocol: str, suffix: str) -> None:
    save_labels(Path("gt/a").with_suffix(suffix), disc() * np.uint8(255))
    save_labels(Path("pred/a.png"), np.zeros((40, 40), np.uint8))
    metrics = evaluated(protocol=protocol).metrics()
    assert all((metrics[name] or 0) < 0.9 for name in ("miou", "covering", "pri"))
    assert (metrics["voi"] or 0) > 0.5
    evaluation = evaluated(protocol=protocol, ignore_index=255)
    assert evaluation.metrics()["miou"] == 1
    assert evaluation.ignored_fraction == pytest.approx(disc().mean())


def test_object_255_of_a_deep_map_counts() -> None:
    objects = np.arange(200, 300, dtype=np.uint16).reshape(10, 10)
    save_labels(Path("gt/a.png"), objects)
    save_labels(Path("pred/a.png"), objects)
    evaluation = evaluated(protocol="regions")
    assert [counts.truth for _, counts in evaluation.label_counts()] == [(100,)]
    assert (evaluation.ignored_fraction, evaluation.notes) == (0, [])


def test_each_map_is_judged_by_its_own_values_and_the_run_says_how_many() -> None:
    """A folder of maps as Cityscapes' with one that has nothing but road and void, and one of 16 bits."""
    save_all(Path("pred"), a=WHOLE, b=WHOLE, c=WHOLE, d=WHOLE)
    save_all(Path("gt"), a=[[0, 0, 7, 255]] * 2, b=[[0, 0, 0, 255]] * 2, c=HALVES)
    save_labels(Path("gt/d.png"), np.array([[0, 0, 7, 255]] * 2, np.uint16))
    evaluation = evaluated(protocol="regions")
    assert {name: counts.ignored for name, counts in evaluation.label_counts()} == {"a": 2, "b": 0, "c": 0, "d": 0}
    assert evaluation.notes == [
        "255 is ignored in 1 of 4 ground-truth maps, 6.2% of all pixels (`ignore_index=None` counts it).",
        "255 is counted in 1 of 4 ground-truth maps, which have no other values than 0 and 255"
        " (`ignore_index=255` ignores it).",
    ]
    assert evaluation.document()["notes"] == evaluation.notes
    assert evaluated(protocol="regions", ignore_index=None).notes == []
    assert evaluated(protocol="regions", ignore_index=255).notes == []


def test_value_to_ignore_that_no_map_has_is_said() -> None:
    save_all(Path("pred"), a=HALVES)
    save_all(Path("gt"), a=HALVES)
    note = only_note(evaluated(protocol="regions", ignore_index=2**63))
    assert note == f"No pixel of the ground truth has the value {2**63} of `ignore_index`."


def test_negative_value_is_ignored_where_asked() -> None:
    save_labels(Path("gt/a.npy"), np.array([[0, 0, 1, -1]] * 2, np.int16))
    save_all(Path("pred"), a=HALVES)
    assert evaluated(protocol="classes", ignore_index=-1).metrics()["miou"] == 1
    assert evaluated(protocol="classes").metrics()["miou"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_failed_images_have_no_part_in_the_share_of_ignored_pixels() -> None:
    save_all(Path("pred"), a=HALVES, b=HALVES)
    save_all(Path("gt"), a=[[3, 255, 1, 1]] * 2, b=[[255] * 4] * 2)
    evaluation = evaluated(protocol="regions", ignore_index=255)
    assert (list(reasons(evaluation)), evaluation.ignored_fraction) == (["b"], 0.25)


@pytest.mark.parametrize("protocol", ["regions", "classes"])
def test_labels_beyond_64_bits_with_a_sign_are_regions_but_no_classes(protocol: str) -> None:
    save_labels(Path("gt/a.npy"), np.array([[0, 0, 2**64 - 1, 2**64 - 1]] * 2, np.uint64))
    save_all(Path("pred"), a=HALVES)
    evaluation = evaluated(protocol=protocol)
    if protocol == "regions":
        assert evaluation.metrics()["miou"] == 1
    else:
        reason = f"gt/a.npy: the value {2**64 - 1} is too large for a class; renumber the classes from 0"
        assert reasons(evaluation) == {"a": reason}


def test_prediction_may_have_the_value_that_is_ignored() -> None:
    save_all(Path("pred"), a=[[255, 255, 7, 7]] * 2)
    save_all(Path("gt"), a=HALVES)
    assert evaluated(protocol="regions").metrics()["miou"] == 1


def test_photos_among_the_maps_are_a_doubt() -> None:
    random = np.random.default_rng(0)
    for path in ("pred/a.png", "gt/a.png"):
        save_labels(Path(path), random.integers(0, 256, (60, 60, 3)).astype(np.uint8))
    notes = evaluated(protocol="regions", ignore_index=None).notes
    assert [note.partition(":")[0] for note in notes] == [
        *("Colours are labels", "pred/a.png seems to be a photo"),
        *("Colours are labels", "gt/a.png seems to be a photo"),
    ]
    colors = random.integers(0, 256, (1100, 3)).astype(np.uint8)  # an instance map in RGB of many small objects
    for path in ("pred/a.png", "gt/a.png"):
        save_labels(Path(path), np.repeat(colors[None], 30, 0))
    assert len(evaluated(protocol="regions", ignore_index=None).notes) == 2


def test_pairing_is_explained_in_the_notes() -> None:
    save_all(Path("pred"), a_leftImg8bit=HALVES)
    save_all(Path("gt"), a_gtFine_labelTrainIds=[[0, 1, 7, 255]] * 2, a_gtFine_color=HALVES, a_gtFine_labelIds=HALVES)
    evaluation = evaluated(protocol="classes")
    assert [name for name, _ in evaluation.per_image()] == ["a_leftImg8bit"]
    assert evaluation.document()["notes"][0].startswith("Names pair without what data sets add to them")
    assert evaluation.ignored_fraction == 0.25
    assert evaluation.document()["unmatched"] == {"predictions": [], "ground_truth": []}


# What fails, by name, while the rest is scored


@pytest.mark.parametrize("protocol", METRICS)
def test_each_failure_is_named_with_its_reason_and_the_rest_is_scored(protocol: str) -> None:
    names = ("good", "large", "predicted", "true", "twice")
    save_all(Path("pred"), **dict.fromkeys(names, HALVES))
    save_all(Path("gt"), **dict.fromkeys(names, HALVES))
    save_all(Path("pred"), large=[[0] * 5] * 3)
    Path("pred/predicted.png").write_bytes(b"")
    Path("gt/true.png").write_bytes(b"damaged")
    Path("pred/twice.png").unlink()
    save_labels(Path("pred/twice.mat"), HALVES, HALVES)
    evaluation = evaluated(protocol=protocol)
    expected = {
        "large": "pred/large.png: 5 x 3 pixels, but gt/large.png has 4 x 2; `resize=True` brings it to that size",
        "predicted": "pred/predicted.png: the file is empty",
        "true": "gt/true.png: damaged, or not a PNG file",
        "twice": "pred/twice.mat: holds 2 segmentations where one is needed",
    }
    assert reasons(evaluation) == expected
    assert [name for name, _ in evaluation.per_image()] == ["good"]
    assert evaluation.document()["images"] == 1
    assert evaluation.document()["failures"][-1] == {
        "path": "pred/twice.mat",
        "ground_truth": "gt/twice.png",
        "reason": expected["twice"],
    }


@pytest.mark.parametrize("protocol", METRICS)
def test_ground_truth_that_is_all_ignored_is_a_failure_by_name(protocol: str) -> None:
    save_all(Path("pred"), a=HALVES, b=HALVES)
    save_all(Path("gt"), a=[[255] * 4] * 2, b=HALVES)
    evaluation = evaluated(protocol=protocol, ignore_index="auto" if protocol == "coco-stuff27" else 255)
    assert reasons(evaluation) == {"a": ALL_IGNORED}
    assert evaluation.images == 1


def test_map_of_too_many_pixels_is_a_failure_by_name() -> None:
    save_all(Path("pred"), a=[[0] * 9] * 9, b=HALVES)
    save_all(Path("gt"), a=HALVES, b=HALVES)
    reason = "pred/a.png: 9 x 9 pixels are more than `max_pixels=80` allows"
    assert reasons(evaluated(protocol="regions", max_pixels=80)) == {"a": reason}


@pytest.mark.parametrize("protocol", METRICS)
def test_failed_images_change_no_figure(protocol: str) -> None:
    save_all(Path("pred"), a=HALVES, b=WHOLE)
    save_all(Path("gt"), a=HALVES, b=QUARTERS)
    alone = evaluated(protocol=protocol)
    save_all(Path("pred"), bad=[[0] * 5] * 3, c=WHOLE)
    save_all(Path("gt"), bad=[[1] * 4] * 2, c=[[255] * 4] * 2)
    among = evaluated(protocol=protocol, ignore_index="auto" if protocol == "coco-stuff27" else 255)
    assert set(reasons(among)) == {"bad", "c"}
    assert among.metrics() == alone.metrics()
    assert list(among.per_image()) == list(alone.per_image())
    assert among.per_class() == alone.per_class()


@pytest.mark.parametrize("protocol", METRICS)
def test_nothing_scored_is_nothing_measured(protocol: str) -> None:
    save_all(Path("pred"), a=HALVES)
    save_all(Path("gt"), a=[[0]])
    evaluation = evaluated(protocol=protocol)
    assert evaluation.images == 0
    assert set(evaluation.metrics().values()) == {None}
    assert (list(evaluation.per_image()), evaluation.per_class()) == ([], [])
    assert set(evaluation.document()["metrics"]) == METRICS[protocol]


def test_strange_value_of_a_stuffthingmap_is_a_failure_by_name() -> None:
    save_all(Path("pred"), a=HALVES, b=HALVES)
    save_all(Path("gt"), a=[[0, 0, 182, 255]] * 2, b=HALVES)
    reason = reasons(evaluated(protocol="coco-stuff27"))["a"]
    assert reason == "gt/a.png: the value 182 is no label of COCO-Stuff's stuffthingmaps (0..181, 255)"


def test_image_that_memory_is_too_small_for_is_a_failure_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    save_all(Path("pred"), a=HALVES, b=HALVES)
    save_all(Path("gt"), a=HALVES, b=HALVES)
    read = protocols.read_label_map

    def exhaust(path: Path, max_pixels: int) -> np.ndarray:
        if path.name == "a.png":
            raise MemoryError
        return read(path, max_pixels)

    monkeypatch.setattr(protocols, "read_label_map", exhaust)
    evaluation = evaluated(protocol="regions")
    assert reasons(evaluation) == {"a": "pred/a.png and gt/a.png: out of memory"}
    assert evaluation.images == 1


def test_too_many_values_are_no_classes() -> None:
    save_labels(Path("pred/a.png"), np.zeros((80, 80), np.uint8))
    save_labels(Path("gt/a.npy"), np.arange(6400).reshape(80, 80))
    with pytest.raises(UsageError, match="which are no classes; give `protocol=regions`"):
        evaluated(protocol="classes")


# Sizes


def test_prediction_of_another_size_is_resized_where_asked() -> None:
    save_all(Path("pred"), a=[[0, 1]], b=[[0] * 4 + [1] * 4] * 7, c=[[5]])
    save_all(Path("gt"), a=HALVES, b=HALVES, c=HALVES)
    assert len(evaluated(protocol="regions").failures) == 3
    evaluation = evaluated(protocol="regions", resize=True)
    assert not evaluation.failures
    assert {name: row["miou"] for name, row in evaluation.per_image()} == {"a": 1, "b": 1, "c": 0.5}


def test_middle_square_is_compared_of_predictions_of_either_size() -> None:
    """Both of 4 x 8: shorter side to 4, then columns 2 to 6."""
    truth = [[9, 9, 0, 0, 1, 1, 9, 9]] * 4
    save_all(Path("gt"), whole=truth, cropped=truth, other=truth)
    save_all(Path("pred"), whole=[[5, 5, 0, 0, 1, 1, 6, 6]] * 4, cropped=[[3, 3, 4, 4]] * 4, other=[[0] * 8] * 5)
    evaluation = evaluated(protocol="regions", center_crop=4)
    assert {name: (row["miou"], row["segments"]) for name, row in evaluation.per_image()} == {
        "cropped": (1, 2),
        "whole": (1, 2),
    }
    assert list(reasons(evaluation)) == ["other"]
    assert not evaluated(protocol="regions", center_crop=4, resize=True).failures


def test_every_annotation_is_cropped() -> None:
    save_labels(Path("gt/a.mat"), [[9, 0, 1, 9]] * 2, [[9, 0, 0, 9]] * 2)
    save_all(Path("pred"), a=[[0, 1]] * 2)
    assert evaluated(center_crop=2).metrics()["miou_all"] == pytest.approx((1 + 1 + 0.5) / 3)


# The document


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("protocol", METRICS)
def test_document_is_strict_json_with_the_promised_keys(protocol: str) -> None:
    save_all(Path("pred"), a=HALVES, only=HALVES, bad=[[0]])
    save_all(Path("gt"), a=QUARTERS, alone=HALVES, bad=HALVES)
    evaluation = evaluated(protocol=protocol)
    document = strict(json.dumps(evaluation.document()))
    assert document == evaluation.document()
    assert document["protocol"] == document["options"]["protocol"] == protocol
    assert document["images"] == 1
    assert document["unmatched"] == {"predictions": ["pred/only.png"], "ground_truth": ["gt/alone.png"]}
    assert [failure["path"] for failure in document["failures"]] == ["pred/bad.png"]
    assert set(document["metrics"]) == METRICS[protocol]
    for name, row in evaluation.per_image():
        assert name == "a"
        assert list(row) == list(document["metrics"])
    assert ("classes" in document) == (protocol in ("classes", "coco-stuff27"))
    assert set(document["options"]) == set(vars(EvaluateConfig()))


def test_classes_of_the_document_have_names_and_labels() -> None:
    save_all(Path("pred"), a=[[7, 7, 8, 255]] * 2)
    save_all(Path("gt"), a=[[0, 0, 105, 255]] * 2)  # person, clouds, unlabeled
    assert evaluated(protocol="coco-stuff27").document()["classes"] == [
        {"value": 9, "name": "person-things", "iou": 1.0, "pixels": 4, "label": 7},
        {"value": 23, "name": "sky-stuff", "iou": 1.0, "pixels": 2, "label": 8},
    ]
    assert CLASS_NAMES[9] == "person-things"


def test_things_and_stuff_are_told_apart_where_asked() -> None:
    save_all(Path("pred"), a=[[0, 0, 1, 2]] * 2)
    save_all(Path("gt"), a=[[0, 0, 1, 1]] * 2)
    metrics = evaluated(protocol="classes", num_things=1).metrics()
    assert (metrics["miou_things"], metrics["miou_stuff"], metrics["miou"]) == (1, 0.5, 0.75)
    metrics = evaluated(protocol="classes").metrics()
    assert (metrics["miou_things"], metrics["miou_stuff"], metrics["miou"]) == (None, None, 0.75)


def test_labels_are_split_into_connected_regions_unless_asked_not_to() -> None:
    save_all(Path("pred"), a=[[0, 1, 0, 1]] * 2)
    save_all(Path("gt"), a=QUARTERS)
    assert evaluated(protocol="regions").metrics()["miou"] == 1
    assert evaluated(protocol="regions", connected=False).metrics()["miou"] == 0.5


@pytest.mark.parametrize("dtype", ["uint8", ">u2", ">i4", "int64", "uint64", "int8"])
def test_labels_of_any_integer_type_score_the_same(dtype: str) -> None:
    save_labels(Path("gt/a.mat"), HALVES)
    save_labels(Path("pred/a.npy"), np.array(QUARTERS).astype(dtype))
    assert evaluated().metrics()["miou_all"] == 0.5


def test_regions_are_scored_in_place_of_labels_however_many() -> None:
    """70,000 of one pixel each, whose numbers need 32 bits."""
    regions = np.random.default_rng(0).permutation(70_000).reshape(250, 280).astype(np.int32)
    save_labels(Path("out/labels/a.png"), np.zeros(regions.shape, np.uint8))
    save_labels(Path("out/regions/a.tif"), regions)
    save_labels(Path("gt/a.npy"), regions)
    evaluation = evaluated("out", protocol="regions", use="regions", ignore_index=None)
    assert evaluation.metrics() == {"miou": 1, "covering": 1, "pri": 1, "voi": 0, "segments": 70_000}
    assert evaluated("out", protocol="regions", ignore_index=None).metrics()["segments"] == 1


def test_matrix_of_a_mat_file_is_a_prediction() -> None:
    save_all(Path("gt"), a=HALVES)
    Path("pred").mkdir()
    Path("pred/a.mat").write_bytes(matlab({"labels": np.array(HALVES, float)}))
    assert evaluated().metrics()["miou"] == 1


# Hierarchies

BOUNDARIES = np.array([[0, 20_000, 0, 60_000, 0, 20_000, 0]] * 3, np.uint16)
"""Of 4 x 2 pixels: one region, from a granularity of 0.09 on the halves, from 0.7 on the quarters."""
READINGS = {"covering_ois", "covering_best", "pri_ods", "pri_ois", "voi_ods", "voi_ois", "granularity"}


def save_hierarchies(folder: str, *names: str) -> None:
    for name in names:
        save_labels(Path(folder, f"{name}.png"), BOUNDARIES)


@pytest.mark.parametrize("protocol", ["bsds500", "regions"])
def test_hierarchies_are_scored_at_their_best_granularity(protocol: str) -> None:
    save_hierarchies("out/hierarchy", "a", "sub/b")
    save_all(Path("out/labels"), a=WHOLE)
    save_all(Path("gt"), a=HALVES)
    save_all(Path("gt/sub"), b=QUARTERS)
    evaluation = evaluated("out", use="hierarchy", protocol=protocol)
    metrics = evaluation.metrics()
    assert set(metrics) == METRICS[protocol] | READINGS
    assert (metrics["covering"], metrics["segments"], metrics["granularity"]) == (0.75, 2, 0.09)
    assert (metrics["covering_ois"], metrics["covering_best"], metrics["voi_ois"]) == (1, 1, 0)
    assert {name: row["covering_ois"] for name, row in evaluation.per_image()} == {"a": 1, "sub/b": 1}
    document = strict(json.dumps(evaluation.document()))
    assert document == evaluation.document()
    assert document["hierarchy"]["granularity"] == {"covering": 0.09, "pri": 0.09, "voi": 0.09}
    curve = document["hierarchy"]["curve"]
    assert [point["granularity"] for point in curve] == [step / 100 for step in range(101)]
    assert [point["segments"] for point in curve] == [1] * 9 + [2] * 61 + [4] * 31
    assert set(curve[0]) == METRICS[protocol] | {"granularity"}
    assert document["metrics"].items() >= {name: curve[9][name] for name in METRICS[protocol]}.items()


def test_only_hierarchies_have_readings() -> None:
    save_all(Path("pred"), a=HALVES)
    save_all(Path("gt"), a=HALVES)
    assert evaluated(protocol="regions").readings() == {}
    assert "hierarchy" not in evaluated(protocol="regions").document()


def test_cut_of_a_hierarchy_scores_as_the_regions_of_that_cut() -> None:
    random = np.random.default_rng(0)
    for name in "abc":
        boundaries = random.integers(0, 2**16, (23, 31)).astype(np.uint16)
        regions = hierarchy_of(boundaries).cut(0.4)
        save_labels(Path("out/hierarchy", f"{name}.png"), boundaries)
        save_labels(Path("out/regions", f"{name}.png"), regions.astype(np.uint16))
        truths = [random.integers(1, count, (12, 16)).astype(np.uint16) for count in (3, 9)]
        save_labels(Path("gt", f"{name}.mat"), *truths)
    curve = evaluated("out", use="hierarchy").document()["hierarchy"]["curve"]
    assert curve[40] == pytest.approx({"granularity": 0.4, **evaluated("out", use="regions").metrics()})


def test_nothing_scored_of_hierarchies_is_nothing_measured() -> None:
    save_hierarchies("pred", "a")
    save_all(Path("gt"), a=[[0]])
    evaluation = evaluated(use="hierarchy")
    assert set(evaluation.metrics().values()) == {None}
    assert set(evaluation.document()["hierarchy"]["granularity"].values()) == {None}
    assert list(evaluation.per_image()) == []


def test_what_is_no_boundary_map_of_the_image_is_a_failure_by_name() -> None:
    names = ("good", "bits", "damaged", "even", "large", "many", "size")
    save_hierarchies("pred", *names)
    save_all(Path("gt"), **dict.fromkeys(names, HALVES))
    for name, content in {
        "bits": BOUNDARIES.astype(np.uint8),
        "even": BOUNDARIES[:, 1:],
        "many": np.zeros((3, 17), np.uint16),
        "size": np.zeros((5, 7), np.uint16),
    }.items():
        save_labels(Path("pred", f"{name}.png"), content)
    whole = Path("pred/damaged.png").read_bytes()
    Path("pred/damaged.png").write_bytes(whole[:-30])
    save_all(Path("gt"), large=[[0] * 9] * 2)
    evaluation = evaluated(use="hierarchy", max_pixels=17)
    assert reasons(evaluation) == {
        "bits": "pred/bits.png: its values have 8 bits, and the strengths of a boundary map 16",
        "damaged": "pred/damaged.png: damaged, or not a PNG file",
        "even": "pred/even.png: a boundary map has odd sides, not 6 x 3",
        "large": "gt/large.png: 9 x 2 pixels are more than `max_pixels=17` allows",
        "many": "pred/many.png: 9 x 2 pixels are more than `max_pixels=17` allows",
        "size": "pred/size.png: 4 x 3 pixels, but gt/size.png has 4 x 2; `resize=True` brings it to that size",
    }
    assert (evaluation.images, evaluation.metrics()["covering"]) == (1, 1)


def test_ground_truth_of_a_hierarchy_that_is_all_ignored_is_a_failure_by_name() -> None:
    save_hierarchies("pred", "a", "b")
    save_all(Path("gt"), a=[[255] * 4] * 2, b=[[0, 0, 1, 255]] * 2)
    evaluation = evaluated(use="hierarchy", ignore_index=255)
    assert reasons(evaluation) == {"a": ALL_IGNORED}
    assert evaluation.metrics()["covering"] == 1


def test_fragments_are_resized_and_cropped_as_labels_are() -> None:
    save_hierarchies("pred", "a")
    save_all(Path("gt"), a=np.kron(HALVES, np.ones((3, 2), int)).tolist())
    metrics = evaluated(use="hierarchy", resize=True).metrics()
    assert (metrics["covering"], metrics["voi_ois"], metrics["segments"]) == (1, 0, 2)
    save_all(Path("gt"), a=HALVES)
    evaluation = evaluated(use="hierarchy", center_crop=2)
    assert evaluation.metrics()["covering"] == 1
    assert evaluation.document()["hierarchy"]["curve"][-1]["segments"] == 2


def test_no_protocol_of_classes_is_recognised_for_hierarchies() -> None:
    save_hierarchies("pred", "000000000139")
    save_all(Path("gt"), **{"000000000139": HALVES})
    evaluation = evaluated(use="hierarchy")
    assert evaluation.protocol == "regions"
    assert only_note(evaluation).startswith("Protocol regions: ")


@pytest.mark.slow
@pytest.mark.requires_bsds500
def test_blank_predictions_of_bsds500_have_the_known_figures(bsds500: Path) -> None:
    truth = bsds500 / "groundTruth/val"
    for path in truth.iterdir():
        save_labels(Path("pred", path.name).with_suffix(".png"), [[0]])
    evaluation = evaluated("pred", str(truth), resize=True)
    assert (evaluation.protocol, evaluation.images) == ("bsds500", 100)
    metrics = evaluation.metrics()
    found = [round(metrics[f"miou_{subset}"] or 0, 4) for subset in ("all", "fine", "coarse")]
    assert found == [0.0510, 0.0273, 0.1063]
    assert metrics["segments"] == 1
    assert metrics["miou_mean"] == pytest.approx(
        sum(metrics[f"miou_{subset}"] or 0 for subset in ("all", "fine", "coarse")) / 3
    )

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from samples import TINY, noise
from scipy import ndimage

from dynaseg_cli.batch import statistics
from dynaseg_cli.batch.statistics import (
    OF_LABELS,
    cluster_statistics,
    color_table,
    in_colors,
    region_statistics,
    stats_of_fit,
    stats_of_labels,
)
from dynaseg_cli.config import CutConfig, SegmentConfig, WeightsFile
from dynaseg_cli.engine.engine import Engine
from dynaseg_cli.images.decoding import Photo
from dynaseg_cli.images.value_range import UsedRange
from dynaseg_cli.pictures.palette import label_color
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.regions.tidying import tidy

SCHEMA = json.loads((files("dynaseg_cli.batch") / "stats.schema.json").read_text())

LABELS = np.array(
    [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 2],
        [0, 0, 0, 0, 0],
        [2, 0, 1, 0, 2],
    ],
    dtype=np.uint8,
)


def test_case_worked_by_hand() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    image[LABELS == 0] = [10, 20, 30]
    image[0, 3], image[0, 4], image[1, 3], image[3, 2] = [0, 0, 0], [100, 0, 0], [100, 0, 255], [0, 0, 255]
    image[1, 4], image[3, 0], image[3, 4] = [0, 3, 0], [0, 6, 0], [0, 9, 0]
    zero, one, two = cluster_statistics(LABELS, image)
    assert zero == {
        "label": 0,
        "pixels": 13,
        "fraction": 0.65,
        "mean_rgb": [10, 20, 30],
        "std_rgb": [0, 0, 0],
        "bbox": [0, 0, 5, 4],
        "centroid": [1.538, 1.462],  # 20/13 and 19/13
        "regions": 1,
    }
    assert one == {
        "label": 1,
        "pixels": 4,
        "fraction": 0.2,
        "mean_rgb": [50, 0, 127.5],
        "std_rgb": [50, 0, 127.5],
        "bbox": [2, 0, 5, 4],
        "centroid": [3, 1],
        "regions": 2,
    }
    assert two["mean_rgb"] == [0, 6, 0]
    assert two["std_rgb"] == [0, 2.449, 0]  # the root of 6
    assert two["bbox"] == [0, 1, 5, 4]
    assert two["centroid"] == [2.667, 2.333]
    assert two["regions"] == 3


def test_colors_are_those_of_the_palette_or_the_means() -> None:
    labels = np.array([[0, 0, 9], [0, 9, 9]], dtype=np.uint8)
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    image[labels == 0] = [[10, 20, 30], [11, 21, 31], [12, 19, 29]]
    image[labels == 9] = [[0, 0, 200], [0, 1, 200], [0, 0, 203]]
    clusters = cluster_statistics(labels, image)
    for colors, first, last in (
        ("calm", label_color(0), label_color(9)),
        ("palette", label_color(0, "palette"), label_color(9, "palette")),
        ("mean", (11, 20, 30), (0, 0, 201)),
    ):
        entries = in_colors(clusters, colors)
        assert [entry["color"] for entry in entries] == [list(first), list(last)]
        assert [{**entry, "color": None} for entry in entries] == [{**entry, "color": None} for entry in clusters]
        table = color_table(entries, labels)
        assert table.shape == (10, 3)
        np.testing.assert_array_equal(table[labels[0]], [first, first, last])


def test_labels_that_statistics_do_not_know_have_a_color_of_the_palette() -> None:
    clusters = in_colors(cluster_statistics(np.zeros((1, 1), np.uint8), np.full((1, 1, 3), 7, np.uint8)), "mean")
    table = color_table(clusters, np.array([[0, 2]], dtype=np.uint8))
    assert table.tolist() == [[7, 7, 7], list(label_color(1)), list(label_color(2))]


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A map of labels, between which there may be gaps, and an image of its size."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.lists(st.integers(0, 255), min_size=1, max_size=6, unique=True))
    labels = random.choice(np.array(values, dtype=np.uint8), (height, width))
    return labels, random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def counted_one_by_one(labels: NDArray[np.uint8], image: NDArray[np.uint8], label: int) -> dict[str, Any]:
    rows, columns = np.nonzero(labels == label)
    colours = image[rows, columns].astype(float)
    return {
        "label": label,
        "pixels": len(rows),
        "fraction": len(rows) / labels.size,
        "mean_rgb": pytest.approx(colours.mean(0), abs=6e-4),
        "std_rgb": pytest.approx(colours.std(0), abs=6e-4),
        "bbox": [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
        "centroid": pytest.approx([columns.mean(), rows.mean()], abs=6e-4),
        "regions": ndimage.label(labels == label)[1],
    }


@given(case=label_maps())
def test_statistics_are_those_counted_one_by_one(case: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    labels, image = case
    assert cluster_statistics(labels, image) == [
        counted_one_by_one(labels, image, label) for label in np.unique(labels).tolist()
    ]


@given(case=label_maps())
def test_pixels_that_do_not_count_have_no_statistics(case: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    labels, image = case[0].astype(np.int32) - 1, case[1]
    found = cluster_statistics(labels, image)
    assert [entry["label"] for entry in found] == np.setdiff1d(labels, -1).tolist()
    for entry in found:
        expected = counted_one_by_one(case[0], image, entry["label"] + 1)
        expected |= {"label": entry["label"], "fraction": entry["pixels"] / np.count_nonzero(labels >= 0)}
        assert entry == expected


@given(case=label_maps(), band=st.integers(1, 9))
def test_statistics_do_not_depend_on_the_rows_summed_at_a_time(
    case: tuple[NDArray[np.uint8], NDArray[np.uint8]], band: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "BAND", band)
        banded = cluster_statistics(*case)
    assert banded == cluster_statistics(*case)


@given(case=label_maps(), number=st.integers(1, 12))
def test_regions_are_those_counted_one_by_one(case: tuple[NDArray[np.uint8], NDArray[np.uint8]], number: int) -> None:
    labels, image = case
    hierarchy = build_hierarchy(labels, image)
    regions = hierarchy.cut_to(number)
    found = region_statistics(regions, labels, image)
    for region, entry in enumerate(found):
        inside = regions == region
        expected = counted_one_by_one(regions.astype(np.uint8), image, region)
        for name in ("pixels", "fraction", "mean_rgb", "std_rgb", "bbox", "centroid"):
            assert entry[name] == expected[name]
        assert entry["region"] == region
        assert entry["label"] == np.bincount(labels[inside]).argmax()
        grown = ndimage.binary_dilation(inside, ndimage.generate_binary_structure(2, 1))
        assert entry["neighbours"] == np.setdiff1d(regions[grown], region).tolist()


@pytest.mark.parametrize("cut", [CutConfig(regions=5), CutConfig(regions="coarse"), CutConfig(granularity=0.3)])
def test_entries_of_labels_are_those_of_the_schema(cut: CutConfig) -> None:
    image = noise(0, 30, 20)
    tidied = tidy(np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8), image, cut)
    entries = stats_of_labels(tidied, image, cut, "calm")
    assert set(entries) == set(OF_LABELS)
    assert set(SCHEMA["properties"]["cut"]["required"]) == set(entries["cut"])
    for name in ("levels", "regions"):
        assert set(SCHEMA["properties"][name]["items"]["required"]) == set(entries[name][0])
    jsonschema.validate({**document(TINY, image), **json.loads(json.dumps(entries))}, SCHEMA)


def test_more_than_256_labels_are_counted() -> None:
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    found = cluster_statistics(labels, noise(0, 20, 15))
    assert [cluster["pixels"] for cluster in found] == [1] * 300
    assert found[-1]["bbox"] == [19, 14, 20, 15]


def document(config: SegmentConfig, image: NDArray[np.uint8], **known: Any) -> dict[str, Any]:
    segmentation = Engine(config, "cpu").segment(image)
    photo = Photo(image, **known)
    made = stats_of_fit("photos/ä.png", "0" * 64, photo, segmentation, config, "cpu (a processor, 1 thread)")
    cut = CutConfig(regions="raw")
    of_labels = stats_of_labels(tidy(segmentation.labels, image, cut), image, cut, "calm")
    return json.loads(json.dumps(made | of_labels))


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        SegmentConfig(iterations=1, max_size=0, features=8, clusters=8, patience=0),
        SegmentConfig(mode="fixed", iterations=2, min_labels=8, max_size=16, features=8, clusters=8, min_region=4),
        dataclasses.replace(TINY, backbone="resnet18-fpn", weights="random", freeze_backbone=True),
    ],
    ids=["fixed threshold", "silhouette", "fixed weight", "resnet"],
)
def test_document_is_valid_by_its_schema(config: SegmentConfig) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document(config, noise()), SCHEMA)


def test_recorded_weights_are_valid_by_the_schema() -> None:
    made = document(TINY, noise())
    for weights in (None, WeightsFile("a.pth", "0a" * 32)):
        config = SegmentConfig(backbone="resnet18-fpn", weights=weights)
        jsonschema.validate({**made, "options": config.as_options()}, SCHEMA)


def test_document_of_a_single_pixel_is_valid_by_its_schema() -> None:
    jsonschema.validate(document(TINY, noise(0, 1, 1)), SCHEMA)


def test_range_and_frames_are_told_of_and_valid_by_the_schema() -> None:
    made = document(TINY, noise(), range=UsedRange("-700,60", -700, 60, nodata=-9999), frames=12)
    jsonschema.validate(made, SCHEMA)
    assert made["source"]["range"] == {"option": "-700,60", "low": -700, "high": 60, "nodata": -9999}
    assert made["source"]["frames"] == 12


def leaves(schema: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    found = {}
    for name, entry in schema.get("properties", {}).items():
        found[f"{path}/{name}"] = entry
        found |= leaves(entry, f"{path}/{name}") | leaves(entry.get("items", {}), f"{path}/{name}[]")
    return found


def test_schema_describes_and_requires_every_key_of_a_document() -> None:
    described = leaves(SCHEMA)
    assert [path for path, entry in described.items() if "description" not in entry] == []

    def check(value: Any, path: str) -> None:
        for name, entry in value.items() if isinstance(value, dict) else ():
            assert f"{path}/{name}" in described
            check(entry, f"{path}/{name}")
        for entry in value if isinstance(value, list) else ():
            check(entry, f"{path}[]")

    made = document(SegmentConfig(iterations=1, max_size=16, features=8, clusters=8), noise())
    scores = made["fit"]["silhouette"].pop("scores")
    assert scores
    check(made, "")
    for section, entries in (("fit", made["fit"]), ("source", made["source"]), ("options", made["options"])):
        assert set(SCHEMA["properties"][section]["required"]) == set(entries)
    assert set(SCHEMA["required"]) == set(made)
    assert set(SCHEMA["properties"]["clusters"]["items"]["required"]) == set(made["clusters"][0])


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"schema_version": 1}, "schema_version"),
        ({"num_labels": 0}, "num_labels"),
        ({"source": {}}, "path"),
        ({"clusters": [{"label": 0}]}, "pixels"),
        ({"fit": None}, "fit"),
    ],
    ids=str,
)
def test_schema_refuses_what_is_not_a_document(change: dict[str, Any], wrong: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=wrong) as raised:
        jsonschema.validate({**document(TINY, noise()), **change}, SCHEMA)
    assert raised.value.validator in {"const", "minimum", "required", "type"}


def test_schema_lets_a_document_grow() -> None:
    made = document(TINY, noise())
    made["later"] = made["source"]["later"] = made["clusters"][0]["later"] = made["fit"]["later"] = 1
    jsonschema.validate(made, SCHEMA)


def test_entries_agree_with_the_image_and_the_fit() -> None:
    image = noise()
    made = document(TINY, image)
    assert made["schema_version"] == 2
    assert made["source"] == {"path": "photos/ä.png", "width": 24, "height": 20, "sha256": "0" * 64}
    assert made["options"] == TINY.as_options()
    assert made["num_labels"] == len(made["clusters"])
    assert [cluster["label"] for cluster in made["clusters"]] == list(range(made["num_labels"]))
    assert sum(cluster["pixels"] for cluster in made["clusters"]) == 24 * 20
    fit = made["fit"]
    assert (fit["width"], fit["height"], fit["iterations"]) == (16, 13, 2)
    for name in ("labels_per_iteration", "loss", "similarity_loss", "continuity_loss", "changed_fraction"):
        assert len(fit[name]) == fit["iterations"]

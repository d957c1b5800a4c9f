"""What exports leave out: the same in every format, in numbers that stay what they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_samples import (
    FORMATS,
    LABELS,
    REGIONS,
    as_coco_folder,
    datumaro_masks,
    export,
    export_folder,
    image,
    masks,
    pixels,
    pycocotools_data,
    sorted_masks,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from samples import encoded, noise

from dynaseg_cli.config import ExportConfig
from dynaseg_cli.errors import UsageError
from dynaseg_cli.export.exporting import Exported, write_exports
from dynaseg_cli.export.source import Segments, Source, labels_as_segments, refuse_unknown_labels, select

# pycocotools' own, when it decodes a mask with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

NOTHING = ExportConfig(min_area=16)
"""Leaves out every segment of the samples, which have 15 pixels."""

RINGS = Segments(
    np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 1, 1, 1, 3, 0],
            [0, 1, 2, 1, 3, 0],
            [0, 1, 1, 1, 5, 5],
            [0, 0, 0, 0, 0, 0],
        ],
        np.uint8,
    ),
    np.array([0, 1, 0, 2, 9, 1]),
)
"""A background of 18 pixels, a ring of 8, a dot of 1, a bar of 2, and a bar of 2 at the border; 4 does not occur."""


def kept(config: ExportConfig, segments: Segments = RINGS) -> list[int]:
    """The segments that are exported, which the map has to show in their places."""
    source = Source(1, image("a", segments), 10, selection=select(config, {7: "dots", 1: "rings"}))
    found = source.runs.segments
    expected = np.where(np.isin(segments.of_pixel, found), segments.of_pixel.astype(int), -1)
    assert source.segments.of_pixel.tolist() == expected.tolist()
    assert source.categories.tolist() == (segments.labels[found] + 1).tolist()
    numbers: list[int] = found.tolist()
    return numbers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 5]),
        ({"drop_largest": True}, [1, 2, 3, 5]),
        ({"drop_border": True}, [1, 2, 3]),
        ({"min_area": 2}, [0, 1, 3, 5]),
        ({"min_area": 3}, [0, 1]),
        ({"min_area": 8}, [0, 1]),
        ({"min_area": 9}, [0]),
        ({"only_labels": (0,)}, [0, 2]),
        ({"only_labels": ("2", "0")}, [0, 2, 3]),
        ({"only_labels": ("rings",)}, [1, 5]),
        ({"only_labels": ("rings", 2)}, [1, 3, 5]),
        ({"only_labels": ("dots", 8)}, []),
        ({"only_labels": ("rings",), "drop_border": True}, [1]),
        ({"only_labels": (1,), "drop_largest": True}, [1, 5]),
        ({"drop_largest": True, "drop_border": True, "min_area": 2}, [1, 3]),
        ({"drop_largest": True, "min_area": 9}, []),
    ],
    ids=str,
)
def test_segments_that_an_option_names_are_left_out(options: dict[str, Any], expected: list[int]) -> None:
    """Each option looks at the whole image: the largest is the largest of all, whatever the others leave out."""
    assert kept(ExportConfig(**options)) == expected


def test_of_segments_of_one_size_the_first_is_the_largest() -> None:
    assert kept(ExportConfig(drop_largest=True), labels_as_segments(np.array([[2, 2], [1, 1]]))) == [2]


def test_each_side_is_border() -> None:
    cross = np.array([[0, 1, 0], [4, 5, 2], [0, 3, 0]])
    assert kept(ExportConfig(drop_border=True), labels_as_segments(cross)) == [5]


@given(
    npst.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32]),
        npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
        elements=st.integers(0, 6),
    ),
    npst.arrays(np.int64, 7, elements=st.integers(0, 3)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
    st.sets(st.integers(0, 3)),
)
def test_any_selection_of_any_map(
    of_pixel: NDArray[Any],
    labels: NDArray[np.int64],
    largest: bool,
    border: bool,
    area: int,
    only: set[int],
) -> None:
    config = ExportConfig(tuple(only), drop_largest=largest, drop_border=border, min_area=area)
    masks = {int(number): of_pixel == number for number in np.unique(of_pixel)}
    most = max(mask.sum() for mask in masks.values())
    of_most = min(number for number, mask in masks.items() if mask.sum() == most)
    expected = [
        number
        for number, mask in masks.items()
        if mask.sum() >= area
        and not (largest and number == of_most)
        and not (border and (mask[[0, -1]].any() or mask[:, [0, -1]].any()))
        and (not only or labels[number] in only)
    ]
    assert kept(config, Segments(of_pixel, labels)) == expected


def test_more_segments_than_16_bits_number_keep_their_numbers() -> None:
    of_pixel = np.arange(300 * 250, dtype=np.int32).reshape(300, 250)
    segments = Segments(of_pixel, np.zeros(of_pixel.size, np.int64))
    assert kept(ExportConfig(drop_border=True), segments) == of_pixel[1:-1, 1:-1].ravel().tolist()


def test_nothing_is_selected_without_an_option() -> None:
    assert select(ExportConfig(), {}) is None
    assert select(ExportConfig(min_area=1), {}) is None, "there is no smaller segment"
    assert Source(1, image("a", RINGS), 10).segments is RINGS


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("sky", "'sky' is neither the number of a label nor one of the `names`"),
        ("-1", "'-1' is neither"),
        ("1.0", "'1.0' is neither"),
        ("\u0663", "is neither"),
        ("9" * 5000, "is neither"),
        (5, "there is no label 5; labels are 0 to 4"),
        ("999999999", "there is no label 999999999; labels are 0 to 4"),
    ],
)
def test_labels_that_there_are_not_are_refused(item: int | str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^`only_labels`: .*{message}"):
        refuse_unknown_labels(ExportConfig(("0", item)), {1: "tree"}, 5)


def test_labels_that_there_may_be_are_not_refused() -> None:
    refuse_unknown_labels(ExportConfig((0, "4", "tree", "000000004")), {1: "tree"}, 5)
    refuse_unknown_labels(ExportConfig(), {}, 5)


# All formats

LEFT = [1, 5]
"""The regions of labels 1 and 4."""


def test_every_format_leaves_out_the_same(tmp_path: Path) -> None:
    config = ExportConfig(only_labels=(1, 4))
    assert export(tmp_path, image("cat", REGIONS), regions=True, config=config) == []
    found = masks(REGIONS)
    expected = sorted_masks([(f"label {label}", mask) for label, mask in (found[number] for number in LEFT)])
    coco = {task: as_coco_folder(tmp_path, tmp_path / task, task) for task in ("instances", "panoptic")}
    for folder, kind in (
        (tmp_path / "voc", "voc_segmentation"),
        (coco["instances"], "coco_instances"),
        (coco["panoptic"], "coco_panoptic"),
    ):
        assert datumaro_masks(folder, kind) == {"cat": expected}


def test_numbers_in_files_are_those_of_the_regions(tmp_path: Path) -> None:
    export(tmp_path, image("cat", REGIONS), regions=True, config=ExportConfig(only_labels=(1, 4)))
    (annotation,) = json.loads((tmp_path / "coco-panoptic.json").read_text())["annotations"]
    assert [entry["id"] - 1 for entry in annotation["segments_info"]] == LEFT
    numbers = pixels(tmp_path / "coco-panoptic/cat.png").astype(int) @ [1, 256, 65536]
    left = np.isin(REGIONS.of_pixel, LEFT)
    assert numbers.tolist() == np.where(left, REGIONS.of_pixel + 1, 0).tolist(), "black is void"
    classes = pixels(tmp_path / "voc/SegmentationClass/cat.png")
    assert classes.tolist() == np.where(left, LABELS + 1, 0).tolist(), "0 is the background"


def test_hotcoco_reads_panoptic_files_with_void(tmp_path: Path) -> None:
    hotcoco = pytest.importorskip("hotcoco.panoptic", reason="no hotcoco here: panoptic files are not read back by it")
    images = [image("cat", REGIONS), image("dog", labels_as_segments(np.zeros((3, 5), np.uint8)))]
    export(tmp_path, *images, config=ExportConfig(min_area=3, only_labels=(1, 4)))
    file = str(tmp_path / "coco-panoptic.json")
    assert hotcoco.pq_compute(file, file)["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}


def test_images_of_which_nothing_is_left_are_listed(tmp_path: Path) -> None:
    events = write_exports(
        FORMATS, [image("cat", LABELS), image("dog", REGIONS)], 5, export_folder(tmp_path), NOTHING, regions=False
    )
    assert list(events) == [Exported("cat", empty=True), Exported("dog", empty=True)]
    coco = pycocotools_data(tmp_path / "coco-rle.json")
    assert ([entry["file_name"] for entry in coco.dataset["images"]], coco.getAnnIds()) == (["cat.jpg", "dog.jpg"], [])
    for task, kind in (("instances", "coco_instances"), ("panoptic", "coco_panoptic")):
        assert datumaro_masks(as_coco_folder(tmp_path, tmp_path / task, task), kind) == {"cat": [], "dog": []}
    assert datumaro_masks(tmp_path / "voc", "voc_segmentation") == {"cat": [], "dog": []}
    assert not pixels(tmp_path / "voc/SegmentationObject/cat.png").any()
    assert not pixels(tmp_path / "coco-panoptic/dog.png").any()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "measurements.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_rows_of_tables_are_those_of_what_is_left(tmp_path: Path) -> None:
    photo = encoded(noise(0, 6, 5), "PNG")
    chosen = image("cat", RINGS, photo=lambda: photo)
    assert export(tmp_path / "all", chosen, formats=["csv"], labels=10, regions=True) == []
    config = ExportConfig(only_labels=(0, 1), drop_largest=True)
    assert export(tmp_path / "left", chosen, formats=["csv"], labels=10, regions=True, config=config) == []
    left = rows(tmp_path / "left")
    assert [(row["region"], row["neighbors"]) for row in left] == [("1", "2 5"), ("2", "1"), ("5", "1")]
    others = {"neighbors", "num_neighbors"}
    expected = [row for row in rows(tmp_path / "all") if row["region"] in ("1", "2", "5")]
    for row, of_all in zip(left, expected, strict=True):
        assert {name: row[name] for name in row.keys() - others} == {name: of_all[name] for name in row.keys() - others}


def test_tables_of_images_of_which_nothing_is_left_have_no_rows(tmp_path: Path) -> None:
    photo = encoded(noise(0, 5, 3), "PNG")
    images = [image(name, REGIONS, photo=lambda: photo) for name in ("cat", "dog")]
    assert export(tmp_path, *images, formats=["csv", "parquet"], regions=True, config=NOTHING) == []
    assert rows(tmp_path) == []


def test_an_image_fits_8_bits_once_segments_are_left_out(tmp_path: Path) -> None:
    segments = Segments(np.arange(300).reshape(15, 20), np.zeros(300, np.int64))
    assert len(export(tmp_path, image("a", segments), formats=["voc"])) == 1
    assert export(tmp_path, image("a", segments), formats=["voc"], config=ExportConfig(drop_border=True)) == []
    assert np.unique(pixels(tmp_path / "voc/SegmentationObject/a.png")).tolist() == list(range(13 * 18 + 1))

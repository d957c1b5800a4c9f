"""VOC, read back by Datumaro and torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_samples import LABELS, REGIONS, datumaro_masks, expected_masks, export, image, no_photo, pixels
from PIL import Image
from torchvision.datasets import VOCSegmentation

from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.source import ExportImage, Segments, labels_as_segments
from dynaseg_cli.export.voc import ImageList, label_map

LIST = "voc/ImageSets/Segmentation/default.txt"


@pytest.mark.parametrize("segments", [labels_as_segments(LABELS), REGIONS], ids=["labels", "regions"])
def test_datumaro_reads_the_masks_of_all_segments(tmp_path: Path, segments: Segments) -> None:
    one = labels_as_segments(np.zeros((1, 1), np.uint8))
    assert export(tmp_path, image("a b", segments), image("sub/ü", one), formats=["voc"]) == []
    expected = {"a b": expected_masks(segments), "sub/ü": expected_masks(one)}
    assert datumaro_masks(tmp_path / "voc", "voc_segmentation") == expected
    assert datumaro_masks(tmp_path / "voc", "voc_instance_segmentation") == expected


def test_as_many_objects_and_labels_as_there_can_be_are_read(tmp_path: Path) -> None:
    segments = Segments(np.arange(254).reshape(2, 127), np.arange(254)[::-1])
    assert export(tmp_path, image("a", segments), formats=["voc"], labels=300) == []
    assert datumaro_masks(tmp_path / "voc", "voc_segmentation") == {"a": expected_masks(segments)}


def test_torchvision_reads_the_classes(tmp_path: Path) -> None:
    export(tmp_path, image("cat", LABELS), image("sub/dog", LABELS.T), formats=["voc"])
    # torchvision's names of folder and list, and the photos, that a user puts in.
    root = tmp_path / "VOCdevkit/VOC2012"
    root.parent.mkdir()
    (tmp_path / "voc").rename(root)
    (root / "ImageSets/Segmentation/default.txt").rename(root / "ImageSets/Segmentation/train.txt")
    for name in ("cat", "sub/dog"):
        (root / f"JPEGImages/{name}").parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 3)).save(root / f"JPEGImages/{name}.jpg")
    found = [np.asarray(mask) for _, mask in VOCSegmentation(str(tmp_path), image_set="train")]
    assert [mask.tolist() for mask in found] == [(LABELS + 1).tolist(), (LABELS.T + 1).tolist()]


def test_an_image_that_does_not_fit_is_missing_and_the_others_are_there(tmp_path: Path) -> None:
    many = Segments(np.arange(255).reshape(3, 85), np.zeros(255, np.int64))
    failures = export(tmp_path, image("many", many), image("cat", LABELS), formats=["voc"])
    assert [(failure.name, failure.format) for failure in failures] == [("many", "voc")]
    assert "255 segments" in failures[0].reason
    assert datumaro_masks(tmp_path / "voc", "voc_segmentation").keys() == {"cat"}


def test_another_export_leaves_no_mask_of_the_one_before(tmp_path: Path) -> None:
    export(tmp_path, image("gone", LABELS), image("sub/gone", LABELS), image("cat", LABELS), formats=["voc"])
    (tmp_path / "voc/JPEGImages").mkdir()
    (tmp_path / "voc/JPEGImages/cat.jpg").touch()
    Image.fromarray(LABELS).save(tmp_path / "voc/SegmentationClass/mine.png")
    export(tmp_path, image("cat", LABELS.T), formats=["voc"])
    assert sorted(path.relative_to(tmp_path / "voc").as_posix() for path in tmp_path.rglob("*.*g")) == [
        "JPEGImages/cat.jpg",
        "SegmentationClass/cat.png",
        "SegmentationClass/mine.png",
        "SegmentationObject/cat.png",
    ]
    assert not (tmp_path / "voc/SegmentationClass/sub").exists()
    assert (pixels(tmp_path / "voc/SegmentationClass/cat.png") == LABELS.T + 1).all()
    assert (tmp_path / LIST).read_text() == "cat\n"


def test_no_images_are_an_empty_list(tmp_path: Path) -> None:
    assert export(tmp_path, formats=["voc"]) == []
    assert (tmp_path / LIST).read_text() == ""
    assert datumaro_masks(tmp_path / "voc", "voc_segmentation") == {}


def test_an_export_that_is_broken_off_leaves_no_list(tmp_path: Path) -> None:
    """Masks are replaced one by one: until they are, no list says that they belong together."""

    def read() -> Segments:
        assert not (tmp_path / LIST).exists()
        raise KeyboardInterrupt

    export(tmp_path, image("cat", LABELS), formats=["voc"])
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path, image("cat", LABELS.T), ExportImage("dog", "dog.jpg", read, no_photo), formats=["voc"])
    assert not (tmp_path / LIST).exists()


def test_the_label_map_is_as_datumaro_reads_it(tmp_path: Path) -> None:
    voc = pytest.importorskip("datumaro.plugins.data_formats.voc.format", reason="no Datumaro here")
    (tmp_path / "labelmap.txt").write_bytes(label_map(["label 0", "label 1"]))
    found = voc.parse_label_map(str(tmp_path / "labelmap.txt"))
    assert list(found.items()) == [
        ("background", [(0, 0, 0), [], []]),
        ("label 0", [(128, 0, 0), [], []]),
        ("label 1", [(0, 128, 0), [], []]),
    ]


def test_an_image_is_listed_by_the_name_of_its_photo_without_extension() -> None:
    images = ImageList()
    for name in ("sub/a b", "c.d", "..e", "'\"\\f", "ü"):
        images.append(images.name(image(name, LABELS)))
    assert images.content.decode() == "sub/a b\nc.d\n..e\n'\"\\f\nü\n"


@pytest.mark.parametrize("name", ["a\nb", "a\rb", " a", "a ", "a\u00a0", "#a", "a\udcff", ".. /a", "x/.../a"])
def test_a_name_that_a_list_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="rename"):
        ImageList().name(image(name, LABELS))


def test_a_second_image_of_one_name_is_refused() -> None:
    images = ImageList()
    images.append(images.name(image("a", LABELS, ".jpg")))
    with pytest.raises(ImageError, match=r"another one is a, too: rename the photo"):
        images.name(image("a", LABELS, ".png"))

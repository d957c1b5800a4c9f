"""Palette PNGs, label map and list of images, as VOC and CVAT want them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from export_samples import LABELS, REGIONS, image
from PIL import Image

from dynaseg_cli.errors import ImageError
from dynaseg_cli.export.images import Segments, labels_as_segments
from dynaseg_cli.export.masks import MOST, ImageList, label_map, mask_pair, voc_colors


def indices(content: bytes) -> list[list[int]]:
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture.getpalette()).reshape(-1, 3), voc_colors(256))
        found: list[list[int]] = np.asarray(picture).tolist()
        return found


def test_colours_are_those_of_voc() -> None:
    known = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]]
    assert voc_colors(7).tolist() == known
    assert voc_colors(256)[[20, 255]].tolist() == [[0, 64, 128], [224, 224, 192]]


def test_no_colour_is_that_of_two_labels() -> None:
    assert len(np.unique(voc_colors(1 << 15), axis=0)) == 1 << 15


def test_a_class_is_a_label_and_an_object_a_segment_from_1_without_gaps() -> None:
    classes, objects = mask_pair(labels_as_segments(LABELS), np.unique(LABELS))
    assert indices(classes) == (LABELS + 1).tolist()
    assert indices(objects) == [[1, 1, 2, 2, 1], [1, 4, 4, 2, 1], [3, 3, 4, 4, 3]]
    classes, objects = mask_pair(REGIONS, np.arange(6))
    assert indices(classes) == (LABELS + 1).tolist()
    assert indices(objects) == (REGIONS.of_pixel + 1).tolist()


def test_as_many_segments_as_8_bits_hold_and_no_more() -> None:
    segments = np.arange(MOST + 1, dtype=np.uint16).reshape(1, -1)
    _, objects = mask_pair(Segments(segments[:, :-1], np.zeros(MOST, np.int64)), np.arange(MOST))
    assert indices(objects) == [list(range(1, 255))]
    with pytest.raises(ImageError, match=r"255 segments, and a mask of 8 bits holds 254: .*--regions 254"):
        mask_pair(Segments(segments, np.zeros(MOST + 1, np.int64)), np.arange(MOST + 1))


def test_labels_as_high_as_8_bits_hold_and_no_higher() -> None:
    classes, _ = mask_pair(labels_as_segments(np.array([[253]])), np.array([253]))
    assert indices(classes) == [[254]]
    with pytest.raises(ImageError, match=r"label 254, and a mask of 8 bits holds labels up to 253"):
        mask_pair(labels_as_segments(np.array([[254]])), np.array([254]))


def test_the_label_map_is_as_datumaro_reads_it(tmp_path: Path) -> None:
    voc = pytest.importorskip("datumaro.plugins.data_formats.voc.format", reason="no Datumaro here")
    (tmp_path / "labelmap.txt").write_text(label_map(["label 0", "label 1"]))
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
    assert images.files == {"sub/a b.png", "c.d.png", "..e.png", "'\"\\f.png", "ü.png"}


@pytest.mark.parametrize("name", ["a\nb", "a\rb", " a", "a ", "a\u00a0", "#a", "a\udcff", ".. /a", "x/.../a"])
def test_a_name_that_a_list_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="rename"):
        ImageList().name(image(name, LABELS))


def test_a_second_image_of_one_name_is_refused() -> None:
    images = ImageList()
    images.append(images.name(image("a", LABELS, ".jpg")))
    with pytest.raises(ImageError, match=r"another one is a, too: rename the photo"):
        images.name(image("a", LABELS, ".png"))

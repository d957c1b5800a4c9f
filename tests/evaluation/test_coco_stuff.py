from __future__ import annotations

import importlib.resources
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dynaseg_cli.evaluation.coco_stuff import CLASS_NAMES, NUM_THINGS, center_crop, looks_like_stuffthingmap, to_coarse

FINE = np.arange(182, dtype=np.uint8)[None]


def coarse_name(fine: int) -> str:
    return CLASS_NAMES[to_coarse(np.array([[fine]]))[0, 0]]


def test_table_ships_with_the_package() -> None:
    table = json.loads((importlib.resources.files("dynaseg_cli.evaluation") / "coco_stuff27.json").read_text())
    assert len(table["fine_to_coarse"]) == 182
    assert table["coarse_names"] == CLASS_NAMES


def test_182_labels_become_27_classes_things_before_stuff() -> None:
    coarse = to_coarse(FINE)
    assert (coarse.dtype, coarse.shape) == (np.uint8, FINE.shape)
    assert set(coarse.ravel().tolist()) == set(range(27))
    assert (len(set(CLASS_NAMES)), NUM_THINGS) == (27, 12)
    assert [name.rpartition("-")[2] for name in CLASS_NAMES] == ["things"] * 12 + ["stuff"] * 15
    # COCO's own categories, 1..91, are things, and those of COCO-Stuff, 92..182, stuff
    assert (coarse[0, :91] < NUM_THINGS).all()
    assert (coarse[0, 91:] >= NUM_THINGS).all()


@pytest.mark.parametrize(
    ("fine", "name"),
    [
        (0, "person-things"),
        (1, "vehicle-things"),  # bicycle
        (8, "vehicle-things"),  # boat
        (9, "outdoor-things"),  # traffic light
        (16, "animal-things"),  # cat
        (24, "animal-things"),  # giraffe
        (26, "accessory-things"),  # backpack
        (36, "sports-things"),  # baseball glove
        (43, "kitchen-things"),  # bottle
        (52, "food-things"),  # apple
        (61, "furniture-things"),  # chair
        (71, "electronic-things"),  # television
        (77, "appliance-things"),  # microwave
        (84, "indoor-things"),  # clock
        (105, "sky-stuff"),  # clouds
        (123, "plant-stuff"),  # grass
        (156, "sky-stuff"),  # sky, other
        (154, "water-stuff"),  # sea
        (170, "wall-stuff"),  # wall, brick
        (180, "window-stuff"),  # window, other
    ],
)
def test_known_labels_have_their_class(fine: int, name: str) -> None:
    assert coarse_name(fine) == name


def test_unlabeled_stays_unlabeled() -> None:
    assert to_coarse(np.array([[255, 0, 255]], np.uint8)).tolist() == [[255, 9, 255]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "int64", "uint64"])
def test_any_integers_are_mapped(dtype: str) -> None:
    np.testing.assert_array_equal(to_coarse(FINE.astype(dtype)), to_coarse(FINE))


@pytest.mark.parametrize("value", [182, 254, 256, 65_535, -1, -256, 2**40])
def test_value_that_coco_stuff_does_not_have_is_refused_by_name(value: int) -> None:
    with pytest.raises(ValueError, match=f"the value {value} is no label of COCO-Stuff"):
        to_coarse(np.array([[0, value, 255]]))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("000000000139", [0, 181, 255], True),
        ("000000000139", [255], True),
        ("000000000139", [0, 182], False),
        ("000000000139", [-1], False),
        ("000000000139", [70_000], False),
        ("00000000139", [0], False),
        ("COCO_val_139", [0], False),
    ],
)
def test_stuffthingmap_is_known_by_name_and_values(name: str, values: list[int], expected: bool) -> None:
    assert looks_like_stuffthingmap(name, np.array([values])) is expected


# Resize and crop

SIDES = st.integers(1, 60)


def numbered(height: int, width: int) -> NDArray[np.int32]:
    """A map whose every pixel has a value of its own."""
    return np.arange(height * width, dtype=np.int32).reshape(height, width)


def as_torchvision(labels: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Resize(size, NEAREST) and CenterCrop(size) of torchvision 0.20, on a PIL image, as written there."""
    height, width = labels.shape
    short, long = (width, height) if width <= height else (height, width)
    new_short, new_long = size, int(size * long / short)
    new_width, new_height = (new_short, new_long) if width <= height else (new_long, new_short)
    image = Image.fromarray(labels).resize((new_width, new_height), Image.Resampling.NEAREST)
    top = round((new_height - size) / 2)
    left = round((new_width - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@given(height=SIDES, width=SIDES, size=SIDES)
@example(height=2, width=3, size=5)  # larger than the image, and 7 columns less 5 are even
@example(height=3, width=2, size=6)  # 9 less 6 are odd: Python rounds 1.5 to 2
@example(height=5, width=8, size=10)
def test_crop_is_that_of_torchvision(height: int, width: int, size: int) -> None:
    labels = numbered(height, width)
    np.testing.assert_array_equal(center_crop(labels, size), as_torchvision(labels, size))


@pytest.mark.parametrize("shape", [(427, 640), (640, 427), (480, 640), (500, 333), (375, 500), (612, 612), (100, 80)])
def test_crop_of_sizes_that_coco_has_is_that_of_torchvision(shape: tuple[int, int]) -> None:
    labels = numbered(*shape)
    np.testing.assert_array_equal(center_crop(labels, 320), as_torchvision(labels, 320))


@given(height=SIDES, width=SIDES, size=SIDES)
def test_crop_is_square_and_leaves_a_square_of_its_size_alone(height: int, width: int, size: int) -> None:
    cropped = center_crop(numbered(height, width), size)
    assert cropped.shape == (size, size)
    np.testing.assert_array_equal(center_crop(cropped, size), cropped)


def test_crop_of_a_strip_is_its_middle_without_the_whole_being_enlarged() -> None:
    """Enlarged until its shorter side is 1000, it would have 10 gigapixels."""
    assert set(center_crop(numbered(1, 10_001), 1000).ravel()) == {5000}

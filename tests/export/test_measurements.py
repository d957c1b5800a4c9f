"""Measurements, against shapes worked by hand, NumPy, and scikit-image told of one segment at a time."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from samples import encoded, noise
from skimage.measure import label, regionprops

from dynaseg_cli.config import PixelSize
from dynaseg_cli.errors import DecodeError, ImageError
from dynaseg_cli.export.measurements import Measurements, measure

BLOCKS = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 5],
        [0, 1, 1, 1, 1, 0, 5],
        [0, 0, 3, 0, 0, 0, 5],
    ],
    np.uint16,
)
"""A rectangle, a pixel and a line on a ground; 2 and 4 do not occur."""


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def grey(segments: NDArray[Any]) -> bytes:
    return tiff(np.zeros(segments.shape, np.uint8))


def measured(segments: NDArray[Any], content: bytes | None = None) -> Measurements:
    return measure(segments, np.unique(segments), grey(segments) if content is None else content)


def row(found: Measurements, place: int) -> dict[str, Any]:
    return {name: column[place] for name, column in found.columns.items()}


def fragments(seed: int, height: int, width: int, values: int = 4) -> NDArray[np.int32]:
    """Numbered connected regions of noise."""
    found = label(np.random.default_rng(seed).integers(0, values, (height, width)), background=-1, connectivity=1)
    return (found - 1).astype(np.int32)


# Shapes


def test_a_rectangle_worked_by_hand() -> None:
    found = row(measured(BLOCKS), 1)
    assert found["area"] == 8
    assert (found["centroid-0"], found["centroid-1"]) == (1.5, 2.5)
    assert [found[f"bbox-{side}"] for side in range(4)] == [1, 1, 3, 5]
    # Variances: 5/4 across 0, 1, 2, 3, and 1/4 down 0, 1.
    assert found["axis_major_length"] == pytest.approx(4 * math.sqrt(5 / 4))
    assert found["axis_minor_length"] == pytest.approx(4 * math.sqrt(1 / 4))
    assert found["eccentricity"] == pytest.approx(math.sqrt(1 - (1 / 4) / (5 / 4)))
    assert abs(found["orientation"]) == pytest.approx(math.pi / 2)
    assert found["solidity"] == 1
    assert found["perimeter"] == 2 * (1 + 3)  # between the centres of its pixels
    assert (found["num_neighbors"], found["neighbors"], found["touches_border"]) == (2, [0, 3], False)


def test_one_pixel_has_neither_direction_nor_eccentricity() -> None:
    found = row(measured(BLOCKS), 2)
    assert math.isnan(found["orientation"])
    assert math.isnan(found["eccentricity"])
    assert (found["area"], found["axis_major_length"], found["perimeter"], found["solidity"]) == (1, 0, 0, 1)
    assert (found["neighbors"], found["touches_border"]) == ([0, 1], True)


def test_a_line_points_down() -> None:
    found = row(measured(BLOCKS), 3)
    assert (found["orientation"], found["eccentricity"], found["axis_minor_length"]) == (0, 1, 0)
    assert (found["neighbors"], found["touches_border"]) == ([0], True)


@pytest.mark.parametrize("side", [2, 3, 30])
def test_a_square_has_no_direction(side: int) -> None:
    segments = np.zeros((40, 40), np.int32)
    segments[5 : 5 + side, 3 : 3 + side] = 1
    found = row(measured(segments), 1)
    assert math.isnan(found["orientation"])
    assert found["eccentricity"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_each_segment_is_measured_as_if_it_were_alone(seed: int) -> None:
    segments = fragments(seed, 17, 23)
    found = measured(segments)
    for place, number in enumerate(np.unique(segments)):
        (alone,) = regionprops((segments == number).astype(np.uint8))
        one = row(found, place)
        for name in ("area", "perimeter", "axis_major_length", "axis_minor_length", "solidity"):
            assert one[name] == pytest.approx(alone[name]), name
        assert [one[f"centroid-{axis}"] for axis in (0, 1)] == pytest.approx(alone.centroid)
        assert tuple(one[f"bbox-{side}"] for side in range(4)) == alone.bbox
        if one["eccentricity"] > 1e-6:
            assert one["eccentricity"] == pytest.approx(alone.eccentricity)
            assert one["orientation"] == pytest.approx(alone.orientation)
        else:
            assert math.isnan(one["orientation"])


def test_a_label_in_several_parts_is_one_segment() -> None:
    labels = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]], np.uint8)
    found = row(measured(labels), 1)
    (alone,) = regionprops(labels)
    assert found["area"] == 4
    assert (found["centroid-0"], found["centroid-1"]) == (1, 1.5)
    assert found["solidity"] == pytest.approx(alone.solidity)
    assert found["solidity"] < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_share_a_side_of_a_pixel(seed: int) -> None:
    segments = fragments(seed, 12, 9)
    expected: dict[int, set[int]] = {int(number): set() for number in np.unique(segments)}
    for y, x in np.ndindex(segments.shape):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if 0 <= y + dy < 12 and 0 <= x + dx < 9 and segments[y, x] != segments[y + dy, x + dx]:
                expected[int(segments[y, x])].add(int(segments[y + dy, x + dx]))
    found = measured(segments).columns
    assert found["neighbors"] == [sorted(others) for others in expected.values()]
    assert list(found["num_neighbors"]) == [len(others) for others in expected.values()]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 5)])
def test_an_image_of_one_segment_has_no_neighbours(shape: tuple[int, int]) -> None:
    found = row(measured(np.full(shape, 3, np.uint16)), 0)
    assert (found["area"], found["neighbors"], found["touches_border"]) == (math.prod(shape), [], True)


# Intensities


def intensities(found: Measurements) -> dict[str, list[float]]:
    return {name: np.asarray(column).tolist() for name, column in found.columns.items() if "intensity" in name}


def assert_means_are_those_of_numpy(
    found: Measurements, segments: NDArray[Any], values: NDArray[Any], counts: NDArray[np.bool_]
) -> None:
    assert len(intensities(found)) == 2 * values.shape[2]
    for channel in range(values.shape[2]):
        for place, number in enumerate(np.unique(segments)):
            counted = values[..., channel][(segments == number) & counts[..., channel]].astype(np.float64)
            one = row(found, place)
            expected = (counted.mean(), counted.std()) if counted.size else (math.nan, math.nan)
            got = one[f"intensity_mean-{channel}"], one[f"intensity_std-{channel}"]
            assert got == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_means_are_of_the_numbers_of_the_file(dtype: type, channels: int) -> None:
    random = np.random.default_rng(0)
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else None
    shape = (20, 24, channels)
    values = (random.normal(size=shape) * 1e3 if limits is None else random.integers(0, limits.max, shape)).astype(
        dtype
    )
    segments = fragments(1, 20, 24)
    options: dict[str, Any] = {"photometric": "rgb"} if channels == 3 else {}
    found = measured(segments, tiff(values if channels == 3 else values[..., 0], **options))
    assert_means_are_those_of_numpy(found, segments, values, np.ones(shape, np.bool_))


def test_16_bits_of_colour_are_not_cut_to_8() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 16, (4, 7, 3), dtype=np.uint16)
    content = tiff(values, photometric="rgb")
    assert_means_are_those_of_numpy(measured(BLOCKS, content), BLOCKS, values, np.ones(values.shape, np.bool_))


def test_what_is_no_data_does_not_count() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(20, 24, 3)).astype(np.float32)
    values[random.random(values.shape) < 0.3] = np.nan
    values[random.random(values.shape) < 0.1] = np.inf
    values[:5, :5] = 77
    segments = fragments(1, 20, 24)
    segments[5:10, :5] = segments.max() + 1
    values[5:10, :5] = -np.inf
    found = measured(segments, tiff(values, photometric="rgb", extratags=[(42113, 2, 0, "77", True)]))
    assert_means_are_those_of_numpy(found, segments, values, np.isfinite(values) & (values != 77))
    assert math.isnan(row(found, -1)["intensity_mean-0"])


def test_wholly_transparent_pixels_do_not_count_and_others_count_in_full() -> None:
    values = noise(0, 7, 4)
    opacity = np.array([[0, 1, 127, 255]] * 7, np.uint8).T
    content = encoded(Image.fromarray(np.dstack([values, opacity])), "PNG")
    counts = np.repeat(opacity[..., None] > 0, 3, axis=2)
    assert_means_are_those_of_numpy(measured(BLOCKS, content), BLOCKS, values, counts)


def test_a_photo_is_measured_as_its_labels_lie() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.arange(28, dtype=np.uint8).reshape(7, 4)
    content = encoded(Image.fromarray(values), "PNG", exif=exif)
    upright = np.rot90(values, -1)[..., None]
    assert_means_are_those_of_numpy(measured(BLOCKS, content), BLOCKS, upright, np.ones((4, 7, 1), np.bool_))


def test_numbers_too_large_to_square_do_no_harm() -> None:
    found = measured(BLOCKS, tiff(np.full(BLOCKS.shape, 1e200)))
    assert row(found, 0)["intensity_mean-0"] == pytest.approx(1e200)


def test_a_photo_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ImageError, match="the photo has 5 x 3 pixels, and its map 7 x 4"):
        measured(BLOCKS, tiff(np.zeros((3, 5), np.uint8)))
    with pytest.raises(DecodeError, match="the file is cut off"):
        measured(BLOCKS, tiff(np.zeros(BLOCKS.shape, np.uint16))[:-9])


def test_a_tile_larger_than_the_photo_is_read() -> None:
    found = measured(BLOCKS, tiff(np.full(BLOCKS.shape, 7, np.uint16), tile=(256, 256)))
    assert row(found, 0)["intensity_mean-0"] == 7


# Units


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sides", [(0.5, 0.5), (0.7, 0.5), (2, 30)])
def test_lengths_and_areas_are_those_of_scikit_images_spacing(sides: tuple[float, float], seed: int) -> None:
    segments = fragments(seed, 17, 23)
    found = measured(segments).in_units(PixelSize(*sides, "um"))
    expected = regionprops(segments + 1, spacing=sides)
    for name in ("area", "axis_major_length", "axis_minor_length"):
        assert np.asarray(found[f"physical_{name}"]) == pytest.approx([one[name] for one in expected], abs=1e-6)
    if sides[0] == sides[1]:
        assert np.asarray(found["physical_perimeter"]) == pytest.approx([one.perimeter for one in expected])
    else:
        assert np.isnan(np.asarray(found["physical_perimeter"])).all()


def test_a_rectangle_in_units_worked_by_hand() -> None:
    found = measured(BLOCKS).in_units(PixelSize(height=3, width=0.5, unit="m"))
    assert np.asarray(found["physical_area"])[1] == 8 * 3 * 0.5
    # Across, it is shorter now than down.
    assert np.asarray(found["physical_axis_major_length"])[1] == pytest.approx(4 * 3 * math.sqrt(1 / 4))
    assert np.asarray(found["physical_axis_minor_length"])[1] == pytest.approx(4 * 0.5 * math.sqrt(5 / 4))


def test_sides_that_differ_by_rounding_make_a_perimeter() -> None:
    found = measured(BLOCKS).in_units(PixelSize(0.1, 0.10000000001, "um"))
    assert np.asarray(found["physical_perimeter"])[1] == pytest.approx(0.8)


def test_the_size_is_that_of_the_file() -> None:
    content = tiff(np.zeros(BLOCKS.shape, np.uint16), resolution=(20_000, 10_000), resolutionunit="CENTIMETER")
    assert measured(BLOCKS, content).pixel_size == PixelSize(height=1, width=0.5, unit="um")
    assert measured(BLOCKS).pixel_size is None

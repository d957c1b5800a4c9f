from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from dynaseg_cli.regions import graph as graph_module
from dynaseg_cli.regions.cues import Cues, photo_cues
from dynaseg_cli.regions.features import unit_length
from dynaseg_cli.regions.graph import RegionGraph, region_graph
from dynaseg_cli.regions.segments import connected_regions

LABEL_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 3))


def photo(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def maps_of(*sizes: tuple[int, int, int]) -> list[NDArray[np.float32]]:
    """Maps of features of these heights, widths and channels."""
    random = np.random.default_rng(0)
    return [unit_length(random.random(size).astype(np.float32)) for size in sizes]


MAPS = maps_of((3, 2, 4), (1, 1, 2), (5, 11, 3))


def at_every_pixel(features: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A map of features at each pixel: linear between centres, constant beyond them, along one axis and the other."""
    found = features.astype(np.float64)
    for axis, wanted in enumerate(shape):
        here = found.shape[axis]
        known, places = (np.arange(here) + 0.5) / here, (np.arange(wanted) + 0.5) / wanted
        found = np.apply_along_axis(lambda line: np.interp(places, known, line), axis, found)  # noqa: B023
    return found


def assert_same(one: RegionGraph, other: RegionGraph) -> None:
    for name, values in vars(one).items():
        np.testing.assert_allclose(values, getattr(other, name), rtol=1e-5, atol=1e-7, err_msg=name)


def by_hand(regions: NDArray[np.int32], cues: Cues) -> dict[tuple[int, int], list[float]]:
    """Contrast at every side of a pixel between two regions."""
    height, width = regions.shape
    found: dict[tuple[int, int], list[float]] = {}
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x)):
                if v < height and u < width and regions[y, x] != regions[v, u]:
                    low, high = sorted((int(regions[y, x]), int(regions[v, u])))
                    found.setdefault((low, high), []).append(float(cues.contrast[y, x] + cues.contrast[v, u]) / 2)
    return found


@given(LABEL_MAPS)
def test_the_graph_is_that_of_the_pixels(labels: NDArray[np.uint8]) -> None:
    regions, cues = connected_regions(labels), photo_cues(photo(labels.shape))
    graph = region_graph(regions, labels, cues)
    pixels = labels.size
    sides = by_hand(regions, cues)
    assert list(zip(graph.first.tolist(), graph.second.tolist(), strict=True)) == sorted(sides)
    np.testing.assert_allclose(graph.area * pixels, np.bincount(regions.reshape(-1)))
    np.testing.assert_allclose(graph.length * np.sqrt(pixels), [len(sides[pair]) for pair in sorted(sides)])
    np.testing.assert_allclose(
        graph.contrast * np.sqrt(pixels), [sum(sides[pair]) for pair in sorted(sides)], rtol=1e-5
    )
    for region in range(len(graph.area)):
        inside = cues.lab[regions == region].astype(np.float64)
        np.testing.assert_allclose(graph.lab[region] * pixels, inside.sum(0), rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(graph.texture[region].sum(), graph.area[region], rtol=1e-5)
        np.testing.assert_allclose(graph.colours[region].sum(), graph.area[region], rtol=1e-5)
        of_labels = [np.count_nonzero(labels[regions == region] == label) for label in np.unique(labels)]
        np.testing.assert_allclose(graph.labels[region] * pixels, of_labels, rtol=1e-6)


@given(LABEL_MAPS)
def test_features_are_those_of_the_pixels_of_a_region(labels: NDArray[np.uint8]) -> None:
    regions = connected_regions(labels)
    graph = region_graph(regions, labels, photo_cues(photo(labels.shape)), MAPS)
    pixels = np.concatenate([at_every_pixel(one, labels.shape) for one in MAPS], axis=2)
    expected = [pixels[regions == region].sum(0) / labels.size for region in range(len(graph.area))]
    assert graph.features.dtype == np.float32
    np.testing.assert_allclose(graph.features, expected, rtol=1e-4, atol=1e-6)


def test_features_of_two_halves_worked_out() -> None:
    """Two vectors on four columns, at 1/4 and 3/4: the first column has one, the second 3/4 of it."""
    labels = np.array([[0, 0, 1, 1]] * 3)
    features = np.array([[[1, 0], [0, 1]]], dtype=np.float32)
    graph = region_graph(connected_regions(labels), labels, photo_cues(photo(labels.shape)), [features])
    np.testing.assert_allclose(graph.features, [[1.75 / 4, 0.25 / 4], [0.25 / 4, 1.75 / 4]], rtol=1e-6)


def test_without_maps_there_are_no_features() -> None:
    labels = np.array([[0, 1], [2, 2]])
    graph = region_graph(connected_regions(labels), labels, photo_cues(photo(labels.shape)))
    assert graph.features.shape == (3, 0)
    joined, _ = graph.joined(np.array([0, 1, 0]), 2)
    assert joined.features.shape == (2, 0)


@given(LABEL_MAPS, st.integers(0, 2**31), st.integers(1, 5))
def test_joined_regions_are_those_of_the_joined_map(labels: NDArray[np.uint8], seed: int, groups: int) -> None:
    regions, cues = connected_regions(labels), photo_cues(photo(labels.shape))
    graph = region_graph(regions, labels, cues, MAPS)
    group = np.random.default_rng(seed).integers(0, groups, len(graph.area))
    kept, group = np.unique(group, return_inverse=True)
    joined, went_to = graph.joined(group, len(kept))
    assert_same(joined, region_graph(group[regions].astype(np.int32), labels, cues, MAPS))
    for edge, where in enumerate(went_to.tolist()):
        ends = sorted((int(group[graph.first[edge]]), int(group[graph.second[edge]])))
        assert where == -1 if ends[0] == ends[1] else ends == [joined.first[where], joined.second[where]]


@pytest.mark.parametrize("pixels", [1, 30, 100])
def test_bands_change_nothing(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (23, 30))
    regions, cues = connected_regions(labels), photo_cues(photo(labels.shape))
    whole = region_graph(regions, labels, cues, MAPS)
    monkeypatch.setattr(graph_module, "BAND_PIXELS", pixels)
    assert_same(region_graph(regions, labels, cues, MAPS), whole)


def test_a_map_and_photo_twice_as_large_give_the_same_numbers() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 15))
    cues = photo_cues(photo(labels.shape))
    small = region_graph(connected_regions(labels), labels, cues, MAPS)
    twice = labels.repeat(2, 0).repeat(2, 1)
    large = region_graph(connected_regions(twice), twice, cues, MAPS)  # the cues as they were
    for name in ("area", "lab", "colours", "texture", "labels", "features", "first", "second", "length"):
        np.testing.assert_allclose(getattr(large, name), getattr(small, name), rtol=1e-6, err_msg=name)


def test_many_labels_share_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "MOST_LABELS", 3)
    labels = np.arange(10).reshape(2, 5)
    graph = region_graph(connected_regions(labels), labels, photo_cues(photo(labels.shape)))
    np.testing.assert_allclose(graph.labels.sum(0), [0.4, 0.3, 0.3])


def test_one_region_has_no_neighbours() -> None:
    graph = region_graph(np.zeros((4, 5), dtype=np.int32), np.zeros((4, 5), dtype=int), photo_cues(photo((4, 5))))
    assert len(graph.area) == 1
    assert len(graph.first) == len(graph.length) == len(graph.contrast) == 0

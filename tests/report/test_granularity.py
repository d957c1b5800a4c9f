from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from report_entries import cut_as_the_page_does, unpacked
from samples import noise

from dynaseg_cli.regions import segments
from dynaseg_cli.regions.hierarchy import build_hierarchy
from dynaseg_cli.report import thumbnail
from dynaseg_cli.report.granularity import STEPS, granularity_entry
from dynaseg_cli.report.thumbnail import shrunk_map

LABEL_MAPS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3))
AUTO = {"regions": "auto", "granularity": None}


def photo_of(labels: NDArray[np.integer], seed: int = 0) -> NDArray[np.uint8]:
    return noise(seed, labels.shape[1], labels.shape[0])


def same_partition(one: NDArray[np.integer], other: NDArray[np.integer]) -> bool:
    pairs = np.unique(np.stack([one.reshape(-1), other.reshape(-1)]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(other))


def test_cuts_of_a_thumbnail_are_those_of_the_image() -> None:
    """Thumbnails of 5 pixels, in which most fragments of larger images are not to be seen."""

    @given(LABEL_MAPS, st.data())
    def law(labels: NDArray[np.uint8], data: st.DataObject) -> None:
        photo = photo_of(labels)
        hierarchy = build_hierarchy(labels, photo)
        entry = granularity_entry(hierarchy, photo, AUTO)
        assert max(entry["width"], entry["height"]) <= 5
        assert entry["most"] == hierarchy.size
        regions = data.draw(st.integers(1, hierarchy.size))
        expected = hierarchy.cut_to(regions)
        assert expected.max() + 1 == regions
        assert same_partition(cut_as_the_page_does(entry, regions), shrunk_map(expected))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thumbnail, "LONGEST_SIDE", 5)
        law()


def test_joins_are_a_tree_from_fine_to_coarse() -> None:
    labels = noise(3, 90, 70)[..., 0] % 4
    entry = granularity_entry(build_hierarchy(labels, photo_of(labels)), photo_of(labels), AUTO)
    joins, left = unpacked(entry["joins"], "<u4").reshape(-1, 2), unpacked(entry["left"], "<u4")
    visible = len(unpacked(entry["areas"], "<u4"))
    assert len(joins) == len(left) == visible - 1
    assert (np.diff(left.astype(int)) < 0).all()
    assert len(np.unique(cut_as_the_page_does(entry, entry["most"]))) == visible
    assert len(np.unique(cut_as_the_page_does(entry, 1))) == 1


def test_granularities_are_known_by_their_numbers_of_regions() -> None:
    labels = noise(3, 90, 70)[..., 0] % 4
    hierarchy = build_hierarchy(labels, photo_of(labels))
    counts = granularity_entry(hierarchy, photo_of(labels), AUTO)["regions"]
    assert counts == [hierarchy.count(step / STEPS) for step in range(STEPS + 1)]
    assert counts[0] == 1 < counts[-1] == hierarchy.size


def test_fragments_have_their_area_and_mean_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "BAND_PIXELS", 40)
    labels = noise(1, 30, 20)[..., 0] // 86
    photo = photo_of(labels, 5)
    hierarchy = build_hierarchy(labels, photo)
    entry = granularity_entry(hierarchy, photo, AUTO)
    colors = unpacked(entry["colors"], "u1").reshape(-1, 3)
    for fragment in range(hierarchy.size):
        pixels = photo[hierarchy.fragments == fragment]
        assert unpacked(entry["areas"], "<u4")[fragment] == len(pixels)
        assert abs(colors[fragment] - pixels.mean(0)).max() <= 0.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_any_shape_has_an_entry(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, dtype=np.uint8)
    labels[-1, -1] = 1
    entry = granularity_entry(build_hierarchy(labels, photo_of(labels)), photo_of(labels), AUTO)
    assert cut_as_the_page_does(entry, 2).size == min(max(shape), 640)


@pytest.mark.parametrize(
    ("cut", "granularity"),
    [
        (AUTO, 0.5),
        ({"regions": "auto", "granularity": 0.314}, 0.314),
        ({"regions": "raw", "granularity": None}, 1),
    ],
)
def test_the_slider_starts_at_the_granularity_of_the_cut(cut: dict[str, object], granularity: float) -> None:
    labels = noise(1, 30, 20)[..., 0] // 86
    hierarchy = build_hierarchy(labels, photo_of(labels))
    assert granularity_entry(hierarchy, photo_of(labels), cut)["start"] == hierarchy.count(granularity)


@pytest.mark.parametrize(("regions", "start"), [(1, 1), (7, 7), (1_000_000, None)])
def test_the_slider_starts_at_the_number_of_regions_asked_for(regions: int, start: int | None) -> None:
    labels = noise(1, 30, 20)[..., 0] // 86
    hierarchy = build_hierarchy(labels, photo_of(labels))
    entry = granularity_entry(hierarchy, photo_of(labels), {"regions": regions, "granularity": None})
    assert entry["start"] == (start or hierarchy.size)

"""Run-length encoding, compared with pycocotools bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from dynaseg_cli.export.run_length import find_runs

mask_tools = pytest.importorskip("pycocotools.mask", reason="no pycocotools here: nothing to compare with")

SMALL_MAPS = npst.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int32]),
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.integers(0, 4),
)


def equals_pycocotools(segments: NDArray[Any], numbers: NDArray[Any] | None = None) -> None:
    runs = find_runs(segments)
    assert runs.segments.tolist() == np.unique(segments).tolist()
    found = zip(runs.compressed(), runs.areas().tolist(), runs.boxes().tolist(), strict=True)
    by_number = dict(zip(runs.segments.tolist(), found, strict=True))
    for number in (runs.segments if numbers is None else numbers).tolist():
        theirs = mask_tools.encode(np.asfortranarray(segments == number))
        expected = (theirs["counts"].decode(), int(mask_tools.area(theirs)), mask_tools.toBbox(theirs).tolist())
        assert by_number[number] == expected


@given(SMALL_MAPS)
def test_every_segment_of_a_small_map(segments: NDArray[Any]) -> None:
    equals_pycocotools(segments)


@given(npst.arrays(np.uint8, (40, 30), elements=st.integers(0, 1)), st.integers(1, 60))
def test_counts_of_many_characters_that_rise_and_fall(cells: NDArray[np.uint8], scale: int) -> None:
    equals_pycocotools(np.kron(cells, np.ones((scale, 1), np.uint8)))


def test_counts_of_millions_of_pixels() -> None:
    segments = np.zeros((3000, 2000), np.uint16)
    segments[10:20, 1990:] = 65535
    equals_pycocotools(segments)


def test_more_segments_than_16_bits_number() -> None:
    segments = np.arange(300 * 250, dtype=np.int32).reshape(300, 250)
    equals_pycocotools(segments, numbers=np.array([0, 1, 299, 65535, 65536, 74999]))


def test_a_case_worked_by_hand() -> None:
    """Columns 0 0, 0 1, 1 1: three off, three on; and three on, three off, after none off."""
    runs = find_runs(np.array([[0, 0, 1], [0, 1, 1]]))
    assert runs.compressed() == ["033", "33"]
    assert runs.areas().tolist() == [3, 3]
    assert runs.boxes().tolist() == [[0, 0, 2, 2], [1, 0, 2, 2]]


def test_a_map_in_another_order_in_memory_is_the_same() -> None:
    segments = np.random.default_rng(0).integers(0, 5, (20, 30)).astype(np.uint8)
    assert find_runs(np.asfortranarray(segments)).compressed() == find_runs(segments).compressed()

"""Tidied labels: every region of a cut gets the one label that most of it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from ..config import FREE, CutConfig
from .hierarchy import Hierarchy, build_hierarchy
from .segments import BAND_PIXELS, connected_regions, number_by_area, numbers_by_area

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Tidied:
    """The labels of an image as a cut leaves them."""

    labels: Labels
    """(H, W)."""
    regions: NDArray[np.int32]
    """(H, W) connected regions, 0..R-1 by falling area."""
    numbers: NDArray[np.int32]
    """(N,) the number that each of the raw labels 0..N-1 has now. Labels that are gone have numbers that none has."""
    hierarchy: Hierarchy | None
    """From which the regions were cut; None if none was needed."""


def tidy(
    raw: Labels,
    image: NDArray[np.uint8],
    cut: CutConfig,
    hierarchy: Hierarchy | None = None,
    scribbles: NDArray[np.uint8] | None = None,
    *,
    renumber: bool = True,
) -> Tidied:
    """Cut the regions of an image and give each one label.

    Parameters
    ----------
    raw : (H, W) labels as the network gave them. A cut that `is_raw` leaves them as they are.
    image : (H, W, 3) uint8 RGB.
    hierarchy : over these labels, if there is one already.
    scribbles : (H, W) uint8 with labels, and `FREE` elsewhere. Drawn pixels keep their labels, drawn labels their
        numbers.
    renumber : whether labels are numbered 0..K-1 by falling area afterwards, or keep their numbers.
    """
    if cut.is_raw:
        parts = connected_regions(raw)
        regions = numbers_by_area(np.bincount(parts.reshape(-1)))[parts]
        return Tidied(raw, regions, np.arange(int(raw.max()) + 1, dtype=np.int32), hierarchy)
    if hierarchy is None:
        hierarchy = build_hierarchy(raw, image)
    regions = cut_regions(hierarchy, cut)
    if scribbles is not None:
        regions = split_between_strokes(regions, raw, scribbles)
    labels, numbers = tidied_labels(raw, regions, scribbles), np.arange(int(raw.max()) + 1, dtype=np.int32)
    if renumber:
        kept = [] if scribbles is None else np.unique(scribbles[scribbles != FREE]).tolist()
        numbered = number_by_area(labels, kept)
        labels, known = numbered.labels, len(numbered.numbers)
        numbers = np.append(numbered.numbers, numbers[known:])
    return Tidied(labels, regions, numbers, hierarchy)


def cut_regions(hierarchy: Hierarchy, cut: CutConfig) -> NDArray[np.int32]:
    """The regions that a cut takes from a hierarchy, (H, W) int32, 0..R-1 by falling area."""
    if isinstance(cut.regions, int):
        return hierarchy.cut_to(cut.regions)
    granularity = cut.common_granularity
    assert granularity is not None
    return hierarchy.cut(granularity)


def tidied_labels(raw: Labels, regions: NDArray[np.int32], scribbles: NDArray[np.uint8] | None = None) -> Labels:
    """Give every region the label that most of its pixels have; of several with equally many, the smallest.

    Parameters
    ----------
    raw : (H, W) labels.
    regions : (H, W) 0..R-1.
    scribbles : (H, W) uint8 with labels, and `FREE` elsewhere. Where something is drawn on a region, only the drawn
        pixels decide. A pixel that is drawn on has its own label in any case.

    Returns
    -------
    (H, W) labels of the type of `raw`.
    """
    label_of = main_labels(regions, raw)
    if scribbles is None:
        return _like(raw, label_of[regions])
    drawn = scribbles != FREE
    of_strokes = _most_frequent(regions[drawn], scribbles[drawn], len(label_of))
    labels = np.where(of_strokes < 0, label_of, of_strokes)[regions]
    labels[drawn] = scribbles[drawn]
    return _like(raw, labels)


def main_labels(regions: NDArray[np.int32], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """(R,) the label that most pixels of each of the regions 0..R-1 of an (H, W) map have; of equals the smallest."""
    return _most_frequent(regions.reshape(-1), labels.reshape(-1), int(regions.max()) + 1)


def split_between_strokes(regions: NDArray[np.int32], raw: Labels, scribbles: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Split every region on which several labels are drawn into the connected parts of its raw labels.

    Who draws two labels wants to tell two things apart, however alike they look.

    Parameters
    ----------
    regions : (H, W) 0..R-1.
    scribbles : (H, W) uint8 with labels, and `FREE` elsewhere.

    Returns
    -------
    (H, W) int32, 0..R-1 by falling area.
    """
    drawn = scribbles != FREE
    count = int(regions.max()) + 1
    pairs = np.unique(regions[drawn].astype(np.int64) * FREE + scribbles[drawn])
    several = np.bincount(pairs // FREE, minlength=count) > 1
    if not several.any():
        return regions
    parts = connected_regions(np.where(several[regions], regions + count * (1 + raw.astype(np.int64)), regions))
    split: NDArray[np.int32] = numbers_by_area(np.bincount(parts.reshape(-1)))[parts]
    return split


def _like(raw: Labels, labels: NDArray[np.int64]) -> Labels:
    return labels.astype(np.uint8) if raw.dtype == np.uint8 else labels.astype(np.uint16)


def _most_frequent(groups: NDArray[np.int32], values: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """(count,) the most frequent value in each group, of equals the smallest; -1 for a group without values.

    `groups`, (N,) in 0..count-1, and `values`, (N,) not negative, belong together.
    """
    shape = count, int(values.max(initial=0)) + 1
    counts = coo_array(shape, dtype=np.int64).tocsr()
    for start in range(0, len(groups), BAND_PIXELS):
        some = slice(start, start + BAND_PIXELS)
        ones = np.ones(len(groups[some]), dtype=np.int64)
        counts = counts + coo_array((ones, (groups[some], values[some])), shape=shape).tocsr()
    found = counts.tocoo()
    # The last one assigned stays: the most frequent, and of these the smallest.
    order = np.lexsort((-found.col.astype(np.int64), found.data))
    most = np.full(count, -1, dtype=np.int64)
    most[found.row[order]] = found.col[order]
    return most
